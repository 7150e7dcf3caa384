//! Why a result could not be put where it was to go.

use oci::Digest;

use crate::error::{BoxedError, BuildError, Fault};

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExportError {
    /// What takes the output cannot be written.
    #[error("failed to write {dest}")]
    Write {
        /// For messages: with backticks where it is a path.
        dest: String,
        source: BoxedError,
    },
    /// A layer in the form that was asked for.
    #[error("failed to compress a layer")]
    Compress(#[source] BoxedError),
    /// A blob is gone, or was damaged.
    #[error("layer {0} is missing or damaged in the store")]
    NoLayer(Digest),
    /// The image's name.
    #[error("failed to tag the image")]
    Tag(#[source] cache::StoreError),
}

impl ExportError {
    /// For what writes to `dest`.
    pub(super) fn writing<E: Into<BoxedError>>(dest: impl Into<String>) -> impl Fn(E) -> Self {
        let dest = dest.into();
        move |error| Self::Write { dest: dest.clone(), source: error.into() }
    }
}

impl From<ExportError> for BuildError {
    fn from(error: ExportError) -> Self {
        let hint = match error {
            ExportError::NoLayer(_) => {
                Some("build again: what is missing is made again".to_owned())
            }
            _ => None,
        };
        Self::System(Fault::of(error)).with_hint_if(hint)
    }
}
