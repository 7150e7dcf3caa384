//! Why one request to a registry failed.

use std::io;
use std::time::Duration;

use http_client::header::InvalidHeaderValue;
use http_client::{Failure, InvalidUrl, Retry};
use oci::{Digest, InvalidManifest};

use crate::credentials::CredentialsError;
use crate::kind::ErrorKind;
use crate::protocol::ProtocolError;

/// Why one request failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Status 404.
    #[error("not found")]
    NotFound,
    /// Status 401 after authentication, with the registry's message.
    #[error("authentication required{}", suffix(.0))]
    Unauthorized(String),
    /// Status 401 that offers no known way to authenticate.
    #[error("authentication required: the registry names no way to authenticate")]
    NoAuthMethod,
    /// The registry requires a password, and only an identity token is stored for it.
    #[error("authentication required: the registry takes no identity tokens")]
    IdentityTokenRefused,
    /// The registry requires a password, and none is stored for it.
    #[error("authentication required: no credentials for `{0}`")]
    NoCredentials(String),
    /// Status 403, with the registry's message.
    #[error("access denied{}", suffix(.0))]
    Denied(String),
    /// Status 429 after all attempts.
    #[error("too many requests{}{}", suffix(.detail), wait(.retry_after))]
    TooManyRequests {
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
        /// The registry's message.
        detail: String,
    },
    /// The content has another digest.
    #[error("the content has digest `{actual}`, not `{expected}`")]
    DigestMismatch {
        /// The digest that was requested.
        expected: Digest,
        /// The digest of the bytes received.
        actual: Digest,
    },
    /// Any other status.
    #[error("the registry answered with status {status}{}{}", suffix(.detail), wait(.retry_after))]
    Status {
        /// HTTP status code.
        status: u16,
        /// How long the registry asks to wait.
        retry_after: Option<Duration>,
        /// The registry's message.
        detail: String,
    },
    /// There was no answer, or only part of it.
    #[error(transparent)]
    Http(#[from] http_client::Error),
    /// The manifest cannot be trusted.
    #[error("invalid manifest")]
    Manifest(#[from] InvalidManifest),
    /// The answer breaks the protocol.
    #[error("unexpected answer")]
    Protocol(#[from] ProtocolError),
    /// A token service that may not see the registry's credentials, and requires them.
    #[error(
        "the credentials were not sent to `{0}`: it is neither the registry's host nor on its site"
    )]
    Withheld(String),
    /// Credentials are configured but cannot be read.
    #[error("failed to read credentials")]
    Credentials(#[from] CredentialsError),
    /// The sink or source failed.
    #[error("failed to transfer the blob's bytes")]
    Storage(#[source] io::Error),
    /// The registry's name, or a mirror's, cannot be part of a URL.
    #[error("`{host}` is not a host")]
    InvalidHost {
        /// The name.
        host: String,
        /// Why not.
        source: InvalidUrl,
    },
    /// The media type of a manifest to push cannot be sent.
    #[error("`{media_type}` is not a media type")]
    InvalidMediaType {
        /// The media type.
        media_type: String,
        /// Why not.
        source: InvalidHeaderValue,
    },
}

impl Cause {
    /// The class of failure.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound => ErrorKind::NotFound,
            Self::Unauthorized(_)
            | Self::NoAuthMethod
            | Self::IdentityTokenRefused
            | Self::NoCredentials(_)
            | Self::Withheld(_) => ErrorKind::Unauthorized,
            Self::Denied(_) => ErrorKind::Denied,
            Self::TooManyRequests { .. } => ErrorKind::TooManyRequests,
            Self::DigestMismatch { .. } => ErrorKind::DigestMismatch,
            Self::Status { status, .. } if *status >= 500 => ErrorKind::Unavailable,
            Self::Http(error) => http_kind(error),
            Self::Status { .. } | Self::Manifest(_) | Self::Protocol(_) => ErrorKind::InvalidAnswer,
            Self::Storage(_) => ErrorKind::Storage,
            Self::Credentials(_) | Self::InvalidHost { .. } | Self::InvalidMediaType { .. } => {
                ErrorKind::Configuration
            }
        }
    }
}

impl Failure for Cause {
    fn retry(&self) -> Retry {
        match self {
            Self::Http(error) => error.retry(),
            Self::Status { status, retry_after, .. } => Retry::of_status(*status, *retry_after),
            Self::TooManyRequests { retry_after, .. } => Retry::of_status(429, *retry_after),
            Self::DigestMismatch { .. } => Retry::Once,
            _ => Retry::Never,
        }
    }
}

fn http_kind(error: &http_client::Error) -> ErrorKind {
    use http_client::Error;
    match error {
        Error::Connect(_)
        | Error::Transport(_)
        | Error::CutShort { .. }
        | Error::TimedOut { .. }
        | Error::TooSlow { .. }
        | Error::Deadline(_) => ErrorKind::Unavailable,
        Error::Untrusted(_) => ErrorKind::Untrusted,
        Error::TooLarge(_) | Error::SizeMismatch { .. } | Error::Range(_) | Error::Redirect(_) => {
            ErrorKind::InvalidAnswer
        }
        Error::Setup(_) => ErrorKind::Configuration,
        Error::Abandoned => ErrorKind::Storage,
    }
}

fn wait(retry_after: &Option<Duration>) -> String {
    let text = |asked: &Duration| format!(" (it asks to wait for {} seconds)", seconds(*asked));
    retry_after.as_ref().map(text).unwrap_or_default()
}

fn seconds(duration: Duration) -> u64 {
    duration.as_secs_f64().ceil() as u64
}

fn suffix(detail: &str) -> String {
    if detail.is_empty() { String::new() } else { format!(": {detail}") }
}
