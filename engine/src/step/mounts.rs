//! The mounts of a step: its root, binds, cache mounts, memory, secrets, ssh agents.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cache::{CacheMount, NewLayer};
use executor::{BindSource, Mount, MountSource, Root, Scratch};
use llb::MountKind;

use crate::agent::AgentSocket;
use crate::error::BuildError;
use crate::layer::Rootfs;
use crate::step::secret::secret;
use crate::step::ssh::Owner;
use crate::step::surroundings::Surroundings;
use crate::step::{seed, ssh};

/// Everything that a process has mounted, and what must outlive it.
pub(super) struct Mounts {
    pub(super) root: Root,
    pub(super) readonly_root: bool,
    pub(super) mounts: Vec<Mount>,
    /// New layers by output number.
    pub(super) outputs: BTreeMap<usize, NewLayer>,
    /// Directories for writes that nobody keeps.
    pub(super) scratch: Vec<NewLayer>,
    pub(super) cache_mounts: Vec<CacheMount>,
    pub(super) agents: Vec<AgentSocket>,
}

/// Mounts, put together one by one.
pub(super) struct Mounting<'a> {
    trees: &'a BTreeMap<usize, Rootfs>,
    surroundings: &'a Surroundings<'a>,
    cancelled: &'a dyn Fn() -> bool,
    /// The root, and whether it is read-only.
    root: Option<(Root, bool)>,
    mounts: Vec<Mount>,
    outputs: BTreeMap<usize, NewLayer>,
    scratch: Vec<NewLayer>,
    cache_mounts: Vec<CacheMount>,
    agents: Vec<AgentSocket>,
}

impl<'a> Mounting<'a> {
    pub(super) fn new(
        trees: &'a BTreeMap<usize, Rootfs>,
        surroundings: &'a Surroundings<'a>,
        cancelled: &'a dyn Fn() -> bool,
    ) -> Self {
        Self {
            trees,
            surroundings,
            cancelled,
            root: None,
            mounts: Vec::new(),
            outputs: BTreeMap::new(),
            scratch: Vec::new(),
            cache_mounts: Vec::new(),
            agents: Vec::new(),
        }
    }

    pub(super) fn add(&mut self, mount: &llb::Mount) -> Result<(), BuildError> {
        if mount.dest == "/" {
            return self.add_root(mount);
        }
        let (source, readonly) = match &mount.kind {
            MountKind::Bind => self.bind(mount)?,
            MountKind::Cache { sharing, .. } => {
                let dir = self.cache_mount(*sharing, mount)?;
                // That of a seed was applied when the folder was filled; without one it is the folder's own.
                let selector =
                    mount.input.map_or_else(|| mount.selector.clone(), |_| String::new());
                let path = BindSource::Path { dir, selector };
                (MountSource::Bind(path), mount.readonly)
            }
            MountKind::Tmpfs { size } => {
                let options = executor::Tmpfs { size: *size, ..Default::default() };
                (MountSource::Tmpfs(options), mount.readonly)
            }
            MountKind::Secret { id, uid, gid, mode, optional } => {
                let content = secret(self.surroundings.client.as_ref(), id, *optional)?;
                let Some(content) = content else { return Ok(()) };
                (MountSource::File { content, mode: *mode, uid: *uid, gid: *gid }, true)
            }
            MountKind::Ssh { id, uid, gid, mode, optional } => {
                let owner = Owner { uid: *uid, gid: *gid, mode: *mode };
                let socket = ssh::agent(self.surroundings, id, owner, *optional)?;
                let Some(socket) = socket else { return Ok(()) };
                let path = socket.path();
                self.agents.push(socket);
                (MountSource::Socket(path), mount.readonly)
            }
        };
        self.mounts.push(Mount { target: mount.dest.clone(), source, readonly });
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Mounts, BuildError> {
        let Self { root, mounts, outputs, scratch, cache_mounts, agents, .. } = self;
        let (root, readonly_root) =
            root.ok_or_else(|| BuildError::refused("a process without a root file system"))?;
        Ok(Mounts { root, readonly_root, mounts, outputs, scratch, cache_mounts, agents })
    }

    fn add_root(&mut self, mount: &llb::Mount) -> Result<(), BuildError> {
        let layer = new_layer(self.surroundings.store)?;
        let root = self.input(mount).writable(&layer)?;
        self.root = Some((over_mount_points(root, self.surroundings.mount_points), mount.readonly));
        self.keep(mount, layer);
        Ok(())
    }

    /// What is mounted.
    fn input(&self, mount: &llb::Mount) -> Rootfs {
        match mount.input {
            Some(input) => self.trees[&input].clone(),
            None => Rootfs::empty(self.surroundings.machine, self.surroundings.store),
        }
    }

    /// What is written to a mount is kept if the mount names an output.
    fn keep(&mut self, mount: &llb::Mount, layer: NewLayer) {
        match mount.output {
            Some(output) => drop(self.outputs.insert(output, layer)),
            None => self.scratch.push(layer),
        }
    }

    /// A bind mount. Writes to it go to a layer of their own.
    fn bind(&mut self, mount: &llb::Mount) -> Result<(MountSource, bool), BuildError> {
        let rootfs = self.input(mount);
        let (lowers, selector) = (rootfs.lowers().to_vec(), mount.selector.clone());
        if mount.readonly {
            return Ok((MountSource::Overlay { lowers, scratch: None, selector }, true));
        }
        let layer = new_layer(self.surroundings.store)?;
        let source = match rootfs.writable(&layer)? {
            Root::Overlay { upper, work, .. } => {
                MountSource::Overlay { lowers, scratch: Some(Scratch { upper, work }), selector }
            }
            Root::Directory(dir) => MountSource::Bind(BindSource::Path { dir, selector }),
        };
        self.keep(mount, layer);
        Ok((source, false))
    }

    /// Takes hold of a cache mount's folder; a new one is filled with what it held elsewhere, or else from the
    /// mount's input.
    fn cache_mount(
        &mut self,
        sharing: llb::CacheSharing,
        mount: &llb::Mount,
    ) -> Result<PathBuf, BuildError> {
        let Surroundings { machine, store, inputs, brought, .. } = self.surroundings;
        let id = cache_mount_id(mount, inputs).expect("it is a cache mount");
        let sharing = match sharing {
            llb::CacheSharing::Shared => cache::Sharing::Shared,
            llb::CacheSharing::Private => cache::Sharing::Private,
            llb::CacheSharing::Locked => cache::Sharing::Locked,
        };
        let brought = brought.iter().find(|brought| brought.id == id);
        let ignore_owner = machine.host().single_id();
        let fill = |target: &Path| match mount.input {
            _ if brought.is_some_and(|brought| brought.fill(target, ignore_owner)) => Ok(()),
            Some(input) => {
                let scratch = store.temporary_directory();
                seed::fill(machine, &scratch, &self.trees[&input], &mount.selector, target)
            }
            None => Ok(()),
        };
        let held = store.cache_mount(&id, sharing, &fill, self.cancelled).map_err(|e| {
            BuildError::system(format!("failed to open the cache mount `{id}`")).because(e)
        })?;
        let held = held.ok_or(BuildError::Canceled)?;
        let directory = held.path().to_owned();
        self.cache_mounts.push(held);
        Ok(directory)
    }
}

/// The root with `mount_points` beneath everything.
fn over_mount_points(root: Root, mount_points: Option<&Path>) -> Root {
    match (root, mount_points) {
        (Root::Overlay { mut lowers, upper, work }, Some(mount_points)) => {
            lowers.insert(0, mount_points.to_owned());
            Root::Overlay { lowers, upper, work }
        }
        (root, _) => root,
    }
}

fn new_layer(store: &cache::Store) -> Result<NewLayer, BuildError> {
    store.new_layer().map_err(|e| BuildError::system("failed to make a layer").because(e))
}

/// What a cache mount is called in the store; `None` for another mount. Folders with another first content (another
/// owner, another mode) are other folders.
pub(super) fn cache_mount_id(mount: &llb::Mount, inputs: &[oci::Digest]) -> Option<String> {
    let MountKind::Cache { id, .. } = &mount.kind else { return None };
    Some(match mount.input {
        Some(input) => format!("{id}\n{}\n{}", inputs[input], mount.selector),
        None => id.clone(),
    })
}
