//! How much room the store takes, and for what.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::bucket::{BALLAST, Bucket, RECORDS};
use crate::database::Kind;
use crate::disk::{size_of, walk};
use crate::error::StoreError;
use crate::layer_id::LayerId;
use crate::layer_row::{self, LayerRow};
use crate::lock::{FileLock, Mode};
use crate::room::Room;
use crate::slot::{self, Slot};
use crate::store::Store;
use crate::{collect, image, reserve};

/// Room on disk in bytes, as the file system counts it (blocks, not lengths).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskUsage {
    /// Everything below the root.
    pub total: u64,
    /// Blobs that tagged images consist of.
    pub images: u64,
    /// Other blobs: compressed layers, pulled layers.
    pub blobs: u64,
    /// Layers as trees.
    pub layers: u64,
    /// Containers that stay.
    pub containers: u64,
    /// Cache mounts.
    pub mounts: u64,
    /// What was fetched of git repositories.
    pub mirrors: u64,
    /// Directories received from clients.
    pub received: u64,
    /// Full logs of steps.
    pub logs: u64,
    /// Records, stat indexes, locks, leases.
    pub records: u64,
    /// Unfinished downloads, trees of steps that run, and what is on its way out.
    pub temporary: u64,
    /// Kept free for prune on a full disk.
    pub ballast: u64,
    /// Number of images; one with several names counts once.
    pub image_count: u64,
    /// Number of containers.
    pub container_count: u64,
    /// Number of cache mounts.
    pub mount_count: u64,
    /// Number of git repositories.
    pub mirror_count: u64,
    /// Number of received directories.
    pub received_count: u64,
    /// Number of step records.
    pub steps: u64,
    /// Number of layers.
    pub layer_count: u64,
}

/// How large trees are, in bytes on disk.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    /// By name of the directory.
    trees: HashMap<String, u64>,
    slots: Vec<(Slot, u64)>,
    waiting: u64,
}

/// A directory by itself, in bytes.
const DIRECTORY_SIZE: u64 = 4096;

/// How exactly sizes are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// What is not known is measured.
    Measured,
    /// Used cache mounts are measured in the background, for the next time; what takes little is
    /// estimated.
    Later,
}

impl Sizes {
    /// Of the tree in the directory of this name.
    pub(crate) fn tree(&self, directory: &LayerId) -> u64 {
        self.trees.get(directory.as_str()).copied().unwrap_or(0)
    }

    /// Of all trees that rows lead to.
    pub(crate) fn trees(&self) -> u64 {
        self.trees.values().sum()
    }

    /// Cache mounts and mirrors, each with its size.
    pub(crate) fn slots(&self) -> &[(Slot, u64)] {
        &self.slots
    }

    /// Of all of these.
    pub(crate) fn all_slots(&self) -> u64 {
        self.slots.iter().map(|(_, bytes)| bytes).sum()
    }

    /// How many there are in a bucket, and how large they are.
    fn slots_in(&self, bucket: Bucket) -> (u64, u64) {
        let slots = self.slots.iter().filter(|(slot, _)| slot.bucket == bucket);
        slots.fold((0, 0), |(count, sum), (_, bytes)| (count + 1, sum + bytes))
    }

    /// Of everything in the trash.
    pub(crate) fn waiting(&self) -> u64 {
        self.waiting
    }
}

impl Store {
    /// Room left on the store's file system.
    pub fn room(&self) -> io::Result<Room> {
        Room::of(self.root())
    }

    /// Whether there is next to none.
    pub fn is_full(&self) -> bool {
        reserve::is_needed(self.root())
    }

    /// Counts what is on disk: layers and blobs by their rows, cache mounts as they were when they were
    /// last used, and the rest by looking.
    pub fn disk_usage(&self) -> Result<DiskUsage, StoreError> {
        let in_images = images_blobs(self);
        // What is wrong with the index was just told.
        let images = image::roots(self.root()).unwrap_or_default();
        let sizes = self.sizes()?;
        let mut usage = DiskUsage {
            image_count: images.iter().map(|image| &image.digest).collect::<HashSet<_>>().len()
                as u64,
            ..DiskUsage::default()
        };
        let blobs = self.root().join("blobs");
        let mut folders = 0;
        walk(&blobs, &mut |path, size| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let total = match () {
                () if path.is_dir() => &mut folders,
                () if in_images.contains(name) => &mut usage.images,
                () => &mut usage.blobs,
            };
            *total += size;
        });
        let size = |bucket: Bucket| size_of(&self.bucket(bucket));
        usage.layers = sizes.trees();
        (usage.mount_count, usage.mounts) = sizes.slots_in(Bucket::Mounts);
        (usage.mirror_count, usage.mirrors) = sizes.slots_in(Bucket::Mirrors);
        (usage.received_count, usage.received) = sizes.slots_in(Bucket::Received);
        usage.containers = size(Bucket::Containers);
        usage.container_count = self.container_directories()?.len() as u64;
        usage.logs = size(Bucket::Logs);
        usage.temporary = size(Bucket::Temporary) + self.unknown_trees(&sizes)?;
        let database = ["", "-wal", "-shm"].map(|suffix| format!("{RECORDS}{suffix}"));
        let database: u64 = database.iter().map(|name| size_of(&self.root().join(name))).sum();
        let small = [Bucket::StatIndexes, Bucket::Locks, Bucket::Leases].map(size);
        usage.records = database + folders + small.iter().sum::<u64>();
        usage.ballast = size_of(&self.root().join(BALLAST));
        usage.total = usage.images
            + usage.blobs
            + usage.layers
            + usage.containers
            + usage.mounts
            + usage.mirrors
            + usage.received
            + usage.logs
            + usage.records
            + usage.temporary
            + usage.ballast;
        usage.steps = self.inner.database.scan(Kind::Record, &[])?.len() as u64;
        usage.layer_count = self.inner.database.scan(Kind::Layer, &[])?.len() as u64;
        Ok(usage)
    }

    /// How large everything is.
    pub(crate) fn sizes(&self) -> Result<Sizes, StoreError> {
        self.find_sizes(Unknown::Measured)
    }

    /// The same, with cache mounts as they were when they were last measured.
    pub(crate) fn remembered_sizes(&self) -> Result<Sizes, StoreError> {
        self.find_sizes(Unknown::Later)
    }

    fn find_sizes(&self, unknown: Unknown) -> Result<Sizes, StoreError> {
        let mut sizes = Sizes::default();
        let rows = self.scan(Kind::Layer, &[]);
        let rows = rows.iter().filter_map(|(key, row)| {
            let row = LayerRow::parse(row)?;
            Some((LayerId::from_key(key), row.own_directory()?.clone(), row.bytes))
        });
        let rows: Vec<(LayerId, LayerId, Option<u64>)> = rows.collect();
        let stamped = self.stamped_sizes();
        let measured = rows.par_iter().map(|(id, directory, known)| {
            let known = known.or_else(|| stamped.get(id).copied());
            let folder = self.bucket(Bucket::Layers).join(directory.as_str());
            let bytes = known.unwrap_or_else(|| size_of(&folder.join("fs")));
            let whole = bytes + size_beside(&folder, unknown);
            let news = known.is_none().then(|| (id.clone(), bytes));
            ((directory.as_str().to_owned(), whole), news)
        });
        let measured: Vec<_> = measured.collect();
        let news = measured.iter().filter_map(|(_, news)| news.clone()).collect();
        sizes.trees = measured.into_iter().map(|(size, ..)| size).collect();
        self.remember_sizes(news);
        let slots = slot::slots(self.root())?;
        let measured = slots.into_par_iter().map(|slot| {
            let bytes = self.slot_size(&slot, unknown);
            (slot, bytes)
        });
        sizes.slots = measured.collect();
        let thrown = self.inner.database.scan(Kind::Trash, &[])?;
        sizes.waiting = thrown.iter().map(|(key, row)| collect::known_size(key, row)).sum();
        Ok(sizes)
    }

    /// Keeps what was measured of trees without a size in their row: an older program has made them, or
    /// they were not stamped.
    fn remember_sizes(&self, sizes: Vec<(LayerId, u64)>) {
        if sizes.is_empty() {
            return;
        }
        // What cannot be kept is measured again.
        let _ = self.inner.database.write(|write| {
            let mut put = sizes.iter();
            put.try_for_each(|(id, bytes)| layer_row::put_size(write, id, *bytes))
                .map_err(StoreError::from)
        });
    }

    /// How large the slots are, in their order, in bytes.
    pub(crate) fn slot_sizes(&self, slots: &[Slot]) -> Vec<u64> {
        slots.par_iter().map(|slot| self.slot_size(slot, Unknown::Measured)).collect()
    }

    /// The size of the slot at `path` is not known any more.
    pub(crate) fn forget_slot_size(&self, path: &Path) {
        self.put_setting(&slot_size_name(path), "");
    }

    /// A cache mount's or mirror's size, which is known if nobody has used it since it was measured.
    fn slot_size(&self, slot: &Slot, unknown: Unknown) -> u64 {
        let name = slot_size_name(&slot.path);
        let known = self.setting(&name);
        let known = known.as_ref().and_then(|known| {
            let (used, bytes) = known.split_once(' ')?;
            Some((used.parse::<i64>().ok()?, bytes.parse::<u64>().ok()?))
        });
        match (known, unknown) {
            (Some((used, bytes)), _) if used == slot.used => bytes,
            (known, Unknown::Later) => {
                // Not the store itself: this must not be what keeps the session from ending.
                let (weak, slot) = (Arc::downgrade(&self.inner), slot.clone());
                rayon::spawn(move || {
                    let bytes = size_of(&slot.path);
                    if let Some(inner) = weak.upgrade() {
                        Self { inner }.put_slot_size(&slot, &name, bytes);
                    }
                });
                known.map_or(0, |(_, bytes)| bytes)
            }
            (_, Unknown::Measured) => {
                let bytes = size_of(&slot.path);
                self.put_slot_size(slot, &name, bytes);
                bytes
            }
        }
    }

    /// Remembers how large one was found to be, unless somebody uses it or has used it since.
    fn put_slot_size(&self, slot: &Slot, name: &str, bytes: u64) {
        let lock = FileLock::try_acquire(&slot.lock, Mode::Exclusive);
        let lock = lock.ok().flatten().map(FileLock::kept);
        if lock.is_some() && slot.last_used() == slot.used {
            self.put_setting(name, &format!("{} {bytes}", slot.used));
        }
    }

    /// Trees that no row leads to: of steps that run, or on their way out.
    fn unknown_trees(&self, sizes: &Sizes) -> Result<u64, StoreError> {
        let layers = self.bucket(Bucket::Layers);
        let entries = std::fs::read_dir(&layers);
        let entries = entries.map_err(|error| StoreError::io("list", &layers, error))?;
        let mut total = 0;
        for entry in entries {
            let name = entry.map_err(|error| StoreError::io("list", &layers, error))?.file_name();
            if !name.to_str().is_some_and(|name| sizes.trees.contains_key(name)) {
                total += size_of(&layers.join(name));
            }
        }
        Ok(total)
    }
}

/// Where the size of a slot is remembered.
fn slot_size_name(path: &Path) -> String {
    format!("size of {}", path.display())
}

/// Room that a layer's directory takes beside the tree. A build that makes room does not look: of the
/// files there, that of a copied tree is a small share of the tree.
fn size_beside(folder: &Path, unknown: Unknown) -> u64 {
    match unknown {
        Unknown::Later => DIRECTORY_SIZE,
        Unknown::Measured => {
            ["", "manifest", "opaque"].map(|name| size_alone(&folder.join(name))).iter().sum()
        }
    }
}

/// Room that one file or directory takes, without what is in it; nothing if it is not there.
fn size_alone(path: &Path) -> u64 {
    std::fs::symlink_metadata(path).map_or(0, |found| found.blocks() * 512)
}

/// Hex digests of the blobs that tagged images consist of; where nobody can tell, of none.
fn images_blobs(store: &Store) -> HashSet<String> {
    let blobs = store.known_blobs_of_images().into_iter().flatten();
    blobs.map(|digest| digest.hex().to_owned()).collect()
}
