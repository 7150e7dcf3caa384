//! From a reference to a manifest.

use http_client::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use http_client::{Deadline, Method, Request, Response};
use oci::manifest::{Document, Kind, SIZE_MAX};
use oci::reference::DEFAULT_TAG;
use oci::{Descriptor, Digest, Reference, manifest, media_type};
use tokio_util::bytes::Bytes;

use crate::attempts::Attempts;
use crate::cause::Cause;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::protocol::ProtocolError;
use crate::registries::Registries;

const DIGEST_HEADER: &str = "docker-content-digest";

/// What a reference currently points to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Media type, digest and size of the manifest or index.
    pub descriptor: Descriptor,
    /// The host that answered.
    pub host: String,
}

impl Registries {
    /// Asks what `reference` points to, without fetching the manifest if the registry can tell.
    /// The digest is only the registry's claim until content is fetched by it. If the reference has a
    /// digest, the answer must have the same.
    ///
    /// # Errors
    /// [`Error`] once the mirrors and the registry have failed.
    pub async fn resolve(&self, reference: &Reference) -> Result<Resolved, Error> {
        let mut attempts = Attempts::new("resolve", reference);
        for endpoint in self.endpoints(reference.domain()) {
            match resolve_at(&endpoint, reference, self.request_deadline()).await {
                Ok(descriptor) => {
                    return Ok(Resolved { descriptor, host: endpoint.host().to_owned() });
                }
                Err(cause) => attempts.failed(&endpoint, cause),
            }
        }
        Err(attempts.into_error())
    }

    /// Fetches the manifest or index of `reference`. The bytes have the descriptor's digest, which
    /// is the reference's if it has one, and are not ambiguous ([`oci::manifest::parse`]).
    ///
    /// # Errors
    /// [`Error`] once the mirrors and the registry have failed.
    pub async fn manifest(&self, reference: &Reference) -> Result<(Descriptor, Bytes), Error> {
        let mut attempts = Attempts::new("fetch the manifest of", reference);
        for endpoint in self.endpoints(reference.domain()) {
            match manifest_at(&endpoint, reference, self.request_deadline()).await {
                Ok(found) => return Ok(found),
                Err(cause) => attempts.failed(&endpoint, cause),
            }
        }
        Err(attempts.into_error())
    }
}

async fn resolve_at(
    endpoint: &Endpoint,
    reference: &Reference,
    deadline: Deadline,
) -> Result<Descriptor, Cause> {
    match request(endpoint, Method::HEAD, reference, deadline).await {
        Ok(response) => {
            if let Some(descriptor) = claimed(response.headers())? {
                check_pin(reference, &descriptor.digest)?;
                return Ok(descriptor);
            }
        }
        // Some servers do not support HEAD.
        Err(Cause::Status { .. }) => {}
        Err(cause) => return Err(cause),
    }
    manifest_at(endpoint, reference, deadline).await.map(|(descriptor, _)| descriptor)
}

async fn manifest_at(
    endpoint: &Endpoint,
    reference: &Reference,
    deadline: Deadline,
) -> Result<(Descriptor, Bytes), Cause> {
    let mut backoff = endpoint.backoff(deadline);
    loop {
        let answer = match request(endpoint, Method::GET, reference, deadline).await {
            Ok(response) => read_manifest(response, reference).await,
            // It has been retried already.
            Err(cause) => return Err(cause),
        };
        match answer {
            Ok(found) => return Ok(found),
            Err(cause) => backoff.wait(cause).await?,
        }
    }
}

async fn request(
    endpoint: &Endpoint,
    method: Method,
    reference: &Reference,
    deadline: Deadline,
) -> Result<Response, Cause> {
    const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json, \
        application/vnd.docker.distribution.manifest.list.v2+json, \
        application/vnd.docker.distribution.manifest.v2+json, */*;q=0.5";
    let name = match reference.digest() {
        Some(digest) => digest.as_str(),
        None => reference.tag().unwrap_or(DEFAULT_TAG),
    };
    let scope = endpoint.scope(reference.path(), "pull");
    let mut backoff = endpoint.backoff(deadline);
    let _permit = endpoint.connections().permit().await;
    loop {
        let attempt = async {
            let url =
                endpoint.url(reference.path(), &format!("manifests/{name}"), deadline).await?;
            let mut request = Request::new(method.clone(), url);
            request.headers.insert(ACCEPT, HeaderValue::from_static(ACCEPTED));
            endpoint.send(&request, &scope, deadline).await
        };
        match attempt.await {
            Ok(response) => return Ok(response),
            Err(cause) => backoff.wait(cause).await?,
        }
    }
}

/// The descriptor in the headers of an answer to HEAD, if they are complete.
fn claimed(headers: &HeaderMap) -> Result<Option<Descriptor>, Cause> {
    let media_type =
        header(headers, CONTENT_TYPE.as_str()).and_then(|t| t.split(';').next()).map(str::trim);
    let size: Option<u64> =
        header(headers, CONTENT_LENGTH.as_str()).and_then(|length| length.parse().ok());
    let (Some(media_type), Some(size), Some(digest)) = (media_type, size, claimed_digest(headers)?)
    else {
        return Ok(None);
    };
    if size > SIZE_MAX as u64 {
        return Err(http_client::Error::TooLarge(SIZE_MAX as u64).into());
    }
    Ok(Kind::of(media_type).map(|_| Descriptor::new(media_type, digest, size)))
}

/// The digest header. An invalid one is an error, not a missing one.
fn claimed_digest(headers: &HeaderMap) -> Result<Option<Digest>, ProtocolError> {
    let Some(value) = headers.get(DIGEST_HEADER) else { return Ok(None) };
    let text = value.to_str().map_err(|_| ProtocolError::DigestNotText)?;
    Ok(Some(text.trim().parse().map_err(ProtocolError::InvalidDigest)?))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn check_pin(reference: &Reference, actual: &Digest) -> Result<(), Cause> {
    match reference.digest() {
        Some(expected) if expected != actual => {
            Err(Cause::DigestMismatch { expected: expected.clone(), actual: actual.clone() })
        }
        _ => Ok(()),
    }
}

async fn read_manifest(
    response: Response,
    reference: &Reference,
) -> Result<(Descriptor, Bytes), Cause> {
    let claimed = claimed_digest(response.headers())?;
    let content_type = header(response.headers(), CONTENT_TYPE.as_str()).map(str::to_owned);
    let bytes = response.body(SIZE_MAX as u64).await?;
    for expected in reference.digest().into_iter().chain(&claimed) {
        if !expected.verifies(&bytes) {
            return Err(Cause::DigestMismatch {
                expected: expected.clone(),
                actual: Digest::of(&bytes),
            });
        }
    }
    let document = manifest::parse(&bytes, content_type.as_deref())?;
    let media_type = document_type(&document, content_type.as_deref());
    let digest = reference.digest().cloned().unwrap_or_else(|| Digest::of(&bytes));
    Ok((Descriptor::new(&media_type, digest, bytes.len() as u64), bytes.into()))
}

/// The document's own media type, else the header's, else that of its shape.
fn document_type(document: &Document, content_type: Option<&str>) -> String {
    let (own, usual) = match document {
        Document::Manifest(manifest) => (&manifest.media_type, media_type::MANIFEST),
        Document::Index(index) => (&index.media_type, media_type::INDEX),
    };
    let header = content_type
        .and_then(|t| t.split(';').next())
        .map(str::trim)
        .filter(|t| Kind::of(t).is_some());
    let own = Some(own.as_str()).filter(|own| !own.is_empty());
    own.or(header).unwrap_or(usual).to_owned()
}
