//! How much room the store takes, and for what.

use std::collections::HashSet;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::bucket::{BALLAST, Bucket, RECORDS};
use crate::database::Kind;
use crate::image;
use crate::store::{Store, StoreError};
use crate::trash;

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
    /// Cache mounts.
    pub mounts: u64,
    /// Full logs of steps.
    pub logs: u64,
    /// Records, stat indexes, locks, leases.
    pub records: u64,
    /// Unfinished downloads and trees on their way out.
    pub temporary: u64,
    /// Kept free for prune on a full disk.
    pub ballast: u64,
    /// Number of step records.
    pub steps: u64,
    /// Number of layers.
    pub layer_count: u64,
}

impl Store {
    /// Counts what is on disk. Walks the whole store.
    pub fn disk_usage(&self) -> Result<DiskUsage, StoreError> {
        let in_images = images_blobs(self);
        let mut usage = DiskUsage::default();
        let blobs = self.root().join("blobs");
        walk(&blobs, &mut |path, size| {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let total = if in_images.contains(name) { &mut usage.images } else { &mut usage.blobs };
            *total += size;
        });
        let size = |bucket: Bucket| size_of(&self.bucket(bucket));
        usage.layers = size(Bucket::Layers);
        usage.mounts = size(Bucket::Mounts);
        usage.logs = size(Bucket::Logs);
        usage.temporary = size(Bucket::Temporary);
        let database = ["", "-wal", "-shm"].map(|suffix| format!("{RECORDS}{suffix}"));
        let database: u64 = database.iter().map(|name| size_of(&self.root().join(name))).sum();
        let small = [Bucket::StatIndexes, Bucket::Locks, Bucket::Leases].map(size);
        usage.records = database + small.iter().sum::<u64>();
        usage.ballast = size_of(&self.root().join(BALLAST));
        usage.total = size_of(self.root());
        usage.steps = self.inner.database.scan(Kind::Record, &[])?.len() as u64;
        usage.layer_count = self.inner.database.scan(Kind::Layer, &[])?.len() as u64;
        Ok(usage)
    }
}

/// Hex digests of the blobs that tagged images consist of.
fn images_blobs(store: &Store) -> HashSet<String> {
    let images = image::roots(store.root()).unwrap_or_default();
    let blobs = images.iter().flat_map(|image| trash::reachable(store.root(), image)).flatten();
    blobs.map(|digest| digest.hex().to_owned()).collect()
}

/// Room that a file or tree takes, in bytes; what cannot be read counts nothing. A hard-linked
/// file counts once.
pub(crate) fn size_of(path: &Path) -> u64 {
    let mut total = 0;
    walk(path, &mut |_, size| total += size);
    total
}

fn walk(path: &Path, visit: &mut dyn FnMut(&Path, u64)) {
    let mut linked = HashSet::new();
    for entry in walkdir::WalkDir::new(path).follow_links(false) {
        let Ok(entry) = entry else { continue };
        let Ok(found) = entry.metadata() else { continue };
        let is_first =
            found.nlink() == 1 || found.is_dir() || linked.insert((found.dev(), found.ino()));
        if is_first {
            visit(entry.path(), found.blocks() * 512);
        }
    }
}

/// Room left on the store's file system for its user, in bytes and in inodes.
pub(crate) fn free(root: &Path) -> io::Result<(u64, u64)> {
    let stat = rustix::fs::statvfs(root)?;
    Ok((stat.f_bavail * stat.f_frsize, stat.f_favail))
}
