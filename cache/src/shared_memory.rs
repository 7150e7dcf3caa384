//! Room for SQLite's shared memory (`records-v1.db-shm`), which it writes through a mapping:
//! where a missing block cannot be allocated, the kernel kills the process.
//!
//! SQLite writes one byte into each page of 4 KiB to have it allocated. On file systems with
//! smaller blocks (ext4 below 512 MB) that leaves holes, which are filled here before SQLite touches them.

use std::ffi::{c_int, c_void};
use std::io;
use std::path::Path;
use std::ptr::{from_mut, null_mut};

use rusqlite::{Connection, ffi};
use rustix::fs::statvfs;
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

const PAGE: u64 = 4096;
/// What SQLite maps at a time; enough for a log of 16 MiB.
const REGION: usize = 32 << 10;
/// What a database with a write-ahead log starts with, and where the versions are that say so
/// (SQLite's "Database File Format", 1.3).
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const VERSIONS: usize = 18;
const WITH_LOG: [u8; 2] = [2, 2];

/// Fills the holes for a database that was opened and not read yet, below `root`. One that has no
/// write-ahead log has no shared memory either.
///
/// Fails where there is no room, instead of the signal.
pub(crate) fn reserve(connection: &Connection, root: &Path) -> io::Result<()> {
    let has_small_blocks = statvfs(root).is_ok_and(|stat| stat.f_frsize < PAGE);
    if has_small_blocks && Main::of(connection)?.has_log() { map(connection) } else { Ok(()) }
}

/// The same for a database that is about to get its log. SQLite lets go of the memory with the log.
pub(crate) fn reserve_first(connection: &Connection, root: &Path) -> io::Result<()> {
    let has_small_blocks = statvfs(root).is_ok_and(|stat| stat.f_frsize < PAGE);
    if has_small_blocks { map(connection) } else { Ok(()) }
}

fn map(connection: &Connection) -> io::Result<()> {
    let region = Main::of(connection)?.map_shared_memory()?;
    match populate(region) {
        // Linux before 5.14 cannot: what there is has to do.
        Ok(()) | Err(Errno::INVAL) => Ok(()),
        // It stands for the signal.
        Err(Errno::FAULT) => Err(Errno::NOSPC.into()),
        Err(error) => Err(error.into()),
    }
}

#[expect(
    unsafe_code,
    reason = "SQLite maps the memory, and the kernel is told of it by its address"
)]
fn populate(region: *mut c_void) -> rustix::io::Result<()> {
    // SAFETY: `region` is a shared mapping of `REGION` bytes that lives as long as the connection, and
    // this changes none of its bytes.
    unsafe { madvise(region, REGION, Advice::LinuxPopulateWrite) }
}

/// The main file of a connection, as SQLite's own layer for files has it.
struct Main {
    file: *mut ffi::sqlite3_file,
    methods: ffi::sqlite3_io_methods,
}

#[expect(unsafe_code, reason = "SQLite is written in C")]
impl Main {
    fn of(connection: &Connection) -> io::Result<Self> {
        let mut file: *mut ffi::sqlite3_file = null_mut();
        let out = from_mut(&mut file).cast::<c_void>();
        // SAFETY: the handle is of an open connection that nobody else uses meanwhile, and this call
        // writes one pointer.
        let code = unsafe {
            let (handle, which) = (connection.handle(), ffi::SQLITE_FCNTL_FILE_POINTER);
            ffi::sqlite3_file_control(handle, c"main".as_ptr(), which, out)
        };
        succeeded(code)?;
        // SAFETY: the file belongs to the connection and is open, so it has methods.
        let methods = unsafe { *(*file).pMethods };
        Ok(Self { file, methods })
    }

    fn has_log(&self) -> bool {
        let mut start = [0; VERSIONS + 2];
        let length = c_int::try_from(start.len()).expect("it is short");
        let read = self.methods.xRead.expect("every file can be read");
        // SAFETY: the file is open, and there is room for `length` bytes.
        let code = unsafe { read(self.file, start.as_mut_ptr().cast(), length, 0) };
        code == ffi::SQLITE_OK && start.starts_with(MAGIC) && start.ends_with(&WITH_LOG)
    }

    /// Where the first region is. SQLite finds it there, too, when it opens the log.
    fn map_shared_memory(&self) -> io::Result<*mut c_void> {
        let mut region: *mut c_void = null_mut();
        let size = c_int::try_from(REGION).expect("it is small");
        let map = self.methods.xShmMap.expect("files on Linux have shared memory");
        let out = from_mut(&mut region).cast();
        // SAFETY: the file is open, and this call writes one pointer.
        succeeded(unsafe { map(self.file, 0, size, 1, out) })?;
        Ok(region)
    }
}

fn succeeded(code: c_int) -> io::Result<()> {
    match code {
        ffi::SQLITE_OK => Ok(()),
        ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_FULL => Err(Errno::NOSPC.into()),
        code => Err(io::Error::other(ffi::Error::new(code))),
    }
}
