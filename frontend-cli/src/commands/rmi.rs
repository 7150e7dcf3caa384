//! `mybuild rmi`

use engine::Workspace;

use crate::cli::RmiArgs;
use crate::exit::Exit;
use crate::{error, ui};

/// What `mybuild rmi` has to do.
pub(super) struct Remove {
    images: Vec<String>,
    force: bool,
}

impl Remove {
    pub(super) fn resolve(args: RmiArgs) -> Self {
        Self { images: args.images, force: args.force }
    }

    /// Goes on after a failure.
    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let mut exit = Exit::Success;
        for name in &self.images {
            match workspace.remove_image(name, self.force).await {
                Ok(removed) => {
                    let mut text = String::new();
                    for name in &removed.untagged {
                        text.push_str(&format!("Untagged: {name}\n"));
                    }
                    if let Some(id) = &removed.deleted {
                        text.push_str(&format!("Deleted: {id}\n"));
                    }
                    ui::data(text.as_bytes())?;
                    if removed.untagged.is_empty() {
                        ui::warning(&format!(
                            "image `{name}` has no name; `mybuild prune` gives its room back"
                        ));
                    }
                }
                Err(error) => {
                    let is_missing = matches!(error, engine::BuildError::Input(_));
                    let failed = error::report(&error.into(), false);
                    // As for Docker, with force a missing image is only reported.
                    if !(self.force && is_missing) {
                        exit = failed;
                    }
                }
            }
        }
        Ok(exit)
    }
}
