//! A database's file as SQLite's own layer for files has it.

use std::ffi::{c_int, c_void};
use std::io;
use std::marker::PhantomData;
use std::ptr::{from_mut, null_mut};

use rusqlite::{Connection, ffi};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

/// What SQLite maps of its shared memory at a time, in bytes; enough for a log of 16 MiB.
const REGION: usize = 32 << 10;

/// The main file of an open connection.
pub(crate) struct DatabaseFile<'a> {
    file: *mut ffi::sqlite3_file,
    methods: ffi::sqlite3_io_methods,
    connection: PhantomData<&'a Connection>,
}

impl<'a> DatabaseFile<'a> {
    pub(crate) fn of(connection: &'a Connection) -> io::Result<Self> {
        let mut file: *mut ffi::sqlite3_file = null_mut();
        let out = from_mut(&mut file).cast::<c_void>();
        // SAFETY: the connection is open, is not used by another thread meanwhile (it is not `Sync`), and
        // this call writes one pointer.
        let code = unsafe {
            let (handle, which) = (connection.handle(), ffi::SQLITE_FCNTL_FILE_POINTER);
            ffi::sqlite3_file_control(handle, c"main".as_ptr(), which, out)
        };
        succeeded(code)?;
        // SAFETY: the file belongs to the connection and is open, so it has methods.
        let methods = unsafe { *(*file).pMethods };
        Ok(Self { file, methods, connection: PhantomData })
    }

    /// Its first bytes; `None` when there are not so many, or they cannot be read.
    pub(crate) fn start<const N: usize>(&self) -> Option<[u8; N]> {
        let mut start = [0; N];
        let (length, read) = (c_int::try_from(N).ok()?, self.methods.xRead?);
        // SAFETY: the file is open, and there is room for `length` bytes.
        let code = unsafe { read(self.file, start.as_mut_ptr().cast(), length, 0) };
        (code == ffi::SQLITE_OK).then_some(start)
    }

    /// Has the disk set room aside for the first region of its shared memory, where SQLite then finds it.
    /// `EFAULT`: there is none, and touching the region would end the process.
    pub(crate) fn allocate_shared_memory(&self) -> io::Result<()> {
        let mut region: *mut c_void = null_mut();
        let out = from_mut(&mut region).cast();
        let size = c_int::try_from(REGION).expect("it is small");
        let map = self.methods.xShmMap.expect("files on Linux have shared memory");
        // SAFETY: the file is open, and this call writes one pointer.
        succeeded(unsafe { map(self.file, 0, size, 1, out) })?;
        // SAFETY: it is a shared mapping of `REGION` bytes that lives as long as the connection, and this
        // changes none of them.
        Ok(unsafe { madvise(region, REGION, Advice::LinuxPopulateWrite) }?)
    }
}

fn succeeded(code: c_int) -> io::Result<()> {
    match code {
        ffi::SQLITE_OK => Ok(()),
        ffi::SQLITE_IOERR_SHMSIZE | ffi::SQLITE_FULL => Err(Errno::NOSPC.into()),
        code => Err(io::Error::other(ffi::Error::new(code))),
    }
}
