//! The attributes that say what an image is like: names, annotations, media types, compression.

use engine::Annotation;
use engine::request::{Compression, CompressionAlgorithm, ImageForm, MediaTypes};
use oci::Reference;

use super::Attributes;
use crate::build_args::annotation;
use crate::build_args::compression;
use crate::build_args::tag::tag;
use crate::error::UsageError;

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
        let level = level.map(|text| compression::level(algorithm, &text)).transpose();
        let level = level.map_err(|what| self.invalid(&what))?;
        Ok(Compression { algorithm, level, force })
    }

    fn algorithm(&self, name: &str) -> Result<CompressionAlgorithm, UsageError> {
        compression::algorithm(name, compression::OF_IMAGES)
            .map_err(|known| self.refused(&format!("compression={name}"), &known))
    }
}
