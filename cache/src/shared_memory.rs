//! Room for SQLite's shared memory (`records-v1.db-shm`), which it writes through a mapping:
//! where a block that is missing then cannot be had, the kernel kills the process.
//!
//! SQLite writes one byte into each page of 4 KiB to have it allocated. On file systems with
//! smaller blocks (ext4 below 512 MB) that leaves holes, which are filled here while there is room.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::bucket::RECORDS;

const PAGE: u64 = 4096;
/// What SQLite maps at a time; enough for a log of 16 MiB.
const REGION: u64 = 32 << 10;

/// Files that are never closed: closing one would let go of all locks that SQLite, in this
/// process, has on it (POSIX locks belong to the process, not to the descriptor).
static OPEN: Mutex<Vec<((u64, u64), File)>> = Mutex::new(Vec::new());

/// Fills the holes in the shared memory of the database at `root`, which must be open.
pub(crate) fn reserve(root: &Path) -> io::Result<()> {
    if statvfs(root)?.f_frsize >= PAGE {
        return Ok(());
    }
    let path = root.join(format!("{RECORDS}-shm"));
    let wanted = inode(&std::fs::metadata(&path)?);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if !open.iter().any(|(inode, _)| *inode == wanted) {
        let file = File::options().read(true).write(true).open(&path)?;
        let found = file.metadata().map_or(wanted, |found| inode(&found));
        open.push((found, file));
    }
    let file = open.iter().find(|(inode, _)| *inode == wanted);
    match file {
        Some((_, file)) => Ok(fallocate(file, FallocateFlags::empty(), 0, REGION)?),
        // It was replaced just now; whoever did so has reserved the new one.
        None => Ok(()),
    }
}

fn inode(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}
