//! Where a result goes: the store, registries, an OCI layout, `docker load`'s archive, files, a tar.

mod error;
mod files;
mod forms;
mod layout;
mod registry;
mod tar;

use std::collections::BTreeMap;
use std::sync::Arc;

use cache::Store;
use oci::{Descriptor, Index, Platform, Reference, media_type};
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::client::Client;
use crate::document::put;
use crate::error::BuildError;
use crate::layer::Layers;
use crate::machine::Machine;
use crate::output::assemble::AssembledImage;
use crate::progress::steps::Steps;
use crate::request::{BuildRequest, Compression, Output};

use error::ExportError;
pub(crate) use forms::Compressing;
pub(crate) use layout::{Archive, DockerEntry, find_blobs, place, to_tar, write_archive};
use layout::{Layout, LayoutKind};
pub(crate) use registry::OutputPush;
pub use registry::PushedImage;

/// What is on top of an image, or of several.
#[derive(Debug, Clone)]
pub(crate) enum Shape {
    /// Its manifest.
    Image,
    /// An index over all.
    Index {
        /// Its annotations.
        annotations: BTreeMap<String, String>,
        /// Those of its descriptor.
        descriptor_annotations: BTreeMap<String, String>,
    },
}

/// What names stand for: the one image's manifest, or an index over all.
pub(crate) fn target(
    store: &Store,
    images: &[(Platform, AssembledImage)],
    shape: &Shape,
) -> Result<Descriptor, BuildError> {
    let Shape::Index { annotations, descriptor_annotations } = shape else {
        return Ok(images[0].1.manifest.clone());
    };
    let described = |image: &AssembledImage| Descriptor {
        platform: Some(image.config.platform()),
        ..image.manifest.clone()
    };
    let manifests = images.iter().map(|(_, image)| described(image)).collect();
    let index = Index { manifests, annotations: annotations.clone(), ..Index::default() };
    let bytes = serde_json::to_vec(&index).expect("an index is plain data");
    let descriptor = put(store, media_type::INDEX, &bytes)?;
    Ok(Descriptor { annotations: descriptor_annotations.clone(), ..descriptor })
}

/// What exporters share.
pub(crate) struct Export<'a> {
    pub(crate) store: &'a Store,
    pub(crate) machine: &'a Arc<Machine>,
    pub(crate) layers: &'a Arc<Layers>,
    pub(crate) steps: &'a Arc<Steps>,
    pub(crate) images: &'a [(Platform, AssembledImage)],
    pub(crate) shape: &'a Shape,
    pub(crate) client: &'a Arc<dyn Client>,
    /// A push for each output that has one.
    pub(crate) pushes: &'a [OutputPush],
    /// Ends it early.
    pub(crate) stop: &'a CancellationToken,
}

/// What carrying out the outputs gives.
pub(crate) struct Exported {
    /// The names that the image got in the store.
    pub(crate) names: Vec<String>,
    /// What was pushed.
    pub(crate) pushed: Vec<PushedImage>,
}

/// Carries out the request's outputs. Registries come last: what fails before reaches none of them.
pub(crate) async fn run(
    export: &Export<'_>,
    request: &BuildRequest,
    target: &Descriptor,
) -> Result<Exported, BuildError> {
    for output in &request.outputs {
        match output {
            Output::Image { .. } => {}
            Output::Oci { dest, tar, compression } => {
                layout(export, request, LayoutKind::Oci, dest, *tar, *compression).await?;
            }
            Output::Docker { dest, tar, compression } => {
                layout(export, request, LayoutKind::Docker, dest, *tar, *compression).await?;
            }
            Output::Local { dest, platform_split } => {
                files::to_directory(export, dest, *platform_split).await?;
            }
            Output::Tar { dest, platform_split } => {
                files::to_tar(export, dest, *platform_split).await?;
            }
        }
    }
    let mut names = tag(export, names_in_store(request), target)?;
    let mut pushed = Vec::with_capacity(export.pushes.len());
    for push in export.pushes {
        let image = registry::push(export, push).await?;
        if push.names_by_digest {
            names.extend(tag(export, image.names.clone(), target)?);
        }
        pushed.push(image);
    }
    Ok(Exported { names, pushed })
}

/// The names that the image is to have in the store, but for those with a digest that is not known yet.
fn names_in_store(request: &BuildRequest) -> Vec<Reference> {
    let mut names: Vec<Reference> = Vec::new();
    let mut is_stored = request.outputs.is_empty();
    for output in &request.outputs {
        if let Output::Image { names: own, store: true, push } = output
            && !push.is_some_and(|push| push.by_digest)
        {
            names.extend(own.iter().cloned());
            is_stored = true;
        }
    }
    if is_stored {
        names.splice(0..0, request.tags.iter().cloned());
    }
    names
}

fn tag(
    export: &Export<'_>,
    names: Vec<Reference>,
    target: &Descriptor,
) -> Result<Vec<String>, BuildError> {
    let mut tagged = Vec::new();
    for name in names {
        let name = name.with_default_tag();
        let step = export.steps.internal(&format!("naming to {name}"));
        let tag = export.store.tag(&name.to_string(), target);
        step.ended(tag.map_err(|e| ExportError::Tag(e).into()))?;
        if !tagged.contains(&name.to_string()) {
            tagged.push(name.to_string());
        }
    }
    Ok(tagged)
}

async fn layout(
    export: &Export<'_>,
    request: &BuildRequest,
    kind: LayoutKind,
    dest: &crate::request::Destination,
    tar: bool,
    compression: Compression,
) -> Result<(), BuildError> {
    let label = match kind {
        LayoutKind::Oci => "exporting to oci image format",
        LayoutKind::Docker => "exporting to docker image format",
    };
    let step = export.steps.internal(label);
    let (store, steps, id) = (export.store.clone(), export.steps.clone(), step.step);
    let images = export.images.to_vec();
    let (tags, dest, shape) = (request.tags.clone(), dest.clone(), export.shape.clone());
    let (layers, stop) = (export.layers.clone(), export.stop.clone());
    let client = export.client.clone();
    let written = blocking(move || {
        let compressing = Compressing {
            store: &store,
            compression,
            steps: &steps,
            step: id,
            stop: &stop,
            ready: &|_| {},
        };
        let images = images
            .into_iter()
            .map(|(platform, image)| Ok((platform, compressing.image(image)?)))
            .collect::<Result<Vec<_>, BuildError>>()?;
        let top = self::target(&store, &images, &shape)?;
        let layout =
            Layout { store: &store, kind, images: &images, top: &top, tags: &tags, stop: &stop };
        let written = layout.write(client.as_ref(), &dest, tar);
        if written.is_err() && !stop.is_cancelled() {
            layers.discard_damaged(layout.digests());
        }
        written
    });
    step.ended(written.await)
}
