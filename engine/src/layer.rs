//! Layers in use: trees to mount, tars to hash, and what is known of both.

pub(crate) mod extraction;
pub(crate) mod layers;
pub(crate) mod roots;
pub(crate) mod stack;
pub(crate) mod tar;
pub(crate) mod write_back;
