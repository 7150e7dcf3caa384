//! Why an object store failed.

use std::time::Duration;

use http_client::{Failure, Retry};

/// A failed request to an object store.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// There was no answer, or only a part of one.
    #[error(transparent)]
    Http(#[from] http_client::Error),
    /// The server refused.
    #[error("the server answered with status {status}{message}")]
    Status {
        /// The status.
        status: u16,
        /// What it said, with a colon before it; may be empty.
        message: String,
        /// When it asks to be asked again.
        retry_after: Option<Duration>,
    },
    /// A list that cannot be understood.
    #[error("the server's list of objects cannot be read")]
    List,
}

impl Failure for ObjectError {
    fn retry(&self) -> Retry {
        match self {
            Self::Http(error) => error.retry(),
            Self::Status { status, retry_after, .. } => Retry::of_status(*status, *retry_after),
            Self::List => Retry::Never,
        }
    }
}
