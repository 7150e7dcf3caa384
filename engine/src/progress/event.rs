//! What a build tells while it runs.

use std::path::PathBuf;
use std::time::Duration;

/// Receives events. Called from many threads; must return at once.
pub trait Progress: Send + Sync {
    /// One event.
    fn event(&self, event: Event);

    /// Whether it shows [`Event::StepChanged`], which has to be looked up.
    fn shows_changes(&self) -> bool {
        true
    }
}

/// Progress that nobody follows.
pub(crate) struct Silence;

impl Progress for Silence {
    fn event(&self, _: Event) {}
}

/// Number of a step in this build, from 1, in the order in which steps become known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StepId(pub u32);

/// Something happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A step exists. All steps of the plan come before the first starts.
    StepAdded {
        /// Its number.
        step: StepId,
        /// What the user sees: `[build 2/5] RUN make`.
        name: String,
        /// Its stage, empty for internal steps.
        stage: String,
        /// Lines of the Dockerfile, 1-based.
        lines: Option<(u32, u32)>,
    },
    /// A step runs.
    StepStarted {
        /// Its number.
        step: StepId,
    },
    /// What a step that runs is made from is not what it was when the same instruction last ran.
    StepChanged {
        /// Its number.
        step: StepId,
        /// Names of what differs (`variable VERSION`, `files src/main.c`), sorted.
        parts: Vec<String>,
    },
    /// A step's result was known.
    StepCached {
        /// Its number.
        step: StepId,
    },
    /// A step ended well.
    StepDone {
        /// Its number.
        step: StepId,
        /// How long it ran.
        duration: Duration,
    },
    /// A step failed.
    StepFailed {
        /// Its number.
        step: StepId,
        /// Why, one line.
        message: String,
    },
    /// A step was stopped because the build ended before it.
    StepCanceled {
        /// Its number.
        step: StepId,
    },
    /// A step's process was stopped because the build was. Its [`Event::StepCanceled`] follows.
    StepStopped(StoppedStep),
    /// Output of a step's process, or of the builder on its behalf.
    Log {
        /// The step.
        step: StepId,
        /// Where the process wrote it.
        stream: Stream,
        /// Bytes as written, whole or partial lines.
        data: Vec<u8>,
    },
    /// How far a transfer, an unpacking or a compression is.
    Transfer {
        /// The step.
        step: StepId,
        /// What is transferred: `sha256:1234abcd…`, `exporting layers`, `transferring context`.
        item: String,
        /// Bytes done.
        current: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
        /// No more to come for this item.
        done: bool,
    },
    /// Worth telling once (`the host's network is used: …`).
    Warning {
        /// One line.
        message: String,
    },
    /// The Dockerfile as read: what [`Event::Lint`] points into. It comes before the first of them.
    Dockerfile {
        /// Its name for messages.
        name: String,
        /// Its text.
        text: std::sync::Arc<str>,
    },
    /// Something doubtful in the Dockerfile.
    Lint(parser::Diagnostic),
}

/// What a step had written when it was stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoppedStep {
    /// Its number.
    pub step: StepId,
    /// What the user sees: `[build 2/5] RUN make`.
    pub name: String,
    /// Its last lines.
    pub log_tail: Vec<String>,
    /// The file with all of them.
    pub log_path: Option<PathBuf>,
}

/// Standard output or standard error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}
