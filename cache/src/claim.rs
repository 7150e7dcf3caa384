//! Claims: of several processes that are about to do the same work, one does it.

use std::io;
use std::path::{Path, PathBuf};

use oci::Digest;

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::lock::{FileLock, Mode};
use crate::store::Store;

/// How the names of claims' files start.
const PREFIX: &str = "claim-";

/// The right to do one piece of work; dropping it lets the next process (or thread) have it, and
/// so does the death of this one.
#[derive(Debug)]
pub struct Claim {
    lock: FileLock,
}

impl Store {
    /// Waits for the claim on `key`. `cancelled` is asked at least every 20 ms; when it says yes,
    /// the result is `None`. Look the result up again after waiting: the work may be done.
    pub fn claim(
        &self,
        key: &Digest,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Claim>, StoreError> {
        let path = claim_path(self.root(), key);
        let lock = FileLock::acquire(&path, Mode::Exclusive, cancelled);
        claimed(&path, lock)
    }

    /// Takes the claim on `key` if nobody has it.
    pub fn try_claim(&self, key: &Digest) -> Result<Option<Claim>, StoreError> {
        let path = claim_path(self.root(), key);
        let lock = FileLock::try_acquire(&path, Mode::Exclusive);
        claimed(&path, lock)
    }

    /// Gives a claim back as soon as everything that was put into the store so far is visible to
    /// other processes. To be used where work was done; a plain drop would let a waiting process
    /// find nothing and do it again.
    pub fn release_when_committed(&self, claim: Claim) {
        self.change(|pending| pending.claims.push(claim.lock));
    }
}

/// Removes the files of claims that killed processes had.
pub(crate) fn remove_stale(root: &Path) {
    let entries = std::fs::read_dir(Bucket::Locks.path(root)).into_iter().flatten().flatten();
    for entry in entries {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            // Letting an exclusive lock go removes its file.
            drop(FileLock::try_acquire(&entry.path(), Mode::Exclusive));
        }
    }
}

fn claim_path(root: &Path, key: &Digest) -> PathBuf {
    Bucket::Locks.path(root).join(format!("{PREFIX}{}", key.hex()))
}

fn claimed(path: &Path, lock: io::Result<Option<FileLock>>) -> Result<Option<Claim>, StoreError> {
    let lock = lock.map_err(|source| StoreError::io("lock", path, source))?;
    Ok(lock.map(|lock| Claim { lock }))
}
