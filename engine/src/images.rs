//! The images of the store: listing, naming, taking away; archives in and out; pulling and pushing.
//!
//! An image is what a name in the store's index stands for: a manifest, or an index over several
//! platforms. Its id is Docker's, the digest of its config; over several platforms it is the digest
//! of the index. Read `find` (what a name on the command line means), then `load`.

pub(crate) mod find;
mod load;
mod pull;
mod push;
pub(crate) mod rootfs;
mod save;

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use cache::Store;
use oci::manifest::Document;
use oci::{Descriptor, Digest, ImageConfig, Platform, Reference};

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::layer::size;
use crate::stored::{Variant, familiar, read_variants};
use crate::workspace::Workspace;

pub use load::{ArchiveSource, Loaded};
pub use pull::Pulled;
pub use push::{PushRequest, Pushed};

pub(crate) use find::{By, find};

/// One name of an image.
#[derive(Debug, Clone)]
pub struct ListedImage {
    /// The whole name, as the store has it.
    pub name: String,
    /// The name as a reference; `None` for what another program called an image.
    pub reference: Option<Reference>,
    /// Digest of what the name stands for in its registry: a manifest or an index.
    pub digest: Digest,
    /// The image's id.
    pub id: Digest,
    /// When it was made, RFC 3339.
    pub created: Option<String>,
    /// Bytes in the files of its layers; over several platforms, of all of them.
    pub size: u64,
    /// Its labels; of this machine's platform where there are several.
    pub labels: BTreeMap<String, String>,
    /// The platforms that the store has it for.
    pub platforms: Vec<Platform>,
}

/// One platform's image with everything that is known about it.
#[derive(Debug, Clone)]
pub struct ImageDetails {
    /// Digest of its config.
    pub id: Digest,
    /// Its names, in their short form.
    pub names: Vec<String>,
    /// `repository@digest` for each repository that names it.
    pub repo_digests: Vec<String>,
    /// Its manifest.
    pub manifest: Descriptor,
    /// Its config.
    pub config: ImageConfig,
    /// Bytes in the files of each layer, the bottom one first.
    pub layer_sizes: Vec<u64>,
}

/// What became of one argument of [`Workspace::remove_image`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    /// Names taken away, in their short form.
    pub untagged: Vec<String>,
    /// The image's id, if no name is left.
    pub deleted: Option<Digest>,
}

impl Workspace {
    /// All names of images, the newest image first.
    pub async fn images(&self) -> Result<Vec<ListedImage>, BuildError> {
        let store = self.store.clone();
        blocking(move || Ok(list(&store))).await
    }

    /// The image that a tag, a digest or the beginning of an id names, for `platform` or else this
    /// machine's.
    pub async fn image(
        &self,
        name: &str,
        platform: Option<Platform>,
    ) -> Result<ImageDetails, BuildError> {
        let (store, name) = (self.store.clone(), name.to_owned());
        blocking(move || details(&store, &name, platform.as_ref())).await
    }

    /// How long the step took that made each of these layers, as far as the store has its record: a base that was
    /// pulled or loaded has none.
    pub async fn layer_durations(
        &self,
        layers: &[oci::DiffId],
    ) -> Result<Vec<Option<Duration>>, BuildError> {
        let (store, layers) = (self.store.clone(), layers.to_vec());
        blocking(move || Ok(layer_durations(&store, &layers))).await
    }

    /// Gives an image one more name.
    pub async fn tag_image(&self, source: &str, name: &Reference) -> Result<(), BuildError> {
        let (store, source, name) =
            (self.store.clone(), source.to_owned(), name.with_default_tag());
        blocking(move || {
            let found = find(&store, &source)?;
            // The id of one platform of several means this one.
            let target = match &found.by {
                By::Id(id) if *id != found.target.digest => {
                    found.variant(&store, &source, None)?.manifest_descriptor
                }
                _ => found.target,
            };
            tag(&store, &name.to_string(), &target)?;
            flush(&store)
        })
        .await
    }

    /// Takes names away: the one given, or all names of the image whose id is given, which must be
    /// one unless `force`. The image's room is given back by [`Workspace::prune`].
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<Removed, BuildError> {
        let (store, name) = (self.store.clone(), name.to_owned());
        blocking(move || remove(&store, &name, force)).await
    }
}

/// Of several steps that made the same layer the last one counts.
fn layer_durations(store: &Store, layers: &[oci::DiffId]) -> Vec<Option<Duration>> {
    let mut records = store.records();
    records.sort_by_key(|record| record.created);
    let mut made = HashMap::new();
    for record in &records {
        for layer in record.outputs.iter().filter_map(|output| output.last()) {
            made.insert(layer, Duration::from_millis(record.duration));
        }
    }
    let took = |layer| made.get(&store.layer_of_diff_id(layer)?).copied();
    layers.iter().map(took).collect()
}

fn list(store: &Store) -> Vec<ListedImage> {
    let images = store.images();
    let listed = images.iter().filter_map(|image| {
        let entry = entry(store, image);
        if entry.is_none() {
            store.warn(cache::Warning::IncompleteImage { name: familiar(&image.name) });
        }
        entry
    });
    let mut listed: Vec<ListedImage> = listed.collect();
    // Names are in order already; the sort is stable.
    listed.sort_by_key(|image| {
        let created: Option<jiff::Timestamp> =
            image.created.as_ref().and_then(|time| time.parse().ok());
        std::cmp::Reverse(created)
    });
    listed
}

/// What there is to list of one name; `None` when manifest or config are missing.
fn entry(store: &Store, image: &cache::Image) -> Option<ListedImage> {
    let variants = read_variants(store, &image.descriptor);
    let found = find::Found { target: image.descriptor.clone(), by: By::Name(image.name.clone()) };
    let main = found.variant(store, &image.name, None).ok()?;
    let mut layers: BTreeMap<&oci::DiffId, &Descriptor> = BTreeMap::new();
    for variant in &variants {
        layers.extend(variant.layers());
    }
    Some(ListedImage {
        name: image.name.clone(),
        reference: image.name.parse().ok(),
        digest: repo_digest(store, image),
        id: image_id(&image.descriptor, &variants),
        created: main.config.created.clone(),
        size: layers.iter().map(|(diff_id, blob)| size::of_layer(store, diff_id, blob)).sum(),
        labels: main.config.config.labels.clone(),
        platforms: variants.iter().map(|variant| variant.config.platform()).collect(),
    })
}

/// Docker's id: the config of the one platform there is, else the index.
fn image_id(target: &Descriptor, variants: &[Variant]) -> Digest {
    match variants {
        [only] => only.id.clone(),
        _ => target.digest.clone(),
    }
}

/// The digest that a name has in its registry: its own, or that of the index which a pulled image
/// came from.
fn repo_digest(store: &Store, image: &cache::Image) -> Digest {
    let own = || image.descriptor.digest.clone();
    let Ok(reference) = image.name.parse::<Reference>() else { return own() };
    if let Some(digest) = reference.digest() {
        return digest.clone();
    }
    let platform = image.descriptor.platform.clone().unwrap_or_else(Platform::host);
    let Some(known) = store.remembered_reference(&reference, Some(&platform)) else {
        return own();
    };
    let lists_it = |bytes: Vec<u8>| match oci::manifest::parse(&bytes, None) {
        Ok(Document::Index(index)) => {
            index.manifests.iter().any(|m| m.digest == image.descriptor.digest)
        }
        _ => false,
    };
    let top = store.read_small(&known.descriptor.digest, oci::manifest::SIZE_MAX as u64);
    if top.is_ok_and(lists_it) { known.descriptor.digest } else { own() }
}

fn details(
    store: &Store,
    name: &str,
    platform: Option<&Platform>,
) -> Result<ImageDetails, BuildError> {
    let found = find(store, name)?;
    let variant = found.variant(store, name, platform)?;
    let images = store.images();
    let is_it = |image: &&cache::Image| {
        image.descriptor == found.target
            || image.descriptor.digest == variant.manifest_descriptor.digest
    };
    let named: Vec<&cache::Image> = images.iter().filter(is_it).collect();
    let mut repo_digests = Vec::new();
    for image in &named {
        if let Ok(reference) = image.name.parse::<Reference>() {
            let pinned = reference.without_tag().with_digest(repo_digest(store, image)).familiar();
            if !repo_digests.contains(&pinned) {
                repo_digests.push(pinned);
            }
        }
    }
    let layer_sizes =
        variant.layers().map(|(diff_id, blob)| size::of_layer(store, diff_id, blob)).collect();
    // A name by digest is a repository digest and nothing else.
    let names = named
        .iter()
        .map(|image| familiar(&image.name))
        .filter(|name| !name.contains('@'))
        .collect();
    Ok(ImageDetails {
        id: variant.id.clone(),
        names,
        repo_digests,
        manifest: variant.manifest_descriptor.clone(),
        config: variant.config,
        layer_sizes,
    })
}

fn remove(store: &Store, text: &str, force: bool) -> Result<Removed, BuildError> {
    let found = find(store, text)?;
    let id = image_id(&found.target, &read_variants(store, &found.target));
    let images = store.images();
    let is_it = |image: &&cache::Image| {
        image.descriptor.digest == found.target.digest
            || image_id(&image.descriptor, &read_variants(store, &image.descriptor)) == id
    };
    let all: Vec<String> = images.iter().filter(is_it).map(|image| image.name.clone()).collect();
    let by_name = !matches!(found.by, By::Id(_));
    let names = match found.by {
        By::Name(name) => vec![name],
        By::Digest(names) => names,
        By::Id(_) if all.len() > 1 && !force => {
            let names: Vec<String> = all.iter().map(|name| familiar(name)).collect();
            return Err(BuildError::refused(format!(
                "image `{text}` has several names: {}",
                names.join(", ")
            ))
            .with_hint("remove them by name, or all of them with `--force`"));
        }
        By::Id(_) => all.clone(),
    };
    let is_last = !all.is_empty() && all.iter().all(|name| names.contains(name));
    if is_last
        && !(force && by_name)
        && let Some(user) = user_of(store, &found.target, &[])?
    {
        return Err(user.refuses(text, by_name));
    }
    for name in &names {
        store
            .untag(name)
            .map_err(|e| BuildError::system(format!("failed to untag `{name}`")).because(e))?;
    }
    flush(store)?;
    Ok(Removed {
        untagged: names.iter().map(|name| familiar(name)).collect(),
        deleted: is_last.then_some(id),
    })
}

/// Who has an image.
pub(crate) enum ImageUser {
    /// A container that stays.
    Kept(Box<cache::Container>),
    /// One that is running and will be gone.
    Running,
}

/// A container that has the image, for whichever platform, and is not one of `without`.
pub(crate) fn user_of(
    store: &Store,
    target: &Descriptor,
    without: &[String],
) -> Result<Option<ImageUser>, BuildError> {
    let containers = store
        .containers()
        .map_err(|e| BuildError::system("failed to use the store's containers").because(e))?;
    for variant in read_variants(store, target) {
        let has_it = |container: &&cache::Container| {
            container.record.image_id == variant.id && !without.contains(&container.record.name)
        };
        if let Some(container) = containers.iter().find(has_it).cloned() {
            return Ok(Some(ImageUser::Kept(Box::new(container))));
        }
        if store.is_image_in_use(&variant.id) {
            return Ok(Some(ImageUser::Running));
        }
    }
    Ok(None)
}

impl ImageUser {
    /// What it is.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Kept(container) => format!("container `{}`", container.record.name),
            Self::Running => "a running container".to_owned(),
        }
    }

    fn refuses(&self, text: &str, by_name: bool) -> BuildError {
        let how = match self {
            Self::Kept(container) if !container.is_running() => {
                format!("remove the container first (`mybuild rm {}`)", container.record.name)
            }
            _ => "stop the container first".to_owned(),
        };
        let force = if by_name { ", or take the name away with `--force`" } else { "" };
        BuildError::refused(format!("image `{text}` is used by {}", self.words()))
            .with_hint(format!("{how}{force}"))
    }
}

/// The image of a config whose layers the store has, under the manifest that a build gives it.
fn variant_of_config(
    store: &Store,
    id: &Digest,
    size: u64,
    config: ImageConfig,
) -> Option<Variant> {
    let blob = |diff_id: &oci::DiffId| {
        store.layer(&store.layer_of_diff_id(diff_id)?)?.blobs.first().cloned()
    };
    let layers: Vec<Descriptor> = config.rootfs.diff_ids.iter().map(blob).collect::<Option<_>>()?;
    let descriptor = Descriptor::new(oci::media_type::CONFIG, id.clone(), size);
    let manifest_descriptor = crate::document::write_manifest(
        store,
        crate::request::MediaTypes::Oci,
        &descriptor,
        layers,
        &BTreeMap::new(),
    )
    .ok()?;
    let found = read_variants(store, &manifest_descriptor);
    found.into_iter().next()
}

pub(crate) fn tag(store: &Store, name: &str, target: &Descriptor) -> Result<(), BuildError> {
    store.tag(name, target).map_err(|e| BuildError::system("failed to tag the image").because(e))
}

/// Makes what was put into the store durable and visible to others.
pub(crate) fn flush(store: &Store) -> Result<(), BuildError> {
    store.flush().map_err(|e| BuildError::system("failed to write to the store").because(e))
}
