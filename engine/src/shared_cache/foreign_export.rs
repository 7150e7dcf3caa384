//! Writing caches that BuildKit reads.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use buildkit_cache::{Blob, Made, config};
use cache::LayerId;
use futures_util::{StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use llb::{Definition, VertexId};
use oci::{Descriptor, DiffId, Digest, Document, media_type};
use registry::chain;
use remote_cache::{InRegistry, Packs, Place};
use tokio_util::bytes::Bytes;

use super::export::{AT_ONCE, Export, compressed, upload};
use super::{SharedCache, foreign};
use crate::error::BuildError;
use crate::layer::AssembledLayer;
use crate::progress::event::StepId;
use crate::request::CacheTarget;

impl SharedCache {
    /// Writes the results of this build, and what leads to them, in place of what is there.
    pub(super) async fn export_foreign(
        &self,
        export: &Export<'_>,
        target: &CacheTarget,
        place: &Place,
        step: StepId,
    ) -> Result<(), BuildError> {
        let Place::Registry(registry) = place else {
            return Err(BuildError::refused("a cache for BuildKit is written to a registry"));
        };
        let mut gathered = Gathered { there: self.there(registry), ..Gathered::default() };
        for (vertex, used) in self.wanted(export, target.mode) {
            let created = Timestamp::from_second(used.record.created).unwrap_or_default();
            for (output, stack) in used.record.outputs.iter().enumerate() {
                let layers = self.foreign_stack(export, target, stack, step, &mut gathered);
                let made = Made { layers: layers.await?, created };
                gathered.made.insert((vertex, output), made);
            }
        }
        let Gathered { made, uploads, .. } = gathered;
        let made = |vertex, output| made.get(&(vertex, output)).cloned();
        let written = self.foreign.write(export.definition, export.targets, made);
        let (config, layers) = written.finish();
        let failed = |why: String| {
            BuildError::system(format!(
                "failed to write the cache {}: {why}",
                target.location.name()
            ))
        };
        let config = config.to_bytes().map_err(|error| failed(chain(&error)))?;
        let packs = Packs::read(place).await.map_err(|error| failed(chain(&error)))?;
        if packs.other.is_some_and(|bytes| !foreign::is_cache(&bytes)) {
            return Err(failed(chain(&remote_cache::Error::Taken(
                registry.reference().familiar(),
            ))));
        }
        let uploads = uploads.into_values().map(|blob| upload(export, place, blob, step));
        let uploads = futures_util::stream::iter(uploads).buffer_unordered(AT_ONCE);
        uploads.try_collect::<Vec<()>>().await?;
        let put = put(registry, place, config, layers);
        put.await.map_err(|error| failed(chain(&error)))
    }

    /// The records that an image carries of the steps that `target` is made of. `layers` are those of the steps,
    /// `image` those that the image has. All steps are of one time, so that equal images carry equal records.
    pub(crate) fn inline(
        &self,
        definition: &Definition,
        target: VertexId,
        layers: &[AssembledLayer],
        image: &[DiffId],
    ) -> Option<String> {
        let used = self.used.as_ref()?.lock().expect("no panic while held");
        let diff_ids: HashMap<&LayerId, &DiffId> =
            layers.iter().map(|layer| (&layer.id, &layer.diff_id)).collect();
        let blob = |id: &LayerId| {
            let diff_id = (*diff_ids.get(id)?).clone();
            let descriptor = Descriptor::new(media_type::LAYER, diff_id.0.clone(), 0);
            Some(Blob { descriptor, diff_id, created: None })
        };
        let made = |vertex: VertexId, output: usize| {
            let stack = used.get(&vertex)?.record.outputs.get(output)?;
            let layers = stack.iter().map(blob).collect::<Option<_>>()?;
            Some(Made { layers, created: Timestamp::UNIX_EPOCH })
        };
        self.foreign.write(definition, &[target], made).inline(image)
    }

    /// The blobs of layers that are at a place already, as far as its caches were read.
    fn there(&self, registry: &InRegistry) -> HashMap<DiffId, Descriptor> {
        let repository = registry.reference().repository();
        let is_there = |place: &Place| match place {
            Place::Registry(place) => place.reference().repository() == repository,
            Place::Directory(_) | Place::S3(_) | Place::Gha(_) | Place::Azblob(_) => false,
        };
        let sources = self.sources.iter().filter(|source| is_there(&source.place));
        let blobs = sources.flat_map(|source| &source.blobs);
        blobs.map(|(diff_id, blob)| (diff_id.clone(), blob.clone())).collect()
    }

    async fn foreign_stack(
        &self,
        export: &Export<'_>,
        target: &CacheTarget,
        stack: &[LayerId],
        step: StepId,
        gathered: &mut Gathered,
    ) -> Result<Vec<Blob>, BuildError> {
        let mut blobs = Vec::with_capacity(stack.len());
        for (number, id) in stack.iter().enumerate() {
            if !gathered.layers.contains_key(id) {
                let below = &stack[..=number];
                let blob = self.foreign_layer(export, target, below, step, gathered).await?;
                gathered.layers.insert(id.clone(), blob);
            }
            blobs.push(gathered.layers[id].clone());
        }
        Ok(blobs)
    }

    /// The topmost layer of a stack. One that is there stays there; of base images the blobs stay what they are.
    async fn foreign_layer(
        &self,
        export: &Export<'_>,
        target: &CacheTarget,
        stack: &[LayerId],
        step: StepId,
        gathered: &mut Gathered,
    ) -> Result<Blob, BuildError> {
        let top = stack.last().expect("a stack that is asked for has a layer");
        if let Some(diff_id) = self.absent.diff_id(top)
            && let Some(descriptor) = gathered.there.get(&diff_id)
        {
            return Ok(Blob { descriptor: descriptor.clone(), diff_id, created: None });
        }
        let assembled = export.layers.assembled_top(stack).await?;
        let diff_id = assembled.diff_id.clone();
        let created = assembled.created.and_then(|time| Timestamp::from_second(time).ok());
        let is_plain = assembled.descriptor.media_type == media_type::LAYER;
        let descriptor = match is_plain || target.compression.force {
            true => compressed(export, target, assembled, step).await?,
            false => assembled.descriptor,
        };
        gathered.uploads.insert(descriptor.digest.clone(), descriptor.clone());
        Ok(Blob { descriptor, diff_id, created })
    }
}

/// What is to be written.
#[derive(Default)]
struct Gathered {
    made: HashMap<(VertexId, usize), Made>,
    layers: HashMap<LayerId, Blob>,
    /// Blobs that have to get there.
    uploads: BTreeMap<Digest, Descriptor>,
    /// Blobs that are there.
    there: HashMap<DiffId, Descriptor>,
}

async fn put(
    registry: &InRegistry,
    place: &Place,
    config: Vec<u8>,
    layers: Vec<Descriptor>,
) -> Result<(), remote_cache::Error> {
    let bytes = Bytes::from(config);
    let config = Descriptor::new(config::MEDIA_TYPE, Digest::of(&bytes), bytes.len() as u64);
    place.upload(&config, Arc::new(bytes)).await?;
    let document = buildkit_cache::Shape::Manifest.document(config, layers);
    let Document::Manifest(manifest) = document else { unreachable!("it was asked for") };
    registry.put_foreign(&manifest).await
}
