//! Classes of failures.

/// Classes of failures that a caller may treat differently or explain with a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The registry has no such image or blob.
    NotFound,
    /// The registry requires credentials, or other ones.
    Unauthorized,
    /// The credentials do not allow this.
    Denied,
    /// The registry's rate limit is exceeded.
    TooManyRequests,
    /// The content has another digest.
    DigestMismatch,
    /// The registry cannot be reached, is too slow or has an internal error.
    Unavailable,
    /// The server's certificate is not trusted.
    Untrusted,
    /// The registry's answer breaks the protocol or a limit.
    InvalidAnswer,
    /// The sink or source of the blob failed.
    Storage,
    /// The local configuration or credentials cannot be used.
    Configuration,
}
