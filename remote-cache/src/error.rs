//! Why a shared cache cannot be used.

use std::io;
use std::path::PathBuf;

use oci::Digest;
use registry::ErrorKind;

use crate::index::InvalidIndex;
use crate::object_error::ObjectError;
use crate::pack::InvalidPack;

/// A failed operation on a shared cache.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A registry failed.
    #[error(transparent)]
    Registry(Box<registry::Error>),
    /// A server of objects failed.
    #[error("failed to use the server of the cache")]
    Object(#[from] ObjectError),
    /// The cache service of GitHub Actions does not know us.
    #[error("the cache service of GitHub Actions does not accept the token")]
    Token(#[source] ObjectError),
    /// The token is not one for writing.
    #[error("the token of the job may only read the cache")]
    ReadOnly,
    /// All names that were tried were taken.
    #[error("too many write the cache at once")]
    Crowded,
    /// A blob was there, and has been removed.
    #[error("blob {0} is not in the cache any more")]
    Gone(Digest),
    /// A file could not be used.
    #[error("failed to {action} `{}`", path.display())]
    File {
        /// What was tried, as in "failed to …".
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Where a blob was to go failed.
    #[error("failed to keep a blob of the cache")]
    Sink(#[source] io::Error),
    /// A blob has other bytes than its digest says.
    #[error("blob {expected} of the cache has other content ({found})")]
    OtherContent {
        /// What it is called.
        expected: Digest,
        /// What it is.
        found: Digest,
    },
    /// What is there is no pack.
    #[error("`{name}` cannot be read")]
    Pack {
        /// What it is called.
        name: String,
        /// Why.
        source: InvalidPack,
    },
    /// What a cache mount held cannot be found out.
    #[error("what `{id}` held cannot be read")]
    Index {
        /// The mount.
        id: String,
        /// Why.
        source: InvalidIndex,
    },
    /// What is there is something else, and is not to be lost.
    #[error("`{0}` is the name of something else, which would be lost")]
    Taken(String),
    /// The name cannot have a cache beside it.
    #[error("`{0}` is too long a tag for a cache: want 60 characters at most")]
    Tag(String),
}

impl From<registry::Error> for Error {
    fn from(error: registry::Error) -> Self {
        Self::Registry(Box::new(error))
    }
}

impl Error {
    /// Whether it will be the same the next time: what was asked for is not there, or is something else.
    pub fn is_lasting(&self) -> bool {
        match self {
            Self::Registry(error) => {
                matches!(error.kind(), ErrorKind::NotFound | ErrorKind::DigestMismatch)
            }
            Self::Object(error) => error.status() == Some(404),
            Self::File { source, .. } => source.kind() == io::ErrorKind::NotFound,
            Self::Gone(_) | Self::OtherContent { .. } | Self::Pack { .. } | Self::Index { .. } => {
                true
            }
            _ => false,
        }
    }

    pub(crate) fn file(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { action, path, source }
    }
}
