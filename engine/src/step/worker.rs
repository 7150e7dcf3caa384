//! What the solver asks of the engine: identify, look up, digest, run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cache::{LayerId, Store};
use llb::{Definition, FileInput, Op, SourceOp, VertexId};
use oci::Digest;
use parser::lower::ImageRequest;
use solver::{CacheKey, Executed, Found, Source, Worker};
use tokio_util::sync::CancellationToken;

use crate::blocking::{blocking, until};
use crate::client::Client;
use crate::error::BuildError;
use crate::file_op::TakenIn;
use crate::gc;
use crate::layer::{Layers, Writing};
use crate::machine::Machine;
use crate::progress::steps::Steps;
use crate::shared_cache::SharedCache;
use crate::source::contexts::Contexts;
use crate::source::git::Repositories;
use crate::source::http::HttpFiles;
use crate::source::image::{Images, ResolvedImage};
use crate::step::files::{Files, Outputs};
use crate::step::results::salt;
use crate::tree::View;

/// One build's worker.
pub(crate) struct BuildWorker {
    pub(crate) definition: Arc<Definition>,
    /// Vertices whose layers are part of an image: see [`shipped`].
    pub(crate) shipped: HashSet<VertexId>,
    /// Vertices whose files somebody reads when the build is over.
    pub(crate) read: HashSet<VertexId>,
    pub(crate) store: Store,
    pub(crate) machine: Arc<Machine>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) images: Arc<Images>,
    pub(crate) git: Arc<Repositories>,
    pub(crate) http: Arc<HttpFiles>,
    /// Images that lowering has resolved, by what their vertices say.
    pub(crate) resolved: Mutex<HashMap<ImageRequest, Arc<ResolvedImage>>>,
    /// What other builders have made.
    pub(crate) shared: Arc<SharedCache>,
    /// What steps copy from their inputs, by the input's number, until they run.
    pub(crate) copied: Mutex<HashMap<VertexId, HashMap<usize, Vec<TakenIn>>>>,
    pub(crate) steps: Arc<Steps>,
    pub(crate) contexts: Contexts,
    /// A file that changes under the build ends it: it was tried often enough.
    pub(crate) is_last_attempt: bool,
    pub(crate) client: Arc<dyn Client>,
    pub(crate) sandbox: Arc<crate::step::sandbox::Sandbox>,
    /// What the store keeps to.
    pub(crate) rules: Arc<[cache::PruneFilter]>,
    /// Of each step.
    pub(crate) limits: executor::Limits,
    /// Bytes that each step may write.
    pub(crate) step_disk: Option<u64>,
    /// The Dockerfile's name and text, for errors.
    pub(crate) dockerfile: Option<(String, String)>,
    pub(crate) build_id: String,
    /// The time of the sources, in seconds since 1970.
    pub(crate) epoch: Option<i64>,
}

impl Worker for BuildWorker {
    type Result = Outputs;
    type Error = BuildError;

    async fn identify(&self, vertex: VertexId) -> Result<Source<Outputs>, BuildError> {
        let identified = self.identify_source(vertex).await;
        identified.map_err(|error| self.failed(vertex, error))
    }

    fn lookup(
        &self,
        vertex: VertexId,
        key: &CacheKey,
        alias: Option<&CacheKey>,
    ) -> Result<Option<Found<Outputs>>, BuildError> {
        let foreign = || self.foreign_record(vertex, key);
        let record =
            self.record(key).or_else(foreign).filter(|record| !self.is_too_old(vertex, record));
        let Some(record) = record else { return Ok(None) };
        if let Some(alias) = alias {
            self.store.put_alias(&alias.0, &record.key);
        }
        self.shared.note(vertex, &record, alias.into_iter().chain([key]).map(|key| &key.0));
        Ok(Some(self.use_record(vertex, record)))
    }

    async fn content(
        &self,
        vertex: VertexId,
        reads: Vec<bool>,
        inputs: Vec<Option<Outputs>>,
    ) -> Result<Vec<Option<Digest>>, BuildError> {
        let digested = self.digest_inputs(vertex, &reads, &inputs).await;
        digested.map_err(|error| self.failed(vertex, error))
    }

    async fn execute(&self, run: Executed<'_, Outputs>) -> Result<Outputs, BuildError> {
        let vertex = run.vertex;
        let claim = self.claim(run.key, &run.cancel).await?;
        // Another process may have done it since it was looked up, or this build before it started
        // again. A result with another salt is not the one that dependents know.
        let done = self.record(run.key).filter(|done| salt(done) == run.salt);
        if let Some(record) = done {
            self.shared.note(vertex, &record, run.alias.map(|alias| &alias.0));
            return Ok(self.use_record(vertex, record).result);
        }
        self.steps.started(vertex);
        let parts = self.tell_changes(&run).await?;
        self.prepare_sandbox(vertex);
        self.make_room().await;
        let start = Instant::now();
        match self.run(&run).await {
            Ok(outputs) => {
                self.keep(&run, &outputs, parts, start);
                self.store.release_when_committed(claim);
                self.steps.done(vertex, start);
                Ok(outputs)
            }
            Err(error) => Err(self.failed(vertex, error)),
        }
    }

    fn is_passing(&self, error: &BuildError) -> bool {
        matches!(error, BuildError::Changed { .. })
    }
}

impl BuildWorker {
    async fn run(&self, run: &Executed<'_, Outputs>) -> Result<Outputs, BuildError> {
        match &self.definition.vertex(run.vertex).op {
            Op::Source(SourceOp::Git(git)) => until(&run.cancel, self.fetch_git(run, git)).await,
            Op::Source(source) => until(&run.cancel, self.fetch(run.vertex, source)).await,
            Op::Exec(op) => self.exec(run, op).await,
            Op::File(op) => until(&run.cancel, self.file(run, op)).await,
            Op::Merge => until(&run.cancel, self.merge(run)).await,
            Op::Diff => until(&run.cancel, self.diff(run)).await,
        }
    }

    /// Keeps the store to its rules, so that there is room for what the step writes.
    async fn make_room(&self) {
        if !self.store.may_need_room(&self.rules) {
            return;
        }
        let (store, rules) = (self.store.clone(), self.rules.clone());
        let made = blocking(move || {
            gc::make_room(&store, &rules);
            Ok(())
        });
        made.await.expect("warnings only");
    }

    /// If this step is a process, or one will run on what it makes, a sandbox is made ready while the
    /// rest that it needs is brought together.
    fn prepare_sandbox(&self, vertex: VertexId) {
        let op = |vertex: &VertexId| &self.definition.vertex(*vertex).op;
        let mut vertices = self.definition.dependents(vertex);
        vertices.push(vertex);
        let networks = vertices.iter().map(op).filter_map(|op| match op {
            Op::Exec(exec) => Some(exec.network == llb::NetworkMode::Default),
            _ => None,
        });
        let networks: Vec<bool> = networks.collect();
        if !networks.is_empty() {
            self.sandbox.prepare(networks.contains(&true));
        }
    }

    /// Whether the files of a vertex are wanted as a tree, by steps or by who reads them in the end.
    pub(super) fn is_mounted(&self, vertex: VertexId) -> bool {
        self.read.contains(&vertex) || !self.definition.dependents(vertex).is_empty()
    }

    pub(crate) fn input_trees(&self, run: &Executed<'_, Outputs>) -> Vec<Files> {
        let inputs = self.definition.inputs(run.vertex);
        inputs
            .iter()
            .zip(&run.inputs)
            .map(|(input, outputs)| outputs[input.output].clone())
            .collect()
    }

    /// The layers of a tree; of a directory of the client, one with all its files.
    pub(crate) async fn layers_of(
        &self,
        tree: &Files,
        stop: &CancellationToken,
    ) -> Result<Arc<[LayerId]>, BuildError> {
        match tree {
            Files::Layers(layers) => Ok(layers.clone()),
            Files::Context(view) => self.snapshot(view, stop).await,
        }
    }

    /// Opens a tree for reading.
    pub(super) async fn view(&self, tree: &Files) -> Result<Arc<View>, BuildError> {
        match tree {
            Files::Context(view) => Ok(view.clone()),
            Files::Layers(layers) => {
                let rootfs = self.layers.rootfs(layers).await?;
                blocking(move || Ok(Arc::new(rootfs.view()?))).await
            }
        }
    }

    /// What becomes part of an image is hashed while the build goes on.
    pub(crate) fn hash_later(
        &self,
        vertex: VertexId,
        layer: &LayerId,
        base: &[LayerId],
        writing: Option<Writing>,
    ) {
        if self.shipped.contains(&vertex) {
            self.layers.hash_later(layer, base, writing);
        }
    }
}

/// Vertices that the layers of `targets` come from. Other layers are only read or mounted on the
/// way: nobody needs their tars.
pub(crate) fn shipped(definition: &Definition, targets: &[VertexId]) -> HashSet<VertexId> {
    let mut shipped = HashSet::new();
    let mut stack = targets.to_vec();
    while let Some(vertex) = stack.pop() {
        if !shipped.insert(vertex) {
            continue;
        }
        let inputs = definition.inputs(vertex);
        let is_below = |number: usize| match &definition.vertex(vertex).op {
            Op::Exec(op) => op.mounts.iter().any(|m| m.input == Some(number) && m.output.is_some()),
            Op::File(op) => op.actions.iter().any(|a| a.input == FileInput::Input(number)),
            Op::Source(_) | Op::Merge | Op::Diff => true,
        };
        stack.extend((0..inputs.len()).filter(|n| is_below(*n)).map(|n| inputs[n].vertex));
    }
    shipped
}
