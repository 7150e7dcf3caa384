//! Directories of layers that stay open from one mount to the next.
//!
//! A step stands on the layers of the step before and one more. Opening each of them again for every
//! step would make a long chain cost the square of its length.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, Mode, OFlags, fstat, openat};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::process::{Resource, getrlimit};

/// What part of the descriptors that this process may have are kept here: one in so many.
const SHARE: u64 = 4;

/// Directories as they are seen from a mount of what they have in common: the mount table of a
/// sandbox then names them from there and tells nothing about the host.
#[derive(Debug, Default)]
pub(crate) struct LayerDirectories(Mutex<Option<Top>>);

/// A directory above all others, as a mount attached nowhere.
#[derive(Debug)]
struct Top {
    path: PathBuf,
    mount: Arc<OwnedFd>,
    /// What is open beneath it, by its path on the host.
    known: HashMap<PathBuf, Arc<OwnedFd>>,
}

/// Directories for one mount.
pub(crate) struct Seen {
    pub(crate) lowers: Vec<Arc<OwnedFd>>,
    pub(crate) writable: Option<(OwnedFd, OwnedFd)>,
    /// The mount they are on: closed, it could not be used any more.
    pub(crate) top: Arc<OwnedFd>,
}

impl LayerDirectories {
    /// Opens what is not open yet; `None` where they are not all on one mount, or do not open.
    pub(crate) fn open(&self, lowers: &[&Path], writable: Option<(&Path, &Path)>) -> Option<Seen> {
        let mut top = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let further = writable.iter().flat_map(|(upper, work)| [*upper, *work]);
        let paths: Vec<&Path> = lowers.iter().copied().chain(further).collect();
        let common = common_directory(top.as_ref().map(|top| &*top.path), &paths)?.to_owned();
        let top = match &mut *top {
            Some(top) if top.path == common => top,
            other => other.insert(Top::new(common)?),
        };
        let lowers = lowers.iter().map(|path| top.lower(path)).collect::<Option<_>>()?;
        let writable = match writable {
            Some((upper, work)) => Some((top.see(upper)?, top.see(work)?)),
            None => None,
        };
        Some(Seen { lowers, writable, top: Arc::clone(&top.mount) })
    }
}

impl Top {
    fn new(path: PathBuf) -> Option<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mount = Arc::new(open_tree(CWD, &path, flags).ok()?);
        Some(Self { path, mount, known: HashMap::new() })
    }

    fn lower(&mut self, path: &Path) -> Option<Arc<OwnedFd>> {
        if let Some(known) = self.known.get(path) {
            return Some(Arc::clone(known));
        }
        let seen = Arc::new(self.see(path)?);
        let most = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX) / SHARE;
        if (self.known.len() as u64) < most {
            self.known.insert(path.to_owned(), Arc::clone(&seen));
        }
        Some(seen)
    }

    /// The directory beneath the mount, if that is what the host has under this path: something may
    /// be mounted there.
    fn see(&self, path: &Path) -> Option<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let seen = openat(&self.mount, path.strip_prefix(&self.path).ok()?, flags, Mode::empty());
        let seen = seen.ok()?;
        let known = rustix::fs::stat(path).ok()?;
        let stat = fstat(&seen).ok()?;
        ((stat.st_dev, stat.st_ino) == (known.st_dev, known.st_ino)).then_some(seen)
    }
}

/// The deepest directory that is above all of `paths` and not below `known`; `None` if that is `/` or
/// they are relative.
fn common_directory<'a>(known: Option<&'a Path>, paths: &[&'a Path]) -> Option<&'a Path> {
    let first = match known {
        Some(known) => known,
        None => paths.first()?.parent()?,
    };
    first
        .ancestors()
        .filter(|common| common.is_absolute() && common.parent().is_some())
        .find(|common| paths.iter().all(|path| path.starts_with(common)))
}
