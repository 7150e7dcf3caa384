//! Containers: one command of an image, in the foreground, on a writable layer.
//!
//! A container runs in the sandbox of a build's steps, with Docker's rules for what to run, as whom
//! and where. What the command wrote outside of bind mounts is removed at [`Container::end`], but for what
//! one with a name has written to its root: that stays in the store (see [`crate::containers`]).

mod image;
mod process;
mod signal;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;

use cache::{CreateContainerError, NewLayer, OwnContainer};
use executor::{Executor, NetworkUsed, Running, SpawnError};
use oci::Platform;
use registry::chain;
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::client::Client;
use crate::error::BuildError;
use crate::progress::event::Progress;
use crate::request::{NetworkMode, PullPolicy, Ulimit};
use crate::workspace::Workspace;

pub use executor::{
    ExitStatus, HostAddress, PortForward, Propagation, Protocol, Tmpfs as TmpfsOptions,
};
pub use signal::number as signal_number;

/// What to run, and how it differs from what the image says.
#[derive(Debug, Clone, Default)]
pub struct RunRequest {
    /// Name, digest or id of the image.
    pub image: String,
    /// The platform wanted; `None` for this machine's.
    pub platform: Option<Platform>,
    /// When the image is looked up in its registry.
    pub pull: PullPolicy,
    /// Arguments, or program and arguments; nothing for the image's `CMD`.
    pub command: Vec<String>,
    /// Replaces the image's `ENTRYPOINT` (by none, if empty) and drops its `CMD`.
    pub entrypoint: Option<Vec<String>>,
    /// Variables for proxies: as [`Self::env`], which counts more, but no image that is made of the
    /// container has them.
    pub proxies: Vec<(String, String)>,
    /// Added to the image's environment.
    pub env: Vec<(String, String)>,
    /// Working directory, absolute; made if missing.
    pub workdir: Option<String>,
    /// Whether process 1 is ours, which reaps, and not the command.
    pub init: bool,
    /// User, as in [`executor::Process::user`].
    pub user: Option<String>,
    /// Host name; `None` for one at random.
    pub hostname: Option<String>,
    /// What of the network it sees.
    pub network: NetworkMode,
    /// Ports led into it.
    pub ports: Vec<PortForward>,
    /// Lines for `/etc/hosts`.
    pub extra_hosts: Vec<(String, HostAddress)>,
    /// Files and directories of the host.
    pub binds: Vec<Bind>,
    /// Directories whose content is the image's and can be written, besides those of the image's
    /// `VOLUME`.
    pub volumes: Vec<String>,
    /// Empty directories in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Whether the root is read-only.
    pub readonly_root: bool,
    /// Bytes of `/dev/shm`, 0 for the default.
    pub shm_size: u64,
    /// Resource limits.
    pub ulimits: Vec<Ulimit>,
    /// Limits by control group.
    pub limits: ResourceLimits,
    /// Signal that asks it to stop; `None` for the image's.
    pub stop_signal: Option<i32>,
    /// Name that no other container of the store may have. With one it stays when its command has ended.
    pub name: Option<ContainerName>,
    /// Where its streams go.
    pub streams: Streams,
}

/// What a container is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerName {
    /// Its name.
    pub name: String,
    /// It goes when its command ends.
    pub is_removed_at_end: bool,
}

/// A file or directory of the host in a container, with all that is mounted beneath it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bind {
    /// Its path on the host; a missing directory is made.
    pub source: PathBuf,
    /// Its absolute path in the container.
    pub target: String,
    /// Whether the container may not write to it.
    pub readonly: bool,
    /// Whether later mounts beneath it are seen on the other side.
    pub propagation: Propagation,
}

/// An empty directory in memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tmpfs {
    /// Its absolute path in the container.
    pub target: String,
    /// Its limits, its owner and mode.
    pub options: TmpfsOptions,
    /// Whether the container may not write to it.
    pub readonly: bool,
}

/// Limits by control group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ResourceLimits {
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Thousandths of a processor.
    pub milli_cpus: Option<u64>,
    /// Processes and threads.
    pub pids: Option<u64>,
}

/// Where a container's streams go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Pipes.
    Piped {
        /// Whether there is one for the input; without it the input is empty.
        stdin: bool,
    },
    /// A terminal.
    Terminal {
        /// Its height in lines.
        rows: u16,
        /// Its width in columns.
        columns: u16,
    },
}

impl Default for Streams {
    fn default() -> Self {
        Self::Piped { stdin: false }
    }
}

/// Why a container could not be started.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Its image or its request cannot be used.
    #[error(transparent)]
    Request(#[from] BuildError),
    /// Its process did not start.
    #[error("{}", chain(.0))]
    Spawn(SpawnError),
}

impl RunError {
    /// How to go on.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Spawn(error) => crate::spawn_hint::spawn_hint(error),
            Self::Request(_) => None,
        }
    }

    /// Docker's exit code: 127 not found, 126 not executable, 125 anything else.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::Request(_) => 125,
            Self::Spawn(error) => error.exit_code(),
        }
    }
}

/// A running container. Dropped before [`Container::wait`] it is killed.
pub struct Container {
    /// The writing end of its input, if it was asked for.
    pub stdin: Option<OwnedFd>,
    /// The reading end of its output, without a terminal.
    pub stdout: Option<OwnedFd>,
    /// The reading end of its error output, without a terminal.
    pub stderr: Option<OwnedFd>,
    /// The other end of its terminal.
    pub terminal: Option<OwnedFd>,
    /// The signal that asks it to stop.
    pub stop_signal: i32,
    /// What is not as it was asked for, a sentence each.
    pub warnings: Vec<String>,
    running: Arc<Running>,
    scratch: Scratch,
    upper: Upper,
}

/// Directories for writes that nobody keeps; removed when dropped.
#[derive(Default)]
struct Scratch(Vec<NewLayer>);

/// Where a container writes to its root.
enum Upper {
    /// Removed when dropped.
    Scratch(NewLayer),
    /// It stays.
    Kept(Box<OwnContainer>),
}

impl Workspace {
    /// Starts a container; an image that is missing is pulled first, as the request allows.
    pub async fn run(
        &self,
        request: RunRequest,
        client: &dyn Client,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Result<Container, RunError> {
        let started = self.start(request, client, progress, cancel).await;
        started.map_err(|error| match error {
            RunError::Request(error) => error.with_room(self.store.room()).into(),
            error @ RunError::Spawn(_) => error,
        })
    }

    async fn start(
        &self,
        request: RunRequest,
        client: &dyn Client,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Result<Container, RunError> {
        let image = tokio::select! {
            image = self.image_to_run(&request, client, progress, cancel.clone()) => image?,
            () = cancel.cancelled() => return Err(BuildError::Canceled.into()),
        };
        // It may run for long: what it needs is not to be in the way of everybody else's garbage.
        if !self.store.use_image(&image.id) {
            let message = "failed to note in the store that the image is in use".to_owned();
            return Err(BuildError::system(message).into());
        }
        let stop_signal =
            request.stop_signal.or_else(|| signal::number(&image.config.config.stop_signal));
        let machine = self.machine.clone();
        let store = self.store.clone();
        let started = blocking(move || {
            let executor = machine.executor()?;
            check_ports(executor, &request)?;
            let prepared = process::prepare(&machine, &store, &request, &image)?;
            let process::Prepared { process, scratch, mut upper } = prepared;
            let running = match executor.spawn(process) {
                Ok(running) => running,
                Err(error) => return Ok(Err(RunError::Spawn(error))),
            };
            if let Upper::Kept(container) = &mut upper {
                container.started().map_err(kept)?;
            }
            Ok(Ok((running, scratch, upper)))
        });
        let (mut running, scratch, upper) = started.await??;
        let terminal = running.terminal();
        let terminal =
            terminal.map_err(|e| BuildError::system("failed to open the terminal").because(e))?;
        Ok(Container {
            stdin: running.stdin(),
            stdout: running.stdout(),
            stderr: running.stderr(),
            terminal,
            stop_signal: stop_signal.unwrap_or(signal::TERMINATE),
            warnings: running.warnings().to_vec(),
            running: Arc::new(running),
            scratch,
            upper,
        })
    }
}

fn kept(error: cache::StoreError) -> BuildError {
    BuildError::system("failed to keep the container").because(error)
}

fn not_made(error: CreateContainerError) -> BuildError {
    match error {
        CreateContainerError::Store(error) => kept(error),
        CreateContainerError::Taken(known) => {
            let hint = match known.is_running() {
                true => "choose another `--name`, or leave it out".to_owned(),
                false => format!("`mybuild rm {}` removes it", known.record.name),
            };
            BuildError::refused(CreateContainerError::Taken(known).to_string()).with_hint(hint)
        }
    }
}

/// Without a network of its own a container has the host's, where its ports are open as it opens
/// them.
fn check_ports(executor: &Executor, request: &RunRequest) -> Result<(), BuildError> {
    let (NetworkMode::Default, Err(why)) = (request.network, executor.network_helper()) else {
        return Ok(());
    };
    let differs = |port: &&PortForward| port.host != port.container || port.address.is_some();
    match request.ports.iter().find(differs) {
        Some(port) => {
            Err(BuildError::refused(format!("port {} cannot be published: {why}", port.container))
                .with_hint(why.hint()))
        }
        None => Ok(()),
    }
}

impl Container {
    /// Which network it got.
    pub fn network(&self) -> NetworkUsed {
        self.running.network()
    }

    /// Where its forwarded ports can be reached, in the order they were asked for.
    pub fn ports(&self) -> &[std::net::SocketAddr] {
        self.running.ports()
    }

    /// Sends a signal to the command, by its number.
    pub fn signal(&self, signal: i32) -> io::Result<()> {
        self.running.signal(signal)
    }

    /// Kills everything in it; [`Container::wait`] tells the end.
    pub fn kill(&self) {
        self.running.kill();
    }

    /// Tells its terminal a new size.
    pub fn resize(&self, rows: u16, columns: u16) -> io::Result<()> {
        self.running.resize(rows, columns)
    }

    /// Waits until the command has ended and everything it started is gone.
    pub async fn wait(&self) -> Result<ExitStatus, BuildError> {
        let running = self.running.clone();
        blocking(move || {
            running
                .wait()
                .map_err(|e| BuildError::system("failed to wait for the container").because(e))
        })
        .await
    }

    /// Its command has `ended`: removes what is left of it on disk, or notes how it ended if it stays.
    pub async fn end(self, ended: &ExitStatus) -> Result<(), BuildError> {
        let Self { running, scratch, upper, .. } = self;
        let code = ended.code();
        blocking(move || {
            drop(running);
            drop(scratch);
            match upper {
                Upper::Scratch(layer) => drop(layer),
                Upper::Kept(container) => container.ended(code).map_err(kept)?,
            }
            Ok(())
        })
        .await
    }
}
