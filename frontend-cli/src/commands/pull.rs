//! `mybuild pull`

use engine::request::PullPolicy;
use engine::{BuildError, Workspace};
use oci::{Platform, Reference};
use tokio_util::sync::CancellationToken;

use super::image::progress;
use crate::cli::PullArgs;
use crate::client::CommandLine;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::progress::{Display, Mode};
use crate::{build_args, interrupt, ui};

/// What `mybuild pull` has to do.
pub(super) struct Pull {
    name: Reference,
    platform: Option<Platform>,
    progress: Mode,
    client: CommandLine,
}

impl Pull {
    pub(super) fn resolve(args: &PullArgs, environment: &Environment) -> Result<Self, UsageError> {
        if args.all_tags {
            return Err(UsageError::new("`--all-tags` is not supported")
                .with_hint("pull each tag by its name"));
        }
        let name: Reference = args
            .name
            .parse()
            .map_err(|error| UsageError::new(format!("`{}`: {error}", args.name)))?;
        Ok(Self {
            name,
            platform: platform(args.platform.as_deref(), environment)?,
            progress: progress(args.progress.clone(), args.quiet, environment)?,
            client: CommandLine::new(environment),
        })
    }

    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let cancel = CancellationToken::new();
        let display = Display::start(self.progress, &cancel);
        interrupt::cancel_on_signals(cancel.clone(), display.progress())?;
        workspace.ends_with(&cancel);
        let (policy, progress) = (PullPolicy::Always, display.progress());
        let pulled =
            workspace.pull(&self.name, self.platform, policy, &self.client, progress, cancel).await;
        let pulled = match (pulled, display.finish().unread) {
            (Err(BuildError::Canceled), true) => return Ok(Exit::Unread),
            (pulled, _) => pulled?,
        };
        if matches!(self.progress, Mode::Tree { .. } | Mode::Plain) {
            let status = match pulled.up_to_date {
                true => format!("the image is up to date for {}", pulled.name.familiar()),
                false => format!("pulled {}", pulled.name.familiar()),
            };
            ui::error(&format!("digest: {}\n{status}\n", pulled.digest));
        }
        ui::data(format!("{}\n", pulled.name).as_bytes())?;
        Ok(Exit::Success)
    }
}

/// `--platform`, else `$DOCKER_DEFAULT_PLATFORM`.
fn platform(text: Option<&str>, environment: &Environment) -> Result<Option<Platform>, UsageError> {
    let typed: Vec<String> = text.map(str::to_owned).into_iter().collect();
    let platforms = build_args::platforms(&typed, environment)?;
    match platforms.as_slice() {
        [] | [_] => Ok(platforms.into_iter().next()),
        _ => Err(UsageError::new("`--platform` takes one platform here")),
    }
}
