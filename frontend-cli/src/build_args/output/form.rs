//! The attributes that say what an image is like: names, annotations, media types, compression.

use engine::Annotation;
use engine::request::{Compression, CompressionAlgorithm, ImageForm, MediaTypes};
use oci::Reference;

use super::Attributes;
use crate::build_args::annotation;
use crate::build_args::tag::tag;
use crate::error::UsageError;

/// What `compression=` takes, and the highest level of each.
const ALGORITHMS: [(&str, CompressionAlgorithm, Option<i32>); 5] = [
    ("gzip", CompressionAlgorithm::Gzip, Some(9)),
    ("zstd", CompressionAlgorithm::Zstd, Some(22)),
    ("estargz", CompressionAlgorithm::Estargz, Some(9)),
    ("zstd:chunked", CompressionAlgorithm::ZstdChunked, Some(22)),
    ("uncompressed", CompressionAlgorithm::Uncompressed, None),
];

impl Attributes<'_> {
    pub(super) fn names(&mut self) -> Result<Vec<Reference>, UsageError> {
        let names = self.rest.remove("name").unwrap_or_default();
        names
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| tag(name).map_err(|error| self.invalid(&error.message)))
            .collect()
    }

    pub(super) fn take_annotations(&mut self) -> Result<Vec<Annotation>, UsageError> {
        let mut annotations = Vec::new();
        for (name, value) in std::mem::take(&mut self.rest) {
            match annotation::attribute(self.text, &name, &value) {
                Some(annotation) => annotations.push(annotation?),
                None => drop(self.rest.insert(name, value)),
            }
        }
        Ok(annotations)
    }

    pub(super) fn media_types(&mut self) -> Result<MediaTypes, UsageError> {
        Ok(match self.flag("oci-mediatypes")? {
            Some(false) => MediaTypes::Docker,
            Some(true) | None => MediaTypes::Oci,
        })
    }

    /// Docker's manifests have no annotations, and no type for every compression.
    pub(super) fn check_docker_types(&self, form: &ImageForm) -> Result<(), UsageError> {
        let what = match (form.media_types, form.compression.algorithm) {
            (MediaTypes::Oci, _) => return Ok(()),
            (MediaTypes::Docker, CompressionAlgorithm::Zstd) => "layers in zstd",
            (MediaTypes::Docker, CompressionAlgorithm::ZstdChunked) => "layers in zstd:chunked",
            (MediaTypes::Docker, CompressionAlgorithm::Estargz) => "layers in estargz",
            (MediaTypes::Docker, _) if !form.annotations.is_empty() => "annotations",
            (MediaTypes::Docker, _) => return Ok(()),
        };
        Err(self
            .invalid(&format!("`oci-mediatypes=false`: Docker's media types have no {what}"))
            .with_hint("leave `oci-mediatypes` out"))
    }

    /// `default`: what layers are without any of its attributes.
    pub(super) fn compression(&mut self, default: Compression) -> Result<Compression, UsageError> {
        let algorithm = self.rest.remove("compression").map(|name| self.algorithm(&name));
        let algorithm = algorithm.transpose()?;
        let level = self.rest.remove("compression-level");
        let force = self.flag("force-compression")?.unwrap_or(false);
        let algorithm = match algorithm {
            Some(algorithm) => algorithm,
            None if default == Compression::default() => default.algorithm,
            None if force => {
                return Err(self.invalid("`force-compression` without `compression`"));
            }
            None => default.algorithm,
        };
        let level = level.map(|text| self.level(algorithm, &text)).transpose()?;
        Ok(Compression { algorithm, level, force })
    }

    fn algorithm(&self, name: &str) -> Result<CompressionAlgorithm, UsageError> {
        let known = ALGORITHMS.iter().find(|(known, ..)| *known == name);
        known.map(|(_, algorithm, _)| *algorithm).ok_or_else(|| {
            let names = ALGORITHMS.map(|(name, ..)| name).join(", ");
            self.refused(&format!("compression={name}"), &format!("compressions are {names}"))
        })
    }

    fn level(&self, algorithm: CompressionAlgorithm, text: &str) -> Result<i32, UsageError> {
        let known = ALGORITHMS.iter().find(|(_, known, _)| *known == algorithm);
        let Some(highest) = known.and_then(|(.., highest)| *highest) else {
            return Err(self.invalid("`compression-level` without a compression"));
        };
        text.parse().ok().filter(|level| (0..=highest).contains(level)).ok_or_else(|| {
            self.invalid(&format!("`compression-level={text}`: want a number from 0 to {highest}"))
        })
    }
}
