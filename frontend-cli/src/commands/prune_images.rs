//! `mybuild image prune`, `mybuild system prune`

use engine::containers::PrunedContainers;
use engine::images::ListedImage;
use engine::{EngineOptions, PruneFilter, Pruned, Reach, Reserve};

use super::image::tell_warnings;
use super::prune::{confirmed, since, summary};
use super::prune_containers;
use crate::cli::{ImagePruneArgs, SystemPruneArgs};
use crate::docker_units::size;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::{ui, workspace};

/// What `mybuild image prune` or `mybuild system prune` has to do.
pub(super) struct PruneImages {
    /// Images with names go, too, if no container uses them.
    all: bool,
    force: bool,
    filters: Vec<Filter>,
    /// What goes besides.
    besides: Besides,
}

/// What goes with images.
enum Besides {
    /// Nothing: images alone.
    Nothing,
    /// Containers whose command has ended, and of the cache what fits.
    System {
        cache: PruneFilter,
        /// Only containers made before this, in seconds since 1970.
        before: Option<i64>,
    },
    /// As for Docker: images are chosen by labels, and neither the cache nor containers have any.
    Labels,
}

enum Filter {
    /// Made before this, in seconds since 1970.
    MadeBefore(i64),
    /// With the label, or without.
    Label { wanted: bool, name: String, value: Option<String> },
}

impl PruneImages {
    pub(super) fn of_images(args: &ImagePruneArgs) -> Result<Self, UsageError> {
        let (filters, _) = filters(&args.filters)?;
        Ok(Self { all: args.all, force: args.force, filters, besides: Besides::Nothing })
    }

    /// Of `--volumes` there are none: a container's go with it.
    pub(super) fn of_system(args: &SystemPruneArgs) -> Result<Self, UsageError> {
        let (filters, mut cache) = filters(&args.filters)?;
        cache.reach = if args.all { Reach::All } else { Reach::Unshared };
        let before = filters.iter().find_map(|filter| match filter {
            Filter::MadeBefore(time) => Some(*time),
            Filter::Label { .. } => None,
        });
        let has_labels = filters.iter().any(|filter| matches!(filter, Filter::Label { .. }));
        let besides = match has_labels {
            true => Besides::Labels,
            false => Besides::System { cache, before },
        };
        Ok(Self { all: args.all, force: args.force, filters, besides })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        if !self.force && !confirmed(self.what())? {
            return Ok(Exit::Failed);
        }
        let workspace = workspace::open(options, Reserve::Used)?;
        // What a container has is not to be in the way of its image.
        let containers = match self.besides {
            Besides::System { before, .. } => {
                prune_containers::prune(&workspace, before, false).await?
            }
            Besides::Nothing | Besides::Labels => PrunedContainers::default(),
        };
        let takes =
            |image: &ListedImage| self.all && self.filters.iter().all(|filter| filter.takes(image));
        let (removed, mut pruned) = workspace.prune_images(takes).await?;
        if let Besides::System { cache, .. } = self.besides {
            let Pruned { freed, .. } = pruned;
            pruned = workspace.prune(cache).await?;
            pruned.freed += freed;
        }
        pruned.freed += containers.freed;
        let mut text = String::new();
        for removed in &removed {
            removed.untagged.iter().for_each(|name| text.push_str(&format!("untagged: {name}\n")));
            removed.deleted.iter().for_each(|id| text.push_str(&format!("deleted: {id}\n")));
        }
        if !text.is_empty() {
            text = format!("Deleted Images:\n{text}\n");
        }
        text.insert_str(0, &prune_containers::listed(&containers, false));
        if self.all || !removed.is_empty() {
            text.push_str(&format!("Total reclaimed space: {}\n", size(pruned.freed)));
        } else {
            text.push_str(&summary(&pruned));
        }
        ui::data(text.as_bytes())?;
        tell_warnings(&workspace);
        Ok(Exit::Success)
    }

    fn what(&self) -> &'static str {
        match (self.all, &self.besides) {
            (false, Besides::Nothing | Besides::Labels) => "what images without a name have left",
            (true, Besides::Nothing | Besides::Labels) => "all images that no container uses",
            (false, Besides::System { .. }) => {
                "containers whose command has ended, the build cache, the cache mounts, and what images \
                 without a name have left"
            }
            (true, Besides::System { .. }) => {
                "containers whose command has ended, all images that no other container uses, all of the \
                 build cache, and the cache mounts"
            }
        }
    }
}

fn filters(texts: &[String]) -> Result<(Vec<Filter>, PruneFilter), UsageError> {
    let (mut filters, mut cache) = (Vec::new(), PruneFilter::default());
    for text in texts {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        match name {
            "until" => {
                let ago = since(text, value)?;
                let now = jiff::Timestamp::now().as_second();
                filters.push(Filter::MadeBefore(now.saturating_sub_unsigned(ago.as_secs())));
                cache.unused_for = Some(ago);
            }
            "label" | "label!" if !value.is_empty() => {
                let (name, value) = match value.split_once('=') {
                    Some((name, value)) => (name, Some(value.to_owned())),
                    None => (value, None),
                };
                let wanted = !text.starts_with("label!");
                filters.push(Filter::Label { wanted, name: name.to_owned(), value });
            }
            _ => {
                return Err(UsageError::new(format!(
                    "`--filter {text}` is not a filter of images"
                ))
                .with_hint("filters are until=, label= and label!="));
            }
        }
    }
    Ok((filters, cache))
}

impl Filter {
    fn takes(&self, image: &ListedImage) -> bool {
        match self {
            Self::MadeBefore(time) => {
                let made = image.created.as_ref();
                let made = made.and_then(|time| time.parse::<jiff::Timestamp>().ok());
                made.is_some_and(|made| made.as_second() < *time)
            }
            Self::Label { wanted, name, value } => {
                let found = image.labels.get(name);
                let has =
                    found.is_some_and(|found| value.as_ref().is_none_or(|value| value == found));
                has == *wanted
            }
        }
    }
}
