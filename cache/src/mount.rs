//! Cache mounts: directories that steps keep between builds (`RUN --mount=type=cache`). They are
//! no part of any key.

use std::collections::BTreeSet;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::lock::{FileLock, Mode};
use crate::store::Store;

/// Who may use a cache mount at the same time, in this and other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// While it is in use, the next one gets another directory.
    Private,
    /// While it is in use, the next one waits.
    Locked,
}

/// A cache mount in use; dropping it lets others have it.
#[derive(Debug)]
pub struct CacheMount {
    path: PathBuf,
    _lock: FileLock,
}

impl Store {
    /// The directory of the cache mount `id`. A directory that is new is handed to `prepare`
    /// before anybody sees it. `cancelled` is asked while waiting for a locked one; the result
    /// is then `None`.
    pub fn cache_mount(
        &self,
        id: &str,
        sharing: Sharing,
        prepare: &dyn Fn(&Path) -> io::Result<()>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<CacheMount>, StoreError> {
        let mount = self.bucket(Bucket::Mounts).join(blake3::hash(id.as_bytes()).to_hex().as_str());
        let named = make_mount(&mount, id);
        named.map_err(|error| StoreError::io("create", &mount, error))?;
        let slots = match sharing {
            Sharing::Shared | Sharing::Locked => 0..1,
            Sharing::Private => 0..u32::MAX,
        };
        for slot in slots {
            let path = mount.join(format!("{slot}"));
            let lock = mount.join(format!("{slot}.lock"));
            let lock = match sharing {
                Sharing::Shared => FileLock::acquire(&lock, Mode::Shared, cancelled),
                Sharing::Locked => FileLock::acquire(&lock, Mode::Exclusive, cancelled)
                    .map(|lock| lock.map(FileLock::kept)),
                Sharing::Private => FileLock::try_acquire(&lock, Mode::Exclusive)
                    .map(|lock| lock.map(FileLock::kept)),
            };
            let lock = lock.map_err(|error| StoreError::io("lock", &path, error))?;
            match lock {
                Some(lock) => return self.enter(path, lock, prepare).map(Some),
                None if sharing == Sharing::Private => {}
                None => return Ok(None),
            }
        }
        unreachable!("a process cannot hold 2³² locks")
    }

    fn enter(
        &self,
        path: PathBuf,
        lock: FileLock,
        prepare: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<CacheMount, StoreError> {
        // When it was last used, for prune.
        let _ = lock.file().set_modified(SystemTime::now());
        if !is_directory(&path) {
            // A link or a file there is none of ours. A directory, just made by another, stays.
            let _ = std::fs::remove_file(&path);
            let temporary = self.temporary();
            let created = DirBuilder::new().mode(0o755).create(&temporary);
            let prepared = created.and_then(|()| prepare(&temporary));
            let placed = prepared.and_then(|()| std::fs::rename(&temporary, &path));
            // Of two that share it, the slower finds it made.
            if let Err(error) = placed
                && !is_directory(&path)
            {
                self.inner.removals.start(temporary);
                return Err(StoreError::io("create", &path, error));
            }
            self.inner.removals.now(&temporary);
        }
        Ok(CacheMount { path, _lock: lock })
    }
}

impl Store {
    /// Empties the cache mounts `ids`, whatever they were first filled from; waits for those who have
    /// them. `cancelled` is asked meanwhile. Says whether it came to its end.
    pub fn empty_cache_mounts(
        &self,
        ids: &BTreeSet<String>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<bool, StoreError> {
        for Slot { path, lock, .. } in slots(self.root())? {
            let named = std::fs::read_to_string(path.with_file_name("id"));
            let named = named.map_err(|error| StoreError::io("read the id of", &path, error))?;
            if !ids.contains(named.lines().next().unwrap_or_default()) {
                continue;
            }
            let held = FileLock::acquire(&lock, Mode::Exclusive, cancelled);
            let held = held.map_err(|error| StoreError::io("lock", &path, error))?;
            let Some(_held) = held.map(FileLock::kept) else { return Ok(false) };
            let gone = self.temporary();
            match std::fs::rename(&path, &gone) {
                Ok(()) => self.inner.removals.start(gone),
                // Somebody else has pruned it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("empty", &path, error)),
            }
        }
        Ok(true)
    }
}

impl CacheMount {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Whether there is a directory at `path`, rather than a link to one.
fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Makes the directory of a mount's slots, with the id it stands for.
fn make_mount(mount: &Path, id: &str) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(mount) {
        Ok(()) => std::fs::write(mount.join("id"), id),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match is_directory(mount) {
            // Its maker may have been killed before it said what for.
            true if std::fs::read(mount.join("id"))? == id.as_bytes() => Ok(()),
            true => std::fs::write(mount.join("id"), id),
            false => std::fs::remove_file(mount).and_then(|()| make_mount(mount, id)),
        },
        Err(error) => Err(error),
    }
}

/// A slot as prune and `du` see it.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    pub(crate) path: PathBuf,
    pub(crate) lock: PathBuf,
    /// Seconds since 1970.
    pub(crate) used: i64,
}

impl Slot {
    /// A name for it that no other has.
    pub(crate) fn name(&self) -> String {
        let parts = self.path.components().rev().take(2).map(|part| part.as_os_str());
        let mut parts: Vec<_> = parts.map(|part| part.to_string_lossy()).collect();
        parts.reverse();
        // The first half of the hash is more than enough.
        format!("{:.16}-{}", parts[0], parts[1])
    }

    /// The id of the mount as users know it: without the empty namespace in front, and without what
    /// it was first filled from behind.
    pub(crate) fn id(&self) -> String {
        let whole = std::fs::read_to_string(self.path.with_file_name("id")).unwrap_or_default();
        let id = whole.lines().next().unwrap_or_default();
        id.strip_prefix('/').unwrap_or(id).to_owned()
    }

    /// Whether a step has it.
    pub(crate) fn is_in_use(&self) -> bool {
        let lock = FileLock::try_acquire(&self.lock, Mode::Exclusive);
        !lock.is_ok_and(|lock| lock.map(FileLock::kept).is_some())
    }

    /// When it was last used, in seconds since 1970.
    pub(crate) fn last_used(&self) -> i64 {
        let used = std::fs::metadata(&self.lock).and_then(|found| found.modified());
        let used = used.ok().and_then(|used| used.duration_since(SystemTime::UNIX_EPOCH).ok());
        used.map_or(0, |used| i64::try_from(used.as_secs()).unwrap_or(0))
    }
}

/// All slots of all mounts.
pub(crate) fn slots(root: &Path) -> Result<Vec<Slot>, StoreError> {
    list_slots(root).map_err(|error| StoreError::io("list", &Bucket::Mounts.path(root), error))
}

fn list_slots(root: &Path) -> io::Result<Vec<Slot>> {
    let mut slots = Vec::new();
    for mount in std::fs::read_dir(Bucket::Mounts.path(root))? {
        let mount = mount?;
        if !mount.file_type()?.is_dir() {
            continue;
        }
        for entry in std::fs::read_dir(mount.path())? {
            let path = entry?.path();
            let lock = path.with_extension("lock");
            if !std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                continue;
            }
            let slot = Slot { path, lock, used: 0 };
            slots.push(Slot { used: slot.last_used(), ..slot });
        }
    }
    Ok(slots)
}
