//! Why the store cannot do what it is asked to.

use std::io;
use std::path::{Path, PathBuf};

use crate::database::{DatabaseError, is_full};

/// Why something could not be written to or read from an open store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory of the store failed.
    #[error("failed to {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The database failed.
    #[error("failed to use the store's records")]
    Database(#[source] rusqlite::Error),
    /// Content is not what its descriptor says.
    #[error("expected {expected} ({expected_size} bytes), got {found} ({size} bytes)")]
    Mismatch {
        /// The digest asked for.
        expected: oci::Digest,
        /// The size asked for.
        expected_size: u64,
        /// The digest of what came.
        found: oci::Digest,
        /// Its size.
        size: u64,
    },
    /// A blob is larger than the caller is ready to read.
    #[error("blob {digest} has {size} bytes, more than {cap}")]
    TooLarge {
        /// Which blob.
        digest: oci::Digest,
        /// Its size.
        size: u64,
        /// The caller's limit.
        cap: u64,
    },
    /// A newer release has changed the store since it was opened.
    #[error("the store was upgraded by a newer release meanwhile (its schema version is {0})")]
    Newer(i32),
    /// The program ends before the disk has taken what was to be committed.
    #[error("stopped before everything was on the disk")]
    Stopped,
    /// The blob is not there, or not whole.
    #[error("blob {0} is missing or damaged")]
    NoBlob(oci::Digest),
    /// A name for an image that is not valid.
    #[error("`{name}` is not a valid image name")]
    Name {
        /// As given.
        name: String,
        /// What is wrong with it.
        source: oci::InvalidReference,
    },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether the disk (or a quota) is full.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_out_of_space(source),
            Self::Database(source) => is_out_of_space(source),
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Sqlite(error) => Self::Database(error),
            DatabaseError::Io(source) => Self::io("lock", Path::new("database"), source),
            DatabaseError::Newer(version) => Self::Newer(version),
        }
    }
}

/// Whether this error itself, not what is behind it, says that a disk or a quota is full.
pub fn is_out_of_space(error: &(dyn std::error::Error + 'static)) -> bool {
    let io = error.downcast_ref::<io::Error>().map(io::Error::kind);
    matches!(io, Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
        || error.downcast_ref().is_some_and(is_full)
}
