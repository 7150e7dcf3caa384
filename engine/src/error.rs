//! Why a build ended without a result.

use std::path::PathBuf;

use cache::Room;

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
    #[error("{message}")]
    Input {
        /// What is wrong, one line.
        message: String,
        /// How to go on.
        hint: Option<String>,
    },
    /// A step failed.
    #[error("{}", failure.message)]
    Step {
        /// How.
        failure: Box<StepFailure>,
    },
    /// Something is asked that is not built yet or not granted.
    #[error("{message}")]
    Refused {
        /// What.
        message: String,
        /// How to go on.
        hint: Option<String>,
    },
    /// The store, an output or the machine failed.
    #[error("{message}")]
    System {
        /// What and where, one line.
        message: String,
        /// How to go on.
        hint: Option<String>,
    },
    /// The store has lost something that the build stands on, or it was damaged. It is absent from now on:
    /// who builds again makes or fetches it again.
    #[error("{message}")]
    Lost {
        /// What, one line.
        message: String,
        /// How to go on.
        hint: Option<String>,
    },
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

impl BuildError {
    /// The machine or the store failed: `message`, and the chain of reasons.
    pub(crate) fn system(message: impl Into<String>, error: &dyn std::error::Error) -> Self {
        Self::System { message: format!("{}: {}", message.into(), chain(error)), hint: None }
    }

    /// The same, with a hint how much room there is where the store is, if room is what lacks.
    pub(crate) fn with_room(mut self, room: std::io::Result<Room>) -> Self {
        let (message, hint) = match &mut self {
            Self::Input { message, hint }
            | Self::Refused { message, hint }
            | Self::System { message, hint } => (message, hint),
            Self::Step { failure } => (&mut failure.message, &mut failure.hint),
            Self::Dockerfile { .. } | Self::Lost { .. } | Self::Changed { .. } | Self::Canceled => {
                return self;
            }
        };
        let lacks_room = match hint {
            Some(hint) => hint == NO_SPACE,
            None => SAID_OF_FULL.iter().any(|words| message.contains(words)),
        };
        if let (true, Ok(room)) = (lacks_room, room) {
            *hint = Some(format!("{NO_SPACE}: {room} are free there"));
        }
        self
    }

    /// Something that is not built or granted.
    pub(crate) fn refused(message: impl Into<String>) -> Self {
        Self::Refused { message: message.into(), hint: None }
    }

    /// Something would have to be fetched, and the network is not to be used. `what` names it and says
    /// where it comes from.
    pub(crate) fn offline(what: impl std::fmt::Display) -> Self {
        Self::Input {
            message: format!("offline: {what}"),
            hint: Some("build once without `--offline`: what it fetches is kept".to_owned()),
        }
    }

    /// The same with a hint, where the kind carries one.
    #[must_use]
    pub(crate) fn with_hint(mut self, text: impl Into<String>) -> Self {
        if let Self::Input { hint, .. } | Self::Refused { hint, .. } | Self::System { hint, .. } =
            &mut self
        {
            *hint = Some(text.into());
        }
        self
    }
}

/// How to go on where the store's disk is full.
pub(crate) const NO_SPACE: &str = "`mybuild prune` makes room in the store";
/// What the system says of a full disk and of a full quota, and SQLite of either. Errors of all rooms
/// end here, and some have been text since long.
const SAID_OF_FULL: [&str; 3] = ["(os error 28)", "(os error 122)", "database or disk is full"];

/// An error and its sources in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// How a step failed.
#[derive(Debug, Clone)]
pub struct StepFailure {
    /// `[build 2/5] RUN make`
    pub name: String,
    /// One line: what went wrong (`process "/bin/sh -c make" did not complete successfully: exit code: 2`).
    pub message: String,
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
    /// How to go on.
    pub hint: Option<String>,
}

/// Errors of copies are the user's: a path that is not there, a name that is in the way.
impl From<FileOpError> for BuildError {
    fn from(error: FileOpError) -> Self {
        match error {
            FileOpError::Tree(error) => error.into(),
            error => Self::Input { message: chain(&error), hint: None },
        }
    }
}

/// So are those of trees: a path that is not there, a file that cannot be read.
impl From<TreeError> for BuildError {
    fn from(error: TreeError) -> Self {
        match error {
            TreeError::Changed { path, what } => Self::Changed { path, what },
            error => Self::Input { message: chain(&error), hint: None },
        }
    }
}
