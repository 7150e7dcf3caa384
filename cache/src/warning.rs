//! What went wrong without making anything fail.

use std::error::Error;
use std::path::PathBuf;
use std::sync::Arc;

use oci::Digest;

use crate::layer_id::LayerId;

/// What led to a warning: its source.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// A loss that costs time and nothing else: whatever is named here is absent from now on and
/// made again when it is needed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Warning {
    /// The database was not readable; an empty one took its place.
    #[error(
        "the store's records were damaged and start again empty (the old ones are kept as `{}`)",
        moved.display()
    )]
    DatabaseReplaced {
        /// Where the unreadable one is now.
        moved: PathBuf,
    },
    /// A lookup in the database failed.
    #[error("failed to look into the store's records")]
    DatabaseFailed {
        /// What SQLite says.
        source: Cause,
    },
    /// A row's checksum does not match.
    #[error("the record of `{key}` is damaged, ignoring it")]
    DamagedRow {
        /// The row's key.
        key: String,
    },
    /// A blob that the records know has another size or other bytes, or is gone.
    #[error("blob {digest} is missing or damaged, ignoring it")]
    DamagedBlob {
        /// Which blob.
        digest: Digest,
    },
    /// What is kept of a container cannot be read.
    #[error("the container in `{}` is damaged, ignoring it", path.display())]
    DamagedContainer {
        /// Its directory.
        path: PathBuf,
        /// What is wrong with it.
        source: Cause,
    },
    /// A layer's directory is gone.
    #[error("the files of layer {layer} are missing, making them again")]
    MissingLayer {
        /// Which layer.
        layer: LayerId,
    },
    /// Somebody has changed a layer's tree.
    #[error("the files of layer {layer} were changed, making them again")]
    ChangedLayer {
        /// Which layer.
        layer: LayerId,
    },
    /// Nobody can tell whether a layer's tree is whole: the session that made it was killed.
    #[error(
        "the build that made layer {layer} was stopped before it had checked the files, making them \
         again"
    )]
    UncheckedLayer {
        /// Which layer.
        layer: LayerId,
    },
    /// `index.json` is not an image index; the next tag starts a new one.
    #[error("the store's index.json is damaged, ignoring it")]
    DamagedIndex {
        /// What is wrong with it.
        source: Cause,
    },
    /// A manifest of an image cannot be read: nobody knows which blobs the image has, so all stay.
    #[error("which blobs image {digest} has is not known, so all blobs stay")]
    UnreadableImage {
        /// The image's manifest or index.
        digest: Digest,
        /// Why.
        source: Cause,
    },
    /// An image has a name and no manifest or config that could be read.
    #[error(
        "image `{name}` is not listed: its manifest or config is missing or damaged (pull or \
         build it again, or remove its name with `mybuild rmi {name}`)"
    )]
    IncompleteImage {
        /// The name, in its short form.
        name: String,
    },
    /// The store could not be kept to its rules.
    #[error("the cache keeps what it has")]
    NoRoomMade {
        /// What went wrong.
        source: Cause,
    },
    /// A background commit failed; the next one tries again.
    #[error("failed to write to the store")]
    CommitFailed {
        /// What went wrong.
        source: Cause,
    },
}

/// Two are equal that say the same, causes included.
impl PartialEq for Warning {
    fn eq(&self, other: &Self) -> bool {
        format!("{self:?}") == format!("{other:?}")
    }
}
