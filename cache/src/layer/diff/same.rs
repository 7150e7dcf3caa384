//! Whether something in a layer is what was below already.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, OFlags, Stat, readlinkat};
use rustix::io::Errno;

use super::options::DiffOptions;
use crate::layer::lower::Found;
use crate::layer::read;
use crate::layer::{Entry, EntryKind, LayerError, Lower};

/// The one attribute every layer keeps.
pub(super) const CAPABILITY: &str = "security.capability";

/// Whether `entry` is the same below. A directory's time says nothing: it changes when the
/// directory is copied up. Of a file of the same size and time the content decides: both can be
/// put back after a change. `at` is the open file or directory, for anything else the directory
/// it is in.
pub(super) fn is_same(
    options: &DiffOptions,
    entry: &Entry,
    stat: &Stat,
    at: BorrowedFd<'_>,
    found: &Found,
) -> Result<bool, LayerError> {
    let lower = options.lower.as_ref().expect("something was found in the layers below");
    same(lower, entry, stat, at, found).map_err(LayerError::at("compare", &entry.path))
}

fn same(
    lower: &Lower,
    entry: &Entry,
    stat: &Stat,
    at: BorrowedFd<'_>,
    found: &Found,
) -> Result<bool, Errno> {
    let below = &found.stat;
    if stat.st_mode != below.st_mode || stat.st_rdev != below.st_rdev {
        return Ok(false);
    }
    let is_directory = FileType::from_raw_mode(stat.st_mode).is_dir();
    if !is_directory && (stat.st_size != below.st_size || entry.mtime != read::mtime(below)) {
        return Ok(false);
    }
    if !same_attributes(lower, entry, found)? {
        return Ok(false);
    }
    match &entry.kind {
        EntryKind::File { size: 0 } => Ok(true),
        EntryKind::File { .. } => {
            let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            same_content(at, lower.open(found.layer, &entry.path, flags)?)
        }
        EntryKind::Symlink { target } => {
            let below = readlinkat(lower.layer(found.layer), &entry.path[..], Vec::new())?;
            Ok(below.as_bytes() == target)
        }
        _ => Ok(true),
    }
}

/// Compares owners, those that were kept aside included, and capabilities.
fn same_attributes(lower: &Lower, entry: &Entry, found: &Found) -> Result<bool, Errno> {
    let mut owner = (found.stat.st_uid, found.stat.st_gid);
    let mut capability = None;
    if matches!(entry.kind, EntryKind::File { .. } | EntryKind::Directory) {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let below = lower.open(found.layer, &entry.path, flags)?;
        capability = read::attribute(below.as_fd(), CAPABILITY)?;
        let kept = read::attribute(below.as_fd(), read::OWNER)?;
        owner = kept.as_deref().and_then(read::parse_owner).unwrap_or(owner);
    }
    Ok(owner == (entry.uid, entry.gid)
        && capability.as_ref() == entry.xattrs.get(CAPABILITY.as_bytes()))
}

fn same_content(upper: BorrowedFd<'_>, below: OwnedFd) -> Result<bool, Errno> {
    let mut below = File::from(below);
    let (mut here, mut there) = (vec![0; 128 * 1024], vec![0; 128 * 1024]);
    let mut offset = 0;
    loop {
        let read = rustix::io::retry_on_intr(|| rustix::io::pread(upper, &mut here[..], offset))?;
        if read == 0 {
            let more = below.read(&mut there).map_err(errno)?;
            return Ok(more == 0);
        }
        match below.read_exact(&mut there[..read]) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            result => result.map_err(errno)?,
        }
        if here[..read] != there[..read] {
            return Ok(false);
        }
        offset += read as u64;
    }
}

fn errno(error: io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap_or(Errno::IO)
}
