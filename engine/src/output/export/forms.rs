//! Layers in the compression that an output asks for.

use cache::layer::compress::{self, Compression as Encoding};
use cache::{DamagedBlob, Store};
use oci::{Descriptor, DiffId, media_type};
use tokio_util::sync::CancellationToken;

use super::error::ExportError;
use crate::document::write_manifest;
use crate::error::{BoxedError, BuildError};
use crate::layer::tar::{encoded_type, encoder, encoding};
use crate::output::assemble::AssembledImage;
use crate::progress::event::{Event, StepId};
use crate::progress::steps::Steps;
use crate::request::Compression;
use crate::stop::Stoppable;

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
    /// The image with its layers compressed as asked, under a manifest of its own. What was
    /// compressed before is not compressed again. Layers of base images stay as they were pulled
    /// unless forced.
    pub(crate) fn image(&self, mut image: AssembledImage) -> Result<AssembledImage, BuildError> {
        for layer in &mut image.layers {
            let pulled = layer.descriptor.media_type != media_type::LAYER;
            if !pulled || self.compression.force {
                layer.descriptor = self.layer(&layer.diff_id, &layer.descriptor)?;
            }
            (self.ready)(&layer.descriptor);
        }
        let descriptors = image.layers.iter().map(|l| l.descriptor.clone()).collect();
        let manifest =
            write_manifest(self.store, &image.config_descriptor, descriptors, &image.annotations)?;
        image.manifest = Descriptor { annotations: image.manifest.annotations, ..manifest };
        Ok(image)
    }

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
