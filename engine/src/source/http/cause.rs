//! Why a file could not be fetched.

use std::io;
use std::time::Duration;

use http_client::{Error, Failure, Retry};
use oci::Digest;

use super::remote::Remote;
use crate::error::BuildError;

/// Why a file could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cause {
    /// The server has answered with something else. BuildKit's words.
    #[error("invalid response status {status}")]
    Status { status: u16, retry_after: Option<Duration> },
    /// There was no answer, or only part of it.
    #[error(transparent)]
    Http(#[from] Error),
    /// An answer of unknown length broke off.
    #[error("the file has come in part only")]
    Broken(#[source] Error),
    /// The connection broke, and the server cannot send the rest alone.
    #[error(
        "the server closed the connection after {received} of {size} bytes, and does not send the \
         rest alone"
    )]
    CutShort { received: u64, size: u64 },
    /// What the server sends now is not what it began to send.
    #[error("the file changed on the server while it was fetched")]
    Changed,
    #[error("it is larger than the {0} bytes that a step may write")]
    TooLarge(u64),
    /// BuildKit's words.
    #[error("digest mismatch: {found} (expected: {expected})")]
    Mismatch { found: Digest, expected: Digest },
    #[error("no file can have the name `{0}`")]
    Name(String),
    #[error("failed to keep it")]
    Storage(#[source] io::Error),
    #[error(transparent)]
    Build(#[from] BuildError),
}

impl Failure for Cause {
    fn retry(&self) -> Retry {
        match self {
            Self::Http(error) => error.retry(),
            Self::Status { status, retry_after } => Retry::of_status(*status, *retry_after),
            _ => Retry::Never,
        }
    }
}

impl Cause {
    /// Whether it may come whole when all of it is fetched again.
    pub(super) fn may_begin_again(&self) -> bool {
        matches!(self, Self::Changed | Self::Broken(_) | Self::CutShort { .. })
    }

    pub(super) fn told(self, remote: &Remote) -> BuildError {
        let hint = match &self {
            Self::Build(_) => None,
            Self::Status { status: status @ (401 | 403 | 404 | 407), .. }
                if !remote.is_authorized() =>
            {
                let host = remote.host();
                // Some servers do not say that there is something that others may not see.
                let first = if *status == 404 { "check the address; " } else { "" };
                Some(format!(
                    "{first}if it takes a token: `--secret id=HTTP_AUTH_TOKEN_{host},env=NAME` (sent as \
                     `Bearer`), or all of the header as HTTP_AUTH_HEADER_{host}"
                ))
            }
            Self::Http(Error::Connect(_)) => {
                Some("check the address, and whether a proxy is needed (`HTTPS_PROXY`)".to_owned())
            }
            Self::Mismatch { .. } => {
                Some("it has changed since, or the checksum is that of another file".to_owned())
            }
            _ => None,
        };
        match self {
            Self::Build(error) => error,
            cause => BuildError::input(format!("failed to fetch `{}`", remote.shown()))
                .because(cause)
                .with_hint_if(hint),
        }
    }
}
