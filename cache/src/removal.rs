//! Trees that a session has made and nobody wants: they are removed beside it, and its end waits for
//! that. What is left nevertheless is the next session's to clear.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::background::Background;
use crate::syncer::Stopper;

/// How long the end of a session waits, and how long when the program is to end.
const PATIENCE: Duration = Duration::from_secs(10);
const PATIENCE_IN_A_HURRY: Duration = Duration::from_millis(50);

/// The removals of one session.
#[derive(Debug, Default)]
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
        let failed = self.failed.clone();
        self.beside(move || {
            if crate::disk::remove(&path).is_err() {
                failed.store(true, Ordering::Relaxed);
            }
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
        let is_gone = crate::disk::remove(path).is_ok();
        self.failed.fetch_or(!is_gone, Ordering::Relaxed);
        is_gone
    }

    /// Waits for the end; whether everything is gone.
    pub(crate) fn finish(&self) -> bool {
        let patience = if self.stopper.is_stopped() { PATIENCE_IN_A_HURRY } else { PATIENCE };
        self.going_on.wait(patience) && !self.failed.load(Ordering::Relaxed)
    }
}
