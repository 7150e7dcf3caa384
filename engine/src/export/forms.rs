//! Layers in the compression that an output asks for.

use std::collections::BTreeMap;
use std::sync::Arc;

use cache::{Encoder, Store};
use cache::layer::compress::{self, Compression as Encoding};
use oci::{Descriptor, DiffId, media_type};

use crate::assemble::{AssembledImage, write_manifest};
use crate::error::BuildError;
use crate::event::{Event, StepId};
use crate::image_source::short;
use crate::request::{Compression, CompressionAlgorithm};
use crate::steps::Steps;

/// The image with its layers compressed as asked, under a manifest of its own. What was compressed
/// before is not compressed again. Layers of base images stay as they were pulled unless forced.
pub(crate) fn compressed(
    store: &Store,
    mut image: AssembledImage,
    compression: Compression,
    annotations: &BTreeMap<String, String>,
    steps: &Arc<Steps>,
    step: StepId,
) -> Result<AssembledImage, BuildError> {
    for layer in &mut image.layers {
        let pulled = layer.descriptor.media_type != media_type::LAYER;
        if pulled && !compression.force {
            layer.descriptor.media_type = oci_type(&layer.descriptor.media_type).to_owned();
            continue;
        }
        layer.descriptor = layer_form(store, &layer.diff_id, &layer.descriptor, compression, steps, step)?;
    }
    let descriptors = image.layers.iter().map(|l| l.descriptor.clone()).collect();
    image.manifest = write_manifest(store, &image.config_descriptor, descriptors, annotations)?;
    Ok(image)
}

/// Docker's names for layers have equals in the OCI's.
fn oci_type(kind: &str) -> &str {
    match kind {
        media_type::DOCKER_LAYER_GZIP => media_type::LAYER_GZIP,
        media_type::DOCKER_LAYER => media_type::LAYER,
        other => other,
    }
}

fn layer_form(
    store: &Store,
    diff_id: &DiffId,
    from: &Descriptor,
    compression: Compression,
    steps: &Arc<Steps>,
    step: StepId,
) -> Result<Descriptor, BuildError> {
    let encoding = match compression.algorithm {
        CompressionAlgorithm::Uncompressed => Encoding::None,
        CompressionAlgorithm::Gzip => match compression.level {
            Some(level) => Encoding::Gzip { level: level.clamp(1, 9) as u32 },
            None => Encoding::GZIP,
        },
        CompressionAlgorithm::Zstd => match compression.level {
            Some(level) => Encoding::Zstd { level },
            None => Encoding::ZSTD,
        },
    };
    if encoding == Encoding::None && from.media_type == media_type::LAYER {
        return Ok(from.clone());
    }
    let encoder = encoder(encoding);
    if let Some(known) = store.compressed(diff_id, &encoder) {
        return Ok(known);
    }
    let failed = |e: &dyn std::error::Error| BuildError::system("failed to compress a layer", e);
    let item = format!("compressing {}", short(&from.digest));
    let total = Some(from.size);
    steps.event(Event::Transfer { step, item: item.clone(), current: 0, total, done: false });
    let blob = store.blob(&from.digest).ok_or_else(|| BuildError::System {
        message: format!("layer {} is missing or damaged in the store", from.digest),
        hint: Some("build again: what is missing is made anew".to_owned()),
    })?;
    let (_, mut reader) = compress::decompress(blob.open().map_err(|e| failed(&e))?).map_err(|e| failed(&e))?;
    let mut writer = store.blob_writer().map_err(|e| failed(&e))?;
    compress::compress(&mut reader, &mut writer, encoding).map_err(|e| failed(&e))?;
    let (digest, size) = writer.commit(None).map_err(|e| failed(&e))?;
    let descriptor = Descriptor::new(encoded_type(encoding), digest, size);
    store.add_compressed(diff_id, &encoder, &descriptor);
    steps.event(Event::Transfer { step, item, current: from.size, total, done: true });
    Ok(descriptor)
}

/// Version of the bytes that our compressors make; it changes with them.
const ENCODER_VERSION: u32 = 1;

/// Names an encoding where its results are kept.
fn encoder(encoding: Encoding) -> Encoder {
    let (algorithm, level) = match encoding {
        Encoding::None => ("tar", 0),
        Encoding::Gzip { level } => ("gzip", level as i32),
        Encoding::Zstd { level } => ("zstd", level),
    };
    Encoder { algorithm: algorithm.to_owned(), level, version: ENCODER_VERSION }
}

fn encoded_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::None => media_type::LAYER,
        Encoding::Gzip { .. } => media_type::LAYER_GZIP,
        Encoding::Zstd { .. } => media_type::LAYER_ZSTD,
    }
}
