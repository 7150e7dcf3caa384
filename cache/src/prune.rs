//! Prune: which rows go. When their data goes is the trash's.
//!
//! A layer, a record and a cache mount each know when they were last used. What is chosen goes
//! together with everything that then leads nowhere. Tagged images are never touched.

mod selection;
mod sweep;

use std::path::Path;
use std::time::Duration;

use crate::mount::{self, Slot};
use crate::store::{self, Store, StoreError, now};
use crate::usage::size_of;
use crate::{image, lease, trash};

use selection::{Cutoff, Selection};

/// What prune takes. By default only what nothing leads to any more.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PruneFilter {
    /// Take all of the cache.
    pub all: bool,
    /// Take what was not used for this long.
    pub unused_for: Option<Duration>,
    /// Take the longest unused until the cache has no more bytes than this.
    pub keep_bytes: Option<u64>,
}

/// What prune has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Bytes given back.
    pub freed: u64,
    /// Bytes that will be given back when the builds that run now are over.
    pub waiting: u64,
    /// Step records forgotten.
    pub steps: u64,
    /// Layers forgotten.
    pub layers: u64,
    /// Blobs forgotten.
    pub blobs: u64,
    /// Cache mounts removed.
    pub mounts: u64,
}

impl Store {
    /// Forgets what `filter` chooses, and frees the room that no other session may count on.
    ///
    /// This session itself is not waited for: prune in a store opened for it. Works on a full
    /// disk, with the room that is set aside for it.
    pub fn prune(&self, filter: &PruneFilter) -> Result<Pruned, StoreError> {
        let root = self.root();
        store::balance(root);
        let mut pruned = Pruned::default();
        let pruning = self.prune_with_room(filter, &mut pruned);
        store::balance(root);
        pruning.map(|()| pruned)
    }

    fn prune_with_room(&self, filter: &PruneFilter, pruned: &mut Pruned) -> Result<(), StoreError> {
        let mounts = list_mounts(self.root())?;
        let chosen = match self.discard(filter, &mounts, pruned) {
            // Not even the room set aside was enough: garbage goes first, then once more.
            Err(error) if error.is_out_of_space() => {
                pruned.freed += sweep::sweep(self, &Cutoff::of(filter))?;
                self.discard(filter, &mounts, pruned)?
            }
            result => result?,
        };
        for slot in chosen {
            if let Some(bytes) = remove_mount(self, &slot) {
                pruned.freed += bytes;
                pruned.mounts += 1;
            }
        }
        pruned.freed += sweep::sweep(self, &Cutoff::of(filter))?;
        let collected = trash::collect(&self.inner)?;
        pruned.freed += collected.freed;
        pruned.waiting = collected.waiting;
        // Without room for a copy the database stays as large as it is.
        let _ = self.inner.database.shrink();
        Ok(())
    }

    /// Moves the rows of what is chosen into the trash. Gives the cache mounts chosen.
    fn discard(
        &self,
        filter: &PruneFilter,
        mounts: &[Slot],
        pruned: &mut Pruned,
    ) -> Result<Vec<Slot>, StoreError> {
        let root = self.root();
        let cutoff = Cutoff::of(filter);
        let sizes = selection::sizes(self, filter)?;
        // While the index is locked nobody tags what is about to be thrown away.
        let index = image::lock_index(root)?;
        let images = image::roots(root).ok();
        let (epoch, chosen) = self.inner.database.write(|write| {
            let selection =
                Selection::make(root, write, images.as_deref(), &sizes, mounts, &cutoff)?;
            if selection.is_empty() {
                return Ok::<_, StoreError>((None, selection.mounts));
            }
            let epoch = trash::open_epoch(write)?;
            selection.discard(write, epoch)?;
            pruned.steps = selection.steps();
            pruned.layers = selection.layers();
            pruned.blobs = selection.blobs();
            Ok((Some(epoch), selection.mounts))
        })?;
        drop(index);
        if let Some(epoch) = epoch {
            trash::close_epoch(&self.inner, epoch, Some(self.inner.lease.session()))?;
        }
        self.inner.seen().clear();
        Ok(chosen)
    }
}

fn list_mounts(root: &Path) -> Result<Vec<Slot>, StoreError> {
    let path = crate::Bucket::Mounts.path(root);
    mount::slots(root).map_err(|error| StoreError::io("list", &path, error))
}

/// Removes a cache mount that nobody uses, and says how many bytes it had.
fn remove_mount(store: &Store, slot: &Slot) -> Option<u64> {
    let lock = crate::lock::FileLock::try_acquire(&slot.lock, crate::lock::Mode::Exclusive);
    let _lock = lock.ok().flatten()?;
    let temporary = store.temporary();
    std::fs::rename(&slot.path, &temporary).ok()?;
    let bytes = size_of(&temporary);
    trash::remove(&temporary);
    Some(bytes)
}

/// Sessions that are alive, this one included.
fn living(store: &Store) -> Result<Vec<lease::SessionId>, StoreError> {
    let sessions = lease::sessions(store.root(), None).map_err(|error| {
        StoreError::io("list", &crate::Bucket::Leases.path(store.root()), error)
    })?;
    Ok(sessions.alive)
}

/// Seconds since 1970, `duration` ago.
fn ago(duration: Duration) -> i64 {
    now().saturating_sub(i64::try_from(duration.as_secs()).unwrap_or(i64::MAX))
}
