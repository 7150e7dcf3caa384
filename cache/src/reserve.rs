//! Room that is set aside, in bytes and in inodes, for those who make room or only look when the disk
//! is full. Builds leave it alone.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use rustix::fs::{FallocateFlags, fallocate};

use crate::bucket::{BALLAST, BALLAST_BEFORE};
use crate::room::Room;

/// It is as many files, of as many bytes each.
const PIECES: u64 = 64;
const PIECE: u64 = 64 << 10;
/// It is set aside where there is so many times as much.
const PLENTY: u64 = 4;
/// With less room than this it is needed, in bytes and inodes.
const TIGHT_BYTES: u64 = 1 << 20;
const TIGHT_INODES: u64 = 16;

/// Whether a session may use it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reserve {
    /// It stays: for sessions that bring something into the store.
    #[default]
    Kept,
    /// It is let go of when there is no other room, and taken back at the end of the session.
    Used,
}

/// Whether there is next to no room in the store at `root`. Unknown is not.
pub(crate) fn is_needed(root: &Path) -> bool {
    Room::of(root).is_ok_and(|room| {
        room.bytes.free < TIGHT_BYTES
            || room.inodes.is_some_and(|inodes| inodes.free < TIGHT_INODES)
    })
}

/// Lets go of it.
pub(crate) fn release(root: &Path) {
    // What cannot be removed makes no room; that shows soon enough.
    let _ = std::fs::remove_dir_all(root.join(BALLAST));
    let _ = std::fs::remove_file(root.join(BALLAST_BEFORE));
}

/// Whether some of it is set aside.
pub(crate) fn is_there(root: &Path) -> bool {
    root.join(BALLAST).exists()
}

/// Sets it aside where there is plenty of room.
pub(crate) fn set_aside(root: &Path) {
    let has_plenty = |room: Room| {
        room.bytes.free > PLENTY * PIECES * PIECE
            && room.inodes.is_none_or(|inodes| inodes.free > PLENTY * PIECES)
    };
    if Room::of(root).is_ok_and(has_plenty) {
        take(root);
    }
}

/// Takes as much of it as there is.
pub(crate) fn take(root: &Path) {
    let directory = root.join(BALLAST);
    match DirBuilder::new().mode(0o700).create(&directory) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return,
        _ => {}
    }
    // An empty piece is still an inode.
    let _ = (0..PIECES).try_for_each(|number| {
        let file = File::create(directory.join(number.to_string()))?;
        io::Result::Ok(fallocate(&file, FallocateFlags::empty(), 0, PIECE)?)
    });
}
