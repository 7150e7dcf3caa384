//! Why a build ended without a result.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use cache::Room;
use registry::chain;

use crate::file_op::FileOpError;
use crate::tree::TreeError;

/// Why a build failed.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The Dockerfile is wrong.
    #[error("the Dockerfile has errors")]
    Dockerfile {
        /// The file's name for messages.
        name: String,
        /// Its text.
        text: String,
        /// What is wrong and what is doubtful, in the order of the text.
        diagnostics: Vec<parser::Diagnostic>,
    },
    /// The Dockerfile or the context cannot be read.
    #[error(transparent)]
    Input(Fault),
    /// A step failed.
    #[error("{}", failure.fault.text())]
    Step {
        /// How.
        failure: Box<StepFailure>,
    },
    /// Something is asked that is not built yet or not granted.
    #[error(transparent)]
    Refused(Fault),
    /// The store, an output or the machine failed.
    #[error(transparent)]
    System(Fault),
    /// The store has lost something that the build stands on, or it was damaged. It is absent from now on:
    /// who builds again makes or fetches it again.
    #[error(transparent)]
    Lost(Fault),
    /// A file of a context is another than it was when the build looked at it.
    #[error("`{path}` changed while it was read ({what}): build again once it is at rest")]
    Changed {
        /// Its absolute path in the context.
        path: String,
        /// In what it is another.
        what: &'static str,
    },
    /// The caller stopped the build.
    #[error("canceled")]
    Canceled,
}

/// What went wrong, why, and how to go on.
#[derive(Debug, Clone)]
pub struct Fault {
    /// One line, without the reason; none where the reason says it all.
    message: Option<String>,
    cause: Option<Cause>,
    hint: Option<String>,
}

/// An error of any kind, on its way to be the cause of a fault.
pub(crate) type BoxedError = Box<dyn Error + Send + Sync>;
/// The error behind a fault.
type Cause = Arc<dyn Error + Send + Sync>;

impl Fault {
    /// One that nothing else explains.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: Some(message.into()), cause: None, hint: None }
    }

    /// One that is an error of another room as it stands.
    pub fn of(error: impl Error + Send + Sync + 'static) -> Self {
        Self { message: None, cause: Some(Arc::new(error)), hint: None }
    }

    /// How to go on.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same as the reason of another, which keeps its hint.
    pub(crate) fn within(self, message: impl Into<String>) -> Self {
        let hint = self.hint.clone();
        Self { message: Some(message.into()), cause: Some(Arc::new(self)), hint }
    }

    /// The fault and its causes in one line.
    pub fn text(&self) -> String {
        chain(self)
    }

    /// Whether a full disk or quota is behind it.
    fn lacks_room(&self) -> bool {
        let mut behind = self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static));
        while let Some(error) = behind {
            if cache::is_out_of_space(error) {
                return true;
            }
            behind = error.source();
        }
        false
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.message, &self.cause) {
            (Some(message), _) => f.write_str(message),
            (None, Some(cause)) => cause.fmt(f),
            (None, None) => Ok(()),
        }
    }
}

impl Error for Fault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        let cause = self.cause.as_deref().map(|cause| cause as &(dyn Error + 'static));
        if self.message.is_some() { cause } else { cause?.source() }
    }
}

impl BuildError {
    /// The Dockerfile or the context cannot be read.
    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::Input(Fault::new(message))
    }

    /// The store has lost something.
    pub(crate) fn lost(message: impl Into<String>) -> Self {
        Self::Lost(Fault::new(message))
    }

    /// The machine or the store failed.
    pub(crate) fn system(message: impl Into<String>) -> Self {
        Self::System(Fault::new(message))
    }

    /// Something that is not built or granted.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused(Fault::new(message))
    }

    /// The same with a reason, where the kind carries one.
    #[must_use]
    pub(crate) fn because(mut self, error: impl Into<BoxedError>) -> Self {
        if let Some(fault) = self.fault_mut() {
            fault.cause = Some(error.into().into());
        }
        self
    }

    /// The same as the reason of another, where the kind carries one.
    #[must_use]
    pub(crate) fn within(mut self, message: impl Into<String>) -> Self {
        if let Some(fault) = self.fault_mut() {
            *fault = fault.clone().within(message);
        }
        self
    }

    /// Something would have to be fetched, and the network is not to be used. `what` names it and says
    /// where it comes from.
    pub(crate) fn offline(what: impl std::fmt::Display) -> Self {
        Self::input(format!("offline: {what}"))
            .with_hint("build once without `--offline`: what it fetches is kept")
    }

    /// The same with a hint, where the kind carries one.
    #[must_use]
    pub(crate) fn with_hint(self, text: impl Into<String>) -> Self {
        self.with_hint_if(Some(text.into()))
    }

    /// The same with a hint if there is one.
    #[must_use]
    pub(crate) fn with_hint_if(mut self, hint: Option<String>) -> Self {
        if let (Some(fault), Some(hint)) = (self.fault_mut(), hint) {
            fault.hint = Some(hint);
        }
        self
    }

    /// The same, with a hint how much room there is where the store is, if room is what lacks.
    pub(crate) fn with_room(mut self, room: std::io::Result<Room>) -> Self {
        let Some(fault) = self.fault_mut() else { return self };
        let lacks_room = match &fault.hint {
            Some(hint) => hint == NO_SPACE,
            None => fault.lacks_room(),
        };
        if let (true, Ok(room)) = (lacks_room, room) {
            fault.hint = Some(format!("{NO_SPACE}: {room} are free there"));
        }
        self
    }

    /// What is wrong, for the kinds that say it in words of their own.
    pub fn fault(&self) -> Option<&Fault> {
        match self {
            Self::Input(fault) | Self::Refused(fault) | Self::System(fault) | Self::Lost(fault) => {
                Some(fault)
            }
            Self::Step { failure } => Some(&failure.fault),
            Self::Dockerfile { .. } | Self::Changed { .. } | Self::Canceled => None,
        }
    }

    fn fault_mut(&mut self) -> Option<&mut Fault> {
        match self {
            Self::Input(fault) | Self::Refused(fault) | Self::System(fault) | Self::Lost(fault) => {
                Some(fault)
            }
            Self::Step { failure } => Some(&mut failure.fault),
            Self::Dockerfile { .. } | Self::Changed { .. } | Self::Canceled => None,
        }
    }
}

/// How to go on where the store's disk is full.
pub(crate) const NO_SPACE: &str = "`mybuild prune` makes room in the store";

/// How a step failed.
#[derive(Debug, Clone)]
pub struct StepFailure {
    /// `[build 2/5] RUN make`
    pub name: String,
    /// What went wrong (`process "/bin/sh -c make" did not complete successfully: exit code: 2`).
    pub fault: Fault,
    /// Exit code, if a process ran and ended by itself.
    pub exit_code: Option<i32>,
    /// Bytes of the Dockerfile the step came from.
    pub span: Option<(u32, u32)>,
    /// Lines of the Dockerfile the step came from.
    pub lines: Option<(u32, u32)>,
    /// The Dockerfile's name and text, to draw an excerpt.
    pub dockerfile: Option<(String, String)>,
    /// The last lines the step wrote.
    pub log_tail: Vec<String>,
    /// The step's whole log.
    pub log_path: Option<PathBuf>,
}

/// Errors of copies are the user's: a path that is not there, a name that is in the way.
impl From<FileOpError> for BuildError {
    fn from(error: FileOpError) -> Self {
        match error {
            FileOpError::Tree(error) => error.into(),
            error => Self::Input(Fault::of(error)),
        }
    }
}

/// So are those of trees: a path that is not there, a file that cannot be read.
impl From<TreeError> for BuildError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Changed { path, what } => Self::Changed { path, what },
            error => Self::Input(Fault::of(error)),
        }
    }
}
