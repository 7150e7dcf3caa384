//! What lasts as long as the process.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cache::{Reserve, Store};
use executor::Emulators;

use crate::config::Config;
use crate::error::{BuildError, Fault};
use crate::machine::Machine;
use crate::step::sandbox::Sandbox;
use crate::workspace::Workspace;

/// How an engine is made.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// The store's directory; `None` for the usual place.
    pub root: Option<PathBuf>,
    /// The configuration file; `None` for the usual places.
    pub config: Option<PathBuf>,
    /// The user's directory for data (`$XDG_DATA_HOME`): where the store is without root.
    pub data_home: Option<PathBuf>,
    /// The user's directory for configuration (`$XDG_CONFIG_HOME`).
    pub config_home: Option<PathBuf>,
}

impl EngineOptions {
    /// The configuration.
    pub(crate) fn configuration(&self) -> Result<Config, BuildError> {
        Config::load(self.config.as_deref(), self.config_home.as_deref())
            .map_err(|e| BuildError::Input(Fault::of(e)))
    }
}

/// A configuration, and what this machine lets us do. For each piece of work a [`Workspace`]
/// is opened, so that a store is in use for no longer than something is done with it.
pub struct Engine {
    root: PathBuf,
    config: Config,
    registries: registry::Config,
    machine: Arc<Machine>,
}

impl Engine {
    /// Reads the configuration. Opens no store, connects to nothing and starts nothing.
    pub fn new(options: &EngineOptions) -> Result<Self, BuildError> {
        let config = options.configuration()?;
        let emulators = Emulators::new(config.emulators.clone()).map_err(|e| {
            BuildError::input("invalid configuration: `[emulators]`")
                .because(e)
                .with_hint("write `arm64 = \"/usr/bin/qemu-aarch64-static\"`")
        })?;
        let machine = Arc::new(Machine::probe(emulators, config.cdi.spec_dirs.clone()));
        let root = match &options.root {
            Some(root) => root.clone(),
            None => default_root(&machine, options.data_home.as_deref())?,
        };
        let registries = config.registries(options.config_home.as_deref());
        Ok(Self { root, config, registries, machine })
    }

    /// Opens the store for a piece of work; `reserve` says whether the room may be used that it has set
    /// aside. Several may be open at once, in this process and in others.
    pub fn workspace(&self, reserve: Reserve) -> Result<Workspace, BuildError> {
        let root = &self.root;
        let options = cache::Options { reserve, ..cache::Options::default() };
        let store = Store::open(root, options).map_err(|e| {
            let message = format!("failed to open the store `{}`", root.display());
            BuildError::system(message).because(e).with_room(cache::Room::of(root))
        })?;
        let disk = store.disk_size().map_err(|e| {
            BuildError::system(format!("failed to ask how large `{}` is", root.display()))
                .because(e)
        })?;
        let rules = self.config.gc.rules(disk).map_err(|message| {
            BuildError::input(format!("invalid configuration: `[gc]`: {message}"))
        })?;
        let (registries, machine) = (self.registries.clone(), self.machine.clone());
        let sandbox = Arc::new(Sandbox::new(machine.clone()));
        Ok(Workspace { store, registries, machine, sandbox, rules: rules.into() })
    }
}

/// `/var/lib/mybuild` for root, else `mybuild` among the user's data.
fn default_root(machine: &Machine, data_home: Option<&Path>) -> Result<PathBuf, BuildError> {
    if !machine.host().rootless() {
        return Ok(PathBuf::from("/var/lib/mybuild"));
    }
    data_home.map(|data| data.join("mybuild")).ok_or_else(|| {
        BuildError::input(
            "no place for the store: neither HOME nor XDG_DATA_HOME is set".to_owned(),
        )
        .with_hint("name one with `--root DIR`")
    })
}
