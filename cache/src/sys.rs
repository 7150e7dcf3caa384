//! The one system call that no safe library has.

use std::fs::File;
use std::os::fd::AsRawFd as _;

/// Asks the kernel to start writing a range of `file` to the disk. Returns at once and promises
/// nothing; a failure only means that a later sync has more to do.
pub(crate) fn start_writeback(file: &File, offset: u64, length: u64) {
    let (Ok(offset), Ok(length)) = (i64::try_from(offset), i64::try_from(length)) else { return };
    // SAFETY: the descriptor is open as long as `file` is borrowed; no memory is passed.
    unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE);
    }
}
