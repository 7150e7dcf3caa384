//! Why an operation on a registry failed.

use std::fmt;

use crate::cause::Cause;
use crate::kind::ErrorKind;

/// A failed operation on a registry. It says what was attempted and where; its source says why.
#[derive(Debug)]
pub struct Error {
    pub(crate) action: &'static str,
    pub(crate) subject: String,
    pub(crate) host: String,
    /// The failures of the mirrors tried before, by host.
    pub(crate) before: Vec<(String, Cause)>,
    pub(crate) cause: Cause,
}

impl Error {
    /// The class of failure, for callers that branch on it.
    pub fn kind(&self) -> ErrorKind {
        self.cause.kind()
    }

    /// What went wrong at the host that was tried last.
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The reference or digest of the operation.
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// The host that was tried last.
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
pub fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}
