//! Steps: what the solver asks for, carried out.

mod changes;
mod content;
pub(crate) mod disk_budget;
pub(crate) mod exec;
pub(crate) mod exhausted;
pub(crate) mod exit_hint;
mod failure;
mod file;
pub(crate) mod file_layer;
pub(crate) mod files;
pub(crate) mod missing;
pub(crate) mod mount_points;
mod mounts;
mod parts;
pub(crate) mod process;
mod results;
pub(crate) mod sandbox;
mod secret;
pub(crate) mod seed;
mod source;
mod ssh;
mod stack;
pub(crate) mod surroundings;
pub(crate) mod worker;
