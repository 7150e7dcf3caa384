//! Descriptors, manifests and indexes as we write them: ordered, so that equal images have equal
//! bytes. Reading goes through these too, see [`parse`].

mod read;
mod select;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use read::{DEPTH_MAX, DESCRIPTORS_MAX, Document, InvalidManifest, Kind, SIZE_MAX, parse};

use crate::config::null_as_default;
use crate::digest::Digest;
use crate::platform::Platform;

/// Media types that appear in manifests.
pub mod media_type {
    /// OCI image manifest.
    pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// Uncompressed layer.
    pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
    /// gzip-compressed layer.
    pub const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// zstd-compressed layer.
    pub const LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
    /// Docker image manifest, schema 2.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, gzip.
    pub const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, uncompressed.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

    /// Docker layer, zstd: containerd's name.
    pub const DOCKER_LAYER_ZSTD: &str = "application/vnd.docker.image.rootfs.diff.tar.zstd";

    /// What one thing is called by the OCI and by Docker.
    const PAIRS: [(&str, &str); 6] = [
        (MANIFEST, DOCKER_MANIFEST),
        (INDEX, DOCKER_INDEX),
        (CONFIG, DOCKER_CONFIG),
        (LAYER, DOCKER_LAYER),
        (LAYER_GZIP, DOCKER_LAYER_GZIP),
        (LAYER_ZSTD, DOCKER_LAYER_ZSTD),
    ];

    /// What begins the names of layers that are not to be distributed, and those of others.
    const NONDISTRIBUTABLE: [(&str, &str); 2] = [
        (
            "application/vnd.oci.image.layer.nondistributable.v1.",
            "application/vnd.oci.image.layer.v1.",
        ),
        ("application/vnd.docker.image.rootfs.foreign.", "application/vnd.docker.image.rootfs."),
    ];

    /// The OCI's type for a layer that Docker calls `kind`; `kind` where there is no other.
    pub fn of_oci(kind: &str) -> &str {
        let layers = &PAIRS[3..];
        layers.iter().find(|(_, docker)| *docker == kind).map_or(kind, |(oci, _)| oci)
    }

    /// Docker's type for what the OCI calls `kind`; `kind` where there is no other.
    pub fn of_docker(kind: &str) -> &str {
        PAIRS.iter().find(|(oci, _)| *oci == kind).map_or(kind, |(_, docker)| docker)
    }

    /// The type of a layer that may be distributed, for that of one that may not; `None` for others.
    pub fn distributable(kind: &str) -> Option<String> {
        NONDISTRIBUTABLE
            .iter()
            .find_map(|(from, to)| Some(format!("{to}{}", kind.strip_prefix(from)?)))
    }
}

/// Content by digest (OCI image specification, descriptor.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What kind of content.
    #[serde(default)]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Where else it may be fetched from.
    #[serde(default, deserialize_with = "null_as_default", skip_serializing_if = "Vec::is_empty")]
    pub urls: Vec<String>,
    /// Notes.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
    /// The content itself, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<String>,
    /// Platform, in an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// What the content is for, where that is no image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifact_type: Option<String>,
}

impl Descriptor {
    /// A descriptor without extras.
    pub fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest,
            size,
            urls: Vec::new(),
            annotations: BTreeMap::new(),
            data: None,
            platform: None,
            artifact_type: None,
        }
    }
}

/// Image manifest (OCI image specification, manifest.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of the manifest itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The image config.
    pub config: Descriptor,
    /// The layers, bottom first.
    #[serde(deserialize_with = "null_as_default")]
    pub layers: Vec<Descriptor>,
    /// Notes.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

/// Image index (OCI image specification, image-index.md).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Media type of the index itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub media_type: String,
    /// The manifests.
    #[serde(deserialize_with = "null_as_default")]
    pub manifests: Vec<Descriptor>,
    /// Notes.
    #[serde(
        default,
        deserialize_with = "null_as_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub annotations: BTreeMap<String, String>,
}

impl Default for Index {
    fn default() -> Self {
        Self {
            schema_version: 2,
            media_type: media_type::INDEX.to_owned(),
            manifests: Vec::new(),
            annotations: BTreeMap::new(),
        }
    }
}
