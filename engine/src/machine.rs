//! What the machine lets us do, found when it is first needed.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};

use cache::layer::{DirectoryOptions, Flavor, Lower};
use cache::{OverlayFlavor, Snapshotter, Store};
use executor::{Emulators, Executor, Host};

use crate::error::BuildError;

/// The machine, for everything that mounts, runs or writes layers.
pub(crate) struct Machine {
    host: Host,
    emulators: Emulators,
    device_specs: Vec<PathBuf>,
    executor: OnceLock<Executor>,
    /// Held while the executor is made: looking at the machine takes milliseconds.
    making: Mutex<()>,
    snapshotter: OnceLock<Snapshotter>,
}

impl Machine {
    pub(crate) fn probe(emulators: Emulators, device_specs: Vec<PathBuf>) -> Self {
        Self {
            host: Host::probe(),
            emulators,
            device_specs,
            executor: OnceLock::new(),
            making: Mutex::default(),
            snapshotter: OnceLock::new(),
        }
    }

    /// Directories where devices are described.
    pub(crate) fn device_specs(&self) -> &[PathBuf] {
        &self.device_specs
    }

    pub(crate) fn host(&self) -> &Host {
        &self.host
    }

    /// What runs processes; made when the first is to run.
    pub(crate) fn executor(&self) -> Result<&Executor, BuildError> {
        if let Some(executor) = self.executor.get() {
            return Ok(executor);
        }
        let _making = self.making.lock().expect("no panic while held");
        if let Some(executor) = self.executor.get() {
            return Ok(executor);
        }
        let made = Executor::new(self.host.clone(), self.emulators.clone())
            .map_err(|e| BuildError::system("failed to prepare the sandbox").because(e))?;
        Ok(self.executor.get_or_init(|| made))
    }

    /// How stacks of layers are put together in `store`, if that was tried before.
    pub(crate) fn known_snapshotter(&self, store: &Store) -> Option<Snapshotter> {
        if let Some(known) = self.snapshotter.get() {
            return Some(*known);
        }
        let known = store.known_snapshotter()?;
        Some(*self.snapshotter.get_or_init(|| known))
    }

    /// How stacks of layers are put together in `store`: tried once, and remembered there.
    pub(crate) fn snapshotter(&self, store: &Store) -> Result<Snapshotter, BuildError> {
        if let Some(known) = self.snapshotter.get() {
            return Ok(*known);
        }
        let mounts = |directory: &Path, flavor: OverlayFlavor| {
            (flavor == OverlayFlavor::User) == self.host.userxattr()
                && self.host.supports_overlay(directory).is_ok()
        };
        let found = store.snapshotter(&mounts).map_err(|e| {
            BuildError::system("failed to try overlay mounts in the store").because(e)
        })?;
        Ok(*self.snapshotter.get_or_init(|| found))
    }

    /// How layer directories have their whiteouts here. Ask for the [`Machine::snapshotter`] first.
    pub(crate) fn flavor(&self) -> Flavor {
        match self.snapshotter.get() {
            Some(Snapshotter::Copy) => Flavor::Unmounted,
            _ if self.host.userxattr() => Flavor::User,
            _ => Flavor::Trusted,
        }
    }

    /// How layer directories are written here.
    pub(crate) fn directory_options(&self, lower: Lower) -> DirectoryOptions {
        DirectoryOptions { flavor: self.flavor(), ignore_owner: self.host.single_id(), lower }
    }
}
