//! Who commits for a session, and what it says of it.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Condvar, Mutex};

use crate::mutex::lock;

/// What a commit has just done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CommitStep {
    /// There is something to commit; nothing was done yet.
    Started,
    /// All data is on the disk.
    Synced,
    /// Blobs have their names.
    BlobsNamed,
    /// The names of blobs are on the disk.
    BlobNamesSynced,
    /// `index.json` is the new one.
    IndexNamed,
    /// The rows are written: other processes see the work.
    RowsWritten,
}

/// Commits in the background while a build goes on.
#[derive(Debug, Default)]
pub(crate) struct Committer {
    /// Held during a commit: there is one at a time.
    pub(crate) commit: Mutex<()>,
    /// Free bytes of the file system when [`crate::Store::write_back_growth`] last took note.
    pub(crate) free: AtomicU64,
    pub(crate) thread: Arc<(Mutex<Thread>, Condvar)>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thread {
    #[default]
    None,
    /// It commits when its interval is over.
    Waiting,
    Stopped,
}

impl Committer {
    pub(crate) fn stop(&self) {
        *lock(&self.thread.0) = Thread::Stopped;
        self.thread.1.notify_all();
    }
}
