//! Mirrors: what was fetched of git repositories, kept so that the next fetch moves only what is new. What
//! is in them is `git`'s; here they are directories with an owner.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::lock::{FileLock, Mode};
use crate::slot::{self, Wanted};
use crate::store::Store;

/// A mirror that nobody else has meanwhile; dropping it lets others have it.
#[derive(Debug)]
pub struct Mirror {
    path: PathBuf,
    lock: FileLock,
}

impl Store {
    /// The mirror of the repository `id`, as soon as nobody else has it. One that is new is handed to
    /// `prepare` before anybody sees it. `cancelled` is asked while waiting; the result is then `None`.
    pub fn mirror(
        &self,
        id: &str,
        prepare: &dyn Fn(&Path) -> io::Result<()>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<Mirror>, StoreError> {
        let (bucket, lock) = (Bucket::Mirrors, Mode::Exclusive);
        let wanted = Wanted { bucket, id, number: 0, lock, mode: 0o700 };
        let found = self.slot(wanted, prepare, cancelled)?;
        Ok(found.map(|(path, lock)| Mirror { path, lock }))
    }

    /// Removes a mirror that turned out to be damaged.
    pub fn discard_mirror(&self, mirror: Mirror) -> Result<(), StoreError> {
        let temporary = self.temporary();
        let renamed = std::fs::rename(&mirror.path, &temporary);
        renamed.map_err(|error| StoreError::io("rename", &mirror.path, error))?;
        self.inner.removals.start(temporary);
        Ok(())
    }

    /// Repositories that there are mirrors of.
    pub fn mirrors(&self) -> Result<Vec<String>, StoreError> {
        let slots = slot::slots_in(self.root(), Bucket::Mirrors)?;
        Ok(slots.iter().map(slot::Slot::id).collect())
    }
}

impl Mirror {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lock. As long as a process has it open, nobody else gets the mirror, unless it was given back.
    pub fn lock(&self) -> io::Result<OwnedFd> {
        Ok(self.lock.file().try_clone()?.into())
    }
}
