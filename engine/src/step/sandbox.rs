//! Running a prepared process: its output to the log, its end to the caller.

use std::collections::{BTreeMap, HashSet};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cache::{NewLayer, Store};
use executor::{Exhausted, ExitStatus, Running, SpawnError};
use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::error::{BuildError, Fault};
use crate::machine::Machine;
use crate::progress::event::Stream;
use crate::progress::steps::{StepLog, Steps};
use crate::spawn_hint::spawn_hint;
use crate::step::disk_budget::{DiskBudget, Overrun};
use crate::step::mount_points::MountPoints;
use crate::step::process::Prepared;

/// Bytes read from a process at once.
const CHUNK: usize = 64 << 10;

/// Where processes run.
pub(crate) struct Sandbox {
    machine: Arc<Machine>,
    /// What was said already: many steps have the same to say.
    told: Mutex<HashSet<String>>,
    prepared: AtomicBool,
    mount_points: MountPoints,
}

/// What is to run.
pub(crate) struct Task {
    pub(crate) prepared: Prepared,
    /// Bytes that it may write.
    pub(crate) disk: Option<u64>,
}

/// How a process ended, and what it left.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// The limit of its control group that it has run into.
    pub(crate) exhausted: Option<Exhausted>,
    /// Why it was to write no more.
    pub(crate) overrun: Option<Overrun>,
    /// What it wrote, by output number.
    pub(crate) outputs: BTreeMap<usize, NewLayer>,
    pub(crate) tail: Vec<String>,
    pub(crate) log_path: Option<PathBuf>,
}

impl Sandbox {
    pub(crate) fn new(machine: Arc<Machine>) -> Self {
        Self {
            machine,
            told: Mutex::default(),
            prepared: AtomicBool::new(false),
            mount_points: MountPoints::default(),
        }
    }

    /// What every root has beneath its layers.
    pub(crate) fn mount_points(&self, store: &Store) -> Result<PathBuf, BuildError> {
        self.mount_points.of(store)
    }

    /// Gets ready for the first process, in the background.
    pub(crate) fn prepare(&self, network: bool) {
        if self.prepared.swap(true, Ordering::Relaxed) {
            return;
        }
        let machine = self.machine.clone();
        tokio::task::spawn_blocking(move || {
            // A failure shows when the process runs.
            if let Ok(executor) = machine.executor() {
                executor.prepare(usize::from(network));
            }
        });
    }

    /// Runs a process to its end, or kills it when the build is cancelled. Returns only when
    /// nothing of it runs any more.
    pub(crate) async fn run(
        &self,
        task: Task,
        mut log: StepLog,
        steps: &Steps,
        cancel: &CancellationToken,
    ) -> Result<Ended, BuildError> {
        let Prepared { process, outputs, scratch, cache_mounts, agents } = task.prepared;
        let directories = outputs.values().chain(&scratch).map(NewLayer::fs).collect();
        let budget = Arc::new(DiskBudget::new(task.disk, directories));
        let machine = self.machine.clone();
        let mut running =
            blocking(move || machine.executor()?.spawn(process).map_err(spawn_error)).await?;
        for warning in running.warnings() {
            if self.told.lock().expect("no panic while held").insert(warning.clone()) {
                steps.warn(warning.clone());
            }
        }
        let stdout = receiver(running.stdout())?;
        let stderr = receiver(running.stderr())?;
        let running = Arc::new(running);
        let watch = tokio::spawn(watch(running.clone(), cancel.clone(), budget.clone()));
        copy_output(stdout, stderr, &mut log).await;
        let waiting = running.clone();
        let status = blocking(move || wait(&waiting)).await;
        let overrun = match watch.is_finished() {
            true => watch.await.unwrap_or(Ok(None))?,
            false => {
                watch.abort();
                budget.final_look().await?
            }
        };
        drop(agents);
        drop(cache_mounts);
        drop(scratch);
        let (tail, log_path) = log.finish();
        let exhausted = running.exhausted();
        Ok(Ended { status: status?, exhausted, overrun, outputs, tail, log_path })
    }
}

/// Kills the process when the build is cancelled, or when it takes too much of the disk.
async fn watch(
    running: Arc<Running>,
    cancel: CancellationToken,
    budget: Arc<DiskBudget>,
) -> Result<Option<Overrun>, BuildError> {
    let overrun = tokio::select! {
        () = cancel.cancelled() => Ok(None),
        overrun = budget.overrun() => overrun.map(Some),
    };
    running.kill();
    overrun
}

fn wait(running: &Running) -> Result<ExitStatus, BuildError> {
    running.wait().map_err(|e| BuildError::system("failed to wait for a process").because(e))
}

fn spawn_error(error: SpawnError) -> BuildError {
    let hint = match &error {
        SpawnError::NotFound { .. } => {
            Some("is it installed in an earlier step, and in a directory of PATH?".to_owned())
        }
        other => spawn_hint(other),
    };
    BuildError::System(Fault::of(error)).with_hint_if(hint)
}

fn receiver(pipe: Option<OwnedFd>) -> Result<Option<Receiver>, BuildError> {
    let open = |pipe| {
        Receiver::from_owned_fd(pipe)
            .map_err(|e| BuildError::system("failed to read a step's output").because(e))
    };
    pipe.map(open).transpose()
}

/// Copies both streams until both end: when the last process of the sandbox is gone.
async fn copy_output(
    mut stdout: Option<Receiver>,
    mut stderr: Option<Receiver>,
    log: &mut StepLog,
) {
    let mut out = vec![0; CHUNK];
    let mut err = vec![0; CHUNK];
    while stdout.is_some() || stderr.is_some() {
        tokio::select! {
            read = read(&mut stdout, &mut out) => match read {
                Some(length) => log.write(Stream::Stdout, &out[..length]),
                None => stdout = None,
            },
            read = read(&mut stderr, &mut err) => match read {
                Some(length) => log.write(Stream::Stderr, &err[..length]),
                None => stderr = None,
            },
        }
    }
}

async fn read(pipe: &mut Option<Receiver>, buffer: &mut [u8]) -> Option<usize> {
    match pipe {
        Some(pipe) => pipe.read(buffer).await.ok().filter(|length| *length > 0),
        None => std::future::pending().await,
    }
}
