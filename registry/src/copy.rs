//! Copying images from one repository to another.

mod passage;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use oci::manifest::{DEPTH_MAX, Document};
use oci::{Descriptor, Reference, manifest};

use crate::attempts::Attempts;
use crate::cause::Cause;
use crate::error::Error;
use crate::protocol::ProtocolError;
use crate::registries::Registries;
use crate::upload::Pushed;

use passage::Passage;

/// Blobs on their way at once: fewer than the connections to a host, which a blob may need on both sides.
const BLOBS_MAX: usize = 4;

/// What was copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copied {
    /// A blob, and how it got there.
    Blob(Descriptor, Pushed),
    /// A manifest or index.
    Manifest(Descriptor),
}

impl Registries {
    /// Puts the manifest or index `descriptor` of the repository `from` into the repository `to`, after
    /// everything that it refers to. In one registry blobs are mounted; between two they are passed on, and
    /// kept nowhere. `told` hears what is there. Within one repository there is nothing to do.
    ///
    /// # Errors
    /// [`Error`] once the transfer of a part has failed, or what should be copied cannot be trusted.
    pub async fn copy(
        self: &Arc<Self>,
        from: &Reference,
        descriptor: &Descriptor,
        to: &Reference,
        told: &(dyn Fn(Copied) + Sync),
    ) -> Result<(), Error> {
        if from.repository() == to.repository() {
            return Ok(());
        }
        let copy = Copy { registries: self, from: from.without_tag(), to: to.without_tag(), told };
        copy.document(descriptor, DEPTH_MAX).await
    }
}

struct Copy<'a> {
    registries: &'a Arc<Registries>,
    from: Reference,
    to: Reference,
    told: &'a (dyn Fn(Copied) + Sync),
}

impl Copy<'_> {
    /// A manifest or index that may have so many levels of indexes below it.
    fn document<'a>(
        &'a self,
        descriptor: &'a Descriptor,
        depth: usize,
    ) -> BoxFuture<'a, Result<(), Error>> {
        Box::pin(async move {
            let pinned = self.from.with_digest(descriptor.digest.clone());
            let (found, bytes) = self.registries.manifest(&pinned).await?;
            let parsed = manifest::parse(&bytes, Some(&found.media_type));
            match parsed.map_err(|error| self.refused(&pinned, error.into()))? {
                Document::Manifest(manifest) => self.blobs(manifest).await?,
                Document::Index(_) if depth == 0 => {
                    return Err(self.refused(&pinned, ProtocolError::TooDeep.into()));
                }
                Document::Index(index) => {
                    for entry in &index.manifests {
                        self.document(entry, depth - 1).await?;
                    }
                }
            }
            let name = self.to.with_digest(descriptor.digest.clone());
            self.registries.push_manifest(&name, &found.media_type, bytes).await?;
            (self.told)(Copied::Manifest(found));
            Ok(())
        })
    }

    async fn blobs(&self, manifest: manifest::Manifest) -> Result<(), Error> {
        // What is only to be fetched from elsewhere is not in the repository.
        let layers = manifest.layers.into_iter().filter(|layer| layer.urls.is_empty());
        let copies = std::iter::once(manifest.config).chain(layers).map(|blob| self.blob(blob));
        stream::iter(copies).buffer_unordered(BLOBS_MAX).try_collect().await
    }

    async fn blob(&self, blob: Descriptor) -> Result<(), Error> {
        let source = Arc::new(Passage::new(self.registries, &self.from, &blob));
        let pushed = self
            .registries
            .push_blob(&self.to, &blob, Some(&self.from), None, source.clone())
            .await;
        match (pushed, source.failure()) {
            (Ok(pushed), _) => {
                (self.told)(Copied::Blob(blob, pushed));
                Ok(())
            }
            // What could not be fetched explains better what could not be sent.
            (Err(_), Some(cause)) => Err(cause),
            (Err(error), None) => Err(error),
        }
    }

    fn refused(&self, name: &Reference, cause: Cause) -> Error {
        let endpoint = self.registries.origin(name.domain());
        Attempts::new("copy", name).fatal(&endpoint, cause)
    }
}
