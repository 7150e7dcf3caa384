//! Reading caches before a build.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buildkit_cache::Cache;
use cache::Store;
use futures_util::future::join_all;
use registry::{Registries, chain};
use remote_cache::{Contents, Packs, Place, Record};

use super::mounts::SharedMounts;
use super::{ForeignSteps, SharedCache, Source, foreign};
use crate::client::Client;
use crate::error::BuildError;
use crate::layer::AbsentLayers;
use crate::progress::steps::Steps;
use crate::request::{CacheFormat, CacheSource, CacheTarget};

/// A cache that has not said what it has by then is left out.
const PATIENCE: Duration = Duration::from_secs(20);

/// What reading caches takes.
pub(crate) struct Import<'a> {
    pub(crate) store: &'a Store,
    pub(crate) registries: &'a Arc<Registries>,
    pub(crate) client: &'a dyn Client,
    pub(crate) steps: &'a Arc<Steps>,
    pub(crate) offline: bool,
    /// The image carries records, too.
    pub(crate) inline: bool,
}

impl Import<'_> {
    /// Reads all sources at once. One that cannot be read is left out, with a warning. Where there are targets,
    /// the build takes note of what it uses.
    pub(crate) async fn read(
        &self,
        sources: &[CacheSource],
        targets: &[CacheTarget],
    ) -> Result<SharedCache, BuildError> {
        let absent: Arc<AbsentLayers> = Arc::default();
        let mut places = Vec::new();
        for source in sources {
            places.push((source, source.location.place(self.registries, self.client)?));
        }
        let reads = places.into_iter().map(|(source, place)| self.read_one(source, place, &absent));
        let mut shared = SharedCache {
            absent: absent.clone(),
            used: (!targets.is_empty() || self.inline).then(Mutex::<BTreeMap<_, _>>::default),
            mounts: SharedMounts::new(targets.iter().any(|target| target.mounts.is_some())),
            ..SharedCache::default()
        };
        let mut foreign = Vec::new();
        for Read { source, records, mounts, caches } in join_all(reads).await.into_iter().flatten()
        {
            let number = shared.sources.len();
            foreign.extend(caches.into_iter().map(|cache| (number, cache)));
            let source = Arc::new(source);
            shared.mounts.add(&source, mounts);
            shared.sources.push(source);
            for record in records {
                for alias in &record.aliases {
                    shared.aliases.entry(alias.clone()).or_insert_with(|| record.key.clone());
                }
                shared.records.entry(record.key.clone()).or_insert((number, record));
            }
        }
        let is_written =
            self.inline || targets.iter().any(|target| target.format == CacheFormat::BuildKit);
        shared.foreign = ForeignSteps::new(foreign, is_written);
        Ok(shared)
    }

    async fn read_one(
        &self,
        asked: &CacheSource,
        place: Place,
        absent: &Arc<AbsentLayers>,
    ) -> Option<Read> {
        let name = asked.location.name();
        if self.offline && asked.location.is_remote() {
            self.steps.warn(format!("the cache {name} is not asked: the build is offline"));
            return None;
        }
        let step = self.steps.internal(&format!("importing cache manifest from {name}"));
        let read = async {
            let packs = Packs::read(&place).await.map_err(|error| chain(&error))?;
            let caches = match (&place, &packs.other) {
                // Nothing in them is signed.
                (Place::Registry(place), Some(bytes)) if asked.verify.is_empty() => {
                    foreign::read(place, bytes).await?
                }
                _ => Vec::new(),
            };
            Ok((packs, caches))
        };
        let patience = asked.location.timeout().unwrap_or(PATIENCE);
        let (packs, caches) = match tokio::time::timeout(patience, read).await {
            Ok(Ok(read)) => read,
            failed => {
                let why = match failed {
                    Ok(Err(why)) => why,
                    _ => format!("no answer within {} s", patience.as_secs_f64()),
                };
                step.failed(&why);
                self.steps.warn(format!("the cache {name} is not used: {why}"));
                return None;
            }
        };
        step.done();
        for warning in &packs.warnings {
            self.steps.warn(format!("the cache {name}: {warning}"));
        }
        let records: Vec<Record> = packs.records(&asked.verify).into_iter().cloned().collect();
        let mounts: Vec<Contents> = match asked.mounts {
            true => packs.mounts(&asked.verify).into_iter().cloned().collect(),
            false => Vec::new(),
        };
        if records.is_empty() && mounts.is_empty() && caches.iter().all(Cache::is_empty) {
            self.steps.warn(nothing(&name, &packs, asked));
        }
        let mut blobs: HashMap<_, _> = foreign::blobs(&caches);
        for layer in records.iter().flat_map(|record| record.outputs.iter().flatten()) {
            if let Some(blob) = &layer.blob {
                blobs.entry(layer.diff_id.clone()).or_insert_with(|| blob.clone());
            }
        }
        let source = Source {
            place,
            name,
            blobs,
            is_broken: AtomicBool::new(false),
            store: self.store.clone(),
            steps: self.steps.clone(),
            absent: absent.clone(),
        };
        Some(Read { source, records, mounts, caches })
    }
}

/// A cache that was read.
struct Read {
    source: Source,
    records: Vec<Record>,
    /// What cache mounts held.
    mounts: Vec<Contents>,
    /// Those of BuildKit's.
    caches: Vec<Cache>,
}

/// Why a cache gives nothing.
fn nothing(name: &str, packs: &Packs, asked: &CacheSource) -> String {
    if packs.other.is_some() {
        return format!(
            "the cache {name} is not used: there is no cache of mybuild or BuildKit at that name"
        );
    }
    if !asked.verify.is_empty() && !packs.is_empty() {
        return format!("the cache {name} is not used: nothing in it is signed by the key");
    }
    format!("the cache {name} is empty")
}
