//! Why a registry could not give or take something.

use std::fmt;

use crate::cause::Cause;
use crate::kind::ErrorKind;

/// A failed operation on a registry. It says what was wanted and from where; its source says why.
#[derive(Debug)]
pub struct Error {
    pub(crate) action: &'static str,
    pub(crate) subject: String,
    pub(crate) host: String,
    /// What the mirrors said before, each as host and cause.
    pub(crate) before: Vec<(String, Cause)>,
    pub(crate) cause: Cause,
}

impl Error {
    /// What went wrong, for callers that branch.
    pub fn kind(&self) -> ErrorKind {
        self.cause.kind()
    }

    /// What went wrong, in detail.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The reference or digest that was asked for.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The host that gave the last answer.
    pub fn host(&self) -> &str {
        &self.host
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failed to {} `{}` at `{}`", self.action, self.subject, self.host)?;
        for (host, cause) in &self.before {
            write!(f, " (mirror `{host}`: {})", chain(cause))?;
        }
        Ok(())
    }
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}
