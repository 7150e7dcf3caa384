//! `mybuild prune`, `mybuild builder prune`

use std::io::Write as _;

use engine::{
    CacheItem, EngineOptions, PruneFilter, Pruned, Reach, Reserve, Space, Without, Workspace,
};

use super::image::tell_warnings;
use super::prune_why;
use crate::build_args::quantity;
use crate::cache_filter::{filter, match_texts};
use crate::cli::PruneArgs;
use crate::docker_units::{age, size};
use crate::error::UsageError;
use crate::exit::Exit;
use crate::listing::{align, shorten};
use crate::{ui, workspace};

/// What `mybuild prune` has to do.
pub(super) struct Prune {
    filter: PruneFilter,
    /// What the user has written for each of its matches.
    texts: Vec<String>,
    force: bool,
    verbose: bool,
    dry_run: bool,
    why: bool,
}

impl Prune {
    /// Without `--all`, a filter or a limit it takes what `reach` says.
    pub(super) fn resolve(args: &PruneArgs, reach: Reach) -> Result<Self, UsageError> {
        let amount = |flag: &str, text: &Option<String>| {
            text.as_deref().map(|text| quantity::bytes(flag, text)).transpose()
        };
        let space = Space {
            reserved: amount("--reserved-space", &args.reserved_space)?,
            max_used: amount("--max-used-space", &args.max_used_space)?,
            min_free: amount("--min-free-space", &args.min_free_space)?,
        };
        let mut filter = filter("prune", &args.filters)?;
        let is_narrow = space != Space::default() || filter != PruneFilter::default();
        filter.space = space;
        filter.reach = match (args.all, is_narrow) {
            (true, _) => Reach::All,
            (false, true) => Reach::Unshared,
            (false, false) => reach,
        };
        let PruneArgs { force, verbose, dry_run, why, .. } = *args;
        let texts = match_texts(&args.filters);
        Ok(Self { filter, texts, force, verbose, dry_run, why })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        if self.dry_run {
            return self.tell(options).await;
        }
        if !self.force && !confirmed(self.what())? {
            return Ok(Exit::Failed);
        }
        // The store's session starts now: one that had waited for the answer would keep things.
        let workspace = workspace::open(options, Reserve::Used)?;
        let pruned = workspace.prune(self.filter.clone()).await?;
        self.list(&workspace, &pruned, self.verbose).await?;
        ui::data(summary(&pruned).as_bytes())?;
        tell_warnings(&workspace);
        Ok(Exit::Success)
    }

    /// `--dry-run`: what would be removed.
    async fn tell(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        let workspace = workspace::open(options, Reserve::Used)?;
        let pruned = workspace.would_prune(self.filter.clone(), Without::default()).await?;
        self.list(&workspace, &pruned, true).await?;
        ui::data(would_be(&pruned).as_bytes())?;
        tell_warnings(&workspace);
        Ok(Exit::Success)
    }

    /// Lists what was chosen, or everything with why.
    async fn list(
        &self,
        workspace: &Workspace,
        pruned: &Pruned,
        chosen: bool,
    ) -> anyhow::Result<()> {
        let items: Vec<&CacheItem> = pruned.items().collect();
        if self.why {
            // Not before: what a session has looked up stays.
            let users = workspace.layer_users().await?;
            ui::data(prune_why::table(&pruned.judged, &self.texts, &users).as_bytes())?;
        } else if chosen && !items.is_empty() {
            ui::data(listed(items).as_bytes())?;
        }
        Ok(())
    }

    fn what(&self) -> &'static str {
        let is_narrow = !self.filter.matches.is_empty() || self.filter.unused_for.is_some();
        match self.filter.reach {
            Reach::Garbage => "what nothing leads to any more; the build cache stays",
            _ if is_narrow => "everything in the cache that fits the filter",
            _ if self.filter.space != Space::default() => {
                "what of the cache was not used for longest"
            }
            Reach::Unshared => "the build cache and the cache mounts, but not the layers of images",
            Reach::All => "all of the build cache and the cache mounts",
        }
    }
}

/// Asks on standard error; the answer may come from a pipe.
pub(super) fn confirmed(what: &str) -> std::io::Result<bool> {
    ui::error(&format!(
        "WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] "
    ));
    std::io::stderr().flush()?;
    let mut answer = String::new();
    let is_answered = std::io::stdin().read_line(&mut answer)? > 0;
    let is_yes = matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes");
    if !is_yes {
        let why = if is_answered { "" } else { ": there was no answer (`--force` does not ask)" };
        ui::error(&format!("\nnothing was removed{why}\n"));
    }
    Ok(is_yes)
}

/// The same for a prune that has removed nothing.
pub(super) fn would_be(pruned: &Pruned) -> String {
    let (counts, freed) = (counts(pruned), size(pruned.freed));
    format!("would be removed: {counts}\nTotal reclaimable space: {freed}\n")
}

pub(super) fn summary(pruned: &Pruned) -> String {
    let mut text =
        format!("removed: {}\nTotal reclaimed space: {}\n", counts(pruned), size(pruned.freed));
    if pruned.waiting > 0 {
        text.push_str(&format!(
            "{} more when the builds that run now are over\n",
            size(pruned.waiting)
        ));
    }
    text
}

fn counts(pruned: &Pruned) -> String {
    format!(
        "{}, {}, {}, {}{}",
        counted(pruned.steps, "step"),
        counted(pruned.layers, "layer"),
        counted(pruned.blobs, "blob"),
        counted(pruned.mounts, "cache mount"),
        match pruned.mirrors {
            0 => String::new(),
            1 => ", 1 git repository".to_owned(),
            count => format!(", {count} git repositories"),
        } + &match pruned.received {
            0 => String::new(),
            1 => ", 1 received directory".to_owned(),
            count => format!(", {count} received directories"),
        }
    )
}

fn counted(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} {what}{s}")
}

/// How wide a description is shown.
const DESCRIPTION: usize = 60;

/// Parts of the cache as a table.
pub(super) fn listed<'i>(items: impl IntoIterator<Item = &'i CacheItem>) -> String {
    let now = jiff::Timestamp::now().as_second();
    let mut rows = vec!["ID\tTYPE\tSIZE\tLAST USED\tIN USE\tDESCRIPTION".to_owned()];
    rows.extend(items.into_iter().map(|item| {
        let kind = item.kind.word();
        let in_use = if item.is_in_use { "yes" } else { "" };
        let description = shorten(&item.description.replace(['\n', '\t'], " "), DESCRIPTION);
        let (size, used) = (size(item.bytes), age(now - item.used));
        format!("{}\t{kind}\t{size}\t{used}\t{in_use}\t{description}", item.id)
    }));
    align(&rows)
}
