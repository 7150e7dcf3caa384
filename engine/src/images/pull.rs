//! Bringing an image from its registry into the store.

use std::collections::BTreeMap;
use std::sync::Arc;

use oci::{Descriptor, Digest, Platform, Reference};
use parser::lower::{ImageRequest, RequestedImage};
use rayon::prelude::*;
use registry::chain;
use tokio_util::sync::CancellationToken;

use super::{flush, tag};
use crate::blocking::blocking;
use crate::client::Client;
use crate::error::BuildError;
use crate::gc;
use crate::layer::size;
use crate::progress::event::Progress;
use crate::progress::steps::Steps;
use crate::request::PullPolicy;
use crate::source::image::{Images, ResolvedImage};
use crate::workspace::Workspace;

/// An image that was pulled.
#[derive(Debug, Clone)]
pub struct Pulled {
    /// Its name in the store.
    pub name: Reference,
    /// What the name stands for in the registry: a manifest or an index.
    pub digest: Digest,
    /// The manifest of the platform's image.
    pub manifest: Descriptor,
    /// Whether the store had it, name and all.
    pub up_to_date: bool,
}

impl Workspace {
    /// Brings an image for `platform`, or else this machine's, into the store and names it there.
    /// All of it is verified.
    pub async fn pull(
        &self,
        name: &Reference,
        platform: Option<Platform>,
        policy: PullPolicy,
        client: &dyn Client,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Result<Pulled, BuildError> {
        let steps = Arc::new(Steps::new(progress));
        let images = Images::new(
            self.store.clone(),
            self.registries(client),
            policy,
            false,
            BTreeMap::new(),
        );
        let pulled = tokio::select! {
            pulled = self.pull_image(name, platform, &images, &steps, &cancel) => pulled,
            () = cancel.cancelled() => Err(BuildError::Canceled),
        };
        for warning in self.store.take_warnings() {
            steps.warn(chain(&warning));
        }
        pulled.map_err(|error| error.with_room(self.store.room()))
    }

    async fn pull_image(
        &self,
        name: &Reference,
        platform: Option<Platform>,
        images: &Images,
        steps: &Arc<Steps>,
        cancel: &CancellationToken,
    ) -> Result<Pulled, BuildError> {
        // Tag and digest: the digest counts, as in `FROM`.
        let reference = name.docker_ref();
        let is_asked_for = platform.is_some();
        let request = ImageRequest {
            image: RequestedImage::Named(reference.clone()),
            platform: platform.unwrap_or_else(Platform::host),
        };
        let image = images.resolve(&request, steps).await?;
        if is_asked_for && !image.config.platform().fits(&request.platform) {
            return Err(BuildError::input(format!(
                "`{}` has no image for {}",
                reference.familiar(),
                request.platform
            ))
            .with_hint(format!("it has one for {}", image.config.platform())));
        }
        let was_there = self.store.resolve(&reference.to_string()).as_ref()
            == Some(&image.manifest_descriptor)
            && image.manifest.layers.iter().all(|layer| self.store.has_blob(&layer.digest));
        if !was_there {
            let (store, rules) = (self.store.clone(), self.rules.clone());
            let make_room = blocking(move || {
                gc::make_room(&store, &rules);
                Ok(())
            });
            make_room.await?;
        }
        let step = steps.internal(&format!("pulling {}", reference.familiar()));
        let fetched = images.fetch_layers(&image, steps, step.step, Arc::new(|_, _| {})).await;
        let fetched = match fetched {
            Ok(()) => self.verify(&image, cancel).await,
            Err(error) => Err(error),
        };
        if let Err(error) = fetched {
            step.failed(&error.to_string());
            return Err(error);
        }
        let (store, target, name) =
            (self.store.clone(), image.manifest_descriptor.clone(), reference.clone());
        blocking(move || {
            tag(&store, &name.to_string(), &target)?;
            flush(&store)
        })
        .await?;
        step.done();
        Ok(Pulled {
            name: reference,
            digest: image.top.digest.clone(),
            manifest: image.manifest_descriptor,
            up_to_date: was_there,
        })
    }

    /// Holds the layers against what the config says of them, and makes them known.
    async fn verify(
        &self,
        image: &ResolvedImage,
        cancel: &CancellationToken,
    ) -> Result<(), BuildError> {
        let (store, stop) = (self.store.clone(), cancel.clone());
        let (diff_ids, layers) =
            (image.config.rootfs.diff_ids.clone(), image.manifest.layers.clone());
        if diff_ids.len() != layers.len() {
            let message = format!(
                "the image's config names {} layers, its manifest {}",
                diff_ids.len(),
                layers.len()
            );
            return Err(BuildError::system(message));
        }
        blocking(move || {
            diff_ids.par_iter().zip(&layers).try_for_each(|(diff_id, layer)| {
                if store.layer_of_diff_id(diff_id).is_none() {
                    let measured = size::of_blob(&store, &layer.digest, &stop).map_err(|e| {
                        BuildError::system(format!("failed to read layer {}", layer.digest))
                            .because(e)
                    })?;
                    super::load::check_diff_id(&layer.digest, diff_id, &measured.diff_id)?;
                }
                store.add_blob_layer(diff_id, layer);
                Ok(())
            })
        })
        .await
    }
}
