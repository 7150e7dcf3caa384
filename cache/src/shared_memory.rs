//! Room for SQLite's shared memory (`records-v1.db-shm`), which it writes through a mapping:
//! where a missing block cannot be allocated, the kernel kills the process.
//!
//! SQLite writes one byte into each page of 4 KiB to have it allocated. On file systems with
//! smaller blocks (ext4 below 512 MB) that leaves holes, which are filled here before SQLite touches them.

use std::io;
use std::path::Path;

use rusqlite::Connection;
use rustix::fs::statvfs;
use rustix::io::Errno;

use crate::sys::DatabaseFile;

const PAGE: u64 = 4096;
/// What a database starts with, and what the two versions behind its page size are when it has a write-ahead
/// log (SQLite's "Database File Format", 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const WITH_LOG: [u8; 2] = [2, 2];

/// Fills the holes for a database that was opened and not read yet, below `root`. One that has no
/// write-ahead log has no shared memory either.
///
/// Fails where there is no room, instead of the signal.
pub(crate) fn reserve(connection: &Connection, root: &Path) -> io::Result<()> {
    if !has_holes(root) {
        return Ok(());
    }
    let file = DatabaseFile::of(connection)?;
    match file.start::<20>() {
        Some(start) if start.starts_with(MAGIC) && start.ends_with(&WITH_LOG) => fill(&file),
        _ => Ok(()),
    }
}

/// The same for a database that is about to get its log. SQLite lets go of the memory with the log.
pub(crate) fn reserve_first(connection: &Connection, root: &Path) -> io::Result<()> {
    if has_holes(root) { fill(&DatabaseFile::of(connection)?) } else { Ok(()) }
}

fn has_holes(root: &Path) -> bool {
    statvfs(root).is_ok_and(|stat| stat.f_frsize < PAGE)
}

fn fill(file: &DatabaseFile<'_>) -> io::Result<()> {
    match file.allocate_shared_memory() {
        // Linux before 5.14 cannot: what there is has to do.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => Ok(()),
        // It stands for the signal.
        Err(error) if Errno::from_io_error(&error) == Some(Errno::FAULT) => {
            Err(Errno::NOSPC.into())
        }
        result => result,
    }
}
