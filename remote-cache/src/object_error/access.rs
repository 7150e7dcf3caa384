//! Why no service lets us in.

use std::io;
use std::path::PathBuf;

use super::ObjectError;

/// No key or token could be had.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file with a token cannot be read.
    #[error("failed to read the token in `{}`", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A service did not give anything.
    #[error("failed to get {what} from {service}")]
    Refused {
        /// What it was asked for.
        what: &'static str,
        /// Which service.
        service: String,
        /// What it said.
        source: ObjectError,
    },
    /// What a service said is not what was asked for.
    #[error("{service} gave something that is not {what}")]
    Answer {
        /// What it was asked for.
        what: &'static str,
        /// Which service.
        service: String,
    },
    /// A service's address is none, or one where what is sent to it could be read on the way.
    #[error("`{0}` is not an address that credentials are sent to")]
    Address(String),
    /// A token cannot be sent.
    #[error("the token for {0} is not text that can be sent")]
    Token(String),
}
