//! Any definition, solved: by the worker, and again where the store has lost something or files have changed.
//!
//! [`Workspace::solve`] is for those who write definitions themselves; a Dockerfile's way here is `build`.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache::LayerId;
use llb::{Definition, Input as VertexInput, MountKind, Op, VertexId};
use oci::{Descriptor, DiffId};
use parser::lower::ImageRequest;
use solver::Slots;
use tokio_util::sync::CancellationToken;

use crate::blocking::{blocking, until};
use crate::client::Client;
use crate::error::BuildError;
use crate::layer::tar::Form;
use crate::layer::{AssembledLayer, Layers};
use crate::progress::event::Progress;
use crate::progress::steps::Steps;
use crate::request::PullPolicy;
use crate::shared_cache::SharedCache;
use crate::source::contexts::{Contexts, Directory};
use crate::source::git::Repositories;
use crate::source::http::HttpFiles;
use crate::source::image::{Images, ResolvedImage};
use crate::step::files::Outputs;
use crate::step::worker::{BuildWorker, shipped};
use crate::stop::in_time;
use crate::tree::View;
use crate::workspace::Workspace;

/// How often a build is tried: the store may have lost what it said it had, and people edit while they
/// build.
pub(crate) const ATTEMPTS: usize = 5;
/// How long a file that changes is left alone before the first new attempt; twice as long each time.
const AT_REST: Duration = Duration::from_millis(100);

/// A definition to solve.
#[derive(Debug, Clone)]
pub struct SolveRequest {
    /// The steps.
    pub definition: Definition,
    /// What is wanted of them.
    pub targets: Vec<VertexInput>,
    /// When images are looked up in their registries.
    pub pull: PullPolicy,
    /// Nothing is asked of the network, whatever the source. Steps keep theirs.
    pub offline: bool,
    /// Limits of each step.
    pub limits: executor::Limits,
    /// Bytes that each step may write; `None` leaves a reserve of the disk free.
    pub step_disk: Option<u64>,
    /// How many processes may run at once; `None` for what the machine can do.
    pub jobs: Option<usize>,
}

/// What solving gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Solved {
    /// The layers of each target, the bottom one first. The store has all of them.
    pub targets: Vec<Vec<SolvedLayer>>,
    /// Names this build among all builds of the machine; its logs are kept under it.
    pub build_id: String,
}

/// A layer as an image would name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SolvedLayer {
    /// Digest of its tar.
    pub diff_id: DiffId,
    /// Its blob in the store.
    pub blob: Descriptor,
}

/// What becomes of the targets of a job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Images are made of their layers.
    Image,
    /// Their files are read.
    Reading,
}

/// A definition, and everything that solving it takes besides the store.
pub(crate) struct Job {
    pub(crate) definition: Arc<Definition>,
    /// What is wanted of it.
    pub(crate) targets: Vec<VertexInput>,
    pub(crate) purpose: Purpose,
    /// What is built besides; its results go nowhere.
    pub(crate) also: Vec<VertexId>,
    /// Local contexts that are at hand already, by name.
    pub(crate) directories: BTreeMap<String, Directory>,
    pub(crate) images: Arc<Images>,
    pub(crate) git: Arc<Repositories>,
    pub(crate) http: Arc<HttpFiles>,
    /// Images that are known already, by what their vertices say.
    pub(crate) resolved: HashMap<ImageRequest, Arc<ResolvedImage>>,
    pub(crate) shared: Arc<SharedCache>,
    pub(crate) steps: Arc<Steps>,
    pub(crate) client: Arc<dyn Client>,
    /// Of each step.
    pub(crate) limits: executor::Limits,
    /// Bytes that each step may write.
    pub(crate) step_disk: Option<u64>,
    /// How many processes may run at once; `None` for what the machine can do.
    pub(crate) jobs: Option<usize>,
    /// In what forms the layers of the targets are wanted.
    pub(crate) forms: Vec<Form>,
    /// The Dockerfile's name and text, for errors.
    pub(crate) dockerfile: Option<(String, String)>,
    pub(crate) build_id: String,
    /// The time of the sources, in seconds since 1970.
    pub(crate) epoch: Option<i64>,
}

impl Job {
    fn target_vertices(&self) -> Vec<VertexId> {
        self.targets.iter().map(|target| target.vertex).collect()
    }

    /// Ids of the cache mounts that steps find empty.
    fn emptied_cache_mounts(&self) -> BTreeSet<String> {
        let mut ids = BTreeSet::new();
        for vertex in self.definition.reachable(&self.wanted()) {
            let llb::Vertex { op, metadata, .. } = self.definition.vertex(vertex);
            let Op::Exec(exec) = op else { continue };
            let mounts = exec.mounts.iter().filter(|_| metadata.empties_cache_mounts);
            ids.extend(mounts.filter_map(|mount| match &mount.kind {
                MountKind::Cache { id, .. } => Some(id.clone()),
                _ => None,
            }));
        }
        ids
    }

    /// Everything that has to be built.
    fn wanted(&self) -> Vec<VertexId> {
        [self.target_vertices(), self.also.clone()].concat()
    }
}

/// One try.
struct Attempt {
    layers: Arc<Layers>,
    is_last: bool,
}

impl Workspace {
    /// Solves a definition. `cancel` stops it: running steps are killed, nothing is left behind.
    pub async fn solve(
        &self,
        request: SolveRequest,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Result<Solved, BuildError> {
        let job = self.job(request, Purpose::Image, client, progress);
        let solved = self.carry_out(&job, &cancel, async |layers, trees| {
            let mut targets = Vec::with_capacity(trees.len());
            for tree in trees {
                let assembled = layers.assembled(&tree).await?.into_iter();
                let layer =
                    |l: AssembledLayer| SolvedLayer { diff_id: l.diff_id, blob: l.descriptor };
                targets.push(assembled.map(layer).collect());
            }
            Ok(Solved { targets, build_id: job.build_id.clone() })
        });
        self.ended(solved.await, &job.steps, &cancel)
    }

    /// Solves a definition and opens the tree that its targets are over each other: it can be read for as long
    /// as the view is kept. No layer is made into what an image names.
    pub async fn read(
        &self,
        request: SolveRequest,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Result<Arc<View>, BuildError> {
        let job = self.job(request, Purpose::Reading, client, progress);
        let read = self.carry_out(&job, &cancel, async |layers, trees| {
            let rootfs = layers.rootfs(&trees.concat()).await?;
            blocking(move || Ok(Arc::new(rootfs.view()?))).await
        });
        self.ended(read.await, &job.steps, &cancel)
    }

    fn job(
        &self,
        request: SolveRequest,
        purpose: Purpose,
        client: Arc<dyn Client>,
        progress: Arc<dyn Progress>,
    ) -> Job {
        let (store, registries) = (self.store.clone(), self.registries(client.as_ref()));
        let (pull, offline) = (request.pull, request.offline);
        Job {
            definition: Arc::new(request.definition),
            targets: request.targets,
            purpose,
            also: Vec::new(),
            directories: BTreeMap::new(),
            images: Arc::new(Images::new(
                store.clone(),
                registries,
                pull,
                offline,
                BTreeMap::new(),
            )),
            git: Arc::new(Repositories::new(store, client.clone(), offline)),
            http: self.http_files(&client, offline, request.step_disk),
            resolved: HashMap::new(),
            shared: Arc::default(),
            steps: Arc::new(Steps::new(progress)),
            client,
            limits: request.limits,
            step_disk: request.step_disk,
            jobs: request.jobs,
            forms: Vec::new(),
            dockerfile: None,
            build_id: unique_id(),
            epoch: None,
        }
    }

    /// Tells what is to be told at the end of a build.
    pub(crate) fn ended<T>(
        &self,
        result: Result<T, BuildError>,
        steps: &Steps,
        cancel: &CancellationToken,
    ) -> Result<T, BuildError> {
        steps.close(result.is_ok());
        self.tell_store_warnings(steps);
        if cancel.is_cancelled() && result.is_err() {
            return Err(BuildError::Canceled);
        }
        result.map_err(|error| error.with_room(self.store.room()))
    }

    /// Solves the job and does with the layers of its targets what `finish` says, from the start again
    /// where the store turns out to have lost what it said it had, or a file has changed under the build.
    pub(crate) async fn carry_out<T>(
        &self,
        job: &Job,
        cancel: &CancellationToken,
        finish: impl AsyncFn(&Arc<Layers>, Vec<Vec<LayerId>>) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
        job.steps.add_plan(&job.definition, &job.wanted());
        self.tell_snapshotter(&job.steps).await?;
        self.empty_cache_mounts(job, cancel).await?;
        let mut number = 0;
        let outcome = loop {
            number += 1;
            let attempt = self.attempt(job, cancel, number);
            let outcome = match self.solve_once(job, &attempt, cancel).await {
                Ok(layers) => until(cancel, finish(&attempt.layers, layers)).await,
                Err(error) => Err(error),
            };
            in_time(cancel, attempt.layers.close()).await;
            if attempt.is_last || cancel.is_cancelled() {
                break outcome;
            }
            match &outcome {
                Err(BuildError::Changed { path, what }) => {
                    job.steps.warn(format!(
                        "`{path}` changed while the build ran ({what}): the steps that take it in \
                         start again"
                    ));
                    until(cancel, rest(number)).await?;
                }
                Err(BuildError::Lost(_)) => self.tell_store_warnings(&job.steps),
                _ => break outcome,
            }
            job.steps.start_again();
        };
        job.shared.keep(&self.store);
        let flushed = in_time(cancel, self.flush()).await;
        if !cancel.is_cancelled() {
            self.make_room_again();
        }
        flushed.unwrap_or(Err(BuildError::Canceled)).and(outcome)
    }

    /// Takes away what the cache mounts of steps hold that are to run as if nothing were known.
    async fn empty_cache_mounts(
        &self,
        job: &Job,
        cancel: &CancellationToken,
    ) -> Result<(), BuildError> {
        let ids = job.emptied_cache_mounts();
        if ids.is_empty() {
            return Ok(());
        }
        job.shared.mounts.begin_empty(&ids);
        let step = job.steps.internal("emptying cache mounts");
        let (store, token) = (self.store.clone(), cancel.clone());
        let emptied = blocking(move || {
            let emptied = store.empty_cache_mounts(&ids, &|| token.is_cancelled());
            emptied.map_err(|e| BuildError::system("failed to empty cache mounts").because(e))
        });
        match step.ended(emptied.await)? {
            true => Ok(()),
            false => Err(BuildError::Canceled),
        }
    }

    fn attempt(&self, job: &Job, cancel: &CancellationToken, number: usize) -> Attempt {
        let (store, machine) = (self.store.clone(), self.machine.clone());
        let (steps, forms) = (job.steps.clone(), job.forms.clone());
        let absent = job.shared.absent().clone();
        let layers = Layers::new(store, machine, steps, forms, absent, cancel);
        Attempt { layers: Arc::new(layers), is_last: number == ATTEMPTS }
    }

    /// Runs what must run; gives back the layers of each target.
    async fn solve_once(
        &self,
        job: &Job,
        attempt: &Attempt,
        cancel: &CancellationToken,
    ) -> Result<Vec<Vec<LayerId>>, BuildError> {
        let wanted = job.wanted();
        let worker = Arc::new(self.worker(job, attempt));
        let slots = Arc::new(slots(job.jobs));
        let definition = job.definition.clone();
        let solved =
            solver::drive(worker.clone(), definition, &wanted, slots, &job.build_id, cancel).await;
        if solved.is_err() {
            worker.contexts.abandon();
        }
        in_time(cancel, worker.contexts.save_indexes(&job.steps)).await;
        let results = solved.map_err(|failure| match failure {
            Some((_, error)) => error,
            None => BuildError::Canceled,
        })?;
        let by_vertex: BTreeMap<VertexId, Outputs> = wanted.into_iter().zip(results).collect();
        let mut layers = Vec::with_capacity(job.targets.len());
        for target in &job.targets {
            let files = &by_vertex[&target.vertex][target.output];
            layers.push(worker.layers_of(files, cancel).await?.to_vec());
        }
        Ok(layers)
    }

    fn worker(&self, job: &Job, attempt: &Attempt) -> BuildWorker {
        BuildWorker {
            definition: job.definition.clone(),
            shipped: match job.purpose {
                Purpose::Image => shipped(&job.definition, &job.target_vertices()),
                Purpose::Reading => HashSet::new(),
            },
            read: match job.purpose {
                Purpose::Image => HashSet::new(),
                Purpose::Reading => job.target_vertices().into_iter().collect(),
            },
            store: self.store.clone(),
            machine: self.machine.clone(),
            layers: attempt.layers.clone(),
            images: job.images.clone(),
            git: job.git.clone(),
            http: job.http.clone(),
            resolved: Mutex::new(job.resolved.clone()),
            shared: job.shared.clone(),
            copied: Mutex::default(),
            steps: job.steps.clone(),
            contexts: Contexts::new(
                self.machine.clone(),
                job.client.clone(),
                job.directories.clone(),
            ),
            is_last_attempt: attempt.is_last,
            client: job.client.clone(),
            sandbox: self.sandbox.clone(),
            rules: self.rules.clone(),
            limits: job.limits.clone(),
            step_disk: job.step_disk,
            dockerfile: job.dockerfile.clone(),
            build_id: job.build_id.clone(),
            epoch: job.epoch,
        }
    }
}

/// Builds of this process, to tell apart those that start at the same instant.
static BUILDS: AtomicU64 = AtomicU64::new(0);

/// A name that no other build of this machine has.
pub(crate) fn unique_id() -> String {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let count = BUILDS.fetch_add(1, Ordering::Relaxed);
    format!("{:x}-{:x}-{count:x}", since.as_nanos(), std::process::id())
}

/// Lets a file that changed come to rest before attempt `number + 1`.
async fn rest(number: usize) -> Result<(), BuildError> {
    tokio::time::sleep(AT_REST * (1 << (number - 1))).await;
    Ok(())
}

/// How many processes may run at once. Without a wish: one a core, at least 4, and more while
/// cores idle because the processes mostly wait.
fn slots(jobs: Option<usize>) -> Slots {
    if let Some(jobs) = jobs {
        return Slots::strict(jobs);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Slots::elastic(cores.max(4), move || runnable().is_some_and(|running| running <= cores))
}

/// Threads that want a core right now, this one not counted.
fn runnable() -> Option<usize> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let (running, _) = load.split_whitespace().nth(3)?.split_once('/')?;
    Some(running.parse::<usize>().ok()?.saturating_sub(1))
}
