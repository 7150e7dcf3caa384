//! `mybuild du`

use engine::{CacheItem, DiskUsage, PruneFilter, Workspace};
use serde_json::{Map, Value};

use super::image::tell_warnings;
use super::prune;
use crate::cache_filter::filter;
use crate::cli::DuArgs;
use crate::docker_units::{age, size};
use crate::error::UsageError;
use crate::exit::Exit;
use crate::listing::{Field, Format, align};
use crate::ui;

const FIELDS: &[Field] = &[
    ("ID", "ID"),
    ("Type", "TYPE"),
    ("Size", "SIZE"),
    ("LastUsedAt", "LAST USED"),
    ("InUse", "IN USE"),
    ("Reclaimable", "RECLAIMABLE"),
    ("Shared", "SHARED"),
    ("Parents", "PARENTS"),
    ("Description", "DESCRIPTION"),
];

/// What `mybuild du` has to do.
pub(super) struct ShowUsage {
    verbose: bool,
    form: Form,
    /// What is listed of the cache where that is.
    filter: PruneFilter,
    is_filtered: bool,
}

/// How it is shown.
enum Form {
    /// Tables: how much there is of what, and the parts if they are wanted.
    Tables,
    /// The same in JSON.
    Json,
    /// A template for each part.
    Parts(Format),
}

impl ShowUsage {
    pub(super) fn resolve(args: &DuArgs) -> Result<Self, UsageError> {
        let form = match args.format.as_deref() {
            None | Some("table") => Form::Tables,
            Some("json") => Form::Json,
            template => Form::Parts(Format::parse(template, "", FIELDS)?),
        };
        let filter = filter("du", &args.filters)?;
        Ok(Self { verbose: args.verbose, form, filter, is_filtered: !args.filters.is_empty() })
    }

    /// The parts of the cache that fit, the largest first.
    async fn items(&self, workspace: &Workspace) -> anyhow::Result<Vec<CacheItem>> {
        let filter = &self.filter;
        let mut items = workspace.cache_items().await?;
        let now = jiff::Timestamp::now().as_second();
        let is_old = |item: &CacheItem| {
            filter
                .unused_for
                .is_none_or(|ago| item.used < now.saturating_sub_unsigned(ago.as_secs()))
        };
        items.retain(|item| is_old(item) && filter.matches.iter().all(|wanted| wanted.fits(item)));
        items.sort_by_key(|item| std::cmp::Reverse(item.bytes));
        Ok(items)
    }

    pub(super) async fn run(self, workspace: &Workspace) -> anyhow::Result<Exit> {
        let text = match &self.form {
            Form::Parts(format) => {
                let entries: Vec<_> = self.items(workspace).await?.iter().map(entry).collect();
                format.render(&entries, FIELDS)?
            }
            Form::Json if self.lists_parts() => {
                let items = self.items(workspace).await?;
                items.iter().map(|item| format!("{}\n", item_json(item))).collect()
            }
            Form::Json => format!("{}\n", json(&workspace.disk_usage().await?)),
            Form::Tables => self.tables(workspace).await?,
        };
        ui::data(text.as_bytes())?;
        tell_warnings(workspace);
        Ok(Exit::Success)
    }

    fn lists_parts(&self) -> bool {
        self.verbose || self.is_filtered
    }

    async fn tables(&self, workspace: &Workspace) -> anyhow::Result<String> {
        let mut text = align(&rows(&workspace.disk_usage().await?, self.verbose));
        if self.verbose {
            let images = workspace.images().await?;
            let mut rows = vec!["IMAGE\tSIZE".to_owned()];
            rows.extend(images.iter().map(|image| {
                let name =
                    image.reference.as_ref().map_or(image.name.clone(), oci::Reference::familiar);
                format!("{name}\t{}", size(image.size))
            }));
            if rows.len() > 1 {
                text = format!("{text}\n{}", align(&rows));
            }
        }
        if self.lists_parts() {
            text = format!("{text}\n{}", prune::listed(&self.items(workspace).await?));
        }
        Ok(text)
    }
}

fn rows(usage: &DiskUsage, verbose: bool) -> Vec<String> {
    let row = |what: &str, count: Option<u64>, bytes: u64| {
        format!(
            "{what}\t{}\t{}",
            count.map_or(String::new(), |count| count.to_string()),
            size(bytes)
        )
    };
    let mut rows =
        vec!["TYPE\tTOTAL\tSIZE".to_owned(), row("images", Some(usage.image_count), usage.images)];
    if verbose {
        rows.push(row("other blobs", None, usage.blobs));
        rows.push(row("layers", Some(usage.layer_count), usage.layers));
        rows.push(row("steps", Some(usage.steps), usage.records));
        rows.push(row("containers", Some(usage.container_count), usage.containers));
        rows.push(row("cache mounts", Some(usage.mount_count), usage.mounts));
        rows.push(row("git repositories", Some(usage.mirror_count), usage.mirrors));
        rows.push(row("received directories", Some(usage.received_count), usage.received));
        rows.push(row("logs", None, usage.logs));
        rows.push(row("temporary", None, usage.temporary));
        rows.push(row("reserve", None, usage.ballast));
    } else {
        rows.push(row("containers", Some(usage.container_count), usage.containers));
        rows.push(row("build cache", Some(usage.steps), usage.blobs + usage.layers));
        rows.push(row("cache mounts", Some(usage.mount_count), usage.mounts));
        rows.push(row("git repositories", Some(usage.mirror_count), usage.mirrors));
        let rest = usage.received + usage.records + usage.logs + usage.temporary + usage.ballast;
        rows.push(row("records, logs", None, rest));
    }
    rows.push(row("all", None, usage.total));
    rows
}

fn json(usage: &DiskUsage) -> serde_json::Value {
    serde_json::json!({
        "total": usage.total,
        "images": usage.images,
        "blobs": usage.blobs,
        "layers": usage.layers,
        "containers": usage.containers,
        "mounts": usage.mounts,
        "mirrors": usage.mirrors,
        "received": usage.received,
        "logs": usage.logs,
        "records": usage.records,
        "temporary": usage.temporary,
        "ballast": usage.ballast,
        "steps": usage.steps,
        "layer_count": usage.layer_count,
        "image_count": usage.image_count,
        "container_count": usage.container_count,
        "mount_count": usage.mount_count,
        "mirror_count": usage.mirror_count,
        "received_count": usage.received_count,
    })
}

fn item_json(item: &CacheItem) -> serde_json::Value {
    serde_json::json!({
        "ID": item.id,
        "Type": item.kind.word(),
        "Description": item.description,
        "Parents": item.parents,
        "Size": item.bytes,
        "LastUsedAt": item.used,
        "Shared": item.is_shared,
        "InUse": item.is_in_use,
    })
}

/// A part as templates see it: for people, as those of buildx are.
fn entry(item: &CacheItem) -> Map<String, Value> {
    let now = jiff::Timestamp::now().as_second();
    let fields: [(&str, Value); 9] = [
        ("ID", item.id.as_str().into()),
        ("Type", item.kind.word().into()),
        ("Size", size(item.bytes).into()),
        ("LastUsedAt", age(now - item.used).into()),
        ("InUse", item.is_in_use.into()),
        ("Reclaimable", (!item.is_in_use).into()),
        ("Shared", item.is_shared.into()),
        ("Parents", item.parents.clone().into()),
        ("Description", item.description.replace(['\t', '\n'], " ").into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
