//! Locks between processes: `flock` on a file, given back by the kernel when the holder dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::OFlags;

/// The first and the longest pause between two tries for a lock.
const PAUSE: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(20)];

/// A held lock; dropping it lets go. An exclusive holder usually removes the file, too.
#[derive(Debug)]
pub(crate) struct FileLock {
    path: PathBuf,
    removes_file: bool,
    /// Held for its `flock`, which ends with the descriptor.
    file: File,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

impl FileLock {
    /// Takes the lock at `path` if nobody has it.
    pub(crate) fn try_acquire(path: &Path, mode: Mode) -> io::Result<Option<Self>> {
        loop {
            let file = open(path)?;
            let taken = match mode {
                Mode::Shared => file.try_lock_shared(),
                Mode::Exclusive => file.try_lock(),
            };
            match taken {
                Ok(()) if is_at(&file, path)? => {
                    let removes_file = mode == Mode::Exclusive;
                    return Ok(Some(Self { path: path.to_owned(), removes_file, file }));
                }
                // The last holder removed the file between our open and our lock.
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Waits for the lock at `path`, asking `cancelled` at least every 20 ms; `None` when
    /// cancelled.
    pub(crate) fn acquire(
        path: &Path,
        mode: Mode,
        cancelled: &dyn Fn() -> bool,
    ) -> io::Result<Option<Self>> {
        poll(cancelled, || Self::try_acquire(path, mode))
    }

    /// The same lock, whose file stays when it is let go.
    pub(crate) fn kept(mut self) -> Self {
        self.removes_file = false;
        self
    }

    /// Waits for the lock at `path` for as long as it takes.
    pub(crate) fn wait(path: &Path, mode: Mode) -> io::Result<Self> {
        let lock = Self::acquire(path, mode, &|| false)?;
        Ok(lock.expect("a lock that cannot be cancelled is waited for"))
    }

    /// The locked file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

/// Tries until there is something, asking `cancelled` at least every 20 ms; `None` when cancelled.
pub(crate) fn poll<T, E>(
    cancelled: &dyn Fn() -> bool,
    mut attempt: impl FnMut() -> Result<Option<T>, E>,
) -> Result<Option<T>, E> {
    let mut pause = PAUSE[0];
    loop {
        if let Some(found) = attempt()? {
            return Ok(Some(found));
        }
        if cancelled() {
            return Ok(None);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(PAUSE[1]);
    }
}

/// Opens a lock's file, making it if there is none. Anything there that is not a file is replaced.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    options.custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    let opened = options.open(path);
    let is_file = |found: &std::fs::Metadata| found.is_file();
    match opened {
        Err(_) if std::fs::symlink_metadata(path).is_ok_and(|found| !is_file(&found)) => {
            crate::disk::remove(path)?;
            options.open(path)
        }
        opened => opened,
    }
}

impl Drop for FileLock {
    fn drop(&mut self) {
        // While the lock is held nobody else can hold a lock on this inode, and a process that opened it
        // before sees that the path leads elsewhere.
        if self.removes_file {
            let _ = std::fs::remove_file(&self.path);
        }
        // Closing is not enough: a child that has just been forked has the file open, too.
        let _ = self.file.unlock();
    }
}

/// Whether `path` still leads to `file`.
pub(crate) fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match std::fs::symlink_metadata(path) {
        Ok(found) => Ok((held.dev(), held.ino()) == (found.dev(), found.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
