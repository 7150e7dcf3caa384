//! Images in the form that an output asks for: its compression, media types and annotations.

use std::sync::Arc;

use cache::layer::compress::{self, Compression as Encoding};
use cache::{DamagedBlob, Encoder, Memo, Store};
use oci::{Descriptor, DiffId, Digest, Platform, media_type};
use tokio_util::sync::CancellationToken;

use super::Built;
use super::error::ExportError;
use crate::annotations::{self, Annotation, AnnotationLevel};
use crate::document::{put, write_manifest};
use crate::error::{BoxedError, BuildError};
use crate::layer::tar::{encoded_type, encoder, encoding};
use crate::output::assemble::AssembledImage;
use crate::progress::event::{Event, StepId};
use crate::progress::steps::Steps;
use crate::push::Pushes;
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
    /// Sees that the config names the tars that are in the layers' blobs.
    fn describe(&self, image: &mut AssembledImage) -> Result<(), BuildError> {
        let diff_ids: Vec<DiffId> =
            image.layers.iter().map(|layer| layer.diff_id.clone()).collect();
        if image.config.rootfs.diff_ids != diff_ids {
            image.config.rootfs.diff_ids = diff_ids;
            let config = serde_json::to_vec(&image.config).expect("a config is plain data");
            image.config_descriptor = put(&self.store, media_type::CONFIG, &config)?;
        }
        Ok(())
    }

    /// The images, under documents of their own. `pushes` send what is there.
    pub(super) fn built(&self, pushes: &Pushes) -> Result<Built, BuildError> {
        let images = self.built.images.iter();
        let formed = images.map(|(platform, image)| {
            Ok((platform.clone(), self.image(platform, image.clone(), pushes)?))
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
        pushes: &Pushes,
    ) -> Result<AssembledImage, BuildError> {
        let at = |level| annotations::at(&self.annotations, level, Some(platform));
        let compressing = Compressing {
            store: &self.store,
            compression: self.form.compression,
            steps: &self.steps,
            step: self.step,
            stop: &self.stop,
            pushes,
        };
        for layer in &mut image.layers {
            let pulled = layer.descriptor.media_type != media_type::LAYER;
            if !pulled || self.form.compression.force {
                let packed = compressing.layer(&layer.diff_id, &layer.descriptor)?;
                (layer.diff_id, layer.descriptor) = (packed.diff_id, packed.descriptor);
            }
            if !self.form.keeps_nondistributable {
                distribute(&mut layer.descriptor);
            }
            pushes.begin(&layer.descriptor);
        }
        self.describe(&mut image)?;
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

/// A layer as an output has it.
pub(crate) struct PackedLayer {
    /// Of the tar in the blob.
    pub(crate) diff_id: DiffId,
    pub(crate) descriptor: Descriptor,
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
    /// What sends them.
    pub(crate) pushes: &'a Pushes,
}

impl Compressing<'_> {
    /// One layer, compressed as asked.
    pub(crate) fn layer(
        &self,
        diff_id: &DiffId,
        from: &Descriptor,
    ) -> Result<PackedLayer, BuildError> {
        let encoding = encoding(self.compression);
        let unchanged = |descriptor| PackedLayer { diff_id: diff_id.clone(), descriptor };
        if encoding == Encoding::None && from.media_type == media_type::LAYER {
            return Ok(unchanged(from.clone()));
        }
        match self.known(diff_id, encoding) {
            Some(known) => Ok(known),
            None => self.compress(diff_id, from, encoding),
        }
    }

    /// What compressing the layer has given before.
    fn known(&self, diff_id: &DiffId, encoding: Encoding) -> Option<PackedLayer> {
        let encoder = encoder(encoding);
        if let Some(descriptor) = self.store.compressed(diff_id, &encoder) {
            return Some(PackedLayer { diff_id: diff_id.clone(), descriptor });
        }
        let memo = self.store.memo(OTHER_TAR, &other_tar(diff_id, &encoder))?;
        let info = self.store.layer(memo.layers.first()?)?;
        let is_there = |blob: &&Descriptor| self.store.has_blob(&blob.digest);
        let descriptor = info.blobs.iter().find(is_there)?.clone();
        Some(PackedLayer { diff_id: info.diff_id?, descriptor })
    }

    fn compress(
        &self,
        diff_id: &DiffId,
        from: &Descriptor,
        encoding: Encoding,
    ) -> Result<PackedLayer, BuildError> {
        let store = self.store;
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
        let early = self.pushes.begin_early(&mut writer).map_err(|e| failed(e.into()))?;
        let mut out = Stoppable::new(&mut writer, self.stop);
        let compressed =
            compress::compress(&mut reader, &mut out, encoding).map_err(|e| failed(e.into()))?;
        if compressed.diff_id != *diff_id {
            return Err(failed(DamagedBlob(from.digest.clone()).into()).into());
        }
        let (digest, size) = (compressed.digest, compressed.size);
        writer.commit(Some((&digest, size))).map_err(|e| failed(e.into()))?;
        let annotations = compressed.encoded.annotations;
        let descriptor =
            Descriptor { annotations, ..Descriptor::new(encoded_type(encoding), digest, size) };
        self.pushes.go_on(&descriptor, early);
        told(from.size, true);
        Ok(self.remember(diff_id, encoding, compressed.encoded.diff_id, descriptor))
    }

    /// So that it is done once. A blob with another tar in it is another layer.
    fn remember(
        &self,
        diff_id: &DiffId,
        encoding: Encoding,
        other: Option<DiffId>,
        descriptor: Descriptor,
    ) -> PackedLayer {
        let encoder = encoder(encoding);
        let Some(other) = other else {
            self.store.add_compressed(diff_id, &encoder, &descriptor);
            return PackedLayer { diff_id: diff_id.clone(), descriptor };
        };
        let id = self.store.add_blob_layer(&other, &descriptor);
        let key = other_tar(diff_id, &encoder);
        self.store.put_memo(OTHER_TAR, &key, &Memo::new(vec![id]));
        PackedLayer { diff_id: other, descriptor }
    }
}

/// Domain of the memos of layers that were compressed with files of the format's own in them.
const OTHER_TAR: &str = "other tar";

fn other_tar(diff_id: &DiffId, encoder: &Encoder) -> Digest {
    let mut key = llb::encode::Encoder::new(OTHER_TAR);
    key.text(diff_id.0.as_str()).text(&encoder.algorithm);
    key.signed(encoder.level.into()).number(encoder.version.into());
    key.finish()
}
