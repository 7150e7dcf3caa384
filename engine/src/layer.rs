//! Layers in use: trees to mount, tars to hash, and what is known of both.

mod absent;
mod check;
mod directories;
mod extraction;
mod flatten;
mod hash;
mod layer_store;
mod layers;
mod rootfs;
mod roots;
pub(crate) mod size;
mod squash;
mod state;
pub(crate) mod tar;
mod unpack;
pub(crate) mod write_back;

pub(crate) use absent::{AbsentLayers, Elsewhere};
pub(crate) use check::Bases;
pub(crate) use hash::AssembledLayer;
pub(crate) use layers::{Layers, Writing};
pub(crate) use rootfs::Rootfs;
