//! `mybuild container prune`, and that part of `mybuild system prune`

use engine::containers::PrunedContainers;
use engine::{EngineOptions, Reserve, Workspace};

use super::image::tell_warnings;
use super::prune::confirmed;
use crate::cache_filter::since;
use crate::cli::ContainerPruneArgs;
use crate::docker_units::size;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::{ui, workspace};

/// What `mybuild container prune` has to do.
pub(super) struct PruneContainers {
    force: bool,
    dry_run: bool,
    /// Only those made before this, in seconds since 1970.
    before: Option<i64>,
}

impl PruneContainers {
    pub(super) fn resolve(args: &ContainerPruneArgs) -> Result<Self, UsageError> {
        let mut before = None;
        for text in &args.filters {
            let Some(("until", time)) = text.split_once('=') else {
                return Err(UsageError::new(format!(
                    "`--filter {text}` is not a filter of containers"
                ))
                .with_hint("the filter is until=: containers have no labels"));
            };
            let now = jiff::Timestamp::now().as_second();
            before = Some(now.saturating_sub_unsigned(since(text, time)?.as_secs()));
        }
        Ok(Self { force: args.force, dry_run: args.dry_run, before })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        let what = "all containers whose command has ended, and what they have written";
        if !self.dry_run && !self.force && !confirmed(what)? {
            return Ok(Exit::Failed);
        }
        let workspace = workspace::open(options, Reserve::Used)?;
        let pruned = prune(&workspace, self.before, self.dry_run).await?;
        let word = if self.dry_run { "reclaimable" } else { "reclaimed" };
        let text = format!(
            "{}Total {word} space: {}\n",
            listed(&pruned, self.dry_run),
            size(pruned.freed)
        );
        ui::data(text.as_bytes())?;
        tell_warnings(&workspace);
        Ok(Exit::Success)
    }
}

/// Removes what does not run and was made `before`, or only finds it.
pub(super) async fn prune(
    workspace: &Workspace,
    before: Option<i64>,
    dry_run: bool,
) -> anyhow::Result<PrunedContainers> {
    let is_old = move |created: i64| before.is_none_or(|before| created < before);
    Ok(workspace.prune_containers(move |record| is_old(record.created), dry_run).await?)
}

/// The names of what goes, a line each, under a heading; nothing if nothing does.
pub(super) fn listed(pruned: &PrunedContainers, dry_run: bool) -> String {
    if pruned.containers.is_empty() {
        return String::new();
    }
    let heading = if dry_run { "Containers that would be removed:" } else { "Deleted Containers:" };
    let names = pruned.containers.iter().map(|record| format!("{}\n", record.name));
    format!("{heading}\n{}\n", names.collect::<String>())
}
