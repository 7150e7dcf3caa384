//! Adding to caches what a build has found or made.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use cache::{LayerId, Store};
use futures_util::{StreamExt as _, TryStreamExt as _};
use llb::{Definition, VertexId};
use oci::{Descriptor, DiffId, Digest};
use registry::{Registries, chain};
use remote_cache::{EMBEDDED_MAX, Layer, News, Packs, Place, Record, embed};
use tokio_util::sync::CancellationToken;

use super::{SharedCache, Used};
use crate::blocking::blocking;
use crate::client::Client;
use crate::error::BuildError;
use crate::layer::{AssembledLayer, Layers};
use crate::output::export::Compressing;
use crate::progress::event::{Event, StepId};
use crate::progress::steps::Steps;
use crate::push::{Body, Pushes, Shown};
use crate::request::{CacheFormat, CacheMode, CacheTarget};

/// Blobs that travel at once.
pub(super) const AT_ONCE: usize = 6;
/// Note of a record: see [`solver::CacheKey::salted`].
pub(crate) const SALT: &str = "salt";

pub(super) fn notes(salt: &str) -> BTreeMap<String, String> {
    let salt = (!salt.is_empty()).then(|| (SALT.to_owned(), salt.to_owned()));
    salt.into_iter().collect()
}

/// What adding to caches takes.
pub(crate) struct Export<'a> {
    pub(crate) store: &'a Store,
    pub(crate) layers: &'a Arc<Layers>,
    pub(crate) registries: &'a Arc<Registries>,
    pub(crate) client: &'a dyn Client,
    pub(crate) steps: &'a Arc<Steps>,
    /// Steps whose layers are in the image.
    pub(crate) shipped: &'a HashSet<VertexId>,
    /// Layers of the images that the build starts from: who reads the cache gets them from there.
    pub(crate) base: &'a HashSet<DiffId>,
    pub(crate) stop: &'a CancellationToken,
    /// What was built.
    pub(crate) definition: &'a Definition,
    pub(crate) targets: &'a [VertexId],
}

impl SharedCache {
    /// Adds the results of this build to the targets, one after the other.
    pub(crate) async fn export(
        &self,
        export: &Export<'_>,
        targets: &[CacheTarget],
    ) -> Result<(), BuildError> {
        for target in targets {
            let name = target.location.name();
            let step = export.steps.internal(&format!("exporting cache to {name}"));
            let place = target.location.place(export.registries, export.client)?;
            let exported = match target.format {
                CacheFormat::Own => self.export_to(export, target, &place, step.step).await,
                CacheFormat::BuildKit => {
                    self.export_foreign(export, target, &place, step.step).await
                }
            };
            match exported {
                Ok(()) => step.done(),
                Err(BuildError::Canceled) => return Err(BuildError::Canceled),
                Err(error) if target.ignore_error => {
                    step.failed(&error.to_string());
                    export.steps.warn(format!("{name}: {}", chain(&error)));
                }
                Err(error) => return step.ended(Err(error)),
            }
        }
        Ok(())
    }

    async fn export_to(
        &self,
        export: &Export<'_>,
        target: &CacheTarget,
        place: &Place,
        step: StepId,
    ) -> Result<(), BuildError> {
        let failed = |e: remote_cache::Error| {
            BuildError::system(format!("failed to write the cache {}", target.location.name()))
                .because(e)
        };
        let mut packs = Packs::read(place).await.map_err(failed)?;
        let wanted = self.wanted(export, target.mode);
        let used = wanted.iter().map(|(_, used)| &used.record.key).collect();
        let lost = packs.forget_lost(place, &used).await.map_err(failed)?;
        let keys: Vec<_> = target.sign.iter().map(|key| key.verifying_key()).collect();
        let known: HashSet<Digest> =
            packs.records(&keys).into_iter().map(|record| record.key.clone()).collect();
        let mut layers: HashMap<LayerId, Layer> = HashMap::new();
        let mut records = Vec::new();
        for (_, used) in wanted {
            let key = &used.record.key;
            if known.contains(key) || (lost.contains(key) && !self.is_here(export, &used)) {
                continue;
            }
            let mut outputs = Vec::with_capacity(used.record.outputs.len());
            for stack in &used.record.outputs {
                for number in 0..stack.len() {
                    let id = &stack[number];
                    if !layers.contains_key(id) {
                        let layer = self.layer(export, target, &stack[..=number], step).await?;
                        layers.insert(id.clone(), layer);
                    }
                }
                outputs.push(stack.iter().map(|id| layers[id].clone()).collect());
            }
            records.push(record(used, outputs));
        }
        let blobs: BTreeMap<Digest, Descriptor> = layers
            .into_values()
            .filter_map(|layer| layer.blob)
            .filter(|blob| blob.data.is_none())
            .map(|blob| (blob.digest.clone(), blob))
            .collect();
        let uploads = blobs.into_values().map(|blob| upload(export, place, blob, step));
        let uploads = futures_util::stream::iter(uploads).buffer_unordered(AT_ONCE);
        uploads.try_collect::<Vec<()>>().await?;
        let mounts = self.mounts.export(export, target, place, &packs, step).await?;
        let news = News { records, mounts };
        packs.add(place, news, target.sign.as_deref()).await.map_err(failed)?;
        Ok(())
    }

    pub(super) fn wanted(&self, export: &Export<'_>, mode: CacheMode) -> Vec<(VertexId, Used)> {
        let Some(used) = &self.used else { return Vec::new() };
        let used = used.lock().expect("no panic while held");
        let is_wanted = |vertex: &VertexId| match mode {
            CacheMode::Min => export.shipped.contains(vertex),
            CacheMode::Max => true,
        };
        let used = used.iter().filter(|(vertex, _)| is_wanted(vertex));
        used.map(|(vertex, used)| (*vertex, used.clone())).collect()
    }

    /// Whether all layers of a result that are not a base image's are in the store.
    fn is_here(&self, export: &Export<'_>, used: &Used) -> bool {
        let absent = used.record.outputs.iter().flatten().filter_map(|id| self.absent.diff_id(id));
        absent.into_iter().all(|diff_id| export.base.contains(&diff_id))
    }

    /// The topmost layer of `stack`, compressed and in the store unless it is an image's.
    async fn layer(
        &self,
        export: &Export<'_>,
        target: &CacheTarget,
        stack: &[LayerId],
        step: StepId,
    ) -> Result<Layer, BuildError> {
        let top = stack.last().expect("a stack that is asked for has a layer");
        let absent = self.absent.diff_id(top);
        if let Some(diff_id) = absent.filter(|diff_id| export.base.contains(diff_id)) {
            return Ok(Layer { diff_id, blob: None });
        }
        let assembled = export.layers.assembled_top(stack).await?;
        let diff_id = assembled.diff_id.clone();
        if export.base.contains(&diff_id) {
            return Ok(Layer { diff_id, blob: None });
        }
        let blob = compressed(export, target, assembled, step).await?;
        Ok(Layer { diff_id, blob: Some(embedded_if_small(export.store, blob)?) })
    }
}

fn record(used: Used, outputs: Vec<Vec<Layer>>) -> Record {
    let Used { record, aliases } = used;
    Record {
        salt: record.notes.get(SALT).cloned().unwrap_or_default(),
        key: record.key,
        aliases: aliases.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
        outputs,
        name: record.name,
        created: record.created,
        duration: record.duration,
        parts: record.parts,
        warnings: record.warnings,
    }
}

/// A blob as a pack has it: one that is small in whole.
fn embedded_if_small(store: &Store, blob: Descriptor) -> Result<Descriptor, BuildError> {
    if blob.size > EMBEDDED_MAX {
        return Ok(blob);
    }
    let bytes = store.read_small(&blob.digest, EMBEDDED_MAX);
    let bytes = bytes.map_err(|_| lost(&blob))?;
    Ok(embed(blob, &bytes))
}

fn lost(blob: &Descriptor) -> BuildError {
    BuildError::lost(format!("layer {} is missing in the store", blob.digest.short()))
}

/// The blob of a layer as the target wants it.
pub(super) async fn compressed(
    export: &Export<'_>,
    target: &CacheTarget,
    layer: AssembledLayer,
    step: StepId,
) -> Result<Descriptor, BuildError> {
    let (store, steps, stop) = (export.store.clone(), export.steps.clone(), export.stop.clone());
    let compression = target.compression;
    blocking(move || {
        let pushes = &Pushes::default();
        let compressing =
            Compressing { store: &store, compression, steps: &steps, step, stop: &stop, pushes };
        Ok(compressing.layer(&layer.diff_id, &layer.descriptor)?.descriptor)
    })
    .await
}

pub(super) async fn upload(
    export: &Export<'_>,
    place: &Place,
    blob: Descriptor,
    step: StepId,
) -> Result<(), BuildError> {
    let file = export.store.blob(&blob.digest).ok_or_else(|| lost(&blob))?;
    let item = blob.digest.short();
    let (steps, total) = (export.steps.clone(), blob.size);
    let body = Body { file, shown: Shown { steps, step, item: item.clone(), total } };
    let uploaded = place.upload(&blob, Arc::new(body)).await;
    let is_new =
        uploaded.map_err(|e| BuildError::system("failed to write to the cache").because(e))?;
    if let Place::Registry(place) = place {
        // An image of that registry may have it from there.
        export.store.add_origin(&blob.digest, place.reference());
    }
    let item = if is_new { item } else { format!("{item} already exists") };
    let (current, total) = (blob.size, Some(blob.size));
    export.steps.event(Event::Transfer { step, item, current, total, done: true });
    Ok(())
}
