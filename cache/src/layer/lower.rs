//! The layers below one: looked into without mounting them.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat, lgetxattr, statat};
use rustix::io::Errno;

use super::beneath::{DIRECTORY, open_path};
use super::{Entry, EntryKind, Flavor, name, read};

/// A stack of layer trees, read as overlayfs reads its lower directories.
#[derive(Debug, Clone)]
pub struct Lower {
    /// Topmost first.
    roots: Arc<[Arc<OwnedFd>]>,
    flavor: Flavor,
}

/// The layers that have a part in one merged directory, topmost first.
pub(super) type Place = Vec<usize>;

/// What a name is in the stack.
pub(super) struct Found {
    /// The layer that has it, and what it is there.
    pub(super) layer: usize,
    pub(super) stat: Stat,
    /// If it is a directory, the layers that have a part in it.
    pub(super) place: Place,
}

impl Lower {
    /// The layers with these roots, topmost first, all of one flavor.
    pub fn new(roots: Vec<Arc<OwnedFd>>, flavor: Flavor) -> Self {
        Self { roots: roots.into(), flavor }
    }

    /// No layers at all.
    pub fn none() -> Self {
        Self::new(Vec::new(), Flavor::Plain)
    }

    /// The place of the root.
    pub(super) fn root(&self) -> Place {
        (0..self.roots.len()).collect()
    }

    /// Looks up `path` in its parent directory, which has its parts in `place`. That every part is
    /// a directory, so that no link is on the way, was seen when `place` was found.
    pub(super) fn look_up(&self, place: &[usize], path: &[u8]) -> Result<Option<Found>, Errno> {
        let mut found: Option<Found> = None;
        for (position, &layer) in place.iter().enumerate() {
            let stat = match statat(&self.roots[layer], path, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT) => continue,
                stat => stat?,
            };
            let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
            if self.flavor.is_whiteout(&stat) || found.is_some() && !is_directory {
                break;
            }
            let found = found.get_or_insert(Found { layer, stat, place: Place::new() });
            if !is_directory {
                break;
            }
            found.place.push(layer);
            if position + 1 < place.len() && self.is_opaque(layer, path)? {
                break;
            }
        }
        Ok(found)
    }

    /// The names in the merged directory `path`, which has its parts in `place`.
    pub(super) fn names(&self, place: &[usize], path: &[u8]) -> Result<BTreeSet<Vec<u8>>, Errno> {
        let mut names = BTreeSet::new();
        for &layer in place {
            for entry in Dir::new(self.open(layer, path, DIRECTORY)?)? {
                let entry = entry?;
                if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
                    names.insert(entry.file_name().to_bytes().to_vec());
                }
            }
        }
        Ok(names)
    }

    /// The directory `path` with its metadata, if the stack has one there.
    pub(super) fn directory(&self, path: &[u8]) -> Result<Option<Entry>, Errno> {
        let Some(found) = self.find(path)?.filter(|found| !found.place.is_empty()) else {
            return Ok(None);
        };
        let mut entry = read::from_stat(path.to_vec(), EntryKind::Directory, &found.stat);
        entry.xattrs = read::file_xattrs(self.open(found.layer, path, DIRECTORY)?.as_fd())?;
        if let Some(owner) = entry.xattrs.get(read::OWNER.as_bytes()) {
            (entry.uid, entry.gid) = read::parse_owner(owner).unwrap_or((entry.uid, entry.gid));
        }
        entry.xattrs.retain(|name, _| !read::is_own(name));
        Ok(Some(entry))
    }

    /// Looks up `path` from the root. Links on the way are not followed.
    pub(super) fn find(&self, path: &[u8]) -> Result<Option<Found>, Errno> {
        let mut place = self.root();
        let mut so_far = Vec::new();
        let mut components = name::components(path).peekable();
        while let Some(component) = components.next() {
            so_far = name::join(&so_far, component);
            match self.look_up(&place, &so_far)? {
                Some(found) if components.peek().is_none() => return Ok(Some(found)),
                Some(found) => place = found.place,
                None => return Ok(None),
            }
        }
        Ok(None)
    }

    /// Opens `path` in one layer.
    pub(super) fn open(&self, layer: usize, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        read::quietly(|quiet| open_path(self.roots[layer].as_fd(), path, flags | quiet))
    }

    /// The root directory of one layer.
    pub(super) fn layer(&self, layer: usize) -> &OwnedFd {
        &self.roots[layer]
    }

    fn is_opaque(&self, layer: usize, path: &[u8]) -> Result<bool, Errno> {
        let Some(key) = self.flavor.opaque_attribute() else { return Ok(false) };
        let path = read::in_proc(self.roots[layer].as_fd(), path);
        let mut value = [0; 4];
        match lgetxattr(&path[..], key, &mut value[..]) {
            // Overlayfs writes `y`; `x` means something else.
            Ok(length) => Ok(&value[..length] == b"y"),
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}
