//! The store on disk: blobs, layers, step records, images, cache mounts, logs.
//!
//! [`Store::open`] starts a session. What is put in is visible to the session at once and to
//! other processes after a commit ([`Store::flush`], or the background's); [`commit`] says in
//! which order things reach the disk and what that promises. The root is an OCI image layout that
//! other programs can read ([`Bucket`] shows the tree). The crate knows no Dockerfiles, no
//! instruction graph and no network; a key is a digest that somebody else has made.
//!
//! Read [`store`], then [`commit`], then [`snapshot`] and [`record`]; [`prune`] with `trash` says
//! what may be deleted when.

pub mod bucket;
pub mod store;

pub mod blob;
pub mod download;
pub mod image;
pub mod record;
pub mod reserve;
pub mod room;
pub mod snapshot;

pub mod allowance;
pub mod claim;
pub mod commit;
pub mod copy_tree;
pub mod fsck;
pub mod log;
pub mod mount;
pub mod prune;
pub mod snapshotter;
pub mod stat_index;
pub mod usage;
pub mod warning;

pub mod layer;

mod background;
mod database;
mod direct;
mod lease;
mod lock;
mod pending;
mod removal;
mod shared_memory;
mod stamp;
mod syncer;
#[expect(unsafe_code, reason = "the one system call that rustix does not have")]
mod sys;
mod trash;
mod unnamed;

pub use allowance::{Allowance, NoRoom};
pub use blob::{BlobFile, BlobWriter, VerifiedReader};
pub use bucket::Bucket;
pub use claim::Claim;
pub use commit::CommitStep;
pub use copy_tree::{CopyTreeError, copy_tree};
pub use download::{BlobDownload, DownloadReader};
pub use fsck::{Damage, Depth, FsckOptions, HoldsTree, Problem, TreeState};
pub use image::Image;
pub use log::LogWriter;
pub use mount::{CacheMount, Sharing};
pub use prune::{CacheItem, ItemKind, Match, Property, PruneFilter, Pruned, Reach, Space};
pub use record::{Record, RecordInput, RememberedReference};
pub use reserve::Reserve;
pub use room::{Room, Share};
pub use snapshot::{Encoder, LayerId, LayerInfo, NewLayer};
pub use snapshotter::{OverlayFlavor, Snapshotter};
pub use stamp::TreeStamp;
pub use stat_index::{Stat, StatIndex};
pub use store::{OpenError, Options, Store, StoreError};
pub use syncer::{Stopper, sync_if_asked};
pub use usage::DiskUsage;
pub use warning::Warning;
