//! Reading a manifest that somebody else wrote.

use oci_spec::image::{MediaType, ToDockerV2S2 as _};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};

use super::{Descriptor, Index, Manifest};

/// The largest manifest or index that is read, in bytes (the distribution specification asks
/// for at least 4 MiB).
pub const SIZE_MAX: usize = 8 << 20;
/// The most descriptors one document may list.
pub const DESCRIPTORS_MAX: usize = 10_000;
/// How deep indexes may point at indexes before a reader gives up.
pub const DEPTH_MAX: usize = 4;

/// A document that a registry serves under `manifests/`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "one document at a time, taken apart as soon as it is read"
)]
pub enum Document {
    /// One image.
    Manifest(Manifest),
    /// Several images, by platform.
    Index(Index),
}

/// What kind of document a media type names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An image manifest, OCI's or Docker's.
    Manifest,
    /// An image index or Docker's manifest list.
    Index,
}

impl Kind {
    /// The kind that `media_type` names; `None` for every other type. Parameters are ignored.
    pub fn of(media_type: &str) -> Option<Self> {
        let media_type = essence(media_type);
        let is = |known: MediaType| {
            media_type == known.as_ref()
                || known.to_docker_v2s2().is_ok_and(|docker| media_type == docker)
        };
        if is(MediaType::ImageManifest) {
            Some(Self::Manifest)
        } else if is(MediaType::ImageIndex) {
            Some(Self::Index)
        } else {
            None
        }
    }
}

/// Why bytes are not a manifest that can be trusted to mean one thing.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// Larger than [`SIZE_MAX`].
    #[error("the manifest has {0} bytes, more than {SIZE_MAX}")]
    TooLarge(usize),
    /// More than [`DESCRIPTORS_MAX`] entries.
    #[error("the manifest lists {0} descriptors, more than {DESCRIPTORS_MAX}")]
    TooManyDescriptors(usize),
    /// Not JSON, or not of the manifest's shape.
    #[error("the manifest is malformed")]
    Malformed(#[source] serde_json::Error),
    /// Several readings are possible (CVE-2021-41190).
    #[error("the manifest is ambiguous: {0}")]
    Ambiguous(String),
    /// A version of the schema that is no longer supported.
    #[error("manifest schema version {0} is not supported (only version 2 is)")]
    UnsupportedSchema(u64),
    /// A media type that is neither a manifest's nor an index's.
    #[error("media type `{0}` is neither an image manifest nor an image index")]
    UnsupportedMediaType(String),
}

/// Reads a manifest or index and refuses what could be read in two ways. `content_type` is the
/// HTTP header or descriptor it came with, if any.
pub fn parse(bytes: &[u8], content_type: Option<&str>) -> Result<Document, InvalidManifest> {
    if bytes.len() > SIZE_MAX {
        return Err(InvalidManifest::TooLarge(bytes.len()));
    }
    let outline: Outline = serde_json::from_slice(bytes).map_err(InvalidManifest::Malformed)?;
    match outline.kind(content_type)? {
        Kind::Manifest => {
            let manifest: Manifest =
                serde_json::from_slice(bytes).map_err(InvalidManifest::Malformed)?;
            check_count(&manifest.layers)?;
            Ok(Document::Manifest(manifest))
        }
        Kind::Index => {
            let index: Index = serde_json::from_slice(bytes).map_err(InvalidManifest::Malformed)?;
            check_count(&index.manifests)?;
            Ok(Document::Index(index))
        }
    }
}

fn check_count(descriptors: &[Descriptor]) -> Result<(), InvalidManifest> {
    if descriptors.len() > DESCRIPTORS_MAX {
        return Err(InvalidManifest::TooManyDescriptors(descriptors.len()));
    }
    Ok(())
}

/// A media type without its parameters.
fn essence(media_type: &str) -> &str {
    media_type.split(';').next().unwrap_or_default().trim()
}

/// The fields that decide what a document is.
#[derive(Default)]
struct Outline {
    schema_version: u64,
    media_type: String,
    /// Those of [`FIELDS`] that are there.
    fields: Vec<&'static str>,
}

/// Fields that belong to one kind of document only; `fsLayers` is schema 1's.
const FIELDS: [&str; 6] =
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "fsLayers"];

impl Outline {
    fn has(&self, field: &str) -> bool {
        self.fields.contains(&field)
    }

    fn kind(&self, content_type: Option<&str>) -> Result<Kind, InvalidManifest> {
        if self.schema_version != 2 {
            return Err(InvalidManifest::UnsupportedSchema(self.schema_version));
        }
        let kind = self.declared_kind(content_type)?;
        let foreign: &[&str] = match kind {
            Kind::Manifest => &["manifests", "fsLayers"],
            Kind::Index => &["config", "layers", "fsLayers"],
        };
        match foreign.iter().find(|field| self.has(field)) {
            Some(field) => {
                Err(InvalidManifest::Ambiguous(format!("`{field}` does not belong here")))
            }
            None => Ok(kind),
        }
    }

    /// The kind by media type; documents and servers that name none are judged by their fields.
    fn declared_kind(&self, content_type: Option<&str>) -> Result<Kind, InvalidManifest> {
        let by_header = content_type.map(essence).filter(|t| !is_generic(t));
        let unsupported =
            |t: &str| InvalidManifest::UnsupportedMediaType(t.chars().take(200).collect());
        match (self.media_type.as_str(), by_header) {
            ("", None) if self.has("manifests") => Ok(Kind::Index),
            ("", None) => Ok(Kind::Manifest),
            ("", Some(header)) => Kind::of(header).ok_or_else(|| unsupported(header)),
            (own, Some(header)) if own != header => Err(InvalidManifest::Ambiguous(format!(
                "it calls itself `{own}` and came as `{header}`"
            ))),
            (own, _) => Kind::of(own).ok_or_else(|| unsupported(own)),
        }
    }
}

/// What plain web servers say of any JSON file.
fn is_generic(media_type: &str) -> bool {
    matches!(media_type, "" | "application/json" | "application/octet-stream" | "text/plain")
}

impl<'de> Deserialize<'de> for Outline {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Outline;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a manifest object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Outline, A::Error> {
                let mut outline = Outline::default();
                while let Some(key) = map.next_key::<String>()? {
                    // Go compares names without case, so `Layers` counts as `layers` elsewhere.
                    match FIELDS.iter().find(|field| field.eq_ignore_ascii_case(&key)) {
                        Some(field) => read_field(&mut outline, &mut map, field, &key)?,
                        None => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(outline)
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

fn read_field<'de, A: MapAccess<'de>>(
    outline: &mut Outline,
    map: &mut A,
    field: &'static str,
    key: &str,
) -> Result<(), A::Error> {
    if key != field || outline.has(field) {
        return Err(serde::de::Error::custom(format!("`{key}` is ambiguous")));
    }
    match field {
        "schemaVersion" => outline.schema_version = map.next_value()?,
        "mediaType" => outline.media_type = map.next_value()?,
        _ => drop(map.next_value::<IgnoredAny>()?),
    }
    outline.fields.push(field);
    Ok(())
}
