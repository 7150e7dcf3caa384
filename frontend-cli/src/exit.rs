//! Exit codes, which scripts rely on.

use std::process::ExitCode;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// 0: what was asked is done.
    Success,
    /// 1: the build failed.
    Failed,
    /// 2: wrong usage, or our own fault.
    Usage,
    /// 130: interrupted.
    Interrupted,
    /// 141: nobody reads what it shows any more; what a shell gives for a program that SIGPIPE ended.
    Unread,
    /// What a program that was run on the user's behalf ended with.
    Code(u8),
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

impl Exit {
    /// The same for `run`, where any other code is the container's: what goes wrong before it starts is
    /// 125, as for `docker run`.
    #[must_use]
    pub fn of_run(self) -> Self {
        match self {
            Self::Failed | Self::Usage => Self::Code(125),
            other => other,
        }
    }

    /// The number.
    pub fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Interrupted => 130,
            Self::Unread => 141,
            Self::Code(code) => code,
        }
    }
}

/// Prints what clap has to say: help and version on standard output, errors on standard error.
pub(crate) fn of_clap(error: &clap::Error) -> Exit {
    // Nobody reads any more when this fails, and the exit code still tells.
    let _ = error.print();
    if error.use_stderr() { Exit::Usage } else { Exit::Success }
}
