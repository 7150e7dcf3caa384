//! `mybuild logout`

use engine::{Client as _, Credentials};

use crate::cli::LogoutArgs;
use crate::client::CommandLine;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::{registry_name, ui};

/// What `mybuild logout` has to do.
pub(super) struct Logout {
    registry: String,
    credentials: Credentials,
}

impl Logout {
    pub(super) fn resolve(
        args: &LogoutArgs,
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        let registry = registry_name::parse(args.server.as_deref())?;
        Ok(Self { registry, credentials: CommandLine::new(environment).credentials() })
    }

    pub(super) async fn run(self) -> anyhow::Result<Exit> {
        let forgotten = self.credentials.forget(&self.registry).await?;
        let registry = registry_name::shown(&self.registry);
        let told = match forgotten.was_known {
            true => format!("Removing login credentials for {registry}\n"),
            false => format!("Not logged in to {registry}\n"),
        };
        ui::data(told.as_bytes())?;
        for file in forgotten.still_in {
            let file = file.display();
            ui::warning(&format!(
                "`{file}` still has credentials for {registry}, which are used, too"
            ));
        }
        Ok(Exit::Success)
    }
}
