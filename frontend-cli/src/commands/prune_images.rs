//! `mybuild image prune`, `mybuild system prune`

use engine::containers::PrunedContainers;
use engine::images::ListedImage;
use engine::{EngineOptions, PruneFilter, Pruned, Reach, Reserve, Without, Workspace};
use oci::Reference;

use super::image::tell_warnings;
use super::prune::{confirmed, summary, would_be};
use super::{prune_containers, prune_why};
use crate::cache_filter::since;
use crate::cli::{ImagePruneArgs, SystemPruneArgs};
use crate::docker_units::size;
use crate::error::UsageError;
use crate::exit::Exit;
use crate::listing::align;
use crate::spelling::boolean;
use crate::{ui, workspace};

/// What `mybuild image prune` or `mybuild system prune` has to do.
pub(super) struct PruneImages {
    /// Images with names go, too, if no container uses them.
    all: bool,
    force: bool,
    dry_run: bool,
    why: bool,
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

/// An image, and why it stays; nothing where it goes.
struct JudgedImage {
    image: ListedImage,
    stays: Option<String>,
}

fn going(judged: &[JudgedImage]) -> impl Iterator<Item = &ListedImage> {
    judged.iter().filter(|it| it.stays.is_none()).map(|it| &it.image)
}

fn names(pruned: &PrunedContainers) -> Vec<String> {
    pruned.containers.iter().map(|record| record.name.clone()).collect()
}

/// An image's name as users write it.
fn shown(image: &ListedImage) -> String {
    image.reference.as_ref().map_or_else(|| image.name.clone(), Reference::familiar)
}

/// `--why`: each image, whether it goes or stays, and why.
fn table(judged: &[JudgedImage]) -> String {
    let mut rows = vec!["IMAGE\tSIZE\tVERDICT\tWHY".to_owned()];
    rows.extend(judged.iter().map(|JudgedImage { image, stays }| {
        let (verdict, why) = match stays {
            Some(why) => ("stays", why.as_str()),
            None => ("goes", "no container uses it"),
        };
        format!("{}\t{}\t{verdict}\t{why}", shown(image), size(image.size))
    }));
    align(&rows)
}

enum Filter {
    /// Made before this, in seconds since 1970.
    MadeBefore(i64),
    /// With the label, or without.
    Label { wanted: bool, name: String, value: Option<String> },
}

impl PruneImages {
    pub(super) fn of_images(args: &ImagePruneArgs) -> Result<Self, UsageError> {
        let (dangling, texts): (Vec<_>, Vec<_>) =
            args.filters.iter().cloned().partition(|text| text.starts_with("dangling="));
        let mut all = args.all;
        for text in dangling {
            let only_dangling = text.strip_prefix("dangling=").and_then(boolean);
            all = !only_dangling
                .ok_or_else(|| UsageError::new(format!("`--filter {text}`: want true or false")))?;
        }
        let (filters, _) = filters(&texts)?;
        let ImagePruneArgs { force, dry_run, why, .. } = *args;
        Ok(Self { all, force, dry_run, why, filters, besides: Besides::Nothing })
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
        let SystemPruneArgs { all, force, dry_run, why, .. } = *args;
        Ok(Self { all, force, dry_run, why, filters, besides })
    }

    pub(super) async fn run(self, options: &EngineOptions) -> anyhow::Result<Exit> {
        if !self.dry_run && !self.force && !confirmed(self.what())? {
            return Ok(Exit::Failed);
        }
        let workspace = workspace::open(options, Reserve::Used)?;
        // What a container has is not to be in the way of its image.
        let containers = match self.besides {
            Besides::System { before, .. } => {
                prune_containers::prune(&workspace, before, self.dry_run).await?
            }
            Besides::Nothing | Besides::Labels => PrunedContainers::default(),
        };
        let judged = self.judge(&workspace, &containers).await?;
        let (images, pruned) = match self.dry_run {
            true => self.would_remove(&workspace, &judged, &containers).await?,
            false => self.remove(&workspace, &judged).await?,
        };
        let mut text = prune_containers::listed(&containers, self.dry_run);
        if self.why {
            text.push_str(&table(&judged));
            if matches!(self.besides, Besides::System { .. }) {
                // Not before: what a session has looked up stays.
                let users = workspace.layer_users().await?;
                text.push_str(&format!("\n{}", prune_why::table(&pruned.judged, &[], &users)));
            }
            text.push('\n');
        } else if !images.is_empty() {
            let heading =
                if self.dry_run { "Images that would be removed:" } else { "Deleted Images:" };
            text.push_str(&format!("{heading}\n{images}\n"));
        }
        let freed = pruned.freed + containers.freed;
        let pruned = Pruned { freed, ..pruned };
        text.push_str(&match () {
            () if self.dry_run => would_be(&pruned),
            () if self.all => format!("Total reclaimed space: {}\n", size(freed)),
            () => summary(&pruned),
        });
        ui::data(text.as_bytes())?;
        tell_warnings(&workspace);
        Ok(Exit::Success)
    }

    /// All images, and why each stays; nothing where it goes. The `gone` containers use none any more.
    async fn judge(
        &self,
        workspace: &Workspace,
        gone: &PrunedContainers,
    ) -> anyhow::Result<Vec<JudgedImage>> {
        let gone = names(gone);
        let mut judged = Vec::new();
        for image in workspace.images().await? {
            let unfit = self.filters.iter().find(|filter| !filter.takes(&image));
            let stays = match (self.all, unfit) {
                (false, _) => Some("it has a name, and `--all` is not given".to_owned()),
                (true, Some(filter)) => Some(filter.words()),
                (true, None) => {
                    let user = workspace.image_user(&image, &gone).await?;
                    user.map(|user| format!("{user} uses it"))
                }
            };
            judged.push(JudgedImage { image, stays });
        }
        Ok(judged)
    }

    /// Takes their names from the images that go, and removes what then leads nowhere. Gives what was done
    /// to images, a line each.
    async fn remove(
        &self,
        workspace: &Workspace,
        judged: &[JudgedImage],
    ) -> anyhow::Result<(String, Pruned)> {
        let names: Vec<String> = going(judged).map(|image| image.name.clone()).collect();
        let (removed, mut pruned) = workspace.prune_images(&names).await?;
        if let Besides::System { cache, .. } = &self.besides {
            let Pruned { freed, .. } = pruned;
            pruned = workspace.prune(cache.clone()).await?;
            pruned.freed += freed;
        }
        let mut text = String::new();
        for removed in &removed {
            removed.untagged.iter().for_each(|name| text.push_str(&format!("untagged: {name}\n")));
            removed.deleted.iter().for_each(|id| text.push_str(&format!("deleted: {id}\n")));
        }
        Ok((text, pruned))
    }

    /// The same, without doing it.
    async fn would_remove(
        &self,
        workspace: &Workspace,
        judged: &[JudgedImage],
        containers: &PrunedContainers,
    ) -> anyhow::Result<(String, Pruned)> {
        let filter = match &self.besides {
            Besides::System { cache, .. } => cache.clone(),
            Besides::Nothing | Besides::Labels => PruneFilter::default(),
        };
        let text = going(judged).map(|image| format!("{}\n", shown(image))).collect();
        let without = Without {
            images: going(judged).map(|image| image.name.clone()).collect(),
            containers: names(containers),
        };
        Ok((text, workspace.would_prune(filter, without).await?))
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
                .with_hint(
                    "filters are until=, label=, label!= and, of `image prune`, dangling=",
                ));
            }
        }
    }
    Ok((filters, cache))
}

impl Filter {
    /// Why an image stays that it does not take.
    fn words(&self) -> String {
        match self {
            Self::MadeBefore(_) => "it was made after the time of `until`".to_owned(),
            Self::Label { wanted, name, .. } => {
                let has = if *wanted { "does not have" } else { "has" };
                format!("it {has} the label `{name}`")
            }
        }
    }

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
