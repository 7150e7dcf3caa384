//! What went wrong without making anything fail.

use std::fmt;
use std::path::PathBuf;

use oci::Digest;

use crate::layer_id::LayerId;

/// A loss that costs time and nothing else: whatever is named here is absent from now on and
/// made again when it is needed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Warning {
    /// The database was not readable; an empty one took its place.
    DatabaseReplaced {
        /// Where the unreadable one is now.
        moved: PathBuf,
    },
    /// A lookup in the database failed.
    DatabaseFailed {
        /// What SQLite says.
        message: String,
    },
    /// A row's checksum does not match.
    DamagedRow {
        /// The row's key.
        key: String,
    },
    /// A blob that the records know has another size or other bytes, or is gone.
    DamagedBlob {
        /// Which blob.
        digest: Digest,
    },
    /// A layer's directory is gone.
    MissingLayer {
        /// Which layer.
        layer: LayerId,
    },
    /// Somebody has changed a layer's tree.
    ChangedLayer {
        /// Which layer.
        layer: LayerId,
    },
    /// Nobody can tell whether a layer's tree is whole: the session that made it was killed.
    UncheckedLayer {
        /// Which layer.
        layer: LayerId,
    },
    /// `index.json` is no image index; the next tag starts a new one.
    DamagedIndex {
        /// What is wrong with it.
        message: String,
    },
    /// A manifest of an image cannot be read: nobody knows which blobs the image has, so all stay.
    UnreadableImage {
        /// The image's manifest or index.
        digest: Digest,
        /// Why.
        message: String,
    },
    /// An image has a name and no manifest or config that could be read.
    IncompleteImage {
        /// The name, in its short form.
        name: String,
    },
    /// The store could not be kept to its rules.
    NoRoomMade {
        /// What went wrong.
        message: String,
    },
    /// A background commit failed; the next one tries again.
    CommitFailed {
        /// What went wrong.
        message: String,
    },
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DatabaseReplaced { moved } => write!(
                f,
                "the store's records were damaged and start again empty (the old ones are kept as `{}`)",
                moved.display()
            ),
            Self::DatabaseFailed { message } => {
                write!(f, "failed to look into the store's records: {message}")
            }
            Self::DamagedRow { key } => write!(f, "the record of `{key}` is damaged, ignoring it"),
            Self::DamagedBlob { digest } => {
                write!(f, "blob {digest} is missing or damaged, ignoring it")
            }
            Self::MissingLayer { layer } => {
                write!(f, "the files of layer {layer} are missing, making them again")
            }
            Self::ChangedLayer { layer } => {
                write!(f, "the files of layer {layer} were changed, making them again")
            }
            Self::UncheckedLayer { layer } => {
                write!(
                    f,
                    "the build that made layer {layer} was stopped before it had checked the files, \
                     making them again"
                )
            }
            Self::DamagedIndex { message } => {
                write!(f, "the store's index.json is damaged, ignoring it: {message}")
            }
            Self::UnreadableImage { digest, message } => {
                write!(
                    f,
                    "which blobs image {digest} has is not known, so all blobs stay: {message}"
                )
            }
            Self::IncompleteImage { name } => {
                write!(
                    f,
                    "image `{name}` is not listed: its manifest or config is missing or damaged (pull or \
                     build it again, or remove its name with `mybuild rmi {name}`)"
                )
            }
            Self::NoRoomMade { message } => {
                write!(f, "the cache keeps what it has: {message}")
            }
            Self::CommitFailed { message } => write!(f, "failed to write to the store: {message}"),
        }
    }
}
