//! `mybuild push`

use engine::images::PushRequest;
use engine::{BuildError, Workspace};
use oci::Reference;
use tokio_util::sync::CancellationToken;

use super::image::{platform, progress};
use crate::cli::PushArgs;
use crate::client::CommandLine;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::progress::{Display, Mode};
use crate::{interrupt, ui};

/// What `mybuild push` has to do.
pub(super) struct Push {
    request: PushRequest,
    progress: Mode,
    client: CommandLine,
}

impl Push {
    pub(super) fn resolve(args: &PushArgs, environment: &Environment) -> Result<Self, UsageError> {
        Ok(Self {
            request: request(args)?,
            progress: progress(args.progress.clone(), args.quiet, environment)?,
            client: CommandLine::new(environment),
        })
    }

    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let cancel = CancellationToken::new();
        let display = Display::start(self.progress, &cancel);
        interrupt::cancel_on_signals(cancel.clone(), display.progress())?;
        workspace.ends_with(&cancel);
        let progress = display.progress();
        let pushed = workspace.push(self.request, &self.client, progress, cancel).await;
        let pushed = match (pushed, display.finish().unread) {
            (Err(BuildError::Canceled), true) => return Ok(Exit::Unread),
            (pushed, _) => pushed?,
        };
        let for_people = matches!(self.progress, Mode::Tree { .. } | Mode::Plain);
        for image in pushed {
            if for_people {
                let (digest, name) = (&image.target.digest, image.name.familiar());
                ui::error(&format!("digest: {digest}\npushed {name}\n"));
            }
            ui::data(format!("{}\n", image.name).as_bytes())?;
        }
        Ok(Exit::Success)
    }
}

fn request(args: &PushArgs) -> Result<PushRequest, UsageError> {
    let text = &args.name;
    let name: Reference = text
        .parse()
        .map_err(|error| UsageError::new(format!("`{text}` is not a valid image name: {error}")))?;
    if name.digest().is_some() {
        return Err(UsageError::new(format!("`{text}`: a push takes a name, not a digest"))
            .with_hint("give the image a name first: `mybuild tag`"));
    }
    match (args.all_tags, name.tag()) {
        (false, _) => {
            let platform = platform(args.platform.as_deref())?;
            Ok(PushRequest::Image { name, platform })
        }
        (true, Some(_)) => {
            Err(UsageError::new(format!("`--all-tags` takes a name without a tag, not `{text}`")))
        }
        (true, None) if args.platform.is_some() => {
            Err(UsageError::new("`--all-tags` and `--platform` do not go together"))
        }
        (true, None) => Ok(PushRequest::AllTags(name)),
    }
}
