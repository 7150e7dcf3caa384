//! How a cache lies in a registry: as a manifest or an index of its own, or inside an image.

use oci::{Descriptor, Document, Index, Manifest, media_type};

use crate::config;

/// Annotation: digest of a layer's tar.
pub(crate) const DIFF_ID: &str = "containerd.io/uncompressed";
/// Annotation: when a layer was made, RFC 3339.
pub(crate) const CREATED: &str = "buildkit/createdat";

/// What a document turns out to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Artifact {
    /// A cache: its config and the blobs of its layers.
    Cache {
        /// The config, of [`config::MEDIA_TYPE`].
        config: Descriptor,
        /// The layers.
        layers: Vec<Descriptor>,
    },
    /// An image, which may carry records in its config.
    Image {
        /// The image config.
        config: Descriptor,
        /// The layers, bottom first.
        layers: Vec<Descriptor>,
    },
    /// Several images, each of which may.
    Images(Vec<Descriptor>),
}

/// How a cache is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Shape {
    /// An image manifest whose config is the cache config (`image-manifest=true`). All registries take it.
    #[default]
    Manifest,
    /// An image index that lists layers and config, as BuildKit wrote it before there was the other form.
    Index,
}

impl Artifact {
    /// What `document` is.
    pub fn of(document: Document) -> Self {
        match document {
            Document::Manifest(Manifest { config, layers, .. }) => {
                match config.media_type == config::MEDIA_TYPE {
                    true => Self::Cache { config, layers },
                    false => Self::Image { config, layers },
                }
            }
            Document::Index(index) => of_index(index),
        }
    }
}

fn of_index(index: Index) -> Artifact {
    let is_config = |descriptor: &Descriptor| descriptor.media_type == config::MEDIA_TYPE;
    let (configs, others): (Vec<_>, Vec<_>) = index.manifests.into_iter().partition(is_config);
    match configs.into_iter().next_back() {
        Some(config) => Artifact::Cache { config, layers: others },
        None => Artifact::Images(others),
    }
}

impl Shape {
    /// The document of a cache. `size` and `digest` of `config` are those of the bytes that
    /// [`config::Config::to_bytes`] gave.
    pub fn document(self, config: Descriptor, layers: Vec<Descriptor>) -> Document {
        match self {
            Self::Manifest => Document::Manifest(Manifest {
                schema_version: 2,
                media_type: media_type::MANIFEST.to_owned(),
                config,
                layers,
                annotations: Default::default(),
            }),
            Self::Index => {
                let manifests = layers.into_iter().chain([config]).collect();
                Document::Index(Index { manifests, ..Index::default() })
            }
        }
    }
}
