//! What the solver asks of the engine: identify, look up, digest, run.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cache::layer::Time;
use cache::layer::compress::Compression as Encoding;
use cache::{LayerId, Record, RecordInput, Store};
use llb::encode::Encoder;
use llb::{Definition, FileInput, FileOp, Op, SourceOp, VertexId};
use oci::Digest;
use parser::lower::ImageRequest;
use solver::{CacheKey, Executed, Found, Source, Worker};
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::error::{BuildError, StepFailure, chain};
use crate::file_op::{self, FileOpError, digest_of_all};
use crate::layer::{Layers, Writing};
use crate::machine::Machine;
use crate::progress::steps::Steps;
use crate::request::Secret;
use crate::source::contexts::Contexts;
use crate::source::image::{Images, ResolvedImage, image_key, image_request};
use crate::step::file_layer::FileLayer;
use crate::step::missing;
use crate::step::process::bind_digest;
use crate::stop::until;
use crate::tree::View;

/// A file tree that a vertex gives.
#[derive(Clone)]
pub(crate) enum Tree {
    /// Layers, the bottom one first.
    Layers(Arc<[LayerId]>),
    /// A directory of the client, read in place.
    Context(Arc<View>),
}

impl Tree {
    /// Its layers; none for a directory of the client.
    fn layers(&self) -> &[LayerId] {
        match self {
            Self::Layers(layers) => layers,
            Self::Context(_) => &[],
        }
    }
}

/// What a vertex gives, by output number.
pub(crate) type Outputs = Arc<[Tree]>;

/// Note of a record: see [`CacheKey::salted`].
const SALT: &str = "salt";

/// One build's worker.
pub(crate) struct BuildWorker {
    pub(crate) definition: Arc<Definition>,
    /// Vertices whose layers are part of an image: see [`shipped`].
    pub(crate) shipped: HashSet<VertexId>,
    pub(crate) store: Store,
    pub(crate) machine: Arc<Machine>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) images: Arc<Images>,
    /// Images that lowering has resolved, by what their vertices say.
    pub(crate) resolved: Mutex<HashMap<ImageRequest, Arc<ResolvedImage>>>,
    pub(crate) steps: Arc<Steps>,
    pub(crate) contexts: Contexts,
    /// A file that changes under the build ends it: it was tried often enough.
    pub(crate) is_last_attempt: bool,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) sandbox: Arc<crate::step::sandbox::Sandbox>,
    /// What the store keeps to.
    pub(crate) rules: Arc<[cache::PruneFilter]>,
    /// Of each step.
    pub(crate) limits: executor::Limits,
    /// Bytes that each step may write.
    pub(crate) step_disk: Option<u64>,
    /// The Dockerfile's name and text, for errors.
    pub(crate) dockerfile: (String, String),
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
        let Some(record) = self.record(key) else { return Ok(None) };
        if let Some(alias) = alias {
            self.store.put_alias(&alias.0, &record.key);
        }
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
        // again. A result with another salt is another one than dependents have been told of.
        let done = self.record(run.key).filter(|done| salt(done) == run.salt);
        if let Some(record) = done {
            return Ok(self.use_record(vertex, record).result);
        }
        self.steps.started(vertex);
        self.prepare_sandbox(vertex);
        self.make_room().await;
        let start = Instant::now();
        match self.run(&run).await {
            Ok(outputs) => {
                self.keep(&run, &outputs, start);
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

fn salt(record: &Record) -> &str {
    record.notes.get(SALT).map_or("", String::as_str)
}

impl BuildWorker {
    async fn identify_source(&self, vertex: VertexId) -> Result<Source<Outputs>, BuildError> {
        let Op::Source(source) = &self.definition.vertex(vertex).op else {
            unreachable!("only sources are identified")
        };
        match source {
            SourceOp::Local(local) => {
                let view = self.contexts.view(&self.store, vertex, local).await?;
                self.steps.cached_source(vertex);
                Ok(Source { key: None, result: Some([Tree::Context(view)].into()) })
            }
            SourceOp::Image(_) | SourceOp::OciLayout { .. } => {
                let image = self.image(source).await?;
                self.layers.pulled(&image.config.rootfs.diff_ids, &image.manifest.layers);
                let result = self.stored_layers(&image).map(|layers| [Tree::Layers(layers)].into());
                if result.is_some() {
                    self.steps.cached(vertex);
                }
                Ok(Source { key: Some(image_key(&image)), result })
            }
            SourceOp::Git { .. } => Err(BuildError::refused("git sources are not supported")
                .with_hint("clone it beforehand, and `COPY` it from the context")),
            SourceOp::Http { .. } => Err(BuildError::refused("HTTP sources are not supported")
                .with_hint("download it in a `RUN` step, or beforehand into the context")),
        }
    }

    /// The record under `key` or where it leads.
    fn record(&self, key: &CacheKey) -> Option<Record> {
        let by_alias = || self.store.record(&self.store.alias(&key.0)?);
        self.store.record(&key.0).or_else(by_alias)
    }

    fn use_record(&self, vertex: VertexId, record: Record) -> Found<Outputs> {
        self.layers.made(&record);
        record.warnings.iter().for_each(|warning| self.steps.warn(warning.as_str()));
        self.steps.cached(vertex);
        let salt = salt(&record).to_owned();
        let outputs = record.outputs.into_iter().map(|layers| Tree::Layers(layers.into()));
        Found { key: CacheKey(record.key), salt, result: outputs.collect() }
    }

    /// The image a source names, resolved at most once a build.
    async fn image(&self, source: &SourceOp) -> Result<Arc<ResolvedImage>, BuildError> {
        let request = image_request(source);
        if let Some(image) = self.resolved.lock().expect("no panic while held").get(&request) {
            return Ok(image.clone());
        }
        let image = Arc::new(self.images.resolve(&request, &self.steps).await?);
        self.resolved.lock().expect("no panic while held").insert(request, image.clone());
        Ok(image)
    }

    /// An image's layers, if the store has all of them and their blobs.
    fn stored_layers(&self, image: &ResolvedImage) -> Option<Arc<[LayerId]>> {
        if !image.manifest.layers.iter().all(|d| self.store.has_blob(&d.digest)) {
            return None;
        }
        image.config.rootfs.diff_ids.iter().map(|id| self.store.layer_of_diff_id(id)).collect()
    }

    async fn claim(
        &self,
        key: &CacheKey,
        cancel: &CancellationToken,
    ) -> Result<cache::Claim, BuildError> {
        let failed = |e: cache::StoreError| BuildError::system("failed to lock a step", &e);
        if let Some(claim) = self.store.try_claim(&key.0).map_err(failed)? {
            return Ok(claim);
        }
        let (store, key, token) = (self.store.clone(), key.0.clone(), cancel.clone());
        let claim =
            blocking(move || store.claim(&key, &|| token.is_cancelled()).map_err(failed)).await?;
        claim.ok_or(BuildError::Canceled)
    }

    /// Remembers a result.
    fn keep(&self, run: &Executed<'_, Outputs>, outputs: &Outputs, start: Instant) {
        let op = &self.definition.vertex(run.vertex).op;
        // Images are found by their digests; layers laid over each other, by their inputs.
        if matches!(op, Op::Source(_)) {
            return;
        }
        let layers = outputs.iter().map(|tree| match tree {
            Tree::Layers(layers) => layers.to_vec(),
            Tree::Context(_) => unreachable!("only a source gives a context"),
        });
        let mut made = Record::new(run.key.0.clone(), layers.collect());
        if !run.salt.is_empty() {
            made.notes.insert(SALT.to_owned(), run.salt.to_owned());
        }
        made.name = self.definition.vertex(run.vertex).metadata.name.clone();
        made.duration = start.elapsed().as_millis() as u64;
        made.inputs = self.record_inputs(run.vertex);
        made.warnings = self.steps.take_warnings(run.vertex);
        self.layers.made(&made);
        self.store.put_record(&made);
        if let Some(alias) = run.alias {
            self.store.put_alias(&alias.0, &run.key.0);
        }
    }

    /// What a step was made from, for explanations.
    fn record_inputs(&self, vertex: VertexId) -> Vec<RecordInput> {
        let inputs = self.definition.inputs(vertex);
        inputs
            .iter()
            .map(|input| {
                let from = self.definition.vertex(input.vertex);
                RecordInput { name: from.metadata.name.clone(), value: from.digest.to_string() }
            })
            .collect()
    }

    async fn run(&self, run: &Executed<'_, Outputs>) -> Result<Outputs, BuildError> {
        match &self.definition.vertex(run.vertex).op {
            Op::Source(source) => until(&run.cancel, self.fetch(run.vertex, source)).await,
            Op::Exec(op) => self.exec(run, op).await,
            Op::File(op) => until(&run.cancel, self.file(run, op)).await,
            Op::Merge => {
                let mut layers = Vec::new();
                for tree in self.input_trees(run) {
                    layers.extend_from_slice(&self.layers_of(&tree, &run.cancel).await?);
                }
                Ok([Tree::Layers(layers.into())].into())
            }
            Op::Diff => Err(BuildError::refused("diff operations are not supported")),
        }
    }

    /// Keeps the store to its rules, so that there is room for what the step writes.
    async fn make_room(&self) {
        if !self.store.may_need_room(&self.rules) {
            return;
        }
        let (store, rules, steps) = (self.store.clone(), self.rules.clone(), self.steps.clone());
        let made = blocking(move || {
            // The step itself says whether there is too little room.
            if let Err(error) = store.make_room(&rules) {
                steps.warn(format!("the cache keeps what it has: {}", chain(&error)));
            }
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

    pub(crate) fn input_trees(&self, run: &Executed<'_, Outputs>) -> Vec<Tree> {
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
        tree: &Tree,
        stop: &CancellationToken,
    ) -> Result<Arc<[LayerId]>, BuildError> {
        match tree {
            Tree::Layers(layers) => Ok(layers.clone()),
            Tree::Context(view) => self.snapshot(view, stop).await,
        }
    }

    async fn fetch(&self, vertex: VertexId, source: &SourceOp) -> Result<Outputs, BuildError> {
        let image = self.image(source).await?;
        let step = self.steps.id(vertex);
        let is_unpacked = !self.definition.dependents(vertex).is_empty();
        let begun = self.layers.unpack_early(&image, is_unpacked, step);
        self.images.fetch_layers(&image, &self.steps, step, begun).await?;
        let diff_ids = &image.config.rootfs.diff_ids;
        let layers: Arc<[LayerId]> = diff_ids
            .iter()
            .zip(&image.manifest.layers)
            .map(|(diff_id, descriptor)| self.store.add_blob_layer(diff_id, descriptor))
            .collect();
        if is_unpacked {
            self.layers.unpack_for(step, &layers).await?;
        }
        Ok([Tree::Layers(layers)].into())
    }

    /// Opens a tree for reading.
    async fn view(&self, tree: &Tree) -> Result<Arc<View>, BuildError> {
        match tree {
            Tree::Context(view) => Ok(view.clone()),
            Tree::Layers(layers) => {
                let rootfs = self.layers.rootfs(layers).await?;
                blocking(move || Ok(Arc::new(rootfs.view()?))).await
            }
        }
    }

    /// Digests what a vertex reads from its inputs.
    async fn digest_inputs(
        &self,
        vertex: VertexId,
        reads: &[bool],
        inputs: &[Option<Outputs>],
    ) -> Result<Vec<Option<Digest>>, BuildError> {
        let numbers = self.definition.inputs(vertex);
        let mut digests = Vec::with_capacity(inputs.len());
        for (number, (read, outputs)) in reads.iter().zip(inputs).enumerate() {
            if !read {
                digests.push(None);
                continue;
            }
            let outputs = outputs.as_ref().expect("what is read is available");
            let tree = &outputs[numbers[number].output];
            let view = self.view(tree).await?;
            let (definition, read) = (self.definition.clone(), view.clone());
            let is_context = matches!(tree, Tree::Context(_));
            let digest = blocking(move || {
                let digest = match &definition.vertex(vertex).op {
                    Op::File(op) => file_op::input_digest(op, number, &read),
                    Op::Exec(op) => bind_digest(op, number, &read).map(Some).map_err(Into::into),
                    // Other ops take in whole trees.
                    _ => Ok(None),
                };
                // A directory of the client has no key of its own.
                Ok(match digest {
                    Ok(None) if is_context => digest_of_all(&read).map(Some),
                    digest => digest,
                })
            });
            let (digest, verified) = tokio::join!(digest, self.layers.verify(tree.layers()));
            // What is not there may have been taken away.
            verified?;
            let digest = match digest? {
                Ok(digest) => digest,
                Err(error) => {
                    return self.unreadable(vertex, numbers[number].vertex, view, error).await;
                }
            };
            digests.push(digest);
        }
        Ok(digests)
    }

    /// What `vertex` names could not be read from `input`.
    async fn unreadable<T: Send + 'static>(
        &self,
        vertex: VertexId,
        input: VertexId,
        view: Arc<View>,
        error: FileOpError,
    ) -> Result<T, BuildError> {
        let definition = self.definition.clone();
        let told = blocking(move || {
            let (step, from) = (&definition.vertex(vertex).op, definition.vertex(input));
            Err(missing::read_error(error, step, from, &view))
        });
        told.await
    }

    async fn file(&self, run: &Executed<'_, Outputs>, op: &FileOp) -> Result<Outputs, BuildError> {
        let mut trees = self.input_trees(run);
        for action in &op.actions {
            if let FileInput::Input(number) = action.input {
                trees[number] = Tree::Layers(self.layers_of(&trees[number], &run.cancel).await?);
            }
        }
        let layers: Vec<LayerId> = trees.iter().flat_map(Tree::layers).cloned().collect();
        let (written, verified) =
            tokio::join!(self.write_outputs(run, op, &trees), self.layers.verify(&layers));
        verified?;
        written
    }

    async fn write_outputs(
        &self,
        run: &Executed<'_, Outputs>,
        op: &FileOp,
        trees: &[Tree],
    ) -> Result<Outputs, BuildError> {
        let mut views = Vec::with_capacity(trees.len());
        for tree in trees {
            views.push(self.view(tree).await?);
        }
        // Nobody mounts the result: its content goes straight into a tar.
        let mounted = !self.definition.dependents(run.vertex).is_empty();
        let previous = if mounted { self.previous(run.vertex) } else { Vec::new() };
        let time = self.epoch.map_or_else(Time::now, |seconds| Time { seconds, nanoseconds: 0 });
        let mut made = Vec::new();
        let mut outputs = Vec::new();
        for output in 0..Op::File(op.clone()).outputs() {
            let base: Arc<[LayerId]> = match file_op::base(op, output).map_err(BuildError::from)? {
                FileInput::Input(number) => trees[number].layers().into(),
                _ => [].into(),
            };
            let is_shipped = self.shipped.contains(&run.vertex);
            let making = Making {
                machine: self.machine.clone(),
                store: self.store.clone(),
                op: op.clone(),
                output,
                views: views.clone(),
                previous: previous.get(output).cloned(),
                time,
                encodings: if is_shipped { self.layers.encodings().clone() } else { [].into() },
            };
            let written = match mounted {
                true => self.write_mounted(run, making, &base).await?,
                false => {
                    let (steps, vertex) = (self.steps.clone(), run.vertex);
                    let (warn, stop) =
                        (move |warning| steps.warn_of(vertex, warning), run.cancel.clone());
                    blocking(move || making.layer(&stop, &warn).write_tar()).await?
                }
            };
            made.push(vec![written.clone()]);
            outputs.push(Tree::Layers(base.iter().cloned().chain([written]).collect()));
        }
        if mounted {
            self.store.put_record(&Record::new(previous_key(&self.definition, run.vertex), made));
        }
        Ok(outputs.into())
    }

    /// Makes a layer that will be mounted over `base`. Its tar, if an image has it, is written while the
    /// build goes on.
    async fn write_mounted(
        &self,
        run: &Executed<'_, Outputs>,
        making: Making,
        base: &[LayerId],
    ) -> Result<LayerId, BuildError> {
        let is_shipped = self.shipped.contains(&run.vertex);
        let tar_stop = is_shipped.then(|| self.layers.stop().clone());
        let (steps, vertex, stop) = (self.steps.clone(), run.vertex, run.cancel.clone());
        let (told, layer) = tokio::sync::oneshot::channel();
        let writing = tokio::task::spawn_blocking(move || {
            let warn = |warning| steps.warn_of(vertex, warning);
            // When the build was cancelled nobody listens, and nobody waits for the tar.
            let made = |id: &LayerId| drop(told.send(id.clone()));
            making.layer(&stop, &warn).write_both(tar_stop.as_ref(), made)
        });
        let Ok(layer) = layer.await else {
            let failed = writing.await.expect("writing a layer does not panic");
            return Err(failed.expect_err("a layer that was made is told of"));
        };
        self.hash_later(run.vertex, &layer, base, Some(writing));
        Ok(layer)
    }

    /// The layers that the same copy made last time, one an output: what changed may lie over them.
    fn previous(&self, vertex: VertexId) -> Vec<LayerId> {
        let record = self.store.record(&previous_key(&self.definition, vertex));
        record
            .into_iter()
            .flat_map(|r| r.outputs)
            .filter_map(|layers| layers.last().cloned())
            .collect()
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

    /// A step failed: tells so, and where it stands.
    fn failed(&self, vertex: VertexId, error: BuildError) -> BuildError {
        let error = match error {
            // It is about to be tried again.
            BuildError::Changed { .. } if !self.is_last_attempt => return error,
            BuildError::Changed { .. } => {
                BuildError::Input { message: error.to_string(), hint: None }
            }
            error => error,
        };
        let error = self.step_error(vertex, error);
        // What failed because of the store is about to be tried again.
        if !matches!(error, BuildError::Canceled) && !self.layers.found_damage() {
            self.steps.failed(vertex, &error.to_string());
        }
        error
    }

    /// Says which step failed and where it stands in the Dockerfile.
    pub(crate) fn step_error(&self, vertex: VertexId, error: BuildError) -> BuildError {
        let (message, hint) = match error {
            BuildError::Input { message, hint }
            | BuildError::Refused { message, hint }
            | BuildError::System { message, hint } => (message, hint),
            other => return other,
        };
        let metadata = &self.definition.vertex(vertex).metadata;
        BuildError::Step {
            failure: Box::new(StepFailure {
                name: metadata.name.clone(),
                message,
                exit_code: None,
                span: metadata.span,
                lines: metadata.lines,
                dockerfile: Some(self.dockerfile.clone()),
                log_tail: Vec::new(),
                log_path: None,
                hint,
            }),
        }
    }
}

/// What a file operation's layer is made from.
struct Making {
    machine: Arc<Machine>,
    store: Store,
    op: FileOp,
    output: usize,
    views: Vec<Arc<View>>,
    previous: Option<LayerId>,
    time: Time,
    encodings: Arc<[Encoding]>,
}

impl Making {
    fn layer<'a>(&'a self, stop: &'a CancellationToken, warn: &'a dyn Fn(String)) -> FileLayer<'a> {
        FileLayer {
            machine: &self.machine,
            store: &self.store,
            stop,
            op: &self.op,
            output: self.output,
            inputs: self.views.iter().map(|view| Some(view.as_ref())).collect(),
            previous: self.previous.clone(),
            time: self.time,
            encodings: &self.encodings,
            warn,
        }
    }
}

/// Key under which the last layer of a copy is remembered, whatever its content was.
fn previous_key(definition: &Definition, vertex: VertexId) -> Digest {
    let mut encoder = Encoder::new("previous layer");
    llb::encode::encode_op(&mut encoder, &definition.vertex(vertex).op);
    encoder.finish()
}
