//! `mybuild cache-mount rm`

use engine::{BuildError, Workspace};

use crate::cli::CacheMountRmArgs;
use crate::exit::Exit;
use crate::{error, ui};

/// What `mybuild cache-mount rm` has to do.
pub(in crate::commands) struct Remove {
    mounts: Vec<String>,
    force: bool,
}

impl Remove {
    pub(in crate::commands) fn resolve(args: CacheMountRmArgs) -> Self {
        Self { mounts: args.mounts, force: args.force }
    }

    /// Goes on after a failure.
    pub(in crate::commands) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let mut exit = Exit::Success;
        for word in &self.mounts {
            match workspace.remove_cache_mounts(word).await {
                Ok(removed) => {
                    let names = removed.iter().map(|mount| format!("{}\n", mount.name));
                    ui::data(names.collect::<String>().as_bytes())?;
                }
                Err(BuildError::Input(_)) if self.force => {}
                Err(error) => exit = error::report(&error.into(), false),
            }
        }
        Ok(exit)
    }
}
