//! What lies where below the root of a store.

use std::path::{Path, PathBuf};

use oci::Digest;

/// The places below the root. The root itself is an OCI image layout; names outside that
/// specification carry a version, so that a changed format is a new place and not a migration.
///
/// ```text
/// ROOT                      mode 0700
/// ├── oci-layout            {"imageLayoutVersion":"1.0.0"}, written last when a store is made
/// ├── index.json            tagged images
/// ├── blobs/sha256/HEX      finished blobs, never changed
/// ├── layers-v1/ID/fs       a layer in overlay form; ID/work exists until the layer is sealed
/// ├── tmp-v1/               unfinished blobs, partial downloads, trees on their way out
/// ├── locks-v1/             one file a lock, removed with it
/// ├── leases-v1/SESSION     locked for as long as the process has the store open
/// ├── logs-v1/BUILD/STEP    full logs of steps
/// ├── containers-v1/ID/     containers that stay: container.json, fs, work, lock
/// ├── mounts-v1/HASH/SLOT   cache mounts
/// ├── git-v1/HASH/0         what was fetched of git repositories
/// ├── received-v1/HASH/SLOT  directories of clients, as they were received
/// ├── index-v1/HASH         stat indexes of build contexts
/// ├── records-v1.db         SQLite: everything that is a small fact
/// └── ballast-v2/           bytes and inodes for those who make room when there is none left
/// ```
///
/// Names in `tmp-v1` and `layers-v1` start with the id of the session that made them, so that
/// what a dead session left is recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Bucket {
    /// `blobs/sha256`.
    Blobs,
    /// `layers-v1`.
    Layers,
    /// `tmp-v1`.
    Temporary,
    /// `locks-v1`.
    Locks,
    /// `leases-v1`.
    Leases,
    /// `logs-v1`.
    Logs,
    /// `containers-v1`.
    Containers,
    /// `mounts-v1`.
    Mounts,
    /// `git-v1`.
    Mirrors,
    /// `received-v1`.
    Received,
    /// `index-v1`.
    StatIndexes,
}

impl Bucket {
    /// Every bucket.
    pub const ALL: [Self; 11] = [
        Self::Blobs,
        Self::Layers,
        Self::Temporary,
        Self::Locks,
        Self::Leases,
        Self::Logs,
        Self::Containers,
        Self::Mounts,
        Self::Mirrors,
        Self::Received,
        Self::StatIndexes,
    ];

    /// Path relative to the root.
    pub fn name(self) -> &'static str {
        match self {
            Self::Blobs => "blobs/sha256",
            Self::Layers => "layers-v1",
            Self::Temporary => "tmp-v1",
            Self::Locks => "locks-v1",
            Self::Leases => "leases-v1",
            Self::Logs => "logs-v1",
            Self::Containers => "containers-v1",
            Self::Mounts => "mounts-v1",
            Self::Mirrors => "git-v1",
            Self::Received => "received-v1",
            Self::StatIndexes => "index-v1",
        }
    }

    /// Where the bucket is in the store at `root`.
    pub fn path(self, root: &Path) -> PathBuf {
        root.join(self.name())
    }
}

/// Where a blob is in the OCI layout at `root`.
pub(crate) fn blob_path(root: &Path, digest: &Digest) -> PathBuf {
    root.join(oci::layout::blob_path(digest))
}

/// The SQLite database.
pub(crate) const RECORDS: &str = "records-v1.db";
/// See [`Bucket`].
pub(crate) const BALLAST: &str = "ballast-v2";
/// One file, without inodes to spare.
pub(crate) const BALLAST_BEFORE: &str = "ballast-v1";
