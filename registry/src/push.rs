//! Pushing blobs and manifests.

use std::sync::Arc;

use http_client::header::{CONTENT_TYPE, HeaderValue};
use http_client::{BodySource, Deadline, Method, Payload, Request};
use oci::reference::DEFAULT_TAG;
use oci::{Descriptor, Digest, Reference};
use tokio_util::bytes::Bytes;

use crate::attempts::Attempts;
use crate::cause::Cause;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::registries::Registries;
use crate::upload::{EarlyUpload, Pushed, Target, Upload, check_stored};

impl Registries {
    /// Pushes a blob to `repository`, unless it is there already. If `mount`, a repository of the same
    /// registry, is known to have the blob, the registry is asked to mount it from there instead. An upload
    /// that breaks goes on where the registry says that it is. What was sent `early` is not sent again.
    ///
    /// # Errors
    /// [`Error`] once all attempts have failed.
    pub async fn push_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        mount: Option<&Reference>,
        early: Option<EarlyUpload>,
        source: Arc<dyn BodySource>,
    ) -> Result<Pushed, Error> {
        let subject = format!("{}@{}", repository.repository(), descriptor.digest);
        let attempts = Attempts::new("push the blob", subject);
        let endpoint = self.origin(repository.domain());
        let mount = mount.filter(|mount| {
            mount.domain() == repository.domain() && mount.path() != repository.path()
        });
        let deadline = self.transfer_deadline(descriptor.size);
        let target =
            Target { endpoint: endpoint.clone(), repository: repository.clone(), deadline };
        let mut upload = Upload { target, descriptor, mount, early, source };
        upload.run().await.map_err(|cause| attempts.fatal(&endpoint, cause))
    }

    /// Whether `repository` has a blob. One of another length is not it.
    ///
    /// # Errors
    /// [`Error`] if the registry does not say.
    pub async fn has_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
    ) -> Result<bool, Error> {
        let subject = format!("{}@{}", repository.repository(), descriptor.digest);
        let attempts = Attempts::new("look for the blob", subject);
        let endpoint = self.origin(repository.domain());
        let deadline = self.request_deadline();
        let target =
            Target { endpoint: endpoint.clone(), repository: repository.clone(), deadline };
        let _permit = endpoint.connections().permit().await;
        target.has(descriptor).await.map_err(|cause| attempts.fatal(&endpoint, cause))
    }

    /// Pushes a manifest or index to `reference`: its tag, else its digest, else `latest`. The blobs
    /// and manifests that it refers to must have been pushed before.
    ///
    /// # Errors
    /// [`Error`] once all attempts have failed, or the registry stored something else.
    pub async fn push_manifest(
        &self,
        reference: &Reference,
        media_type: &str,
        bytes: Bytes,
    ) -> Result<Descriptor, Error> {
        let attempts = Attempts::new("push the manifest of", reference);
        let endpoint = self.origin(reference.domain());
        let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        let deadline = self.request_deadline();
        match put_manifest(&endpoint, reference, &descriptor, bytes, deadline).await {
            Ok(()) => Ok(descriptor),
            Err(cause) => Err(attempts.fatal(&endpoint, cause)),
        }
    }
}

async fn put_manifest(
    endpoint: &Endpoint,
    reference: &Reference,
    descriptor: &Descriptor,
    bytes: Bytes,
    deadline: Deadline,
) -> Result<(), Cause> {
    let name = match (reference.tag(), reference.digest()) {
        (Some(tag), _) => tag,
        (None, Some(digest)) => digest.as_str(),
        (None, None) => DEFAULT_TAG,
    };
    let media_type = HeaderValue::from_str(&descriptor.media_type).map_err(|source| {
        Cause::InvalidMediaType { media_type: descriptor.media_type.clone(), source }
    })?;
    let scope = endpoint.scope(reference.path(), "pull,push");
    let _permit = endpoint.connections().permit().await;
    let mut backoff = endpoint.backoff(deadline);
    loop {
        let attempt = async {
            let url =
                endpoint.url(reference.path(), &format!("manifests/{name}"), deadline).await?;
            let mut request = Request::new(Method::PUT, url);
            request.headers.insert(CONTENT_TYPE, media_type.clone());
            request.payload = Payload::Bytes(bytes.clone());
            let response = endpoint.send(&request, &scope, deadline).await?;
            check_stored(&response, &descriptor.digest)
        };
        match attempt.await {
            Ok(()) => return Ok(()),
            Err(cause) => backoff.wait(cause).await?,
        }
    }
}
