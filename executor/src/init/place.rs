//! Places to mount on: found in the root, or made there and removed afterwards.
//!
//! Names come from images and users. They are resolved by the kernel inside the root, and what is
//! made is remembered by the descriptor of its directory, so that neither can lead out of the root
//! nor, later, to something else.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, fstat, futimens,
    mkdirat, mknodat, openat2, readlinkat, statat, unlinkat,
};
use rustix::io::{Errno, Result};

use crate::error::{Failure, Step};

/// As many as the kernel follows.
const MAX_LINKS: usize = 40;

/// What was made in the root to mount on.
#[derive(Debug, Default)]
pub(super) struct Places {
    made: Vec<Made>,
}

/// One thing made: its directory, its name there, and what it was.
#[derive(Debug)]
struct Made {
    parent: OwnedFd,
    name: String,
    identity: (u64, u64),
    directory: bool,
}

/// Kind of thing to mount on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File,
}

impl Places {
    /// The place `path` in the root, made if it is missing.
    pub(super) fn find(&mut self, root: BorrowedFd<'_>, path: &str, kind: Kind) -> Result<OwnedFd> {
        let open = || {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)
        };
        let place = match open() {
            Err(Errno::NOENT) => {
                self.make(root, path, kind)?;
                open()?
            }
            other => other?,
        };
        let directory = FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Directory;
        match (directory, kind) {
            (true, Kind::File) => Err(Errno::ISDIR),
            (false, Kind::Directory) => Err(Errno::NOTDIR),
            _ => Ok(place),
        }
    }

    /// A system directory at the top of the root. A link there is refused: it could only be meant
    /// to have us mount somewhere else. One that is made stays, as every builder leaves it: an image
    /// without it could not be run read-only.
    pub(super) fn find_system(root: BorrowedFd<'_>, name: &str) -> Result<OwnedFd> {
        let open = || {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
            openat2(root, name, flags, Mode::empty(), resolve)
        };
        match open() {
            Err(Errno::NOENT) => {
                let parent = open_directory(root, ".")?;
                create(&parent, name, Kind::Directory)?;
                open()
            }
            other => other,
        }
    }

    /// Follows `path` by hand as far as it exists, makes the rest.
    fn make(&mut self, root: BorrowedFd<'_>, path: &str, kind: Kind) -> Result<()> {
        let mut ahead: VecDeque<String> = components(path).collect();
        let mut behind: Vec<String> = Vec::new();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                behind.pop();
                continue;
            }
            let parent = match behind.is_empty() {
                true => open_directory(root, ".")?,
                false => open_directory(root, &behind.join("/"))?,
            };
            match statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    let target = readlinkat(&parent, &*name, Vec::new())?;
                    let target = target.to_str().map_err(|_| Errno::ILSEQ)?;
                    if target.starts_with('/') {
                        behind.clear();
                    }
                    for name in components(target).rev() {
                        ahead.push_front(name);
                    }
                    continue;
                }
                Ok(_) => {}
                Err(Errno::NOENT) => {
                    let kind = if ahead.is_empty() { kind } else { Kind::Directory };
                    self.made.push(Made::create(parent, &name, kind)?);
                }
                Err(error) => return Err(error),
            }
            behind.push(name);
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.made.is_empty()
    }

    /// Removes what was made, but what the command has put to use: a directory that is no longer
    /// empty, a file with content, anything it has replaced.
    pub(super) fn remove(&mut self) -> std::result::Result<(), Failure> {
        for made in self.made.drain(..).rev() {
            let action = || format!("remove `{}`, which was made to mount on", made.name);
            made.remove().map_err(|error| Failure::new(Step::Setup, action(), error))?;
        }
        Ok(())
    }
}

/// Makes one entry. Its directory's time changes, as it does for every builder: it tells only
/// where the step changes something else in the directory, too.
fn create(parent: &OwnedFd, name: &str, kind: Kind) -> Result<()> {
    let mode = Mode::from_raw_mode(0o755);
    match kind {
        Kind::Directory => mkdirat(parent, name, mode),
        Kind::File => mknodat(parent, name, FileType::RegularFile, mode, 0),
    }
}

impl Made {
    fn create(parent: OwnedFd, name: &str, kind: Kind) -> Result<Self> {
        create(&parent, name, kind)?;
        let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(Self {
            parent,
            name: name.to_owned(),
            identity: (stat.st_dev, stat.st_ino),
            directory: kind == Kind::Directory,
        })
    }

    fn remove(&self) -> Result<()> {
        let stat = match statat(&self.parent, &*self.name, AtFlags::SYMLINK_NOFOLLOW) {
            // The command has removed it.
            Err(Errno::NOENT) => return Ok(()),
            other => other?,
        };
        if (stat.st_dev, stat.st_ino) != self.identity || (!self.directory && stat.st_size != 0) {
            return Ok(());
        }
        let before = times(&fstat(&self.parent)?);
        let flags = if self.directory { AtFlags::REMOVEDIR } else { AtFlags::empty() };
        match unlinkat(&self.parent, &*self.name, flags) {
            Err(Errno::NOTEMPTY) => Ok(()),
            Err(error) => Err(error),
            Ok(()) => futimens(&self.parent, &before),
        }
    }
}

fn components(path: &str) -> std::vec::IntoIter<String> {
    let names = path.split('/').filter(|name| !name.is_empty() && *name != ".");
    names.map(str::to_owned).collect::<Vec<_>>().into_iter()
}

/// A directory that is known to have no links on the way.
fn open_directory(root: BorrowedFd<'_>, path: &str) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    openat2(root.as_fd(), path, flags, Mode::empty(), resolve)
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: stat.st_atime, tv_nsec: stat.st_atime_nsec as _ },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_removed_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::File::open(directory.path()).unwrap();
        let mut places = Places::default();
        places.find(root.as_fd(), "/new/place", Kind::Directory).unwrap();
        places.find(root.as_fd(), "/used/file", Kind::File).unwrap();
        places.find(root.as_fd(), "/gone", Kind::File).unwrap();
        std::fs::write(directory.path().join("used/file"), "by the command").unwrap();
        std::fs::remove_file(directory.path().join("gone")).unwrap();
        places.remove().unwrap();
        assert!(places.is_empty());
        assert!(directory.path().join("used/file").exists());
        assert!(!directory.path().join("new").exists());
        // The kernel refuses to remove a file as a directory.
        places.find(root.as_fd(), "/file", Kind::File).unwrap();
        places.made[0].directory = true;
        let failure = places.remove().unwrap_err();
        let expected = (libc::ENOTDIR, "remove `file`, which was made to mount on");
        assert_eq!((failure.errno, &*failure.subject), expected);
    }
}
