//! The store, against directories of its own.

#![expect(clippy::print_stderr, reason = "a test that is skipped says so aloud")]

mod child;
mod commit;
mod containers;
mod copy_tree;
mod corpus;
mod damage;
mod delta;
mod full_disk;
mod images;
mod loop_device;
mod memos;
mod mirrors;
mod mounts;
mod power_cut;
mod prune;
mod room;
mod sharing;
mod stat_index;
mod store;

mod layer;
