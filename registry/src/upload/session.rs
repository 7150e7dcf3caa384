//! What a registry has begun to receive.

use std::sync::Arc;

use http_client::header::{CONTENT_LENGTH, LOCATION, RANGE};
use http_client::{Deadline, Method, Payload, Request, Response, StatusCode, Url};
use oci::{Descriptor, Digest, Reference};
use tokio_util::bytes::Bytes;

use crate::cause::Cause;
use crate::endpoint::Endpoint;
use crate::protocol::ProtocolError;
use crate::scope::Scope;

/// The media type of uploads.
pub(super) const BYTES: &str = "application/octet-stream";

/// Where a blob goes.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) endpoint: Arc<Endpoint>,
    pub(crate) repository: Reference,
    pub(crate) deadline: Deadline,
}

/// What the registry has begun to receive.
pub(super) struct Session {
    /// Where the next request goes.
    pub(super) location: Url,
    /// How many bytes it has.
    pub(super) received: u64,
    /// Bytes that a piece must have at least, but for the last.
    pub(super) piece_min: u64,
}

pub(super) enum Started {
    Mounted,
    At(Session),
}

impl Target {
    pub(super) fn scope(&self) -> Scope {
        self.endpoint.scope(self.repository.path(), "pull,push")
    }

    pub(super) async fn url(&self, rest: &str) -> Result<Url, Cause> {
        self.endpoint.url(self.repository.path(), rest, self.deadline).await
    }

    pub(super) async fn send(&self, request: &Request) -> Result<Response, Cause> {
        self.endpoint.send(request, &self.scope(), self.deadline).await
    }

    /// Whether the repository has the blob. One of another length is not it.
    pub(crate) async fn has(&self, blob: &Descriptor) -> Result<bool, Cause> {
        let rest = format!("blobs/{}", blob.digest);
        let url = self.url(&rest).await?;
        match self.send(&Request::new(Method::HEAD, url)).await {
            Ok(response) => {
                let length = response.header(&CONTENT_LENGTH).and_then(|text| text.parse().ok());
                let is_it = length.is_none_or(|length: u64| length == blob.size);
                Ok(response.status() == StatusCode::OK && is_it)
            }
            Err(Cause::NotFound) => Ok(false),
            Err(cause) => Err(cause),
        }
    }

    /// Begins an upload, or has the registry mount a blob from another repository.
    pub(super) async fn start(
        &self,
        mount: Option<(&Digest, &Reference)>,
    ) -> Result<Started, Cause> {
        let mut scope = self.scope();
        let mut url = self.url("blobs/uploads/").await?;
        if let Some((digest, from)) = mount {
            let mut query = url.query_pairs_mut();
            query.append_pair("mount", digest.as_str()).append_pair("from", from.path());
            let other = self.endpoint.scope(from.path(), "pull");
            scope.actions = format!("{} {}", scope.actions, other.actions);
        }
        let mut request = Request::new(Method::POST, url);
        request.payload = Payload::Bytes(Bytes::new());
        let response = self.endpoint.send(&request, &scope, self.deadline).await?;
        match response.status() {
            StatusCode::CREATED => Ok(Started::Mounted),
            StatusCode::ACCEPTED => {
                let location = response.location().map_err(http_client::Error::from)?;
                let piece_min = number(&response, "oci-chunk-min-length").unwrap_or(0);
                Ok(Started::At(Session { location, received: 0, piece_min }))
            }
            status => Err(ProtocolError::UploadStatus(status.as_u16()).into()),
        }
    }
}

impl Session {
    /// Goes on where an answer says, if it does.
    pub(super) fn follow(&mut self, response: &Response) -> Result<(), Cause> {
        if response.header(&LOCATION).is_some() {
            self.location = response.location().map_err(http_client::Error::from)?;
        }
        Ok(())
    }
}

/// How many bytes an answer says there are. A registry that has none has no way to say it: `0-0`.
pub(super) fn received(response: &Response) -> Option<u64> {
    let range = response.header(&RANGE)?;
    let (first, last) = range.strip_prefix("bytes=").unwrap_or(range).split_once('-')?;
    let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
    match (first, last) {
        (0, 0) => Some(0),
        (0, last) => last.checked_add(1),
        _ => None,
    }
}

fn number(response: &Response, name: &str) -> Option<u64> {
    response.headers().get(name)?.to_str().ok()?.trim().parse().ok()
}
