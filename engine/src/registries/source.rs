//! What a new image is made of.

use std::collections::BTreeMap;

use oci::manifest::Document;
use oci::{Descriptor, Digest, Manifest, Platform, Reference, manifest, media_type};
use serde::Deserialize;

use super::RegistryClient;
use crate::error::BuildError;

/// One of the images that a new one is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// An image in its repository.
    pub name: Reference,
    /// What its descriptor is to say instead of what the registry says.
    pub said: Said,
}

/// A descriptor that need not say everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Said {
    /// Its media type.
    pub media_type: Option<String>,
    /// Its size in bytes, which must be right.
    pub size: Option<u64>,
    /// Its annotations, instead of those it has.
    pub annotations: BTreeMap<String, String>,
    /// Its platform.
    pub platform: Option<Platform>,
}

impl Said {
    /// Reads a descriptor in JSON, and the digest in it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(json: &str) -> Result<(Self, Digest), serde_json::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Form {
            media_type: Option<String>,
            digest: Digest,
            size: Option<u64>,
            #[serde(default)]
            annotations: BTreeMap<String, String>,
            platform: Option<Platform>,
        }
        let Form { media_type, digest, size, annotations, platform } = serde_json::from_str(json)?;
        let (media_type, size) =
            (media_type.filter(|media_type| !media_type.is_empty()), size.filter(|size| *size > 0));
        Ok((Self { media_type, size, annotations, platform }, digest))
    }
}

/// A source as the registry has it.
pub(super) struct Found {
    pub(super) name: Reference,
    pub(super) descriptor: Descriptor,
    pub(super) bytes: Vec<u8>,
    pub(super) document: Document,
}

impl RegistryClient {
    /// The source's document, and its descriptor with what was said of it.
    pub(super) async fn find(&self, source: &Source) -> Result<Found, BuildError> {
        let (mut descriptor, bytes) = self.manifest(&source.name).await?;
        let said = source.said.clone();
        if said.size.is_some_and(|size| size != descriptor.size) {
            return Err(BuildError::input(format!(
                "`{}` has {} bytes, not {}",
                source.name.familiar(),
                descriptor.size,
                said.size.unwrap_or_default()
            )));
        }
        if let Some(media_type) = said.media_type.filter(|said| *said != descriptor.media_type) {
            return Err(BuildError::input(format!(
                "`{}` has the media type `{}`, not `{media_type}`",
                source.name.familiar(),
                descriptor.media_type
            )));
        }
        descriptor.annotations = said.annotations;
        descriptor.platform = said.platform;
        let parsed = manifest::parse(&bytes, Some(&descriptor.media_type));
        let document = parsed.map_err(|error| {
            BuildError::input(format!("`{}` is not an image", source.name.familiar()))
                .because(error)
        })?;
        if let Document::Manifest(manifest) = &document
            && descriptor.platform.is_none()
        {
            descriptor.platform = self.platform(&source.name, manifest).await?;
        }
        Ok(Found { name: source.name.clone(), descriptor, bytes, document })
    }

    /// The platform in an image's config; none for what is not an image.
    async fn platform(
        &self,
        name: &Reference,
        manifest: &Manifest,
    ) -> Result<Option<Platform>, BuildError> {
        if ![media_type::CONFIG, media_type::DOCKER_CONFIG].contains(&&*manifest.config.media_type)
        {
            return Ok(None);
        }
        let config = self.config(name, &manifest.config).await?;
        let platform: Platform = serde_json::from_slice(&config).map_err(|error| {
            let digest = &manifest.config.digest;
            BuildError::input(format!("invalid image config {digest}")).because(error)
        })?;
        let is_known = !platform.os.is_empty() && !platform.architecture.is_empty();
        Ok(is_known.then_some(platform))
    }
}
