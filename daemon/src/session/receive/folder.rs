//! Folders that are received into, and what is done in one by name.

use std::collections::HashSet;
use std::ffi::OsString;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat as Status, Timespec, Timestamps,
};
use rustix::fs::{fchmod, futimens, openat, openat2, readlinkat, statat, unlinkat};
use rustix::io::Errno;

use super::ReceiveError;
use super::entry::{Entry, Kind};

#[derive(Debug)]
pub(super) struct Folder {
    pub(super) name: String,
    pub(super) file: OwnedFd,
    /// What is in it and was not sent.
    pub(super) others: HashSet<OsString>,
    /// What it gets at its end; the root stays as it is.
    given: Option<Given>,
}

/// What a file gets when all of it is there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Given {
    pub(super) mode: u32,
    pub(super) modified: Timespec,
}

pub(super) const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Folder {
    pub(super) fn open(
        parent: impl std::os::fd::AsFd,
        name: &str,
        given: Option<Given>,
    ) -> Result<Self, Errno> {
        let file = opened(&parent, name)?;
        let others = names(&file)?;
        Ok(Self { name: name.to_owned(), file, others, given })
    }

    /// Whether `name`, which has this status, is what `entry` says.
    pub(super) fn keeps(&self, name: &str, status: &Status, entry: &Entry<'_>) -> bool {
        let Timespec { tv_sec, tv_nsec } = entry.modified;
        let is_as_old = (status.st_mtime, status.st_mtime_nsec as i64) == (tv_sec, tv_nsec);
        let has_mode = status.st_mode & 0o7777 == entry.mode;
        match &entry.kind {
            Kind::File { size } => {
                // Another name may have been given other bytes.
                let is_alone = status.st_nlink == 1;
                let is_as_long = u64::try_from(status.st_size).is_ok_and(|length| length == *size);
                is(status, FileType::RegularFile) && is_alone && is_as_long && has_mode && is_as_old
            }
            Kind::Symlink(target) => {
                is(status, FileType::Symlink)
                    && is_as_old
                    && readlinkat(&self.file, name, Vec::new())
                        .is_ok_and(|found| found.as_bytes() == target.as_bytes())
            }
            Kind::Directory | Kind::Hardlink(_) | Kind::Pipe => false,
        }
    }

    /// Removes what has the name.
    pub(super) fn clear(&self, name: &str, is_there: bool) -> Result<(), Errno> {
        if is_there { remove(&self.file, name.as_ref()) } else { Ok(()) }
    }

    /// Removes what was not sent.
    pub(super) fn leave(self) -> Result<(), ReceiveError> {
        let failed = failed(&self.name);
        for name in &self.others {
            remove(&self.file, name).map_err(&failed)?;
        }
        self.given.map_or(Ok(()), |given| given.to(&self.file)).map_err(&failed)
    }
}

impl Given {
    pub(super) fn times(self) -> Timestamps {
        Timestamps { last_access: self.modified, last_modification: self.modified }
    }

    pub(super) fn to(self, file: impl std::os::fd::AsFd) -> Result<(), Errno> {
        fchmod(&file, Mode::from_raw_mode(self.mode))?;
        futimens(&file, &self.times())
    }
}

pub(super) fn failed(path: &str) -> impl Fn(Errno) -> ReceiveError {
    let path = path.to_owned();
    move |errno| ReceiveError::Write { path: path.clone(), source: errno.into() }
}

pub(super) fn is(status: &Status, kind: FileType) -> bool {
    FileType::from_raw_mode(status.st_mode) == kind
}

/// Opens a path whose folders are no links.
pub(super) fn beneath(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), resolve)
}

/// Opens a folder, whose mode may keep its owner out.
fn opened(parent: impl std::os::fd::AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let status = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(status.st_mode);
    if is(&status, FileType::Directory) && !mode.contains(Mode::RWXU) {
        rustix::fs::chmodat(&parent, name, mode | Mode::RWXU, AtFlags::empty())?;
    }
    openat(&parent, name, FOLDER, Mode::empty())
}

fn names(folder: &OwnedFd) -> Result<HashSet<OsString>, Errno> {
    let mut names = HashSet::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.insert(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Removes what has the name, with what is in it.
pub(super) fn remove(parent: &OwnedFd, name: &std::ffi::OsStr) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        ended => return ended,
    }
    let status = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(status.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::chmodat(parent, name, mode | Mode::RWXU, AtFlags::empty())?;
    }
    let folder = openat(parent, name, FOLDER, Mode::empty())?;
    for inner in names(&folder)? {
        remove(&folder, &inner)?;
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}
