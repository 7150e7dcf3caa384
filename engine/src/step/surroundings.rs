//! What a process is given besides its op.

use std::path::Path;
use std::sync::Arc;

use crate::client::Client;
use crate::machine::Machine;
use crate::shared_cache::Brought;

/// What the request grants and hands to processes.
pub(crate) struct Surroundings<'a> {
    pub(crate) machine: &'a Arc<Machine>,
    pub(crate) store: &'a cache::Store,
    /// Limits by control group.
    pub(crate) limits: &'a executor::Limits,
    /// Digests of the op's inputs.
    pub(crate) inputs: &'a [oci::Digest],
    /// What caches say that cache mounts held which are not there yet.
    pub(crate) brought: &'a [Brought],
    /// Who has the secrets and the agents.
    pub(crate) client: &'a Arc<dyn Client>,
    /// What the root is to have beneath its layers: see [`crate::step::mount_points`].
    pub(crate) mount_points: Option<&'a Path>,
}
