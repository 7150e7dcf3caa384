//! The commands on registries: from words to meanings, and on to each one's file.

use engine::EngineOptions;
use oci::Reference;

use super::{imagetools_create, imagetools_inspect, login, logout, manifest_inspect};
use crate::cli::RegistrySubcommand;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;

/// A command on registries whose meaning is known.
pub(super) enum RegistryCommand {
    Login(login::Login),
    Logout(logout::Logout),
    ManifestInspect(manifest_inspect::Show),
    ImagetoolsInspect(imagetools_inspect::Show),
    ImagetoolsCreate(Box<imagetools_create::Create>),
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
            RegistrySubcommand::ManifestInspect(args) => {
                Self::ManifestInspect(manifest_inspect::Show::resolve(&args, environment)?)
            }
            RegistrySubcommand::ImagetoolsInspect(args) => {
                Self::ImagetoolsInspect(imagetools_inspect::Show::resolve(&args, environment)?)
            }
            RegistrySubcommand::ImagetoolsCreate(args) => Self::ImagetoolsCreate(Box::new(
                imagetools_create::Create::resolve(&args, environment)?,
            )),
        })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        match self {
            Self::Login(login) => login.run(options).await,
            Self::Logout(logout) => logout.run().await,
            Self::ManifestInspect(show) => show.run(options).await,
            Self::ImagetoolsInspect(show) => show.run(options).await,
            Self::ImagetoolsCreate(create) => create.run(options).await,
        }
    }
}

/// The name of an image in a registry.
pub(super) fn name(text: &str) -> Result<Reference, UsageError> {
    let parsed: Result<Reference, _> = text.parse();
    let name = parsed
        .map_err(|error| UsageError::new(format!("`{text}` is not a valid image name: {error}")))?;
    Ok(name.with_default_tag())
}
