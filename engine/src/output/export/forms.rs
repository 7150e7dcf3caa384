//! Images in the form that an output asks for: its compression, media types and annotations.

use std::sync::Arc;

use cache::layer::compress::{self, Compression as Encoding};
use cache::{DamagedBlob, Store};
use oci::{Descriptor, DiffId, Platform, media_type};
use tokio_util::sync::CancellationToken;

use super::Built;
use super::error::ExportError;
use crate::annotations::{self, Annotation, AnnotationLevel};
use crate::document::write_manifest;
use crate::error::{BoxedError, BuildError};
use crate::layer::tar::{encoded_type, encoder, encoding};
use crate::output::assemble::AssembledImage;
use crate::progress::event::{Event, StepId};
use crate::progress::steps::Steps;
use crate::request::{Compression, ImageForm};
use crate::stop::Stoppable;

/// Images on their way to the form that an output asks for.
pub(super) struct Forming {
    pub(super) store: Store,
    /// As the store has them.
    pub(super) built: Built,
    pub(super) form: ImageForm,
    /// All that the images get, the form's own, too.
    pub(super) annotations: Vec<Annotation>,
    /// Whether there is an index over them.
    pub(super) is_index: bool,
    pub(super) steps: Arc<Steps>,
    /// The step that tells how far it is.
    pub(super) step: StepId,
    /// Ends it early.
    pub(super) stop: CancellationToken,
}

impl Forming {
    /// The images, under documents of their own. `ready` is called with each layer's blob as soon as it is there.
    pub(super) fn built(&self, ready: &dyn Fn(&Descriptor)) -> Result<Built, BuildError> {
        let images = self.built.images.iter();
        let formed = images.map(|(platform, image)| {
            Ok((platform.clone(), self.image(platform, image.clone(), ready)?))
        });
        let formed = formed.collect::<Result<Vec<_>, BuildError>>()?;
        let types = self.form.media_types;
        Built::new(&self.store, formed, types, &self.annotations, self.is_index)
    }

    /// What was compressed before is not compressed again. Layers of base images stay as they were pulled
    /// unless forced.
    fn image(
        &self,
        platform: &Platform,
        mut image: AssembledImage,
        ready: &dyn Fn(&Descriptor),
    ) -> Result<AssembledImage, BuildError> {
        let at = |level| annotations::at(&self.annotations, level, Some(platform));
        let compressing = Compressing {
            store: &self.store,
            compression: self.form.compression,
            steps: &self.steps,
            step: self.step,
            stop: &self.stop,
            ready,
        };
        for layer in &mut image.layers {
            let pulled = layer.descriptor.media_type != media_type::LAYER;
            if !pulled || self.form.compression.force {
                layer.descriptor = compressing.layer(&layer.diff_id, &layer.descriptor)?;
            }
            if !self.form.keeps_nondistributable {
                distribute(&mut layer.descriptor);
            }
            ready(&layer.descriptor);
        }
        let manifest = write_manifest(
            &self.store,
            self.form.media_types,
            &image.config_descriptor,
            image.layers.iter().map(|l| l.descriptor.clone()).collect(),
            &at(AnnotationLevel::Manifest),
        )?;
        let annotations = at(AnnotationLevel::ManifestDescriptor);
        image.manifest = Descriptor { annotations, ..manifest };
        Ok(image)
    }
}

/// A layer that is in the store can be had from where the image goes: it need not be fetched from elsewhere.
fn distribute(layer: &mut Descriptor) {
    if let Some(kind) = media_type::distributable(&layer.media_type) {
        layer.media_type = kind;
        layer.urls.clear();
    }
}

/// How an output's layers are compressed.
pub(crate) struct Compressing<'a> {
    pub(crate) store: &'a Store,
    pub(crate) compression: Compression,
    pub(crate) steps: &'a Steps,
    /// The step that tells how far it is.
    pub(crate) step: StepId,
    /// Ends it early.
    pub(crate) stop: &'a CancellationToken,
    /// Called with each layer's blob as soon as it is there.
    pub(crate) ready: &'a dyn Fn(&Descriptor),
}

impl Compressing<'_> {
    /// One layer, compressed as asked.
    pub(crate) fn layer(
        &self,
        diff_id: &DiffId,
        from: &Descriptor,
    ) -> Result<Descriptor, BuildError> {
        let (store, encoding) = (self.store, encoding(self.compression));
        if encoding == Encoding::None && from.media_type == media_type::LAYER {
            return Ok(from.clone());
        }
        let encoder = encoder(encoding);
        if let Some(known) = store.compressed(diff_id, &encoder) {
            return Ok(known);
        }
        let failed = |e: BoxedError| ExportError::Compress(e);
        let item = format!("compressing {}", from.digest.short());
        let told = |current, done| {
            let (step, item, total) = (self.step, item.clone(), Some(from.size));
            self.steps.event(Event::Transfer { step, item, current, total, done });
        };
        told(0, false);
        let blob = store.blob(&from.digest);
        let blob = blob.ok_or_else(|| ExportError::NoLayer(from.digest.clone()))?;
        let file = blob.open().map_err(|e| failed(e.into()))?;
        let (_, mut reader) = compress::decompress(file).map_err(|e| failed(e.into()))?;
        let mut writer = store.unhashed_blob_writer().map_err(|e| failed(e.into()))?.cached();
        let mut out = Stoppable::new(&mut writer, self.stop);
        let compressed =
            compress::compress(&mut reader, &mut out, encoding).map_err(|e| failed(e.into()))?;
        if compressed.diff_id != *diff_id {
            return Err(failed(DamagedBlob(from.digest.clone()).into()).into());
        }
        let (digest, size) = (compressed.digest, compressed.size);
        writer.commit(Some((&digest, size))).map_err(|e| failed(e.into()))?;
        let descriptor = Descriptor::new(encoded_type(encoding), digest, size);
        store.add_compressed(diff_id, &encoder, &descriptor);
        told(from.size, true);
        Ok(descriptor)
    }
}
