//! `mybuild save`

use std::sync::Arc;

use engine::Workspace;
use engine::request::Destination;
use oci::Platform;

use super::image::{platform, tell_warnings};
use crate::cli::SaveArgs;
use crate::client::CommandLine;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::{destination, interrupt};

/// What `mybuild save` has to do.
pub(super) struct Save {
    images: Vec<String>,
    platform: Option<Platform>,
    dest: Destination,
}

impl Save {
    pub(super) fn resolve(args: SaveArgs, environment: &Environment) -> Result<Self, UsageError> {
        let dest = match args.output {
            Some(path) if path.as_os_str() != "-" => {
                destination::check_file(&format!("--output {}", path.display()), &path)?;
                Destination::Path(path)
            }
            _ if environment.stdout_is_terminal => {
                return Err(UsageError::new("an archive does not go to a terminal")
                    .with_hint("name a file with `--output FILE`, or redirect standard output"));
            }
            _ => Destination::Stdout,
        };
        Ok(Self { images: args.images, platform: platform(args.platform.as_deref())?, dest })
    }

    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let client = Arc::new(CommandLine::default());
        let cancel = interrupt::cancel_on_signals_quietly(workspace)?;
        workspace.save(&self.images, self.platform, self.dest, client, cancel).await?;
        tell_warnings(workspace);
        Ok(Exit::Success)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_goes_to_a_file_or_a_pipe_and_not_to_a_terminal() {
        for (output, stdout_is_terminal, wanted) in [
            (None, true, false),
            (Some("-"), true, false),
            (None, false, true),
            (Some("file.tar"), true, true),
        ] {
            let args = SaveArgs {
                images: vec!["x".to_owned()],
                output: output.map(Into::into),
                platform: None,
            };
            let environment = Environment { stdout_is_terminal, ..Environment::default() };
            assert_eq!(Save::resolve(args, &environment).is_ok(), wanted, "{output:?}");
        }
    }
}
