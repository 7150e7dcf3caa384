//! `mybuild cache-mount`

mod copy;
mod list;
mod remove;
mod usage;

use engine::Workspace;

use crate::cli::CacheMountSubcommand;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;

/// What a command on cache mounts has to do.
pub(super) enum CacheMountCommand {
    List(list::List),
    Usage(usage::Usage),
    Remove(remove::Remove),
    Copy(copy::Copy),
}

impl CacheMountCommand {
    pub(super) fn resolve(
        command: CacheMountSubcommand,
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        Ok(match command {
            CacheMountSubcommand::Ls(args) => Self::List(list::List::resolve(&args)?),
            CacheMountSubcommand::Du(args) => Self::Usage(usage::Usage::resolve(args)?),
            CacheMountSubcommand::Rm(args) => Self::Remove(remove::Remove::resolve(args)),
            CacheMountSubcommand::Cp(args) => Self::Copy(copy::Copy::resolve(args, environment)?),
        })
    }

    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        match self {
            Self::List(list) => list.run(workspace).await,
            Self::Usage(usage) => usage.run(workspace).await,
            Self::Remove(remove) => remove.run(workspace).await,
            Self::Copy(copy) => copy.run(workspace).await,
        }
    }

    /// Whether it brings something into the store.
    pub(super) fn fills(&self) -> bool {
        matches!(self, Self::Copy(copy) if copy.fills())
    }
}
