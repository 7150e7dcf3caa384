//! What the names in a tree come to in its layer.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::buffer::spare_capacity;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, openat, statat};
use rustix::io::{Errno, pread};

use super::attributes::{attributes, node_attributes};
use super::options::DiffOptions;
use super::same::is_same;
use super::walk::{Entered, Name, Step, find};
use crate::layer::lower::Found;
use crate::layer::name::{self, to_path};
use crate::layer::read;
use crate::layer::{Entry, EntryKind, LayerError, LeftOut};
use crate::stamp::{EntryStamp, entry_stamp};

/// Files up to this size in bytes are read when they are looked at, as long as a batch holds no more
/// than [`HELD_MAX`].
const SMALL: u64 = 32 << 10;
const HELD_MAX: u64 = 1 << 20;

/// A [`Step`] that was looked at.
pub(super) enum Seen {
    Enter(Box<Entered>),
    Leave,
    Deleted(Vec<u8>),
    Name {
        path: Vec<u8>,
        /// Of what it stands for, see [`crate::stamp`].
        stamp: EntryStamp,
        change: Change,
    },
}

/// What a name that is not a directory changes.
pub(super) enum Change {
    Nothing,
    LeftOut(LeftOut),
    /// It deletes a name of the layers below.
    Whiteout,
    Entry {
        entry: Box<Entry>,
        content: Held,
        /// Device and inode of a file with several names.
        linked: Option<(u64, u64)>,
    },
}

/// Content of a file on its way.
pub(super) enum Held {
    None,
    Bytes(Vec<u8>),
    /// It is to be read from the file, which is in this directory: many that wait must not all be open.
    In(Arc<OwnedFd>),
}

/// Looks at what a walk came by.
pub(super) fn look(options: &DiffOptions, steps: Vec<Step>) -> Result<Vec<Seen>, LayerError> {
    let mut held = 0;
    let look_at = |step| match step {
        Step::Enter(entered) => Ok(Seen::Enter(entered)),
        Step::Leave => Ok(Seen::Leave),
        Step::Deleted(path) => Ok(Seen::Deleted(path)),
        Step::Look(name) => look_at_name(options, name, &mut held),
    };
    steps.into_iter().map(look_at).collect()
}

fn look_at_name(options: &DiffOptions, name: Name, held: &mut u64) -> Result<Seen, LayerError> {
    let Name { path, directory, place, file_type } = name;
    let (stat, file) = stat_or_open(directory.as_fd(), &path, file_type)?;
    let stamp = entry_stamp(&stat);
    let seen = |path, change| Ok(Seen::Name { path, stamp, change });
    if name::is_reserved(&path) {
        let warning = LeftOut::ReservedName(to_path(&path));
        return seen(path, Change::LeftOut(warning));
    }
    let found = find(options, &place, &path)?;
    let is_below = found.is_some() || options.lower.is_none();
    let gone = || if is_below { Change::Whiteout } else { Change::Nothing };
    if options.flavor.is_whiteout(&stat) {
        return seen(path, gone());
    }
    let leaf = name::split(&path).1;
    let kind = read::kind(directory.as_fd(), leaf, &stat).map_err(LayerError::at("read", &path))?;
    match kind {
        // No archive has sockets, but what one has replaced is gone.
        None => seen(path, gone()),
        // Overlayfs's mark in a tree that has others, or none.
        Some(EntryKind::Whiteout) => {
            let warning = LeftOut::WhiteoutDevice(to_path(&path));
            seen(path, Change::LeftOut(warning))
        }
        Some(kind) => {
            let entry = read::from_stat(path.clone(), kind, &stat);
            let change = change(options, entry, &stat, (&directory, file), found, held)?;
            seen(path, change)
        }
    }
}

/// What a name stands for; a file is opened at once.
fn stat_or_open(
    directory: BorrowedFd<'_>,
    path: &[u8],
    file_type: FileType,
) -> Result<(Stat, Option<File>), LayerError> {
    let name = name::split(path).1;
    if file_type != FileType::RegularFile {
        let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW);
        return Ok((stat.map_err(LayerError::at("stat", path))?, None));
    }
    let file = open(directory, path)?;
    let stat = fstat(&file).map_err(LayerError::at("stat", path))?;
    Ok((stat, Some(file)))
}

/// Opens the file at `path`, which is in `directory`.
pub(super) fn open(directory: BorrowedFd<'_>, path: &[u8]) -> Result<File, LayerError> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let open = |quiet| openat(directory, name::split(path).1, flags | quiet, Mode::empty());
    Ok(read::quietly(open).map_err(LayerError::at("open", path))?.into())
}

fn change(
    options: &DiffOptions,
    mut entry: Entry,
    stat: &Stat,
    (directory, file): (&Arc<OwnedFd>, Option<File>),
    found: Option<Found>,
    held: &mut u64,
) -> Result<Change, LayerError> {
    match &file {
        Some(file) => {
            attributes(options, &mut entry, file.as_fd())?;
        }
        None => node_attributes(options, &mut entry, directory.as_fd())?,
    }
    if let Some(found) = &found {
        let at = file.as_ref().map_or(directory.as_fd(), AsFd::as_fd);
        if is_same(options, &entry, stat, at, found)? {
            return Ok(Change::Nothing);
        }
    }
    let linked = (stat.st_nlink > 1).then_some((stat.st_dev, stat.st_ino));
    let bytes = match (&file, &entry.kind) {
        // Of a file with several names one may have been read already.
        (Some(file), EntryKind::File { size }) if linked.is_none() => {
            hold(file, *size, held).map_err(LayerError::at("read", &entry.path))?
        }
        _ => None,
    };
    let content = match (file, bytes) {
        (None, _) => Held::None,
        (Some(_), Some(bytes)) => Held::Bytes(bytes),
        (Some(_), None) => Held::In(directory.clone()),
    };
    Ok(Change::Entry { entry: Box::new(entry), content, linked })
}

/// Reads a small file, by one call. Whether it has the size it should have is for the caller
/// to see.
fn hold(file: &File, size: u64, held: &mut u64) -> Result<Option<Vec<u8>>, Errno> {
    if size > SMALL || *held + size > HELD_MAX {
        return Ok(None);
    }
    // With room for more than it should have, the call tells its end, too.
    let mut bytes = Vec::with_capacity(usize::try_from(size).expect("it is small") + 1);
    match pread(file, spare_capacity(&mut bytes), 0) {
        Ok(length) if length as u64 >= size => {
            *held += size;
            Ok(Some(bytes))
        }
        Ok(_) | Err(Errno::INTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}
