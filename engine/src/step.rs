//! Steps: what the solver asks for, carried out.

pub(crate) mod disk_budget;
pub(crate) mod exec;
pub(crate) mod exhausted;
pub(crate) mod exit_hint;
pub(crate) mod file_layer;
pub(crate) mod missing;
pub(crate) mod mount_points;
mod mounts;
pub(crate) mod process;
pub(crate) mod sandbox;
pub(crate) mod seed;
pub(crate) mod worker;
