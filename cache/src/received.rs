//! Directories that were received from clients, kept so that the next time only what is new is sent. What is in
//! them is as it was sent; here they are directories with an owner.

use std::path::{Path, PathBuf};

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::lock::{FileLock, Mode};
use crate::slot::Wanted;
use crate::store::Store;

/// A received directory that nobody else has meanwhile; dropping it lets others have it.
#[derive(Debug)]
pub struct Received {
    path: PathBuf,
    _lock: FileLock,
}

impl Store {
    /// A directory for what is called `id`, with what it had the last time. Who asks while others have one gets
    /// another.
    pub fn received(&self, id: &str) -> Result<Received, StoreError> {
        let (bucket, lock) = (Bucket::Received, Mode::Exclusive);
        let mut number = 0;
        loop {
            let wanted = Wanted { bucket, id, number, lock, mode: 0o755 };
            if let Some((path, lock)) = self.try_slot(wanted, &|_| Ok(()))? {
                return Ok(Received { path, _lock: lock });
            }
            number += 1;
        }
    }
}

impl Received {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
