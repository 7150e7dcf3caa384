//! Copying a tree as it is: for file systems that overlayfs cannot use.

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags,
};
use rustix::io::Errno;

use crate::mutex::lock;

const DIRECTORY: OFlags =
    OFlags::DIRECTORY.union(OFlags::RDONLY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
/// Attributes that belong to the place a tree is in, not to the tree.
const LOCAL_XATTRS: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"security.selinux"];

/// Why a tree could not be copied.
#[derive(Debug, thiserror::Error)]
#[error("failed to copy `{}`", path.display())]
pub struct CopyTreeError {
    /// Path within the tree.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

/// Copies everything in the directory `source` into the directory `target`, which must exist and
/// be empty, and gives `target` itself `source`'s mode, owner, attributes and times. Modes,
/// owners, extended attributes, times, hard links and devices are kept.
/// File content is shared where the file system can (reflinks). Directories are copied in
/// parallel; no symbolic link is followed.
pub fn copy_tree(source: &Path, target: &Path) -> Result<(), CopyTreeError> {
    let open = |path: &Path| rustix::fs::open(path, DIRECTORY, Mode::empty());
    let start = || Ok((open(source)?, open(target)?, open(target)?));
    let (from, to, root) = start()
        .map_err(|error: Errno| CopyTreeError { path: PathBuf::new(), source: error.into() })?;
    let job = Job { target: root, links: Mutex::default(), failed: Mutex::default() };
    let directory = Directory { path: PathBuf::new(), from, to };
    rayon::scope(|scope| job.copy(scope, Arc::new(directory)));
    let failed = job.failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    failed.map_or(Ok(()), Err)
}

struct Job {
    target: OwnedFd,
    /// Device and inode of a file with several names → the path of its copy.
    links: Mutex<HashMap<(u64, u64), PathBuf>>,
    /// The first failure.
    failed: Mutex<Option<CopyTreeError>>,
}

/// A directory and its copy, both open.
struct Directory {
    path: PathBuf,
    from: OwnedFd,
    to: OwnedFd,
}

impl Job {
    fn copy<'s>(&'s self, scope: &rayon::Scope<'s>, directory: Arc<Directory>) {
        if self.has_failed() {
            return;
        }
        if let Err((path, error)) = self.copy_entries(scope, &directory) {
            let mut failed = lock(&self.failed);
            failed.get_or_insert(CopyTreeError { path, source: error.into() });
        }
    }

    fn has_failed(&self) -> bool {
        lock(&self.failed).is_some()
    }

    /// Copies what is in a directory, and last its own times: later nothing changes in it.
    fn copy_entries<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        directory: &Arc<Directory>,
    ) -> Result<(), (PathBuf, Errno)> {
        let here = |error| (directory.path.clone(), error);
        for entry in Dir::read_from(&directory.from).map_err(here)? {
            let name = entry.map_err(here)?.file_name().to_owned();
            if name.as_bytes() == b"." || name.as_bytes() == b".." {
                continue;
            }
            let path = directory.path.join(OsStr::from_bytes(name.as_bytes()));
            let copied = self.copy_entry(directory, &name, &path);
            if copied.map_err(|error| (path.clone(), error))? {
                let parent = directory.clone();
                scope.spawn(move |scope| self.enter(scope, &parent, &name, path));
            }
        }
        let stat = rustix::fs::fstat(&directory.from).map_err(here)?;
        copy_metadata_of(&directory.from, &directory.to, &stat).map_err(here)
    }

    /// Opens a directory only when its turn has come, to have few descriptors open.
    fn enter<'s>(
        &'s self,
        scope: &rayon::Scope<'s>,
        parent: &Directory,
        name: &CStr,
        path: PathBuf,
    ) {
        let open = |at: &OwnedFd| rustix::fs::openat(at, name, DIRECTORY, Mode::empty());
        let opened = open(&parent.from).and_then(|from| Ok((from, open(&parent.to)?)));
        match opened {
            Ok((from, to)) => self.copy(scope, Arc::new(Directory { path, from, to })),
            Err(error) => {
                let mut failed = lock(&self.failed);
                failed.get_or_insert(CopyTreeError { path, source: error.into() });
            }
        }
    }

    /// Copies one entry; of a directory only its name. Says whether it is one.
    fn copy_entry(&self, at: &Directory, name: &CStr, path: &Path) -> Result<bool, Errno> {
        let stat = rustix::fs::statat(&at.from, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let file_type = FileType::from_raw_mode(stat.st_mode);
        if file_type == FileType::Directory {
            rustix::fs::mkdirat(&at.to, name, Mode::RWXU)?;
            return Ok(true);
        }
        if stat.st_nlink == 1 {
            copy_other(at, name, &stat)?;
            return Ok(false);
        }
        let mut links = lock(&self.links);
        let inode = (stat.st_dev, stat.st_ino);
        match links.get(&inode) {
            Some(first) => {
                rustix::fs::linkat(&self.target, first, &at.to, name, AtFlags::empty())?;
            }
            None => {
                copy_other(at, name, &stat)?;
                links.insert(inode, path.to_owned());
            }
        }
        Ok(false)
    }
}

/// Copies anything but a directory.
fn copy_other(at: &Directory, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => copy_file(at, name, stat),
        FileType::Symlink => {
            let target: CString = rustix::fs::readlinkat(&at.from, name, Vec::new())?;
            rustix::fs::symlinkat(target, &at.to, name)?;
            copy_metadata_at(at, name, stat)
        }
        file_type => {
            rustix::fs::mknodat(&at.to, name, file_type, Mode::RUSR, stat.st_rdev)?;
            rustix::fs::chmodat(&at.to, name, mode_of(stat), AtFlags::empty())?;
            copy_metadata_at(at, name, stat)
        }
    }
}

fn copy_file(at: &Directory, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let common = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    // The process that made the tree is gone; should a FIFO take the file's place, do not wait.
    let read = common | OFlags::RDONLY | OFlags::NONBLOCK;
    let from = rustix::fs::openat(&at.from, name, read, Mode::empty())?;
    let write = common | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let to = rustix::fs::openat(&at.to, name, write, Mode::RUSR | Mode::WUSR)?;
    let (mut from, mut to) = (File::from(from), File::from(to));
    if rustix::fs::ioctl_ficlone(&to, &from).is_err() {
        io::copy(&mut from, &mut to).map_err(|error| errno(&error))?;
    }
    copy_metadata_of(&from.into(), &to.into(), stat)
}

/// Owner, mode, attributes and times, in the order in which none undoes another.
fn copy_metadata_of(from: &OwnedFd, to: &OwnedFd, stat: &Stat) -> Result<(), Errno> {
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, mode_of(stat))?;
    let names = names_of_xattrs(|buffer| rustix::fs::flistxattr(from, buffer))?;
    for name in names {
        let value = value_of_xattr(|buffer| rustix::fs::fgetxattr(from, &*name, buffer))?;
        rustix::fs::fsetxattr(to, &*name, &value, XattrFlags::empty())?;
    }
    rustix::fs::futimens(to, &times(stat))
}

/// The same for what cannot be opened; its mode is set already, or it has none.
fn copy_metadata_at(at: &Directory, name: &CStr, stat: &Stat) -> Result<(), Errno> {
    let owner = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    let nofollow = AtFlags::SYMLINK_NOFOLLOW;
    rustix::fs::chownat(&at.to, name, Some(owner.0), Some(owner.1), nofollow)?;
    // There are no calls for attributes relative to a descriptor; `/proc` has a path for it.
    let place = |at: &OwnedFd| {
        let directory = PathBuf::from(format!("/proc/self/fd/{}", at.as_raw_fd()));
        directory.join(OsStr::from_bytes(name.to_bytes()))
    };
    let (from, to) = (place(&at.from), place(&at.to));
    let names = names_of_xattrs(|buffer| rustix::fs::llistxattr(&from, buffer))?;
    for name in names {
        let value = value_of_xattr(|buffer| rustix::fs::lgetxattr(&from, &*name, buffer))?;
        rustix::fs::lsetxattr(&to, &*name, &value, XattrFlags::empty())?;
    }
    rustix::fs::utimensat(&at.to, name, &times(stat), nofollow)
}

fn names_of_xattrs(
    list: impl Fn(&mut [u8]) -> rustix::io::Result<usize>,
) -> Result<Vec<CString>, Errno> {
    let bytes = match value_of_xattr(list) {
        Err(Errno::OPNOTSUPP) => Vec::new(),
        bytes => bytes?,
    };
    let is_local = |name: &[u8]| LOCAL_XATTRS.iter().any(|local| name.starts_with(local));
    let names = bytes.split(|byte| *byte == 0).filter(|name| !name.is_empty() && !is_local(name));
    Ok(names.map(|name| CString::new(name).expect("split at zeros")).collect())
}

/// Reads something of unknown size: 64 KiB is the kernel's limit.
fn value_of_xattr(read: impl Fn(&mut [u8]) -> rustix::io::Result<usize>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 256];
    let length = match read(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer.resize(64 << 10, 0);
            read(&mut buffer)?
        }
        length => length?,
    };
    buffer.truncate(length);
    Ok(buffer)
}

fn mode_of(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds: u64| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds.try_into().unwrap_or(0),
    };
    Timestamps {
        last_access: time(stat.st_atime, stat.st_atime_nsec),
        last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_io_error(error).unwrap_or(Errno::IO)
}
