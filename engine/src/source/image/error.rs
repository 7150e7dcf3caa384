//! Why there is no image to start from, and what to do about it.

use oci::{Digest, Platform, Reference};

use super::INDEX_DEPTH_MAX;
use crate::error::{BoxedError, BuildError, Fault};
use crate::registry_hint;

/// Why an image cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ImageError {
    /// The registry is not to be asked, and the store does not have it.
    #[error("`{name}` is not in the store, and pulling is off")]
    NotStored {
        /// As people write it.
        name: String,
    },
    /// The registry is not to be asked, and the store has it for other platforms.
    #[error("`{name}` is in the store for {}, not for {platform}", list(platforms))]
    StoredForOthers { name: String, platforms: Vec<Platform>, platform: String },
    /// The registry did not help, and the store has it for other platforms.
    #[error("`{name}` is in the store for {}, not for {platform}", list(platforms))]
    OnlyForOthers {
        name: String,
        platforms: Vec<Platform>,
        platform: String,
        /// What the registry says.
        source: Box<BuildError>,
    },
    /// It is there for other platforms than this one.
    #[error("no match for platform in manifest: `{name}` has no image for {platform}")]
    NoPlatform { name: String, platforms: Vec<Platform>, platform: String },
    /// The request names a layout that it does not give.
    #[error("there is no OCI layout called `{0}`")]
    NoLayout(String),
    /// Its registry.
    #[error(transparent)]
    Registry(Box<registry::Error>),
    /// A manifest or index.
    #[error("invalid manifest {digest}")]
    Manifest { digest: Digest, source: BoxedError },
    /// A config.
    #[error("invalid image config {digest}")]
    Config { digest: Digest, source: BoxedError },
    /// Manifest and config do not belong together.
    #[error("the image's config names {config} layers, its manifest {manifest}")]
    Layers { config: usize, manifest: usize },
    /// Indexes of indexes of indexes.
    #[error("image indexes nest more than {INDEX_DEPTH_MAX} deep")]
    TooDeep,
    /// What came is something else.
    #[error("{expected} has the content of {found}")]
    OtherContent { expected: Digest, found: Digest },
}

impl ImageError {
    /// Nothing in the store will do, and the registry is not to be asked.
    pub(super) fn not_stored(
        reference: &Reference,
        others: Option<Vec<Platform>>,
        platform: &Platform,
    ) -> Self {
        let (name, platform) = (reference.familiar(), platform.to_string());
        match others {
            Some(platforms) => Self::StoredForOthers { name, platforms, platform },
            None => Self::NotStored { name },
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::NotStored { .. } | Self::StoredForOthers { .. } => {
                Some("build with `--pull=missing`, or `mybuild pull` it first".to_owned())
            }
            Self::OnlyForOthers { name, platforms, platform, .. } => Some(format!(
                "take that one with `--platform {}`, or build or load `{name}` for {platform} first",
                platforms[0]
            )),
            Self::NoPlatform { platforms, .. } if !platforms.is_empty() => {
                Some(format!("it has {}", list(platforms)))
            }
            Self::Registry(error) => registry_hint::of(error.kind()).map(str::to_owned),
            _ => None,
        }
    }
}

impl From<registry::Error> for ImageError {
    fn from(error: registry::Error) -> Self {
        Self::Registry(Box::new(error))
    }
}

impl From<ImageError> for BuildError {
    fn from(error: ImageError) -> Self {
        let hint = error.hint();
        let kind = match error {
            ImageError::NotStored { .. }
            | ImageError::StoredForOthers { .. }
            | ImageError::OnlyForOthers { .. }
            | ImageError::NoPlatform { .. }
            | ImageError::NoLayout(_) => Self::Input,
            _ => Self::System,
        };
        kind(Fault::of(error)).with_hint_if(hint)
    }
}

fn list(platforms: &[Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Nothing in the store will do, and there is no network.
pub(super) fn not_asked(
    reference: &Reference,
    others: Option<Vec<Platform>>,
    platform: &Platform,
) -> BuildError {
    let (name, domain) = (reference.familiar(), reference.domain());
    BuildError::offline(match others {
        Some(platforms) => format!(
            "`{name}` is in the store for {}, not for {platform}, and would have to be pulled from \
             {domain}",
            list(&platforms)
        ),
        None => format!("`{name}` is not in the store, and would have to be pulled from {domain}"),
    })
}

/// The store knows the image and lacks some of it, and there is no network.
pub(super) fn not_whole(reference: &Reference) -> BuildError {
    BuildError::offline(format!(
        "parts of `{}` are not in the store, and would have to be pulled from {}",
        reference.familiar(),
        reference.domain()
    ))
}
