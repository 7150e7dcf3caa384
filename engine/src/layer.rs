//! Layers in use: trees to mount, tars to hash, and what is known of both.

mod check;
mod extraction;
mod hash;
mod layer_store;
mod layers;
mod roots;
pub(crate) mod stack;
mod state;
pub(crate) mod tar;
mod unpack;
pub(crate) mod write_back;

pub(crate) use check::Bases;
pub(crate) use hash::AssembledLayer;
pub(crate) use layers::{Layers, Writing};
