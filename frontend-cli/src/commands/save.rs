//! `mybuild save`

use engine::Engine;
use engine::request::Destination;
use oci::Platform;

use super::image::{platform, tell_warnings};
use crate::cli::SaveArgs;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;

/// What `mybuild save` has to do.
pub(super) struct Save {
    images: Vec<String>,
    platform: Option<Platform>,
    dest: Destination,
}

impl Save {
    pub(super) fn resolve(args: SaveArgs, environment: &Environment) -> Result<Self, UsageError> {
        let dest = match args.output {
            Some(path) if path.as_os_str() != "-" => Destination::Path(path),
            _ if environment.stdout_is_terminal => {
                return Err(UsageError::new("an archive does not go to a terminal")
                    .with_hint("name a file with `--output FILE`, or redirect standard output"));
            }
            _ => Destination::Stdout,
        };
        Ok(Self { images: args.images, platform: platform(args.platform.as_deref())?, dest })
    }

    pub(super) async fn run(self, engine: &Engine) -> anyhow::Result<Exit> {
        engine.save(&self.images, self.platform, self.dest).await?;
        tell_warnings(engine);
        Ok(Exit::Success)
    }
}
