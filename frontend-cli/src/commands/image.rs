//! The commands on images and on the store: from words to meanings, and on to each one's file.

use engine::{EngineOptions, Reach, Reserve, Workspace};

use super::cache_mount::CacheMountCommand;
use super::{
    diff, du, fsck, history, images, inspect, load, prune, prune_images, pull, push, rmi, run,
    save, tag,
};
use crate::cli::{BuildArgs, ImageSubcommand};
use crate::environment::Environment;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::progress::Mode;
use crate::run_args::{self, Run};
use crate::{build_args, platform, ui, workspace};

/// A command on images whose meaning is known.
pub(super) enum ImageCommand {
    Images(images::List),
    Inspect(inspect::Inspect),
    History(history::ShowHistory),
    Diff(diff::Diff),
    Tag(tag::Tag),
    Rmi(rmi::Remove),
    Save(save::Save),
    Load(load::Load),
    Pull(pull::Pull),
    Push(push::Push),
    Run(Box<Run>),
    Prune(prune::Prune),
    PruneImages(prune_images::PruneImages),
    Du(du::ShowUsage),
    CacheMount(CacheMountCommand),
    Fsck(fsck::Check),
}

impl ImageCommand {
    pub(super) fn resolve(
        subcommand: ImageSubcommand,
        environment: &Environment,
    ) -> Result<Self, UsageError> {
        Ok(match subcommand {
            ImageSubcommand::Images(args) => Self::Images(images::List::resolve(args)?),
            ImageSubcommand::Inspect(args) => Self::Inspect(inspect::Inspect::resolve(args)?),
            ImageSubcommand::History(args) => Self::History(history::ShowHistory::resolve(args)?),
            ImageSubcommand::Diff(args) => Self::Diff(diff::Diff::resolve(args)?),
            ImageSubcommand::Tag(args) => Self::Tag(tag::Tag::resolve(&args)?),
            ImageSubcommand::Rmi(args) => Self::Rmi(rmi::Remove::resolve(args)),
            ImageSubcommand::Save(args) => Self::Save(save::Save::resolve(args, environment)?),
            ImageSubcommand::Load(args) => Self::Load(load::Load::resolve(args)?),
            ImageSubcommand::Pull(args) => Self::Pull(pull::Pull::resolve(&args, environment)?),
            ImageSubcommand::Push(args) => Self::Push(push::Push::resolve(&args, environment)?),
            ImageSubcommand::Run(args) => {
                Self::Run(Box::new(run_args::resolve(&args, environment)?))
            }
            ImageSubcommand::Prune(args) => {
                Self::Prune(prune::Prune::resolve(&args, Reach::Garbage)?)
            }
            ImageSubcommand::BuilderPrune(args) => {
                Self::Prune(prune::Prune::resolve(&args, Reach::Unshared)?)
            }
            ImageSubcommand::ImagePrune(args) => {
                Self::PruneImages(prune_images::PruneImages::of_images(&args)?)
            }
            ImageSubcommand::SystemPrune(args) => {
                Self::PruneImages(prune_images::PruneImages::of_system(&args)?)
            }
            ImageSubcommand::Du(args) => Self::Du(du::ShowUsage::resolve(&args)?),
            ImageSubcommand::CacheMount(args) => {
                Self::CacheMount(CacheMountCommand::resolve(args.command, environment)?)
            }
            ImageSubcommand::Fsck(args) => Self::Fsck(fsck::Check::resolve(&args)),
        })
    }

    pub(super) async fn run(
        self,
        options: EngineOptions,
        notice: Option<String>,
    ) -> anyhow::Result<Exit> {
        let reserve = self.reserve();
        let open = || workspace::open(&options, reserve);
        match self {
            Self::Images(list) => list.run(&open()?).await,
            Self::Inspect(inspect) => inspect.run(&open()?).await,
            Self::History(show) => show.run(&open()?).await,
            Self::Diff(diff) => diff.run(&options).await,
            Self::Tag(tag) => tag.run(&open()?).await,
            Self::Rmi(remove) => remove.run(&open()?).await,
            Self::Save(save) => save.run(&open()?).await,
            Self::Load(load) => load.run(&open()?).await,
            Self::Pull(pull) => pull.run(&open()?).await,
            Self::Push(push) => push.run(&open()?).await,
            Self::Run(command) => run::run(*command, &options, notice).await,
            Self::Prune(prune) => prune.run(&options).await,
            Self::PruneImages(prune) => prune.run(&options).await,
            Self::Du(show) => show.run(&open()?).await,
            Self::CacheMount(command) => command.run(&open()?).await,
            Self::Fsck(check) => check.run(&open()?).await,
        }
    }
}

impl ImageCommand {
    /// What brings nothing into the store works on a full disk, too.
    fn reserve(&self) -> Reserve {
        match self {
            Self::Load(_) | Self::Pull(_) | Self::Push(_) | Self::Run(_) => Reserve::Kept,
            Self::CacheMount(command) if command.fills() => Reserve::Kept,
            _ => Reserve::Used,
        }
    }
}

/// Tells what was wrong in the store without being in the way.
pub(super) fn tell_warnings(workspace: &Workspace) {
    workspace.take_warnings().iter().for_each(|warning| ui::warning(warning));
}

/// `--platform` of a command that takes one.
pub(super) fn platform(text: Option<&str>) -> Result<Option<oci::Platform>, UsageError> {
    text.map(|text| platform::parse("--platform", text)).transpose()
}

/// `--progress` and `--quiet`, as for a build.
pub(super) fn progress(
    kind: Option<String>,
    quiet: bool,
    environment: &Environment,
) -> Result<Mode, UsageError> {
    build_args::progress(&BuildArgs { progress: kind, quiet, ..BuildArgs::default() }, environment)
}

/// The short form of an id that Docker's tables show.
pub(super) fn short_id(id: &oci::Digest) -> String {
    id.hex().chars().take(12).collect()
}
