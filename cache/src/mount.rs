//! Cache mounts: directories that steps keep between builds (`RUN --mount=type=cache`). They are
//! no part of any key.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::lock::{FileLock, Mode};
use crate::slot::{Slot, Wanted, slots_in};
use crate::store::Store;

mod contents;
mod list;

pub use crate::slot::shown;
pub use contents::{empty, fill, put_came_from};
pub use list::MountItem;

/// Who may use a cache mount at the same time, in this and other processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Sharing {
    /// Everybody.
    #[default]
    Shared,
    /// While it is in use, the next one gets another directory.
    Private,
    /// While it is in use, the next one waits.
    Locked,
}

/// A cache mount in use; dropping it lets others have it.
#[derive(Debug)]
pub struct CacheMount {
    path: PathBuf,
    _lock: FileLock,
}

impl Store {
    /// The directory of the cache mount `id`. A directory that is new is handed to `prepare`
    /// before anybody sees it. `cancelled` is asked while waiting for a locked one; the result
    /// is then `None`.
    pub fn cache_mount(
        &self,
        id: &str,
        sharing: Sharing,
        prepare: &dyn Fn(&Path) -> io::Result<()>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<CacheMount>, StoreError> {
        let lock = match sharing {
            Sharing::Shared => Mode::Shared,
            Sharing::Private | Sharing::Locked => Mode::Exclusive,
        };
        let wanted = Wanted { bucket: Bucket::Mounts, id, number: 0, lock, mode: 0o755 };
        let found = match sharing {
            Sharing::Shared | Sharing::Locked => self.slot(wanted, prepare, cancelled)?,
            Sharing::Private => self.first_free(wanted, prepare)?,
        };
        Ok(found.map(|(path, lock)| CacheMount { path, _lock: lock }))
    }

    fn first_free(
        &self,
        wanted: Wanted<'_>,
        prepare: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<Option<(PathBuf, FileLock)>, StoreError> {
        let slots = (0..u32::MAX).map(|number| Wanted { number, ..wanted });
        let mut tries = slots.map(|wanted| self.try_slot(wanted, prepare));
        tries.find_map(Result::transpose).transpose()
    }
}

impl Store {
    /// Empties the cache mounts `ids`, whatever they were first filled from; waits for those who have
    /// them. `cancelled` is asked meanwhile. Says whether it came to its end.
    pub fn empty_cache_mounts(
        &self,
        ids: &BTreeSet<String>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<bool, StoreError> {
        for Slot { path, lock, .. } in slots_in(self.root(), Bucket::Mounts)? {
            let named = std::fs::read_to_string(path.with_file_name("id"));
            let named = named.map_err(|error| StoreError::io("read the id of", &path, error))?;
            if !ids.contains(named.lines().next().unwrap_or_default()) {
                continue;
            }
            let held = FileLock::acquire(&lock, Mode::Exclusive, cancelled);
            let held = held.map_err(|error| StoreError::io("lock", &path, error))?;
            let Some(_held) = held.map(FileLock::kept) else { return Ok(false) };
            let gone = self.temporary();
            match std::fs::rename(&path, &gone) {
                Ok(()) => self.inner.removals.start(gone),
                // Somebody else has pruned it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("empty", &path, error)),
            }
        }
        Ok(true)
    }
}

impl CacheMount {
    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}
