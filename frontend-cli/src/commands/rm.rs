//! `mybuild rm`

use engine::{BuildError, Workspace};

use super::image::tell_warnings;
use crate::cli::RmArgs;
use crate::exit::Exit;
use crate::{error, ui};

/// What `mybuild rm` has to do.
pub(super) struct Remove {
    containers: Vec<String>,
    ignores_missing: bool,
}

impl Remove {
    pub(super) fn resolve(args: RmArgs) -> Self {
        Self { containers: args.containers, ignores_missing: args.force }
    }

    /// Goes on after a failure.
    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let mut exit = Exit::Success;
        for container in &self.containers {
            match workspace.remove_container(container).await {
                Ok(()) => ui::data(format!("{container}\n").as_bytes())?,
                Err(BuildError::Input(_)) if self.ignores_missing => {}
                Err(error) => exit = error::report(&error.into(), false),
            }
        }
        tell_warnings(workspace);
        Ok(exit)
    }
}
