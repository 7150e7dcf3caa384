//! From what a user writes to a cache's place.

use std::sync::Arc;

use registry::Registries;
use remote_cache::{Azblob, Gha, Place, S3};

use crate::client::Client;
use crate::error::BuildError;
use crate::request::CacheLocation;

impl CacheLocation {
    /// As messages call it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Registry(reference) => reference.familiar(),
            Self::Directory { path, .. } => path.display().to_string(),
            Self::S3(options) => format!("s3:{}/{}", options.bucket, options.name),
            Self::Gha(options) => format!("gha:{}", options.scope),
            Self::Azblob(options) => format!("azblob:{}/{}", options.container, options.name),
        }
    }

    pub(super) fn place(
        &self,
        registries: &Arc<Registries>,
        client: &dyn Client,
    ) -> Result<Place, BuildError> {
        match self {
            Self::Registry(reference) => Place::registry(registries.clone(), reference)
                .map_err(|e| BuildError::input("not a usable name for a cache").because(e)),
            Self::Directory { path, tag } => {
                let path = client.output_directory(path)?;
                Ok(Place::directory(&path, tag))
            }
            Self::S3(options) => S3::new(options, http_client::Limits::default())
                .map(Place::S3)
                .map_err(|e| BuildError::input("not a usable object store").because(e)),
            Self::Gha(options) => Gha::new(options, http_client::Limits::default())
                .map(Place::Gha)
                .map_err(|e| BuildError::input("not a usable cache service").because(e)),
            Self::Azblob(options) => Azblob::new(options, http_client::Limits::default())
                .map(Place::Azblob)
                .map_err(|e| BuildError::input("not a usable object store").because(e)),
        }
    }
}
