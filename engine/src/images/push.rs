//! Pushing images of the store to their registry.

use std::sync::Arc;

use cache::Store;
use oci::manifest::Document;
use oci::{Descriptor, DiffId, Platform, Reference, media_type};
use registry::{Registries, chain};
use tokio_util::sync::CancellationToken;

use super::{By, find};
use crate::blocking::{blocking, until};
use crate::client::Client;
use crate::document::put;
use crate::error::BuildError;
use crate::output::export::Compressing;
use crate::progress::event::Progress;
use crate::progress::steps::Steps;
use crate::push::Push;
use crate::request::Compression;
use crate::workspace::Workspace;

/// What is to be pushed.
#[derive(Debug, Clone)]
pub enum PushRequest {
    /// The image of one name, for all platforms or for one.
    Image {
        /// The name.
        name: Reference,
        /// The platform.
        platform: Option<Platform>,
    },
    /// All names that the store has in a repository.
    AllTags(Reference),
}

/// A name that was pushed.
#[derive(Debug, Clone)]
pub struct Pushed {
    /// The name.
    pub name: Reference,
    /// What it stands for in the registry: a manifest or an index. Layers that the store has without
    /// compression are compressed there, so that it need not be the store's own.
    pub target: Descriptor,
}

impl Workspace {
    /// Pushes images of the store, each to the registry that its name says.
    pub async fn push(
        &self,
        request: PushRequest,
        client: &dyn Client,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Result<Vec<Pushed>, BuildError> {
        let steps = Arc::new(Steps::new(progress));
        let pushing = Pushing {
            store: self.store.clone(),
            registries: self.registries(client),
            steps: steps.clone(),
            cancel: cancel.clone(),
        };
        let pushed = until(&cancel, pushing.all(request)).await;
        for warning in self.store.take_warnings() {
            steps.warn(chain(&warning));
        }
        pushed.map_err(|error| error.with_room(self.store.room()))
    }
}

struct Pushing {
    store: Store,
    registries: Arc<Registries>,
    steps: Arc<Steps>,
    cancel: CancellationToken,
}

impl Pushing {
    async fn all(&self, request: PushRequest) -> Result<Vec<Pushed>, BuildError> {
        let store = self.store.clone();
        let images = blocking(move || chosen(&store, request)).await?;
        let mut pushed = Vec::with_capacity(images.len());
        for (name, target) in images {
            pushed.push(self.one(name, target).await?);
        }
        Ok(pushed)
    }

    async fn one(&self, name: Reference, target: Descriptor) -> Result<Pushed, BuildError> {
        let push = Arc::new(Push::new(
            self.store.clone(),
            self.registries.clone(),
            self.steps.clone(),
            vec![name.clone()],
            false,
        ));
        let (store, steps, stop) = (self.store.clone(), self.steps.clone(), self.cancel.clone());
        let sending = push.clone();
        let packed = blocking(move || {
            let compressing = Compressing {
                store: &store,
                compression: Compression::default(),
                steps: &steps,
                step: sending.step(),
                stop: &stop,
                pushes: &sending.clone().into(),
            };
            packed(&compressing, &target, 0)
        });
        let target = packed.await?;
        push.finish(&target).await?;
        Ok(Pushed { name, target })
    }
}

/// What the request names: each name with what it stands for.
fn chosen(store: &Store, request: PushRequest) -> Result<Vec<(Reference, Descriptor)>, BuildError> {
    match request {
        PushRequest::AllTags(repository) => all_tags(store, &repository),
        PushRequest::Image { name, platform } => {
            let text = name.familiar();
            let found = find(store, &text)?;
            if let By::Id(id) = &found.by {
                return Err(BuildError::input(format!("`{text}` is not the name of an image"))
                    .with_hint(format!(
                        "give image {} a name first: `mybuild tag {text} NAME`",
                        id.short()
                    )));
            }
            let target = match platform {
                None => found.target,
                Some(platform) => found.variant(store, &text, Some(&platform))?.manifest_descriptor,
            };
            Ok(vec![(name.with_default_tag(), target)])
        }
    }
}

fn all_tags(
    store: &Store,
    repository: &Reference,
) -> Result<Vec<(Reference, Descriptor)>, BuildError> {
    let mut images = Vec::new();
    for image in store.images() {
        let Ok(name) = image.name.parse::<Reference>() else { continue };
        if name.tag().is_some() && name.without_tag() == *repository {
            images.push((name, image.descriptor));
        }
    }
    if images.is_empty() {
        let name = repository.familiar();
        return Err(BuildError::input(format!("the store has no tag of `{name}`"))
            .with_hint("`mybuild images` shows what there is"));
    }
    Ok(images)
}

/// What a registry gets of a manifest or index: the same, with the layers compressed that no registry has
/// given as they are. Each layer is announced as soon as it is there.
fn packed(
    compressing: &Compressing<'_>,
    target: &Descriptor,
    depth: usize,
) -> Result<Descriptor, BuildError> {
    let store = compressing.store;
    let bytes = store.read_small(&target.digest, oci::manifest::SIZE_MAX as u64);
    let Ok(bytes) = bytes else { return Ok(target.clone()) };
    let kind = Some(target.media_type.as_str()).filter(|kind| !kind.is_empty());
    let packed = match oci::manifest::parse(&bytes, kind) {
        Ok(Document::Manifest(mut manifest)) => {
            // What says more than we know how to write stays as it is.
            let is_ours = json(&manifest) == bytes;
            for layer in &mut manifest.layers {
                if is_ours && is_plain(store, layer) {
                    *layer = packed_layer(compressing, layer)?;
                }
                compressing.pushes.begin(layer);
            }
            is_ours.then(|| json(&manifest))
        }
        Ok(Document::Index(mut index)) if depth < oci::manifest::DEPTH_MAX => {
            let is_ours = json(&index) == bytes;
            for child in index.manifests.iter_mut().filter(|_| is_ours) {
                *child = self::packed(compressing, child, depth + 1)?;
            }
            is_ours.then(|| json(&index))
        }
        // Told when all of it is looked at.
        _ => None,
    };
    let Some(packed) = packed.filter(|packed| *packed != bytes) else { return Ok(target.clone()) };
    let put = put(store, &target.media_type, &packed)?;
    Ok(Descriptor { digest: put.digest, size: put.size, ..target.clone() })
}

fn json(document: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(document).expect("a document is plain data")
}

/// Whether a layer is a plain tar that this store has made, or an archive had.
fn is_plain(store: &Store, layer: &Descriptor) -> bool {
    let is_tar = [media_type::LAYER, media_type::DOCKER_LAYER].contains(&layer.media_type.as_str());
    is_tar && store.origins(&layer.digest).is_empty()
}

fn packed_layer(
    compressing: &Compressing<'_>,
    layer: &Descriptor,
) -> Result<Descriptor, BuildError> {
    let plain = Descriptor::new(media_type::LAYER, layer.digest.clone(), layer.size);
    let packed = compressing.layer(&DiffId(layer.digest.clone()), &plain)?.descriptor;
    let media_type = match layer.media_type.as_str() {
        media_type::DOCKER_LAYER => media_type::DOCKER_LAYER_GZIP.to_owned(),
        _ => packed.media_type,
    };
    Ok(Descriptor { media_type, digest: packed.digest, size: packed.size, ..layer.clone() })
}
