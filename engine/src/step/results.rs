//! Results that are known already, and those that are kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use cache::Record;
use llb::{Op, SourceOp, VertexId};
use oci::DiffId;
use solver::{CacheKey, Executed, Found};
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::layer::Elsewhere;
use crate::shared_cache::{BaseLayers, SALT};
use crate::source::image::ResolvedImage;
use crate::step::files::{Files, Outputs};
use crate::step::worker::BuildWorker;

impl BuildWorker {
    /// The record under `key` or where it leads.
    pub(super) fn record(&self, key: &CacheKey) -> Option<Record> {
        let by_alias = || self.store.record(&self.store.alias(&key.0)?);
        self.store.record(&key.0).or_else(by_alias).or_else(|| self.shared_record(key))
    }

    /// What another builder has made.
    fn shared_record(&self, key: &CacheKey) -> Option<Record> {
        self.shared.record(&self.store, &key.0, |diff_id| self.base_of(diff_id))
    }

    /// What a builder that shares BuildKit's caches has made.
    pub(super) fn foreign_record(&self, vertex: VertexId, key: &CacheKey) -> Option<Record> {
        let (shared, definition) = (&self.shared, &self.definition);
        shared.foreign_record(&self.store, definition, (vertex, &key.0), |id| self.base_of(id))
    }

    /// The image of this build that has a layer.
    fn base_of(&self, diff_id: &DiffId) -> Option<Arc<dyn Elsewhere>> {
        let resolved = self.resolved.lock().expect("no panic while held");
        let has = |image: &&Arc<ResolvedImage>| image.config.rootfs.diff_ids.contains(diff_id);
        let image = resolved.values().find(has)?.clone();
        let (images, steps) = (self.images.clone(), self.steps.clone());
        Some(self.shared.base(BaseLayers { images, image, steps }))
    }

    /// Whether a result has come to the age at which it is made again.
    pub(super) fn is_too_old(&self, vertex: VertexId, record: &Record) -> bool {
        let Some(max_age) = self.definition.vertex(vertex).metadata.max_age else { return false };
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // One from the future was made just now by a clock that is wrong.
        since.as_secs().saturating_sub(record.created.max(0).unsigned_abs()) >= max_age
    }

    pub(super) fn use_record(&self, vertex: VertexId, record: Record) -> Found<Outputs> {
        self.layers.made(&record);
        record.warnings.iter().for_each(|warning| self.steps.warn(warning.as_str()));
        self.steps.cached(vertex);
        let salt = salt(&record).to_owned();
        let outputs = record.outputs.into_iter().map(|layers| Files::Layers(layers.into()));
        Found { key: CacheKey(record.key), salt, result: outputs.collect() }
    }

    pub(super) async fn claim(
        &self,
        key: &CacheKey,
        cancel: &CancellationToken,
    ) -> Result<cache::Claim, BuildError> {
        let failed = |e: cache::StoreError| BuildError::system("failed to lock a step").because(e);
        if let Some(claim) = self.store.try_claim(&key.0).map_err(failed)? {
            return Ok(claim);
        }
        let (store, key, token) = (self.store.clone(), key.0.clone(), cancel.clone());
        let claim =
            blocking(move || store.claim(&key, &|| token.is_cancelled()).map_err(failed)).await?;
        claim.ok_or(BuildError::Canceled)
    }

    /// Remembers a result, whose key was made from `parts`.
    pub(super) fn keep(
        &self,
        run: &Executed<'_, Outputs>,
        outputs: &Outputs,
        parts: BTreeMap<String, String>,
        start: Instant,
    ) {
        let op = &self.definition.vertex(run.vertex).op;
        // Images are found by their digests, files by what servers say of them; layers laid over each other,
        // by their inputs.
        if matches!(op, Op::Source(source) if !matches!(source, SourceOp::Git(_))) {
            return;
        }
        let layers = outputs.iter().map(|tree| match tree {
            Files::Layers(layers) => layers.to_vec(),
            Files::Context(_) => unreachable!("only a source gives a context"),
        });
        let mut made = Record::new(run.key.0.clone(), layers.collect());
        if !run.salt.is_empty() {
            made.notes.insert(SALT.to_owned(), run.salt.to_owned());
        }
        made.name = self.definition.vertex(run.vertex).metadata.name.clone();
        made.duration = start.elapsed().as_millis() as u64;
        made.parts = parts;
        made.warnings = self.steps.take_warnings(run.vertex);
        self.layers.made(&made);
        self.store.put_record(&made);
        if let Some(alias) = run.alias {
            self.store.put_alias(&alias.0, &run.key.0);
        }
        self.shared.note(run.vertex, &made, run.alias.map(|alias| &alias.0));
        self.keep_as_last(run.vertex, &run.key.0);
    }
}

pub(super) fn salt(record: &Record) -> &str {
    record.notes.get(SALT).map_or("", String::as_str)
}
