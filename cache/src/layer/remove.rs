//! Removing a tree, however deep, without following links and with few open files.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, fchmod, openat, renameat, unlinkat};
use rustix::io::Errno;

use super::beneath::DIRECTORY;

/// Says of a name in a directory that it is to stay.
pub(crate) type IsLeft<'a> = dyn Fn(BorrowedFd<'_>, &[u8]) -> bool + 'a;

/// Directories deeper than this are first moved up to the top of the tree that is being removed.
const DEPTH_MAX: usize = 64;

/// Removes `name` in `parent` and, if it is a directory, everything below. Not existing is fine.
pub fn remove_tree(parent: impl AsFd, name: &[u8]) -> std::io::Result<()> {
    remove_tree_unless(parent, name, &|_, _| false)
}

/// The same; fails at the first name in a directory that `is_left`, and leaves what is still there.
pub(crate) fn remove_tree_unless(
    parent: impl AsFd,
    name: &[u8],
    is_left: &IsLeft<'_>,
) -> std::io::Result<()> {
    Ok(remove_unless(parent.as_fd(), name, is_left)?)
}

/// [`remove_tree`], saying what the kernel said.
pub(super) fn remove(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    remove_unless(parent, name, &|_, _| false)
}

fn remove_unless(parent: BorrowedFd<'_>, name: &[u8], is_left: &IsLeft<'_>) -> Result<(), Errno> {
    go_on(parent, name, is_left)?;
    match unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(errno) => return Err(errno),
    }
    let top = open(parent, name)?;
    // Emptying deep trees brings directories up here, so look again until none is left.
    while empty(top.as_fd(), top.as_fd(), 0, &mut 0, is_left)? {}
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Removes what is in `directory`; says whether anything was moved to `top` on the way.
fn empty(
    directory: BorrowedFd<'_>,
    top: BorrowedFd<'_>,
    depth: usize,
    moved: &mut u64,
    is_left: &IsLeft<'_>,
) -> Result<bool, Errno> {
    let before = *moved;
    for (name, is_directory) in list(directory)? {
        go_on(directory, name.to_bytes(), is_left)?;
        if !is_directory {
            unlinkat(directory, &name, AtFlags::empty())?;
        } else if depth < DEPTH_MAX {
            let below = open(directory, name.to_bytes())?;
            empty(below.as_fd(), top, depth + 1, moved, is_left)?;
            unlinkat(directory, &name, AtFlags::REMOVEDIR)?;
        } else {
            move_up(directory, &name, top, moved)?;
        }
    }
    Ok(*moved > before)
}

fn go_on(parent: BorrowedFd<'_>, name: &[u8], is_left: &IsLeft<'_>) -> Result<(), Errno> {
    if is_left(parent, name) { Err(Errno::CANCELED) } else { Ok(()) }
}

/// Moves a directory to `top` under a name that is free there.
fn move_up(
    directory: BorrowedFd<'_>,
    name: &CString,
    top: BorrowedFd<'_>,
    moved: &mut u64,
) -> Result<(), Errno> {
    loop {
        *moved += 1;
        match renameat(directory, name, top, format!(".removed-{moved}")) {
            Err(Errno::EXIST | Errno::NOTEMPTY | Errno::NOTDIR) => {}
            result => return result,
        }
    }
}

fn open(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let directory = openat(parent, name, DIRECTORY, Mode::empty()).or_else(|errno| {
        // Only its owner may look into it, after making that possible.
        if errno != Errno::ACCESS {
            return Err(errno);
        }
        rustix::fs::chmodat(parent, name, Mode::RWXU, AtFlags::empty())?;
        openat(parent, name, DIRECTORY, Mode::empty())
    })?;
    // Without write permission nothing in it can be removed; a privileged process needs none.
    if !rustix::process::geteuid().is_root() {
        fchmod(&directory, Mode::RWXU)?;
    }
    Ok(directory)
}

fn list(directory: BorrowedFd<'_>) -> Result<Vec<(CString, bool)>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            let is_directory = match entry.file_type() {
                FileType::Unknown => {
                    let stat = rustix::fs::statat(
                        directory,
                        entry.file_name(),
                        AtFlags::SYMLINK_NOFOLLOW,
                    )?;
                    FileType::from_raw_mode(stat.st_mode).is_dir()
                }
                file_type => file_type.is_dir(),
            };
            names.push((entry.file_name().to_owned(), is_directory));
        }
    }
    Ok(names)
}
