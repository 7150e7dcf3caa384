//! Trees that a session has made and nobody wants: they are removed beside it, and its end waits for
//! that. What is left nevertheless is the next session's to clear: once the program is to end, no large
//! file is removed, since to give one back takes a while, and no process ends meanwhile.

use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, FileType, statat};

use crate::background::Background;
use crate::syncer::Stopper;

/// How long the end of a session waits, and how long when the program is to end.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_IN_A_HURRY: Duration = Duration::from_millis(50);

/// Bytes of a file whose removal takes long.
const LARGE: u64 = 16 << 20;

/// The removals of one session.
#[derive(Debug, Clone, Default)]
pub(crate) struct Removals {
    going_on: Background,
    failed: Arc<AtomicBool>,
    stopper: Stopper,
}

impl Removals {
    /// Nothing is removed yet.
    pub(crate) fn new(stopper: &Stopper) -> Self {
        Self { stopper: stopper.clone(), ..Self::default() }
    }

    /// Starts to remove a file or a tree.
    pub(crate) fn start(&self, path: PathBuf) {
        let removals = self.clone();
        self.beside(move || {
            removals.now(&path);
        });
    }

    /// Does what removes something, on a thread of its own.
    pub(crate) fn beside(&self, remove: impl FnOnce() + Send + 'static) {
        let work = self.going_on.begin();
        std::thread::spawn(move || {
            remove();
            drop(work);
        });
    }

    /// Removes a file or a tree now; whether it is gone.
    pub(crate) fn now(&self, path: &Path) -> bool {
        let is_gone =
            crate::disk::remove_unless(path, &|parent, name| is_left(&self.stopper, parent, name));
        let is_gone = is_gone.is_ok();
        self.failed.fetch_or(!is_gone, Ordering::Relaxed);
        is_gone
    }

    /// Waits for the end; whether everything is gone.
    pub(crate) fn finish(&self) -> bool {
        let patience = if self.stopper.is_stopped() { PATIENCE_IN_A_HURRY } else { PATIENCE };
        self.going_on.wait(patience) && !self.failed.load(Ordering::Relaxed)
    }
}

/// Whether there is no time to remove `name` in a directory.
pub(crate) fn is_left(stopper: &Stopper, parent: BorrowedFd<'_>, name: &[u8]) -> bool {
    let is_large = || {
        statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|found| {
            FileType::from_raw_mode(found.st_mode).is_file()
                && found.st_size.unsigned_abs() >= LARGE
        })
    };
    stopper.is_stopped() && is_large()
}

/// Whether it takes long to remove a file.
pub(crate) fn is_large(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() >= LARGE)
}
