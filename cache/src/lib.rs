//! The store on disk: blobs, layers, step records, memos, images, containers, cache mounts, git mirrors, logs.
//!
//! [`Store::open`] starts a session. What is put in is visible to the session at once and to
//! other processes after a commit ([`Store::flush`], or the background's); [`commit`] says in
//! which order things reach the disk and what that promises. The root is an OCI image layout that
//! other programs can read ([`Bucket`] shows the tree). The crate knows no Dockerfiles, no
//! instruction graph and no network; a key is a digest that somebody else has made.
//!
//! Read [`store`] and `session`, then [`commit`], then [`snapshot`], [`record`] and [`memo`]; [`prune`] with
//! `trash` says what may be deleted when. What all of them stand on comes last: the database, leases and
//! locks, files on the disk.

pub mod bucket;
mod committer;
mod session;
pub mod store;

pub mod blob;
mod check;
pub mod commit;
pub mod download;
pub mod form;
mod growing;
pub mod image;
mod image_blobs;
mod layer_id;
mod layer_row;
pub mod memo;
mod origin;
pub mod received;
mod record;
pub mod snapshot;

pub mod claim;
pub mod container;
pub mod log;
pub mod mirror;
pub mod mount;
mod slot;
pub mod snapshotter;
pub mod stat_index;

mod collect;
pub mod fsck;
mod leftovers;
pub mod prune;
pub mod reserve;
pub mod room;
mod take_back;
mod trash;
pub mod usage;

pub mod allowance;
pub mod copy_tree;
pub mod layer;
mod stamp;
mod stamps;

mod background;
mod clock;
mod database;
mod direct;
mod disk;
mod error;
mod lease;
mod lock;
mod mutex;
mod pending;
mod removal;
mod shared_memory;
mod syncer;
#[expect(unsafe_code, reason = "what rustix and rusqlite do not have")]
mod sys;
mod unnamed;
pub mod warning;

pub use allowance::{Allowance, NoRoom};
pub use blob::{BlobFile, BlobWriter, DamagedBlob, VerifiedReader};
pub use bucket::Bucket;
pub use claim::Claim;
pub use committer::CommitStep;
pub use container::{
    Container, ContainerRecord, ContainerState, CreateContainerError, NewContainer, OwnContainer,
};
pub use copy_tree::{CopyTreeError, copy_tree};
pub use disk::size_of;
pub use download::{BlobDownload, DownloadReader};
pub use error::{StoreError, is_out_of_space};
pub use form::Encoder;
pub use fsck::{Damage, Depth, FsckOptions, HoldsTree, Problem, TreeState};
pub use growing::{GrowingBlob, GrowingReader};
pub use image::Image;
pub use layer_id::LayerId;
pub use log::LogWriter;
pub use memo::Memo;
pub use mirror::Mirror;
pub use mount::{CacheMount, MountItem, Sharing};
pub use prune::{
    CacheItem, ItemKind, Judged, Match, Pattern, Property, PruneFilter, Pruned, Reach, Space, Text,
    Verdict, Why, WhyNot, Without,
};
pub use received::Received;
pub use record::{Record, RememberedReference};
pub use reserve::Reserve;
pub use room::{Room, Share};
pub use session::OpenError;
pub use snapshot::{LayerInfo, NewLayer};
pub use snapshotter::{OverlayFlavor, Snapshotter};
pub use stamp::TreeStamp;
pub use stat_index::{Stat, StatIndex};
pub use store::{Options, Store};
pub use syncer::{Stopper, sync_if_asked};
pub use usage::DiskUsage;
pub use warning::Warning;
