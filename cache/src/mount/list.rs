//! The cache mounts of a store, for those who look after them.

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::lock::{FileLock, Mode};
use crate::mount::CacheMount;
use crate::slot::{Slot, slots_in};
use crate::store::Store;

/// A cache mount, as users see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountItem {
    /// A name that no other has, as [`crate::CacheItem::id`].
    pub name: String,
    /// The id that steps give it; several may have one, filled from something else at first, or had by
    /// several steps at once.
    pub id: String,
    /// Room it takes on disk, in bytes.
    pub bytes: u64,
    /// When it was last used, in seconds since 1970.
    pub used: i64,
    /// A step has it.
    pub is_in_use: bool,
}

impl Store {
    /// All cache mounts.
    pub fn cache_mounts(&self) -> Result<Vec<MountItem>, StoreError> {
        let slots = slots_in(self.root(), Bucket::Mounts)?;
        let sizes = self.slot_sizes(&slots);
        let item = |(slot, bytes): (&Slot, u64)| MountItem {
            name: slot.name(),
            id: slot.id(),
            bytes,
            used: slot.used,
            is_in_use: slot.is_in_use(),
        };
        Ok(slots.iter().zip(sizes).map(item).collect())
    }

    /// The cache mount called `name`, if it is there and nobody has it who does not share it. Who is `alone` may
    /// change it.
    pub fn named_cache_mount(
        &self,
        name: &str,
        alone: bool,
    ) -> Result<Option<CacheMount>, StoreError> {
        let Some(slot) = self.named_slot(name)? else { return Ok(None) };
        let mode = if alone { Mode::Exclusive } else { Mode::Shared };
        let lock = FileLock::try_acquire(&slot.lock, mode);
        let lock = lock.map_err(|error| StoreError::io("lock", &slot.path, error))?;
        let lock = lock.map(FileLock::kept).filter(|_| slot.path.is_dir());
        Ok(lock.map(|lock| {
            if alone {
                Slot::touch(&lock);
                self.forget_slot_size(&slot.path);
            }
            CacheMount { path: slot.path, _lock: lock }
        }))
    }

    /// Removes the cache mount called `name`; whether nobody had it. One that is gone already is removed.
    pub fn remove_cache_mount(&self, name: &str) -> Result<bool, StoreError> {
        let Some(slot) = self.named_slot(name)? else { return Ok(true) };
        Ok(crate::prune::remove_slot(self, &slot).is_some() || !slot.path.is_dir())
    }

    fn named_slot(&self, name: &str) -> Result<Option<Slot>, StoreError> {
        let slots = slots_in(self.root(), Bucket::Mounts)?;
        Ok(slots.into_iter().find(|slot| slot.name() == name))
    }
}
