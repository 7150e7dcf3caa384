//! What the solver asks of the engine: identify, look up, digest, run.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use cache::{LayerId, Record, RecordInput, Store};
use llb::encode::Encoder;
use llb::{Definition, ExecOp, FileInput, FileOp, Op, SourceOp, VertexId};
use oci::Digest;
use parser::lower::ImageRequest;
use solver::{CacheKey, Executed, Found, Source, Worker};
use tokio_util::sync::CancellationToken;

use crate::error::{BuildError, StepFailure, chain};
use crate::exec_op::{self, Surroundings};
use crate::file_layer::{self, FileLayer, file_error};
use crate::file_op;
use crate::image_source::{Images, ResolvedImage};
use crate::layers::Layers;
use crate::machine::Machine;
use crate::request::Secret;
use crate::stack;
use crate::steps::Steps;
use crate::tree::{self, View};

/// A file tree that a vertex gives.
#[derive(Clone)]
pub(crate) enum Tree {
    /// Layers, the bottom one first.
    Layers(Arc<[LayerId]>),
    /// A directory of the client, read in place.
    Context(Arc<View>),
}

/// What a vertex gives, by output number.
pub(crate) type Outputs = Arc<[Tree]>;

/// Note of a record: see [`CacheKey::salted`].
const SALT: &str = "salt";

/// One build's worker.
pub(crate) struct BuildWorker {
    pub(crate) definition: Arc<Definition>,
    pub(crate) store: Store,
    pub(crate) machine: Arc<Machine>,
    pub(crate) layers: Arc<Layers>,
    pub(crate) images: Arc<Images>,
    /// Images that lowering has resolved, by what their vertices say.
    pub(crate) resolved: Mutex<HashMap<ImageRequest, Arc<ResolvedImage>>>,
    pub(crate) steps: Arc<Steps>,
    /// Local contexts by name.
    pub(crate) directories: BTreeMap<String, PathBuf>,
    pub(crate) views: Mutex<HashMap<VertexId, Arc<View>>>,
    pub(crate) secrets: Vec<Secret>,
    pub(crate) sandbox: Arc<crate::sandbox::Sandbox>,
    /// The Dockerfile's name and text, for errors.
    pub(crate) dockerfile: (String, String),
    pub(crate) build_id: String,
}

impl Worker for BuildWorker {
    type Result = Outputs;
    type Error = BuildError;

    async fn identify(&self, vertex: VertexId) -> Result<Source<Outputs>, BuildError> {
        let Op::Source(source) = &self.definition.vertex(vertex).op else {
            unreachable!("only sources are identified")
        };
        match source {
            SourceOp::Local(local) => {
                let view = self.context(vertex, local).await?;
                self.steps.cached_source(vertex);
                Ok(Source { key: None, result: Some([Tree::Context(view)].into()) })
            }
            SourceOp::Image(_) | SourceOp::OciLayout { .. } => {
                let image = self.image(source).await?;
                let result = self.stored_layers(&image).map(|layers| [Tree::Layers(layers)].into());
                if result.is_some() {
                    self.steps.cached(vertex);
                }
                Ok(Source { key: Some(image_key(&image)), result })
            }
            SourceOp::Git { .. } => Err(BuildError::refused("git sources are not supported")),
            SourceOp::Http { .. } => Err(BuildError::refused("HTTP sources are not supported")),
        }
    }

    fn lookup(&self, vertex: VertexId, key: &CacheKey) -> Result<Option<Found<Outputs>>, BuildError> {
        let by_alias = || self.store.record(&self.store.alias(&key.0)?);
        let Some(record) = self.store.record(&key.0).or_else(by_alias) else { return Ok(None) };
        self.layers.made(&record);
        self.steps.cached(vertex);
        Ok(Some(found(record)))
    }

    async fn content(
        &self,
        vertex: VertexId,
        reads: Vec<bool>,
        inputs: Vec<Option<Outputs>>,
    ) -> Result<Vec<Option<Digest>>, BuildError> {
        let digested = self.digest_inputs(vertex, &reads, &inputs).await;
        digested.map_err(|error| self.step_error(vertex, error, Vec::new(), None))
    }

    async fn execute(&self, run: Executed<'_, Outputs>) -> Result<Outputs, BuildError> {
        let vertex = run.vertex;
        let claim = self.claim(run.key, &run.cancel).await?;
        // Another process may have done it while this one waited.
        let fresh = run.salt.is_empty() && claim.waited;
        if fresh && let Some(found) = self.lookup(vertex, run.key)? {
            return Ok(found.result);
        }
        self.steps.started(vertex);
        self.prepare_for_dependents(vertex);
        let start = Instant::now();
        match self.run(&run).await {
            Ok(outputs) => {
                self.keep(&run, &outputs, start);
                self.store.release_when_committed(claim.claim);
                self.steps.done(vertex, start);
                Ok(outputs)
            }
            Err(BuildError::Canceled) => Err(BuildError::Canceled),
            Err(error) => {
                let error = self.step_error(vertex, error, Vec::new(), None);
                self.steps.failed(vertex, &error.to_string());
                Err(error)
            }
        }
    }
}

fn found(record: Record) -> Found<Outputs> {
    let outputs = record.outputs.into_iter().map(|layers| Tree::Layers(layers.into())).collect();
    let salt = record.notes.get(SALT).cloned().unwrap_or_default();
    Found { key: CacheKey(record.key), salt, result: outputs }
}

/// A claim, and whether somebody else had it first.
struct HeldClaim {
    claim: cache::Claim,
    waited: bool,
}

impl BuildWorker {
    /// The view of a local context; one a vertex.
    async fn context(&self, vertex: VertexId, local: &llb::LocalSource) -> Result<Arc<View>, BuildError> {
        if let Some(view) = self.views.lock().expect("no panic while held").get(&vertex) {
            return Ok(view.clone());
        }
        let directory = self.directories.get(&local.name).cloned().ok_or_else(|| {
            BuildError::refused(format!("no local context is called `{}`", local.name))
        })?;
        let (patterns, store) = (local.exclude_patterns.clone(), self.store.clone());
        let view = blocking(move || {
            let index = cache::StatIndex::load(&store, &directory);
            tree::view_of_context(&directory, patterns, Some(index)).map_err(tree_error)
        })
        .await?;
        let view = Arc::new(view);
        self.views.lock().expect("no panic while held").insert(vertex, view.clone());
        Ok(view)
    }

    /// Writes back what was learnt of the contexts' files.
    pub(crate) async fn save_indexes(&self) {
        let views: Vec<Arc<View>> =
            self.views.lock().expect("no panic while held").values().cloned().collect();
        let steps = self.steps.clone();
        let saved = blocking(move || {
            for view in views {
                if let Err(error) = view.save_index() {
                    steps.warn(format!("the next build reads the context anew: {}", chain(&error)));
                }
            }
            Ok(())
        });
        saved.await.expect("warnings only");
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

    async fn claim(&self, key: &CacheKey, cancel: &CancellationToken) -> Result<HeldClaim, BuildError> {
        let failed = |e: cache::StoreError| BuildError::system("failed to lock a step", &e);
        if let Some(claim) = self.store.try_claim(&key.0).map_err(failed)? {
            return Ok(HeldClaim { claim, waited: true });
        }
        let (store, key, token) = (self.store.clone(), key.0.clone(), cancel.clone());
        let claim = blocking(move || store.claim(&key, &|| token.is_cancelled()).map_err(failed)).await?;
        claim.map(|claim| HeldClaim { claim, waited: true }).ok_or(BuildError::Canceled)
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
        let mut made = record(run.key.0.clone(), layers.collect());
        if !run.salt.is_empty() {
            made.notes.insert(SALT.to_owned(), run.salt.to_owned());
        }
        made.name = self.definition.vertex(run.vertex).metadata.name.clone();
        made.duration = start.elapsed().as_millis() as u64;
        made.inputs = self.record_inputs(run.vertex);
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
            Op::Source(source) => self.fetch(run.vertex, source).await,
            Op::Exec(op) => self.exec(run, op).await,
            Op::File(op) => self.file(run, op).await,
            Op::Merge => {
                let layers = self.input_trees(run).into_iter().map(|t| self.layers_of(&t)).collect::<Result<Vec<_>, _>>()?;
                Ok([Tree::Layers(layers.iter().flat_map(|l| l.iter().cloned()).collect())].into())
            }
            Op::Diff => Err(BuildError::refused("diff operations are not supported")),
        }
    }

    /// A process will run on what this step makes: its sandbox is made ready meanwhile.
    fn prepare_for_dependents(&self, vertex: VertexId) {
        let op = |vertex: &VertexId| &self.definition.vertex(*vertex).op;
        let dependents = self.definition.dependents(vertex);
        let networks = dependents.iter().map(op).filter_map(|op| match op {
            Op::Exec(exec) => Some(exec.network == llb::NetworkMode::Default),
            _ => None,
        });
        let networks: Vec<bool> = networks.collect();
        if !networks.is_empty() {
            self.sandbox.prepare(networks.contains(&true));
        }
    }

    fn input_trees(&self, run: &Executed<'_, Outputs>) -> Vec<Tree> {
        let inputs = self.definition.inputs(run.vertex);
        inputs.iter().zip(&run.inputs).map(|(input, outputs)| outputs[input.output].clone()).collect()
    }

    fn layers_of(&self, tree: &Tree) -> Result<Arc<[LayerId]>, BuildError> {
        match tree {
            Tree::Layers(layers) => Ok(layers.clone()),
            Tree::Context(_) => Err(BuildError::refused("a directory of the client as a root file system")),
        }
    }

    async fn fetch(&self, vertex: VertexId, source: &SourceOp) -> Result<Outputs, BuildError> {
        let image = self.image(source).await?;
        let step = self.steps.id(vertex);
        self.images.fetch_layers(&image, &self.steps, step).await?;
        let diff_ids = &image.config.rootfs.diff_ids;
        if diff_ids.len() != image.manifest.layers.len() {
            return Err(BuildError::System {
                message: format!(
                    "the image's config names {} layers, its manifest {}",
                    diff_ids.len(),
                    image.manifest.layers.len()
                ),
                hint: None,
            });
        }
        let layers: Arc<[LayerId]> = diff_ids
            .iter()
            .zip(&image.manifest.layers)
            .map(|(diff_id, descriptor)| self.store.add_blob_layer(diff_id, descriptor))
            .collect();
        if !self.definition.dependents(vertex).is_empty() {
            self.layers.directories(&layers).await?;
        }
        Ok([Tree::Layers(layers)].into())
    }

    /// Opens a tree for reading.
    async fn view(&self, tree: &Tree) -> Result<Arc<View>, BuildError> {
        match tree {
            Tree::Context(view) => Ok(view.clone()),
            Tree::Layers(layers) => {
                let directories = self.layers.mountable(layers).await?;
                let machine = self.machine.clone();
                blocking(move || tree::view_of_layers(machine.host(), &directories).map_err(tree_error))
                    .await
                    .map(Arc::new)
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
            let view = self.view(&outputs[numbers[number].output]).await?;
            let definition = self.definition.clone();
            let digest = blocking(move || match &definition.vertex(vertex).op {
                Op::File(op) => {
                    let digest = file_op::input_digest(op, number, &view);
                    digest.map(|digest| digest.map(|d| d.digest)).map_err(file_error)
                }
                Op::Exec(op) => bind_digest(op, number, &view).map(Some),
                _ => unreachable!("only these ops read from inputs"),
            });
            digests.push(digest.await?);
        }
        Ok(digests)
    }

    async fn file(&self, run: &Executed<'_, Outputs>, op: &FileOp) -> Result<Outputs, BuildError> {
        let trees = self.input_trees(run);
        let mut views = Vec::with_capacity(trees.len());
        for tree in &trees {
            views.push(self.view(tree).await?);
        }
        // Nobody mounts the result: its content goes straight into a tar.
        let mounted = !self.definition.dependents(run.vertex).is_empty();
        let previous = if mounted { self.previous(run.vertex) } else { None };
        let mut outputs = Vec::new();
        for output in 0..Op::File(op.clone()).outputs() {
            let base: Arc<[LayerId]> = match file_op::base(op, output).map_err(file_error)? {
                FileInput::Input(number) => self.layers_of(&trees[number])?,
                _ => [].into(),
            };
            let (machine, store, layers) = (self.machine.clone(), self.store.clone(), self.layers.clone());
            let (op, views, below) = (op.clone(), views.clone(), base.clone());
            let steps = self.steps.clone();
            let previous = previous.clone();
            let written = blocking(move || {
                let inputs = views.iter().map(|view| Some(view.as_ref())).collect();
                let layer = FileLayer {
                    machine: &machine,
                    store: &store,
                    layers: &layers,
                    op: &op,
                    output,
                    inputs,
                    base: &below,
                    previous,
                    warn: &|warning| steps.warn(warning),
                };
                layer.write(mounted)
            });
            let written = written.await?;
            if output == 0 && mounted {
                self.remember_previous(run.vertex, &written);
            }
            outputs.push(Tree::Layers(base.iter().cloned().chain([written]).collect()));
        }
        Ok(outputs.into())
    }

    /// The layer that the same copy made last time: unchanged files are linked from it.
    fn previous(&self, vertex: VertexId) -> Option<LayerId> {
        let record = self.store.record(&previous_key(&self.definition, vertex))?;
        record.outputs.first()?.first().cloned()
    }

    fn remember_previous(&self, vertex: VertexId, layer: &LayerId) {
        let key = previous_key(&self.definition, vertex);
        self.store.put_record(&record(key, vec![vec![layer.clone()]]));
    }

    async fn exec(&self, run: &Executed<'_, Outputs>, op: &ExecOp) -> Result<Outputs, BuildError> {
        let trees = self.input_trees(run);
        let mut directories: BTreeMap<usize, Vec<PathBuf>> = BTreeMap::new();
        let mut bases: BTreeMap<usize, Arc<[LayerId]>> = BTreeMap::new();
        for (number, tree) in trees.iter().enumerate() {
            let layers = match tree {
                Tree::Layers(layers) => layers.clone(),
                Tree::Context(view) => self.snapshot(view).await?,
            };
            directories.insert(number, self.layers.mountable(&layers).await?);
            bases.insert(number, layers);
        }
        let (store, op_, secrets) = (self.store.clone(), op.clone(), self.secrets.clone());
        let machine = self.machine.clone();
        let token = run.cancel.clone();
        let inputs: Vec<Digest> = self
            .definition
            .inputs(run.vertex)
            .iter()
            .map(|input| self.definition.vertex(input.vertex).digest.clone())
            .collect();
        let below = directories.clone();
        let prepared = blocking(move || {
            let surroundings = Surroundings { machine: &machine, inputs: &inputs, secrets: &secrets };
            exec_op::prepare(&op_, &directories, &store, &surroundings, &|| token.is_cancelled())
        })
        .await?;
        let step = self.steps.id(run.vertex);
        let log_name = (self.build_id.clone(), step.0.to_string());
        let store = self.store.clone();
        let log = crate::steps::StepLog::new(self.steps.clone(), step, move || {
            store.log_writer(&log_name.0, &log_name.1).ok()
        });
        let ended = self.sandbox.run(prepared, log, &self.steps, &run.cancel).await?;
        if run.cancel.is_cancelled() {
            return Err(BuildError::Canceled);
        }
        let code = ended.status.code();
        let good = if op.valid_exit_codes.is_empty() { code == 0 } else { op.valid_exit_codes.contains(&code) };
        if !good {
            let error = self.exit_error(run.vertex, &ended.status);
            return Err(self.step_error(run.vertex, error, ended.tail, ended.log_path).with_exit_code(code));
        }
        let mut outputs = BTreeMap::new();
        for (output, written) in ended.outputs {
            let input = op.mounts.iter().find(|m| m.output == Some(output)).and_then(|m| m.input);
            let base = input.map(|input| bases[&input].clone()).unwrap_or_default();
            let lowers = input.map(|input| below[&input].clone()).unwrap_or_default();
            let (machine, store) = (self.machine.clone(), self.store.clone());
            let id = blocking(move || {
                let layer = stack::harvest(&machine, &store, &lowers, written)?;
                Ok(store.seal(layer))
            });
            let id = id.await?;
            self.layers.hash_later(&id, &base);
            outputs.insert(output, Tree::Layers(base.iter().cloned().chain([id]).collect()));
        }
        Ok(outputs.into_values().collect())
    }

    /// A context as layers: what a step mounts must be what was digested, with the ignore file
    /// applied, whatever happens to the directory meanwhile.
    async fn snapshot(&self, view: &Arc<View>) -> Result<Arc<[LayerId]>, BuildError> {
        let view = view.clone();
        let (machine, store, layers) = (self.machine.clone(), self.store.clone(), self.layers.clone());
        let steps = self.steps.clone();
        blocking(move || {
            let op = file_layer::copy_directory("/", None);
            let digest = file_op::input_digest(&op, 0, &view).map_err(file_error)?;
            let mut encoder = Encoder::new("context snapshot");
            encoder.text(digest.expect("the input is only read").digest.as_str());
            let key = encoder.finish();
            let known = store.record(&key).and_then(|r| r.outputs.into_iter().next());
            if let Some(known) = known {
                return Ok(known.into());
            }
            let layer = FileLayer {
                machine: &machine,
                store: &store,
                layers: &layers,
                op: &op,
                output: 0,
                inputs: vec![Some(&view)],
                base: &[],
                previous: None,
                warn: &|warning| steps.warn(warning),
            };
            let layer = layer.write(true)?;
            store.put_record(&record(key, vec![vec![layer.clone()]]));
            Ok([layer].into())
        })
        .await
    }

    fn exit_error(&self, vertex: VertexId, status: &executor::ExitStatus) -> BuildError {
        let metadata = &self.definition.vertex(vertex).metadata;
        let how = match status {
            executor::ExitStatus::OomKilled => "out of memory".to_owned(),
            _ => format!("exit code: {}", status.code()),
        };
        BuildError::System {
            message: format!("process {:?} did not complete successfully: {how}", metadata.command),
            hint: None,
        }
    }

    /// Says which step failed and where it stands in the Dockerfile.
    fn step_error(
        &self,
        vertex: VertexId,
        error: BuildError,
        log_tail: Vec<String>,
        log_path: Option<PathBuf>,
    ) -> BuildError {
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
                log_tail,
                log_path,
                hint,
            }),
        }
    }
}

impl BuildError {
    fn with_exit_code(mut self, code: i32) -> Self {
        if let Self::Step { failure } = &mut self {
            failure.exit_code = Some(code);
        }
        self
    }
}

/// A record made now.
pub(crate) fn record(key: Digest, outputs: Vec<Vec<LayerId>>) -> Record {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Record {
        key,
        outputs,
        blobs: Vec::new(),
        inputs: Vec::new(),
        name: String::new(),
        created: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        duration: 0,
        notes: BTreeMap::new(),
    }
}

/// What lowering asked for when it made this source.
pub(crate) fn image_request(source: &SourceOp) -> ImageRequest {
    match source {
        SourceOp::Image(image) => ImageRequest {
            reference: image.reference.clone(),
            platform: image.platform.clone(),
            layout: None,
        },
        SourceOp::OciLayout { name, reference, platform } => ImageRequest {
            reference: reference.clone(),
            platform: platform.clone(),
            layout: Some(name.clone()),
        },
        _ => unreachable!("asked only of images"),
    }
}

/// An image is what its manifest says.
pub(crate) fn image_key(image: &ResolvedImage) -> CacheKey {
    let mut encoder = Encoder::new("image");
    encoder.text(image.manifest_descriptor.digest.as_str());
    CacheKey(encoder.finish())
}

/// Key under which the last layer of a copy is remembered, whatever its content was.
fn previous_key(definition: &Definition, vertex: VertexId) -> Digest {
    let mut encoder = Encoder::new("previous layer");
    llb::encode::encode_op(&mut encoder, &definition.vertex(vertex).op);
    encoder.finish()
}

fn bind_digest(op: &ExecOp, input: usize, view: &View) -> Result<Digest, BuildError> {
    let mut encoder = Encoder::new("binds");
    for mount in op.mounts.iter().filter(|m| m.input == Some(input)) {
        let digest = tree::bind_digest(view, &mount.selector).map_err(tree_error)?;
        encoder.text(&mount.selector).text(digest.digest.as_str());
    }
    Ok(encoder.finish())
}

/// Errors of trees are the user's: a path that is not there, a file that cannot be read.
fn tree_error(error: tree::TreeError) -> BuildError {
    BuildError::Input { message: chain(&error), hint: None }
}

/// Enters a blocking room.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, BuildError> + Send + 'static,
) -> Result<T, BuildError> {
    tokio::task::spawn_blocking(work).await.expect("work in a blocking room does not panic")
}
