//! Where a result goes: the store, registries, an OCI layout, `docker load`'s archive, files, a tar.

mod error;
mod files;
mod forms;
mod layout;
mod mirror;
mod names;
mod registry;
mod tar;

use std::sync::Arc;

use cache::Store;
use oci::{Descriptor, Index, Platform, media_type};
use tokio_util::sync::CancellationToken;

use crate::annotations::{self, Annotation, AnnotationLevel};
use crate::blocking::blocking;
use crate::client::Client;
use crate::document::{named, put};
use crate::error::BuildError;
use crate::layer::Layers;
use crate::machine::Machine;
use crate::output::assemble::AssembledImage;
use crate::progress::event::StepId;
use crate::progress::steps::Steps;
use crate::push::Pushes;
use crate::request::{BuildRequest, Destination, ImageForm, MediaTypes, Output};

pub(crate) use forms::Compressing;
use forms::Forming;
pub(crate) use layout::{
    Archive, DockerEntry, find_blobs, of_docker, place, to_tar, write_archive,
};
use layout::{Layout, LayoutKind};
pub(crate) use registry::OutputPush;
pub use registry::PushedImage;

/// The images of a build, and what is on top of them.
#[derive(Debug, Clone)]
pub(crate) struct Built {
    pub(crate) images: Vec<(Platform, AssembledImage)>,
    /// What names stand for: the one image's manifest, or an index over all.
    pub(crate) target: Descriptor,
}

impl Built {
    /// With an index over `images`, or with nothing over the one.
    pub(crate) fn new(
        store: &Store,
        images: Vec<(Platform, AssembledImage)>,
        types: MediaTypes,
        annotations: &[Annotation],
        is_index: bool,
    ) -> Result<Self, BuildError> {
        let target = if is_index {
            index(store, &images, types, annotations)?
        } else {
            images[0].1.manifest.clone()
        };
        Ok(Self { images, target })
    }
}

fn index(
    store: &Store,
    images: &[(Platform, AssembledImage)],
    types: MediaTypes,
    annotations: &[Annotation],
) -> Result<Descriptor, BuildError> {
    let at = |level| annotations::at(annotations, level, None);
    let described = |image: &AssembledImage| Descriptor {
        platform: Some(image.config.platform()),
        ..image.manifest.clone()
    };
    let index = Index {
        media_type: named(types, media_type::INDEX).to_owned(),
        manifests: images.iter().map(|(_, image)| described(image)).collect(),
        annotations: at(AnnotationLevel::Index),
        ..Index::default()
    };
    let bytes = serde_json::to_vec(&index).expect("an index is plain data");
    let descriptor = put(store, &index.media_type, &bytes)?;
    Ok(Descriptor { annotations: at(AnnotationLevel::IndexDescriptor), ..descriptor })
}

/// What exporters share.
pub(crate) struct Export<'a> {
    pub(crate) store: &'a Store,
    pub(crate) machine: &'a Arc<Machine>,
    pub(crate) layers: &'a Arc<Layers>,
    pub(crate) steps: &'a Arc<Steps>,
    pub(crate) built: &'a Built,
    pub(crate) request: &'a BuildRequest,
    pub(crate) client: &'a Arc<dyn Client>,
    /// A push for each output that has one.
    pub(crate) pushes: &'a [OutputPush],
    /// Ends it early.
    pub(crate) stop: &'a CancellationToken,
}

/// What has come of a request's outputs.
pub(crate) struct Exported {
    /// The names the image got in the store.
    pub(crate) names: Vec<String>,
    /// The image as the last output of one has it; else as the store would.
    pub(crate) built: Built,
    /// What was pushed.
    pub(crate) pushed: Vec<PushedImage>,
}

/// Carries out the request's outputs. Registries come last: what fails before reaches none of them.
pub(crate) async fn run(export: &Export<'_>) -> Result<Exported, BuildError> {
    let (names, pushed) = Default::default();
    let mut exported = Exported { names, built: export.built.clone(), pushed };
    let outputs = export.request.outputs.as_slice();
    if outputs.is_empty() {
        exported.names = names::give(export, &export.built.target, &export.request.tags)?;
    }
    for output in outputs {
        match output {
            Output::Image { form, digest_names, unpack, store, push } => {
                exported.built = export.formed("exporting to image", form).await?;
                if *store {
                    let target = &exported.built.target;
                    let own = match push {
                        Some(push) if push.by_digest => Vec::new(),
                        _ => export.request.names_of(form),
                    };
                    let own = names::all(&own, digest_names, target);
                    let given = names::give(export, target, &own)?;
                    exported.add(given);
                }
                if *unpack {
                    export.unpack().await?;
                }
            }
            Output::Oci { dest, tar, form } => {
                exported.built = export.layout(LayoutKind::Oci, dest, *tar, form).await?;
            }
            Output::Docker { dest, tar, form } => {
                exported.built = export.layout(LayoutKind::Docker, dest, *tar, form).await?;
            }
            Output::Local { dest, platform_split, mode } => {
                files::to_directory(export, dest, *platform_split, *mode).await?;
            }
            Output::Tar { dest, platform_split } => {
                files::to_tar(export, dest, *platform_split).await?;
            }
            Output::CacheOnly => {}
        }
    }
    for push in export.pushes {
        let image = registry::push(export, push).await?;
        if push.names_by_digest {
            let given = names::give(export, &image.target, &image.names)?;
            exported.add(given);
        }
        exported.pushed.push(image);
    }
    Ok(exported)
}

impl Exported {
    fn add(&mut self, names: Vec<String>) {
        for name in names {
            if !self.names.contains(&name) {
                self.names.push(name);
            }
        }
    }
}

impl Export<'_> {
    /// The images in the form that an output asks for.
    async fn formed(&self, label: &str, form: &ImageForm) -> Result<Built, BuildError> {
        let step = self.steps.internal(label);
        let forming = self.forming(form, step.step);
        step.ended(blocking(move || forming.built(&Pushes::default())).await)
    }

    fn forming(&self, form: &ImageForm, step: StepId) -> Forming {
        Forming {
            store: self.store.clone(),
            built: self.built.clone(),
            form: form.clone(),
            annotations: self.request.annotations_of(form),
            is_index: self.request.is_index(),
            steps: self.steps.clone(),
            step,
            stop: self.stop.clone(),
        }
    }

    /// Sees that the files of the images are there.
    async fn unpack(&self) -> Result<(), BuildError> {
        let step = self.steps.internal("unpacking to the store");
        let unpacked = async {
            for (_, image) in &self.built.images {
                let ids: Vec<_> = image.layers.iter().map(|layer| layer.id.clone()).collect();
                self.layers.rootfs(&ids).await?;
            }
            Ok(())
        };
        step.ended(unpacked.await)
    }

    async fn layout(
        &self,
        kind: LayoutKind,
        dest: &Destination,
        tar: bool,
        form: &ImageForm,
    ) -> Result<Built, BuildError> {
        let label = match (kind, dest) {
            (_, Destination::Engine(address)) => format!("loading into {address}"),
            (LayoutKind::Oci, _) => "exporting to oci image format".to_owned(),
            (LayoutKind::Docker, _) => "exporting to docker image format".to_owned(),
        };
        let step = self.steps.internal(&label);
        let forming = self.forming(form, step.step);
        let tags = self.request.names_of(form);
        let (client, layers, dest) = (self.client.clone(), self.layers.clone(), dest.clone());
        let written = blocking(move || {
            let built = forming.built(&Pushes::default())?;
            let (store, stop) = (&forming.store, &forming.stop);
            let layout = Layout { store, kind, built: &built, tags: &tags, stop };
            let written = layout.write(client.as_ref(), &dest, tar);
            if written.is_err() && !stop.is_cancelled() {
                layers.discard_damaged(layout.digests());
            }
            written.map(|()| built)
        });
        step.ended(written.await)
    }
}
