//! The engine's store, as the command line and the environment name it.

use engine::{BuildError, Engine, EngineOptions, Reserve, Workspace};

use crate::cli::GlobalArgs;
use crate::environment::Environment;

/// Opens the store for one command.
pub(crate) fn open(options: &EngineOptions, reserve: Reserve) -> Result<Workspace, BuildError> {
    Engine::new(options)?.workspace(reserve)
}

/// Where the engine keeps its store and finds its configuration.
pub(crate) fn options(global: &GlobalArgs, environment: &Environment) -> EngineOptions {
    EngineOptions {
        root: global.root.clone().or_else(|| environment.path("MYBUILD_ROOT")),
        config: environment.path("MYBUILD_CONFIG"),
        data_home: environment.home("XDG_DATA_HOME", ".local/share"),
        config_home: environment.home("XDG_CONFIG_HOME", ".config"),
    }
}
