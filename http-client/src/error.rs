//! Why one request failed.

use std::io;
use std::time::Duration;

use crate::range::RangeError;
use crate::redirect::RedirectError;
use crate::retry::{Failure, Retry};
use crate::tls::SetupError;

/// Why one request, or the transfer of its answer, failed. No status is an error here: what it
/// means is up to the caller.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection could be made.
    #[error("cannot connect")]
    Connect(#[source] reqwest::Error),
    /// The server's certificate is not trusted for its name.
    #[error("the server's certificate is not trusted")]
    Untrusted(#[source] rustls::Error),
    /// The connection broke.
    #[error("the connection broke")]
    Transport(#[source] reqwest::Error),
    /// The connection broke within content of known size.
    #[error("the server closed the connection after {received} of {size} bytes")]
    CutShort {
        /// Bytes received, with all attempts.
        received: u64,
        /// Size of the resource.
        size: u64,
        /// How the connection broke.
        source: reqwest::Error,
    },
    /// Nothing was received for too long.
    #[error("timed out after {} seconds while waiting for {what}", seconds(*.patience))]
    TimedOut {
        /// What was waited for.
        what: &'static str,
        /// How long.
        patience: Duration,
    },
    /// It would take too long.
    #[error(
        "the transfer is too slow: {rate} bytes per second, and at least {minimum} are required"
    )]
    TooSlow {
        /// Bytes per second over the last [`Limits::slow`](crate::Limits::slow).
        rate: u64,
        /// [`Limits::minimum_rate`](crate::Limits::minimum_rate).
        minimum: u64,
    },
    /// The operation, with all its attempts, took longer than allowed.
    #[error("not done within {} seconds", seconds(*.0))]
    Deadline(Duration),
    /// An answer larger than its cap in bytes.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(u64),
    /// More or fewer bytes than the resource has.
    #[error("the content has {actual} bytes, not {expected}")]
    SizeMismatch {
        /// Size of the resource.
        expected: u64,
        /// Size announced or, at least, received.
        actual: u64,
    },
    /// The bytes are not those that were requested.
    #[error(transparent)]
    Range(#[from] RangeError),
    /// The server sends us to an address that is not followed.
    #[error(transparent)]
    Redirect(#[from] RedirectError),
    /// The settings cannot be used.
    #[error("cannot set up the connection")]
    Setup(#[from] SetupError),
    /// The receiver of the bytes is gone.
    #[error("the receiver stopped early")]
    Abandoned,
}

impl From<reqwest::Error> for Error {
    /// URLs are cut out of transport errors: those of blob stores carry signatures.
    fn from(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if let Some(verdict) = certificate_error(&error) {
            Self::Untrusted(verdict)
        } else if error.is_connect() {
            Self::Connect(error)
        } else {
            Self::Transport(error)
        }
    }
}

impl Error {
    /// Says how much there was of a resource of `size` bytes when the connection broke.
    pub(crate) fn within(self, received: u64, size: u64) -> Self {
        match self {
            Self::Transport(source) => Self::CutShort { received, size, source },
            error => error,
        }
    }
}

impl Failure for Error {
    fn retry(&self) -> Retry {
        match self {
            Self::Transport(_) | Self::CutShort { .. } => Retry::Later(Duration::ZERO),
            Self::Connect(_) => Retry::Reconnect,
            // A server that was silent for so long rarely answers the next time, and waiting is expensive.
            Self::TimedOut { .. } | Self::SizeMismatch { .. } => Retry::Once,
            _ => Retry::Never,
        }
    }
}

/// The verifier's verdict, if that is what an error is about.
fn certificate_error(error: &(dyn std::error::Error + 'static)) -> Option<rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(verdict @ rustls::Error::InvalidCertificate(_)) = error.downcast_ref() {
            return Some(verdict.clone());
        }
        // An I/O error gives its cause's source as its own, and so hides the cause itself.
        let inner = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = inner
            .map(|inner| inner as &(dyn std::error::Error + 'static))
            .or_else(|| error.source());
    }
    None
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs_f64().ceil() as u64
}
