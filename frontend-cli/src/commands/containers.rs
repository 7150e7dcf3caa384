//! The commands on containers that stay: from words to meanings, and on to each one's file.

use engine::{EngineOptions, Reserve};

use super::{commit, prune_containers, ps, rm};
use crate::cli::ContainerSubcommand;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::workspace;

/// A command on containers whose meaning is known.
pub(super) enum ContainerCommand {
    List(ps::List),
    Remove(rm::Remove),
    Commit(commit::Commit),
    Prune(prune_containers::PruneContainers),
}

impl ContainerCommand {
    pub(super) fn resolve(subcommand: ContainerSubcommand) -> Result<Self, UsageError> {
        Ok(match subcommand {
            ContainerSubcommand::Ps(args) => Self::List(ps::List::resolve(&args)?),
            ContainerSubcommand::Rm(args) => Self::Remove(rm::Remove::resolve(args)),
            ContainerSubcommand::Commit(args) => Self::Commit(commit::Commit::resolve(args)?),
            ContainerSubcommand::ContainerPrune(args) => {
                Self::Prune(prune_containers::PruneContainers::resolve(&args)?)
            }
        })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        let open = |reserve| workspace::open(options, reserve);
        match self {
            Self::List(list) => list.run(&open(Reserve::Used)?).await,
            Self::Remove(remove) => remove.run(&open(Reserve::Used)?).await,
            Self::Commit(commit) => commit.run(&open(Reserve::Kept)?).await,
            Self::Prune(prune) => prune.run(options).await,
        }
    }
}
