//! Why a registry could not give or take something.

use std::fmt;
use std::io;
use std::time::Duration;

use http_client::{Failure, Retry};
use oci::{Digest, InvalidManifest};

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
            write!(f, " (mirror `{host}`: {cause})")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.cause)
    }
}

/// Classes of failures that a caller may treat differently or explain with a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The registry has no such image or blob.
    NotFound,
    /// The registry wants credentials, or other ones.
    Unauthorized,
    /// The credentials do not allow this.
    Denied,
    /// The registry's rate limit is used up.
    TooManyRequests,
    /// The bytes are not those of the digest.
    DigestMismatch,
    /// The registry cannot be reached, is too slow or has an internal error.
    Unavailable,
    /// The server's certificate is not trusted.
    Untrusted,
    /// The registry's answer breaks the protocol or a limit.
    InvalidAnswer,
    /// The sink or source of the blob failed.
    Storage,
    /// The client's own configuration or credentials cannot be used.
    Configuration,
}

/// Why one request failed.
#[derive(Debug, thiserror::Error)]
pub enum Cause {
    /// Status 404.
    #[error("not found")]
    NotFound,
    /// Status 401 after authentication, or without a way to authenticate.
    #[error("authentication required{}", suffix(.0))]
    Unauthorized(String),
    /// Status 403.
    #[error("access denied{}", suffix(.0))]
    Denied(String),
    /// Status 429 after all attempts.
    #[error("too many requests{}{}", suffix(.detail), wait(.retry_after))]
    TooManyRequests {
        /// What the registry asked to wait.
        retry_after: Option<Duration>,
        /// The registry's words.
        detail: String,
    },
    /// The content is not what the digest names.
    #[error("the content has digest `{actual}`, not `{expected}`")]
    DigestMismatch {
        /// The digest asked for.
        expected: Digest,
        /// That of the bytes that came.
        actual: Digest,
    },
    /// Any other status.
    #[error("the registry answered with status {status}{}{}", suffix(.detail), wait(.retry_after))]
    Status {
        /// HTTP status code.
        status: u16,
        /// What the registry asked to wait.
        retry_after: Option<Duration>,
        /// The registry's words.
        detail: String,
    },
    /// There was no answer, or not all of it.
    #[error(transparent)]
    Http(#[from] http_client::Error),
    /// The manifest cannot be trusted.
    #[error("invalid manifest")]
    Manifest(#[from] InvalidManifest),
    /// The answer breaks the protocol.
    #[error("unexpected answer: {0}")]
    Protocol(String),
    /// A token service that the registry's credentials are not for.
    #[error(
        "the credentials were not sent to `{0}`: it is neither the registry's host nor on its site"
    )]
    Withheld(String),
    /// Credentials are configured but cannot be read.
    #[error("failed to read credentials")]
    Credentials(#[from] crate::CredentialsError),
    /// The sink or source failed.
    #[error("failed to transfer the blob's bytes")]
    Storage(#[source] io::Error),
    /// The HTTP client cannot be set up from the configuration.
    #[error("cannot set up the connection: {0}")]
    Configuration(String),
}

impl Cause {
    /// The cause's class.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotFound => ErrorKind::NotFound,
            Self::Unauthorized(_) | Self::Withheld(_) => ErrorKind::Unauthorized,
            Self::Denied(_) => ErrorKind::Denied,
            Self::TooManyRequests { .. } => ErrorKind::TooManyRequests,
            Self::DigestMismatch { .. } => ErrorKind::DigestMismatch,
            Self::Status { status, .. } if *status >= 500 => ErrorKind::Unavailable,
            Self::Http(error) => http_kind(error),
            Self::Status { .. } | Self::Manifest(_) | Self::Protocol(_) => ErrorKind::InvalidAnswer,
            Self::Storage(_) => ErrorKind::Storage,
            Self::Credentials(_) | Self::Configuration(_) => ErrorKind::Configuration,
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

/// The registry's own words in an error body, made safe for a terminal and short.
pub(crate) fn error_detail(body: &[u8]) -> String {
    #[derive(serde::Deserialize)]
    struct Body {
        errors: Vec<Item>,
    }
    #[derive(serde::Deserialize)]
    struct Item {
        #[serde(default)]
        code: String,
        #[serde(default)]
        message: String,
    }
    let text = match serde_json::from_slice::<Body>(body) {
        Ok(body) => {
            let items = body.errors.iter().map(|item| match (&*item.code, &*item.message) {
                (code, "") => code.to_lowercase(),
                ("", message) => message.to_owned(),
                (code, message) => format!("{}: {message}", code.to_lowercase()),
            });
            items.collect::<Vec<_>>().join("; ")
        }
        Err(_) => String::from_utf8_lossy(body).trim().to_owned(),
    };
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
