//! Why a process could not be started, in the two forms it takes: as data that crosses from the
//! sandbox to its parent ([`Failure`]), and as the error a caller sees ([`SpawnError`]).

use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::emulator::NoEmulator;
use crate::identity::UserError;
use crate::overlay::OverlayError;

/// Why a process could not be started. A process that starts and fails is no error.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no program to run.
    #[error("no command given")]
    NoCommand,
    /// A string that the kernel takes as zero-terminated contains a zero byte.
    #[error("{what} contains a zero byte")]
    ZeroByte {
        /// Which.
        what: &'static str,
    },
    /// The program is not in the root, or not in any directory of `PATH`.
    #[error("`{program}` not found in the image")]
    NotFound {
        /// As it was asked for.
        program: String,
    },
    /// The program is there and cannot be run.
    #[error("`{program}` cannot be executed{hint}")]
    NotExecutable {
        /// As it was asked for.
        program: String,
        /// What may be wrong, or empty.
        hint: &'static str,
        /// The kernel's word.
        source: io::Error,
    },
    /// The program is there, for an architecture that nothing here runs.
    #[error("`{program}` cannot be executed: nothing here runs programs for {architecture}")]
    Foreign {
        /// As it was asked for.
        program: String,
        /// Of the image.
        architecture: String,
        /// Why not.
        source: NoEmulator,
    },
    /// The emulator that was chosen cannot be used.
    #[error("programs for {architecture} cannot be run")]
    Emulator {
        /// What it is to run.
        architecture: String,
        /// Why not.
        #[source]
        why: NoEmulator,
    },
    /// The user or group does not resolve.
    #[error(transparent)]
    User(#[from] UserError),
    /// The root's layers do not mount.
    #[error("failed to mount the root file system")]
    Root(#[source] OverlayError),
    /// The directory that is to be the root does not open.
    #[error("failed to open the root directory `{}`", path.display())]
    RootDirectory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// What is to be mounted does not open or mount.
    #[error("failed to open `{origin}` for the mount at `{target}`")]
    MountSource {
        /// What was to be mounted.
        origin: String,
        /// Where.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// Layers that are to be mounted do not.
    #[error("failed to mount layers at `{target}`")]
    MountLayers {
        /// Where.
        target: String,
        /// Why.
        source: OverlayError,
    },
    /// A mount in the sandbox fails.
    #[error("failed to mount `{target}`")]
    Mount {
        /// Where.
        target: String,
        /// Why.
        source: io::Error,
    },
    /// The image has a symbolic link where a system directory has to be.
    #[error("`{target}` in the image is not a directory")]
    NotADirectory {
        /// Where.
        target: String,
    },
    /// The working directory cannot be entered.
    #[error("failed to enter the working directory `{path}`")]
    WorkingDirectory {
        /// As asked for.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// A resource limit is unknown or cannot be set.
    #[error("failed to set the limit `{name}`")]
    Rlimit {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// Limits by control group were asked for and are not available.
    #[error("cannot limit {what}: {reason}")]
    Limit {
        /// Which resource.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The network cannot be prepared.
    #[error("failed to prepare the network: {what}")]
    Network {
        /// What was being done.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A port cannot be listened on.
    #[error("cannot forward port {port}")]
    Port {
        /// The port of the host.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// Anything else on the way.
    #[error("failed to {action}")]
    Setup {
        /// What was being done.
        action: String,
        /// Why.
        source: io::Error,
    },
    /// The sandbox was killed before the process started.
    #[error("the sandbox ended before the process started")]
    Ended,
}

impl SpawnError {
    /// The exit code a shell would give: 127 not found, 126 not executable, 125 anything else.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } | Self::Foreign { .. } => 126,
            _ => 125,
        }
    }

    pub(crate) fn setup(action: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self::Setup { action: action.into(), source: source.into() }
    }

    pub(crate) fn network(what: impl Into<String>, source: io::Error) -> Self {
        Self::Network { what: what.into(), source }
    }
}

/// What failed inside the sandbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Step {
    NotFound,
    NotExecutable,
    Mount,
    /// This part of what was to be mounted does not open.
    Part(String),
    NotADirectory,
    WorkingDirectory,
    Rlimit,
    Setup,
}

/// A failure inside the sandbox, as it crosses to the parent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Failure {
    pub(crate) step: Step,
    /// The path, program or action it happened to.
    pub(crate) subject: String,
    pub(crate) errno: i32,
}

impl Failure {
    pub(crate) fn new(step: Step, subject: impl Into<String>, error: impl Into<io::Error>) -> Self {
        let errno = error.into().raw_os_error().unwrap_or(libc::EIO);
        let step = match step {
            Step::Part(origin) => Step::Part(shortened(origin)),
            step => step,
        };
        Self { step, subject: shortened(subject.into()), errno }
    }

    /// For `map_err`: the action that failed.
    pub(crate) fn setup<E: Into<io::Error>>(action: &str) -> impl FnOnce(E) -> Self + '_ {
        move |error| Self::new(Step::Setup, action, error)
    }

    /// For `map_err`: the path that could not be mounted.
    pub(crate) fn mount<E: Into<io::Error>>(target: &str) -> impl FnOnce(E) -> Self + '_ {
        move |error| Self::new(Step::Mount, target, error)
    }
}

/// Longer names cannot exist (`PATH_MAX`), but they can be asked for, and a failure has to fit into
/// one message.
const NAME_MAX: usize = 4096;

fn shortened(mut name: String) -> String {
    if name.len() > NAME_MAX {
        name.truncate(name.floor_char_boundary(NAME_MAX));
        name.push('…');
    }
    name
}

impl From<Failure> for SpawnError {
    fn from(failure: Failure) -> Self {
        let Failure { step, subject, errno } = failure;
        let source = io::Error::from_raw_os_error(errno);
        match step {
            Step::NotFound => Self::NotFound { program: subject },
            Step::NotExecutable => {
                let hint = match errno {
                    libc::ENOENT => ": its interpreter is missing in the image",
                    libc::ENOEXEC => ": it is a program for another architecture, or none",
                    _ => "",
                };
                Self::NotExecutable { program: subject, hint, source }
            }
            Step::Mount => Self::Mount { target: subject, source },
            Step::Part(origin) => Self::MountSource { origin, target: subject, source },
            Step::NotADirectory => Self::NotADirectory { target: subject },
            Step::WorkingDirectory => Self::WorkingDirectory { path: subject, source },
            Step::Rlimit => Self::Rlimit { name: subject, source },
            Step::Setup => Self::Setup { action: subject, source },
        }
    }
}
