//! The commands on registries: from words to meanings, and on to each one's file.

use engine::EngineOptions;

use super::{login, logout};
use crate::cli::RegistrySubcommand;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;

/// A command on registries whose meaning is known.
pub(super) enum RegistryCommand {
    Login(login::Login),
    Logout(logout::Logout),
}

impl RegistryCommand {
    pub(super) fn resolve(
        subcommand: RegistrySubcommand,
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        Ok(match subcommand {
            RegistrySubcommand::Login(args) => {
                Self::Login(login::Login::resolve(args, environment)?)
            }
            RegistrySubcommand::Logout(args) => {
                Self::Logout(logout::Logout::resolve(&args, environment)?)
            }
        })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        match self {
            Self::Login(login) => login.run(options).await,
            Self::Logout(logout) => logout.run().await,
        }
    }
}
