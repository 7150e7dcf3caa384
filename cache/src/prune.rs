//! Prune: which rows go. When their data goes is the trash's.
//!
//! A layer, a record, a cache mount and a mirror each know when they were last used. What is chosen goes
//! together with everything that then leads nowhere. Named images are never touched, nor is what a
//! living session says that it holds.

mod everything;
mod filter;
mod room;
mod selection;
mod sweep;
mod units;
mod verdict;

use crate::bucket::Bucket;
use crate::disk::size_of;
use crate::error::StoreError;
use crate::lease::{self, Holds};
use crate::slot::{self, Slot};
use crate::store::Store;
use crate::usage::Sizes;
use crate::{collect, image, leftovers, reserve, trash};

use everything::Everything;
pub use filter::{Match, Pattern, Property, PruneFilter, Reach, Space, Text};
use selection::{Choice, Selection};
pub use units::{CacheItem, ItemKind};
pub use verdict::{Judged, Verdict, Why, WhyNot};

/// What prune has done.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// Git repositories removed.
    pub mirrors: u64,
    /// Received directories removed.
    pub received: u64,
    /// Every part of the cache, and what became of it.
    pub judged: Vec<Judged>,
}

impl Pruned {
    /// What was chosen, apart from what then led nowhere.
    pub fn items(&self) -> impl Iterator<Item = &CacheItem> {
        self.judged.iter().filter(|it| it.verdict.is_chosen()).map(|it| &it.item)
    }
}

/// Names that are taken for gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Without {
    /// Of images.
    pub images: Vec<String>,
    /// Of containers.
    pub containers: Vec<String>,
}

impl Store {
    /// Forgets what `filter` chooses, and frees the room that no session may count on: what this
    /// session has looked up stays, too. Works on a full disk, with the room that is set aside for it.
    pub fn prune(&self, filter: &PruneFilter) -> Result<Pruned, StoreError> {
        let root = self.root();
        leftovers::make_room(root);
        let mut pruned = Pruned::default();
        let pruning = self.prune_with_room(filter, &self.sizes()?, &mut pruned);
        reserve::take(root);
        pruning.map(|()| pruned)
    }

    fn prune_with_room(
        &self,
        filter: &PruneFilter,
        sizes: &Sizes,
        pruned: &mut Pruned,
    ) -> Result<(), StoreError> {
        let root = self.root();
        let chosen = match self.discard(filter, sizes, pruned) {
            // Not even the room set aside was enough: garbage goes first, then once more.
            Err(error) if error.is_out_of_space() => {
                pruned.freed += sweep::sweep(self, filter.facts_before())?;
                self.discard(filter, sizes, pruned)?
            }
            result => result?,
        };
        for slot in chosen {
            if let Some(bytes) = remove_slot(self, &slot) {
                pruned.freed += bytes;
                match slot.bucket {
                    Bucket::Mirrors => pruned.mirrors += 1,
                    Bucket::Received => pruned.received += 1,
                    _ => pruned.mounts += 1,
                }
            }
        }
        let unused = slot::remove_unused(self);
        unused.map_err(|error| StoreError::io("clear up", root, error))?;
        pruned.freed += sweep::sweep(self, filter.facts_before())?;
        let collected = collect::collect(&self.inner, &self.inner.lease)?;
        pruned.freed += collected.freed;
        pruned.waiting = collected.waiting;
        // Without room for a copy the database stays as large as it is.
        let _ = self.inner.database.shrink();
        Ok(())
    }

    /// What [`Self::prune`] would remove if what is named `without` were gone already; all of it stays.
    pub fn would_prune(
        &self,
        filter: &PruneFilter,
        without: &Without,
    ) -> Result<Pruned, StoreError> {
        let held = self.held_without(&without.containers)?;
        let (root, sizes) = (self.root(), self.sizes()?);
        let room = self.room().map_err(|error| StoreError::io("ask", root, error))?;
        let free = room.bytes.free + sizes.waiting();
        let choice = Choice { filter, sizes: &sizes, held: &held, free };
        let images = self.known_blobs_of_images_without(&without.images);
        let selection = self.inner.database.write(|write| {
            let selection = Selection::make(root, write, images, &choice)?;
            Ok::<_, StoreError>(selection)
        })?;
        let of = |bucket| selection.slots.iter().filter(move |slot| slot.bucket == bucket).count();
        Ok(Pruned {
            freed: selection.bytes(&sizes),
            waiting: 0,
            steps: selection.steps(),
            layers: selection.layers(),
            blobs: selection.blobs(),
            mounts: of(Bucket::Mounts) as u64,
            mirrors: of(Bucket::Mirrors) as u64,
            received: of(Bucket::Received) as u64,
            judged: selection.judged,
        })
    }

    /// Moves the rows of what is chosen into the trash. Gives the cache mounts and mirrors chosen.
    fn discard(
        &self,
        filter: &PruneFilter,
        sizes: &Sizes,
        pruned: &mut Pruned,
    ) -> Result<Vec<Slot>, StoreError> {
        let root = self.root();
        let room = self.room().map_err(|error| StoreError::io("ask", root, error))?;
        let free = room.bytes.free;
        let held = self.held()?;
        // What waits in the trash is as good as free.
        let choice = Choice { filter, sizes, held: &held, free: free + sizes.waiting() };
        // While the index is locked nobody tags what is about to be thrown away.
        let index = image::lock_index(root)?;
        let images = self.known_blobs_of_images();
        let (epoch, chosen) = self.inner.database.write(|write| {
            let selection = Selection::make(root, write, images, &choice)?;
            pruned.judged.clone_from(&selection.judged);
            if selection.is_empty() {
                return Ok::<_, StoreError>((None, selection.slots));
            }
            let epoch = trash::open_epoch(write)?;
            selection.discard(write, epoch)?;
            pruned.steps = selection.steps();
            pruned.layers = selection.layers();
            pruned.blobs = selection.blobs();
            Ok((Some(epoch), selection.slots))
        })?;
        drop(index);
        if let Some(epoch) = epoch {
            trash::close_epoch(root, &self.inner.database, epoch)?;
            collect::restore_held(&self.inner)?;
        }
        self.inner.seen().clear();
        Ok(chosen)
    }

    /// All parts of the cache.
    pub fn cache_items(&self) -> Result<Vec<CacheItem>, StoreError> {
        let (sizes, held) = (self.sizes()?, self.held()?);
        let root = self.root();
        let images = self.known_blobs_of_images();
        let units = self.inner.database.write(|write| {
            let everything = Everything::read(root, write, images)?;
            Ok::<_, StoreError>(everything.units(&sizes, &held))
        })?;
        Ok(units.into_iter().map(|unit| unit.item).collect())
    }

    /// What sessions say that they hold, this one's, too, and what containers need.
    fn held(&self) -> Result<Vec<Holds>, StoreError> {
        self.held_without(&[])
    }

    /// The same, but for the containers of these names.
    fn held_without(&self, containers: &[String]) -> Result<Vec<Holds>, StoreError> {
        let own = self.inner.lease.session();
        let others = lease::living(self.root())?;
        let others = others.iter().filter(|session| *session != own);
        let held = others.map(|session| lease::held_by(self.root(), session));
        // What may hold anything is waited for: see the trash.
        let held = held.filter(|holds| *holds != Holds::Everything);
        let mut held: Vec<Holds> = held.chain([self.inner.lease.holds()]).collect();
        // Afterwards: what a session has just let go of may be a container's now.
        held.push(self.held_by_containers(containers)?);
        Ok(held)
    }
}

/// Removes a cache mount or mirror that nobody uses, and says how many bytes it had.
pub(crate) fn remove_slot(store: &Store, slot: &Slot) -> Option<u64> {
    let lock = crate::lock::FileLock::try_acquire(&slot.lock, crate::lock::Mode::Exclusive);
    let _lock = lock.ok().flatten()?;
    let temporary = store.temporary();
    std::fs::rename(&slot.path, &temporary).ok()?;
    let bytes = size_of(&temporary);
    store.inner.removals.now(&temporary).then_some(bytes)
}
