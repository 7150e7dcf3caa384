//! What no safe library has: one system call, and SQLite's own layer for files.

mod database_file;

use std::fs::File;
use std::os::fd::AsRawFd as _;

pub(crate) use database_file::DatabaseFile;

/// Asks the kernel to start writing a range of `file` to the disk. Returns at once and promises
/// nothing; a failure only means that a later sync has more to do.
pub(crate) fn start_writeback(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else { return };
    // SAFETY: the descriptor is open as long as `file` is borrowed; no memory is passed.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE);
    }
}
