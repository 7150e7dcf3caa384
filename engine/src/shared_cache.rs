//! Caches that this builder shares with others: what is read from them before a build, looked up while it runs, and
//! added to them after it.
//!
//! A record that was found there is used like one of the store's; its layers stay where they are until
//! somebody needs them ([`AbsentLayers`]). The store keeps the record once it has all of them. A cache that cannot
//! be read, or that does not have what it said it had, is left out from then on, with one warning.

mod export;
mod fetch;
mod foreign;
mod foreign_export;
mod import;
mod mounts;
mod mounts_export;
mod place;
mod steps;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use buildkit_cache::Made;
use cache::{LayerId, Record, Store};
use llb::{Definition, VertexId};
use oci::{Descriptor, DiffId, Digest};
use remote_cache::Place;

use crate::layer::{AbsentLayers, Elsewhere};
use crate::progress::steps::Steps;

pub(crate) use export::{Export, SALT};
pub(crate) use fetch::BaseLayers;
pub(crate) use import::Import;
pub(crate) use mounts::{Brought, SharedMounts};
pub(crate) use steps::ForeignSteps;

/// The shared caches of one build.
#[derive(Default)]
pub(crate) struct SharedCache {
    sources: Vec<Arc<Source>>,
    /// What the sources say of a step, and which one; the first that knows it counts.
    records: HashMap<Digest, (usize, remote_cache::Record)>,
    /// Other keys of records.
    aliases: HashMap<Digest, Digest>,
    absent: Arc<AbsentLayers>,
    /// What was found or made of each step, where somebody wants to know.
    used: Option<Mutex<BTreeMap<VertexId, Used>>>,
    /// Images that the build starts from, by the digests of their manifests.
    bases: Mutex<HashMap<Digest, Arc<dyn Elsewhere>>>,
    /// Records that are not the store's yet, with other keys that lead to them.
    found: Mutex<HashMap<Digest, (Record, Vec<Digest>)>>,
    /// What BuildKit's caches know of the steps.
    pub(crate) foreign: ForeignSteps,
    /// What cache mounts held.
    pub(crate) mounts: SharedMounts,
}

/// A cache that was read.
pub(super) struct Source {
    place: Place,
    /// As messages call it.
    name: String,
    /// Where its layers are.
    blobs: HashMap<DiffId, Descriptor>,
    /// It has shown that what it says does not hold.
    is_broken: AtomicBool,
    store: Store,
    steps: Arc<Steps>,
    absent: Arc<AbsentLayers>,
}

/// The result of a step of this build.
#[derive(Debug, Clone)]
struct Used {
    record: Record,
    /// Other keys that lead to it.
    aliases: BTreeSet<Digest>,
}

impl SharedCache {
    /// Layers that are in one of the caches, and not here.
    pub(crate) fn absent(&self) -> &Arc<AbsentLayers> {
        &self.absent
    }

    /// What a cache says under `key`. Layers that it leaves to images are those that `base` has.
    pub(crate) fn record(
        &self,
        store: &Store,
        key: &Digest,
        base: impl Fn(&DiffId) -> Option<Arc<dyn Elsewhere>>,
    ) -> Option<Record> {
        if self.records.is_empty() {
            return None;
        }
        let (number, found) =
            self.records.get(key).or_else(|| self.records.get(self.aliases.get(key)?))?;
        let source = &self.sources[*number];
        if source.is_broken.load(Ordering::Relaxed) {
            return None;
        }
        let from: Arc<dyn Elsewhere> = source.clone();
        let mut outputs = Vec::with_capacity(found.outputs.len());
        for stack in &found.outputs {
            let mut layers: Vec<LayerId> = Vec::with_capacity(stack.len());
            for layer in stack {
                let from = match &layer.blob {
                    Some(_) => from.clone(),
                    None => base(&layer.diff_id)?,
                };
                let id = self.absent.layer(store, layers.last(), &layer.diff_id, &from);
                layers.push(id);
            }
            outputs.push(layers);
        }
        let record = Record {
            key: found.key.clone(),
            outputs,
            parts: found.parts.clone(),
            name: found.name.clone(),
            created: found.created,
            duration: found.duration,
            warnings: found.warnings.clone(),
            notes: export::notes(&found.salt),
        };
        let mut kept = self.found.lock().expect("no panic while held");
        kept.insert(record.key.clone(), (record.clone(), found.aliases.clone()));
        Some(record)
    }

    /// What one of BuildKit's caches says of a step, which has the given key here. Layers that `base` has
    /// come from there, as the blobs that they are.
    pub(crate) fn foreign_record(
        &self,
        store: &Store,
        definition: &Definition,
        (vertex, key): (VertexId, &Digest),
        base: impl Fn(&DiffId) -> Option<Arc<dyn Elsewhere>>,
    ) -> Option<Record> {
        let (number, made) = self.foreign.find(definition, vertex)?;
        let source = &self.sources[number];
        if source.is_broken.load(Ordering::Relaxed) {
            return None;
        }
        let from: Arc<dyn Elsewhere> = source.clone();
        let stack = |made: &Made| {
            let mut layers: Vec<LayerId> = Vec::with_capacity(made.layers.len());
            for blob in &made.layers {
                let from = base(&blob.diff_id).unwrap_or_else(|| from.clone());
                let id = self.absent.layer(store, layers.last(), &blob.diff_id, &from);
                layers.push(id);
            }
            layers
        };
        let mut record = Record::new(key.clone(), made.iter().map(stack).collect());
        record.name = definition.vertex(vertex).metadata.name.clone();
        record.created = made.first().map_or(0, |made| made.created.as_second());
        let mut kept = self.found.lock().expect("no panic while held");
        kept.insert(key.clone(), (record.clone(), Vec::new()));
        Some(record)
    }

    /// The layers of an image that the build starts from.
    pub(crate) fn base(&self, layers: BaseLayers) -> Arc<dyn Elsewhere> {
        let mut bases = self.bases.lock().expect("no panic while held");
        let key = layers.image.manifest_descriptor.digest.clone();
        bases.entry(key).or_insert_with(|| Arc::new(layers)).clone()
    }

    /// Takes note of what a step has given, and of the keys that led there.
    pub(crate) fn note<'a>(
        &self,
        vertex: VertexId,
        record: &Record,
        keys: impl IntoIterator<Item = &'a Digest>,
    ) {
        let Some(used) = &self.used else { return };
        let aliases = keys.into_iter().filter(|key| **key != record.key).cloned().collect();
        let mut used = used.lock().expect("no panic while held");
        used.insert(vertex, Used { record: record.clone(), aliases });
    }

    /// Keeps the records that were found, as far as the store has their layers.
    pub(crate) fn keep(&self, store: &Store) {
        let found = std::mem::take(&mut *self.found.lock().expect("no panic while held"));
        for (record, aliases) in found.into_values() {
            let is_here = |layer: &LayerId| store.layer(layer).is_some();
            if record.outputs.iter().flatten().all(is_here) {
                store.put_record(&record);
                aliases.iter().for_each(|alias| store.put_alias(alias, &record.key));
            }
        }
    }
}
