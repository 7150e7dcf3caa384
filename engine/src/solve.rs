//! Any definition, solved: by the worker, and again where the store has lost something or files have changed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache::LayerId;
use cache::layer::compress::Compression as Encoding;
use llb::{Definition, Input as VertexInput, VertexId};
use parser::lower::ImageRequest;
use solver::Slots;
use tokio_util::sync::CancellationToken;

use crate::error::BuildError;
use crate::layer::Layers;
use crate::progress::steps::Steps;
use crate::request::Secret;
use crate::source::contexts::{Contexts, Directory};
use crate::source::image::{Images, ResolvedImage};
use crate::step::files::Outputs;
use crate::step::worker::{BuildWorker, shipped};
use crate::stop::{in_time, until};
use crate::workspace::Workspace;

/// How often a build is tried: the store may have lost what it said it had, and people edit while they
/// build.
pub(crate) const ATTEMPTS: usize = 5;
/// How long a file that changes is left alone before the first new attempt; twice as long each time.
const AT_REST: Duration = Duration::from_millis(100);

/// A definition, and everything that solving it takes besides the store.
pub(crate) struct Job {
    pub(crate) definition: Arc<Definition>,
    /// What is wanted of it.
    pub(crate) targets: Vec<VertexInput>,
    /// Local contexts, by name.
    pub(crate) directories: BTreeMap<String, Directory>,
    pub(crate) images: Arc<Images>,
    /// Images that are known already, by what their vertices say.
    pub(crate) resolved: HashMap<ImageRequest, Arc<ResolvedImage>>,
    pub(crate) steps: Arc<Steps>,
    pub(crate) secrets: Vec<Secret>,
    /// Of each step.
    pub(crate) limits: executor::Limits,
    /// Bytes that each step may write.
    pub(crate) step_disk: Option<u64>,
    /// How many processes may run at once; `None` for what the machine can do.
    pub(crate) jobs: Option<usize>,
    /// In what forms the layers of the targets are wanted.
    pub(crate) encodings: Vec<Encoding>,
    /// The Dockerfile's name and text, for errors.
    pub(crate) dockerfile: (String, String),
    pub(crate) build_id: String,
    /// The time of the sources, in seconds since 1970.
    pub(crate) epoch: Option<i64>,
}

/// One try.
struct Attempt {
    layers: Arc<Layers>,
    is_last: bool,
}

impl Workspace {
    /// Solves the job and does with the layers of its targets what `finish` says, from the start again
    /// where the store turns out to have lost what it said it had, or a file has changed under the build.
    pub(crate) async fn carry_out<T>(
        &self,
        job: &Job,
        cancel: &CancellationToken,
        finish: impl AsyncFn(&Arc<Layers>, Vec<Vec<LayerId>>) -> Result<T, BuildError>,
    ) -> Result<T, BuildError> {
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
                Err(_) if attempt.layers.found_damage() => self.tell_store_warnings(&job.steps),
                _ => break outcome,
            }
            job.steps.start_again();
        };
        let flushed = in_time(cancel, self.flush()).await;
        if !cancel.is_cancelled() {
            self.make_room_again();
        }
        flushed.unwrap_or(Err(BuildError::Canceled)).and(outcome)
    }

    fn attempt(&self, job: &Job, cancel: &CancellationToken, number: usize) -> Attempt {
        let (store, machine) = (self.store.clone(), self.machine.clone());
        let layers = Layers::new(store, machine, job.steps.clone(), job.encodings.clone(), cancel);
        Attempt { layers: Arc::new(layers), is_last: number == ATTEMPTS }
    }

    /// Runs what must run; gives back the layers of each target.
    async fn solve_once(
        &self,
        job: &Job,
        attempt: &Attempt,
        cancel: &CancellationToken,
    ) -> Result<Vec<Vec<LayerId>>, BuildError> {
        let targets: Vec<VertexId> = job.targets.iter().map(|target| target.vertex).collect();
        let worker = Arc::new(self.worker(job, attempt, &targets));
        let slots = Arc::new(slots(job.jobs));
        let definition = job.definition.clone();
        let solved =
            solver::drive(worker.clone(), definition, &targets, slots, &job.build_id, cancel).await;
        if solved.is_err() {
            worker.contexts.abandon();
        }
        in_time(cancel, worker.contexts.save_indexes(&job.steps)).await;
        let results = solved.map_err(|failure| match failure {
            Some((_, error)) => error,
            None => BuildError::Canceled,
        })?;
        let by_vertex: BTreeMap<VertexId, Outputs> = targets.into_iter().zip(results).collect();
        let mut layers = Vec::with_capacity(job.targets.len());
        for target in &job.targets {
            let files = &by_vertex[&target.vertex][target.output];
            layers.push(worker.layers_of(files, cancel).await?.to_vec());
        }
        Ok(layers)
    }

    fn worker(&self, job: &Job, attempt: &Attempt, targets: &[VertexId]) -> BuildWorker {
        BuildWorker {
            definition: job.definition.clone(),
            shipped: shipped(&job.definition, targets),
            store: self.store.clone(),
            machine: self.machine.clone(),
            layers: attempt.layers.clone(),
            images: job.images.clone(),
            resolved: Mutex::new(job.resolved.clone()),
            steps: job.steps.clone(),
            contexts: Contexts::new(self.machine.clone(), job.directories.clone()),
            is_last_attempt: attempt.is_last,
            secrets: job.secrets.clone(),
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
