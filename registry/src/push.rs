//! Pushing blobs and manifests.

use std::sync::Arc;

use http_client::header::{CONTENT_TYPE, HeaderValue};
use http_client::{BodySource, Deadline, Method, Payload, Request, Response, StatusCode, Url};
use oci::reference::DEFAULT_TAG;
use oci::{Descriptor, Digest, Reference};
use tokio_util::bytes::Bytes;

use crate::attempts::Attempts;
use crate::cause::Cause;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::protocol::ProtocolError;
use crate::registries::Registries;
use crate::scope::Scope;

/// How a blob got into a repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// It was there already.
    Existing,
    /// The registry mounted it from another repository.
    Mounted,
    /// It was uploaded.
    Uploaded,
}

impl Registries {
    /// Pushes a blob to `repository`, unless it is there already. If `mount`, a repository of the same
    /// registry, is known to have the blob, the registry is asked to mount it from there instead.
    ///
    /// # Errors
    /// [`Error`] once all attempts have failed.
    pub async fn push_blob(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        mount: Option<&Reference>,
        source: Arc<dyn BodySource>,
    ) -> Result<Pushed, Error> {
        let subject = format!("{}@{}", repository.repository(), descriptor.digest);
        let attempts = Attempts::new("push the blob", subject);
        let endpoint = self.origin(repository.domain());
        let mount = mount.filter(|mount| {
            mount.domain() == repository.domain() && mount.path() != repository.path()
        });
        let deadline = self.transfer_deadline(descriptor.size);
        let upload =
            Upload { endpoint: &endpoint, repository, descriptor, mount, source, deadline };
        upload.run().await.map_err(|cause| attempts.fatal(&endpoint, cause))
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

/// If the registry names the digest of what it stored, it must be that of what was sent.
fn check_stored(response: &Response, expected: &Digest) -> Result<(), Cause> {
    let stored =
        response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
    match stored.map(str::parse::<Digest>) {
        Some(Ok(actual)) if actual != *expected && actual.algorithm() == expected.algorithm() => {
            Err(Cause::DigestMismatch { expected: expected.clone(), actual })
        }
        _ => Ok(()),
    }
}

struct Upload<'a> {
    endpoint: &'a Endpoint,
    repository: &'a Reference,
    descriptor: &'a Descriptor,
    mount: Option<&'a Reference>,
    source: Arc<dyn BodySource>,
    deadline: Deadline,
}

impl Upload<'_> {
    async fn run(&self) -> Result<Pushed, Cause> {
        let _permit = self.endpoint.connections().permit().await;
        let mut backoff = self.endpoint.backoff(self.deadline);
        loop {
            match self.attempt().await {
                Ok(pushed) => return Ok(pushed),
                Err(cause) => backoff.wait(cause).await?,
            }
        }
    }

    async fn attempt(&self) -> Result<Pushed, Cause> {
        if self.exists().await? {
            return Ok(Pushed::Existing);
        }
        let location = match self.start().await? {
            Started::Mounted => return Ok(Pushed::Mounted),
            Started::At(location) => location,
        };
        let mut request = Request::new(Method::PUT, location);
        request.url.query_pairs_mut().append_pair("digest", self.descriptor.digest.as_str());
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        request.payload =
            Payload::Stream { source: Arc::clone(&self.source), size: self.descriptor.size };
        let response = self.endpoint.send(&request, &self.scope(), self.deadline).await?;
        check_stored(&response, &self.descriptor.digest)?;
        Ok(Pushed::Uploaded)
    }

    /// One scope for the whole push; a mount needs the other repository in it as well.
    fn scope(&self) -> Scope {
        let mut scope = self.endpoint.scope(self.repository.path(), "pull,push");
        if let Some(mount) = self.mount {
            scope.actions =
                format!("{} {}", scope.actions, self.endpoint.scope(mount.path(), "pull").actions);
        }
        scope
    }

    async fn exists(&self) -> Result<bool, Cause> {
        let rest = format!("blobs/{}", self.descriptor.digest);
        let url = self.endpoint.url(self.repository.path(), &rest, self.deadline).await?;
        match self
            .endpoint
            .send(&Request::new(Method::HEAD, url), &self.scope(), self.deadline)
            .await
        {
            Ok(response) => Ok(response.status() == StatusCode::OK),
            Err(Cause::NotFound) => Ok(false),
            Err(cause) => Err(cause),
        }
    }

    async fn start(&self) -> Result<Started, Cause> {
        let mut url =
            self.endpoint.url(self.repository.path(), "blobs/uploads/", self.deadline).await?;
        if let Some(mount) = self.mount {
            let digest = self.descriptor.digest.as_str();
            url.query_pairs_mut().append_pair("mount", digest).append_pair("from", mount.path());
        }
        let mut request = Request::new(Method::POST, url);
        request.payload = Payload::Bytes(Bytes::new());
        let response = self.endpoint.send(&request, &self.scope(), self.deadline).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Started::Mounted),
            StatusCode::ACCEPTED => {
                Ok(Started::At(response.location().map_err(http_client::Error::from)?))
            }
            status => Err(ProtocolError::UploadStatus(status.as_u16()).into()),
        }
    }
}

enum Started {
    Mounted,
    At(Url),
}
