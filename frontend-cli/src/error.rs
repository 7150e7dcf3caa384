//! What went wrong, for a person: one line, its causes, one hint.

use std::io;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::diagnostics;
use crate::exit::Exit;
use crate::ui;

/// The command line asks for something that cannot be. Ends with exit code 2.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct UsageError {
    /// What is wrong, one line, lower case, the user's words in backticks.
    pub message: String,
    /// How to go on.
    pub hint: Option<String>,
}

impl UsageError {
    /// An error without a hint.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Why the words of a command line cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The first word is not a command.
    #[error(transparent)]
    Usage(#[from] UsageError),
    /// The words behind it are not what the command takes, or help is asked for.
    #[error(transparent)]
    Syntax(#[from] clap::Error),
}

/// Tells the user about `error` on standard error and says how the program ends.
///
/// Somebody closing the pipe we write to is no failure: they have read enough.
pub fn report(error: &anyhow::Error, debug: bool) -> Exit {
    if is_broken_pipe(error) && is_unread() {
        return Exit::Success;
    }
    let (text, exit) = if let Some(usage) = error.downcast_ref::<UsageError>() {
        (diagnostics::message(&usage.message, usage.hint.as_deref()), Exit::Usage)
    } else if let Some(build) = error.downcast_ref::<engine::BuildError>() {
        (diagnostics::build_error(build, terminal_columns()), exit_of(build))
    } else {
        (diagnostics::message(&format!("{error:#}"), None), Exit::Failed)
    };
    ui::error(&text);
    if debug && !matches!(exit, Exit::Usage) {
        ui::error(&format!("{error:?}\n"));
    }
    exit
}

fn exit_of(error: &engine::BuildError) -> Exit {
    match error {
        engine::BuildError::Canceled => Exit::Interrupted,
        _ => Exit::Failed,
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    })
}

/// Whether nobody reads our standard output any more: any other pipe that breaks is a failure.
fn is_unread() -> bool {
    let stdout = io::stdout();
    let mut asked = [PollFd::new(&stdout, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let gone = PollFlags::ERR | PollFlags::HUP;
    poll(&mut asked, Some(&now)).is_ok() && asked[0].revents().intersects(gone)
}

fn terminal_columns() -> usize {
    crate::terminal::size_of_stderr().columns
}
