//! Making room while builds go on: what the store keeps to by itself.

use std::sync::atomic::Ordering;

use super::Pruned;
use super::filter::{PruneFilter, Reach, Space};
use crate::bucket::Bucket;
use crate::database::Kind;
use crate::error::StoreError;
use crate::lock::{FileLock, Mode};
use crate::store::Store;
use crate::usage::Sizes;

/// The store is measured again when the disk has got so much fuller, or emptier, as a share of the limit, …
const SHARE: u64 = 50;
/// … but not for less than this, nor only for more than that.
const GROWTH: std::ops::RangeInclusive<u64> = 1 << 20..=256 << 20;

impl Store {
    /// Bytes of the disk that the store is on.
    pub fn disk_size(&self) -> Result<u64, StoreError> {
        let room = self.room().map_err(|error| StoreError::io("ask", self.root(), error))?;
        Ok(room.bytes.total)
    }

    /// Whether [`Store::make_room`] has to look: the first time, and when more or less of the disk is free
    /// since.
    pub fn may_need_room(&self, rules: &[PruneFilter]) -> bool {
        let before = self.inner.free_when_pruned.load(Ordering::Relaxed);
        // What others have freed meanwhile says as little of the store as what they have written.
        let changed = || self.room().map(|room| before.abs_diff(room.bytes.free));
        !rules.is_empty() && (before == 0 || changed().is_ok_and(|bytes| bytes >= growth(rules)))
    }

    /// Whether this session has made room before.
    pub fn has_made_room(&self) -> bool {
        self.inner.free_when_pruned.load(Ordering::Relaxed) != 0
    }

    /// Keeps the store to `rules`, one after the other. To be called before something is written, when
    /// [`Store::may_need_room`] says so, and after. Nothing goes that any session has looked up.
    pub fn make_room(&self, rules: &[PruneFilter]) -> Result<Pruned, StoreError> {
        let root = self.root();
        let failed = |error| StoreError::io("ask", root, error);
        let looked = &self.inner.free_when_pruned;
        if rules.is_empty() {
            return Ok(Pruned::default());
        }
        looked.store(self.room().map_err(failed)?.bytes.free.max(1), Ordering::Relaxed);
        self.inner.lease.announce();
        let path = Bucket::Locks.path(root).join("room");
        let lock = FileLock::try_acquire(&path, Mode::Exclusive);
        // Who has it makes room for all.
        let Some(_lock) = lock.map_err(|error| StoreError::io("lock", &path, error))? else {
            return Ok(Pruned::default());
        };
        let mut pruned = Pruned::default();
        let mut sizes = self.remembered_sizes()?;
        for rule in rules {
            if self.is_due(rule, &sizes)? {
                pruned.add(self.prune_as(rule, &sizes)?);
                sizes = self.remembered_sizes()?;
            }
        }
        looked.store(self.room().map_err(failed)?.bytes.free.max(1), Ordering::Relaxed);
        Ok(pruned)
    }

    fn prune_as(&self, rule: &PruneFilter, sizes: &Sizes) -> Result<Pruned, StoreError> {
        let mut pruned = Pruned::default();
        self.prune_with_room(rule, sizes, &mut pruned).map(|()| pruned)
    }

    /// Whether there may be something for a rule to take.
    fn is_due(&self, rule: &PruneFilter, sizes: &Sizes) -> Result<bool, StoreError> {
        let before = rule.before();
        let rows = self.inner.database.scan(Kind::Layer, &[])?;
        let is_old = rows.iter().any(|(_, row)| row.used < before)
            || sizes.slots().iter().any(|(slot, _)| slot.used < before);
        if rule.space == Space::default() || !is_old {
            return Ok(is_old && rule.reach != Reach::Garbage);
        }
        let blobs = self.inner.database.scan(Kind::Blob, &[])?;
        let blobs = blobs.iter().filter_map(|(_, row)| crate::blob::size_of_row(row));
        let used = sizes.trees() + sizes.all_slots() + blobs.sum::<u64>();
        let room = self.room().map_err(|error| StoreError::io("ask", self.root(), error))?;
        let free = room.bytes.free;
        Ok(rule.space.limit(used, free + sizes.waiting()).is_some_and(|limit| used > limit))
    }
}

impl Pruned {
    fn add(&mut self, other: Self) {
        self.freed += other.freed;
        self.waiting = other.waiting;
        self.steps += other.steps;
        self.layers += other.layers;
        self.blobs += other.blobs;
        self.mounts += other.mounts;
        self.mirrors += other.mirrors;
        self.received += other.received;
        self.judged.extend(other.judged);
    }
}

fn growth(rules: &[PruneFilter]) -> u64 {
    let strictest = rules.iter().filter_map(|rule| rule.space.max_used).min();
    strictest.map_or(*GROWTH.end(), |most| (most / SHARE).clamp(*GROWTH.start(), *GROWTH.end()))
}
