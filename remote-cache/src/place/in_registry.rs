//! A cache in a registry: each pack is the config of an OCI manifest whose layers are the blobs that its records
//! name, so that the registry keeps them.
//!
//! A cache called `repository:tag` has its packs at `repository:tag.mb-NAME`, and the newest at the tag itself.

use std::sync::Arc;

use http_client::BodySource;
use oci::manifest::Document;
use oci::{Descriptor, Digest, Manifest, Reference, manifest, media_type};
use registry::{BlobSink, ErrorKind, Pushed, Registries};
use tokio_util::bytes::Bytes;

use super::Summary;
use crate::embedded::{embed, embedded};
use crate::error::Error;
use crate::name;
use crate::pack::PACK_MAX;

/// What a pack is, for registries.
pub(crate) const PACK_TYPE: &str = "application/vnd.mybuild.cache.records.v1+json";
/// Between a cache's tag and the names of its packs.
const INFIX: &str = ".mb-";
/// The largest pack, in bytes, that stands in its manifest as well, which spares those who read it a request.
const IN_MANIFEST_MAX: u64 = 256 << 10;
/// The longest tag that leaves room for names; a tag has 128 characters at most.
const TAG_MAX: usize = 60;

/// A cache in a repository.
pub struct InRegistry {
    registries: Arc<Registries>,
    reference: Reference,
    tag: String,
}

impl InRegistry {
    pub(super) fn new(registries: Arc<Registries>, reference: &Reference) -> Result<Self, Error> {
        let reference = reference.docker_ref().with_default_tag();
        let tag = reference.tag().unwrap_or_default().to_owned();
        if tag.len() > TAG_MAX {
            return Err(Error::Tag(tag));
        }
        Ok(Self { registries, reference, tag })
    }

    /// Its name.
    pub fn reference(&self) -> &Reference {
        &self.reference
    }

    fn at(&self, name: &str) -> Reference {
        let tag = format!("{}{INFIX}{name}", self.tag);
        self.reference.with_tag(&tag).expect("a pack's name fits into a tag")
    }

    /// The manifest at `reference`; `None` if nothing is there.
    async fn manifest(&self, reference: &Reference) -> Result<Option<Bytes>, Error> {
        match self.registries.manifest(reference).await {
            Ok((_, bytes)) => Ok(Some(bytes)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The pack that a manifest leads to; `None` if it is something else.
    async fn pack_of(&self, bytes: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        match manifest::parse(bytes, None) {
            Ok(Document::Manifest(manifest)) if manifest.config.media_type == PACK_TYPE => {
                let config = &manifest.config;
                if let Some(bytes) = embedded(config).filter(|bytes| config.digest.verifies(bytes))
                {
                    return Ok(Some(bytes));
                }
                let fetched =
                    self.registries.fetch_bytes(&self.reference, config, PACK_MAX).await?;
                Ok(Some(fetched.to_vec()))
            }
            _ => Ok(None),
        }
    }

    /// The bytes of a blob that has at most `max` of them.
    ///
    /// # Errors
    /// [`Error`] if it is not there, is larger, or has other content.
    pub async fn bytes(&self, blob: &Descriptor, max: u64) -> Result<Vec<u8>, Error> {
        Ok(self.registries.fetch_bytes(&self.reference, blob, max).await?.to_vec())
    }

    /// The manifest with this digest in the same repository.
    ///
    /// # Errors
    /// [`Error`] if it is not there.
    pub async fn manifest_of(&self, digest: &Digest) -> Result<Vec<u8>, Error> {
        let reference = self.reference.with_digest(digest.clone());
        Ok(self.registries.manifest(&reference).await?.1.to_vec())
    }

    /// Puts a manifest of another program's, whose blobs are there, at the cache's own name.
    ///
    /// # Errors
    /// [`Error`] if the registry does not take it.
    pub async fn put_foreign(&self, manifest: &Manifest) -> Result<(), Error> {
        let bytes = serde_json::to_vec(manifest).expect("a manifest is plain data");
        let put =
            self.registries.push_manifest(&self.reference, media_type::MANIFEST, bytes.into());
        put.await?;
        Ok(())
    }

    pub(super) async fn summary(&self) -> Result<Summary, Error> {
        let Some(bytes) = self.manifest(&self.reference).await? else { return Ok(Summary::None) };
        Ok(match self.pack_of(&bytes).await? {
            Some(pack) => Summary::Pack(pack),
            None => Summary::Other(bytes.to_vec()),
        })
    }

    pub(super) async fn names(&self) -> Result<Vec<String>, Error> {
        let prefix = format!("{}{INFIX}", self.tag);
        let tags = match self.registries.tags(&self.reference, &prefix).await {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            tags => tags?,
        };
        let names = tags.iter().filter_map(|tag| tag.strip_prefix(&prefix));
        Ok(names.filter(|name| name::is_name(name)).map(str::to_owned).collect())
    }

    pub(super) async fn pack(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.manifest(&self.at(name)).await? {
            Some(bytes) => self.pack_of(&bytes).await,
            None => Ok(None),
        }
    }

    /// Under its own name first: what stands at the tag may be overwritten by another's, and nothing is lost then.
    pub(super) async fn put_pack(
        &self,
        name: &str,
        bytes: Vec<u8>,
        blobs: &[Descriptor],
    ) -> Result<(), Error> {
        let bytes = Bytes::from(bytes);
        let config = Descriptor::new(PACK_TYPE, Digest::of(&bytes), bytes.len() as u64);
        self.upload(&config, Arc::new(bytes.clone())).await?;
        let config = if config.size > IN_MANIFEST_MAX { config } else { embed(config, &bytes) };
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config,
            layers: blobs.to_vec(),
            annotations: std::collections::BTreeMap::new(),
        };
        let manifest = serde_json::to_vec(&manifest).expect("a manifest is plain data");
        for reference in [self.at(name), self.reference.clone()] {
            let bytes = manifest.clone().into();
            self.registries.push_manifest(&reference, media_type::MANIFEST, bytes).await?;
        }
        Ok(())
    }

    pub(super) async fn fetch<S, P>(
        &self,
        blob: &Descriptor,
        sink: S,
        progress: P,
    ) -> Result<S, Error>
    where
        S: BlobSink + 'static,
        P: FnMut(u64) + Send + 'static,
    {
        Ok(self.registries.fetch_blob(&self.reference, blob, sink, progress).await?)
    }

    pub(super) async fn has(&self, blob: &Descriptor) -> Result<bool, Error> {
        Ok(self.registries.has_blob(&self.reference, blob).await?)
    }

    pub(super) async fn upload(
        &self,
        blob: &Descriptor,
        source: Arc<dyn BodySource>,
    ) -> Result<bool, Error> {
        let pushed = self.registries.push_blob(&self.reference, blob, None, None, source).await?;
        Ok(pushed == Pushed::Uploaded)
    }
}
