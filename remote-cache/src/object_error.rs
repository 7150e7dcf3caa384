//! Why an object store failed.

mod access;

use std::time::Duration;

use http_client::{Failure, Retry};

pub use access::AccessError;

use crate::refusal::Code;

/// A failed request to an object store.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There was no answer, or only a part of one.
    #[error(transparent)]
    Http(#[from] http_client::Error),
    /// The server refused.
    #[error("the server answered with status {status}{}", .code.as_ref().map(|code| format!(": {code}")).unwrap_or_default())]
    Status {
        /// The status.
        status: u16,
        /// What it calls the reason.
        code: Option<Code>,
        /// When it asks to be asked again.
        retry_after: Option<Duration>,
    },
    /// A list that cannot be understood.
    #[error("the server's list of objects cannot be read")]
    List,
    /// An answer of another kind that cannot be understood.
    #[error("the server's answer cannot be read")]
    Answer,
    /// Nobody lets us in.
    #[error(transparent)]
    Access(Box<AccessError>),
    /// It says no, with the status of a yes.
    #[error("the server did not take the entry")]
    NotTaken,
}

impl From<AccessError> for ObjectError {
    fn from(error: AccessError) -> Self {
        Self::Access(Box::new(error))
    }
}

impl ObjectError {
    /// The status of a refusal.
    pub(crate) fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// What was asked for, unless it is not there.
///
/// # Errors
/// Any other refusal.
pub(crate) fn found<T>(answer: Result<T, ObjectError>) -> Result<Option<T>, ObjectError> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if error.status() == Some(404) => Ok(None),
        Err(error) => Err(error),
    }
}

impl Failure for ObjectError {
    fn retry(&self) -> Retry {
        match self {
            Self::Http(error) => error.retry(),
            Self::Status { status, retry_after, .. } => Retry::of_status(*status, *retry_after),
            Self::List | Self::Answer | Self::NotTaken | Self::Access(_) => Retry::Never,
        }
    }
}
