//! Uploading a blob: as one request, and in pieces once that has failed (OCI distribution specification,
//! "Pushing blobs").

use std::sync::Arc;

use http_client::header::{CONTENT_RANGE, CONTENT_TYPE, HeaderValue};
use http_client::{Backoff, BodySource, Method, Payload, Request, Response};
use oci::{Descriptor, Digest, Reference};
use tokio_util::bytes::Bytes;

use crate::cause::Cause;
use crate::kind::ErrorKind;
use crate::protocol::ProtocolError;

mod early;
mod session;

pub use early::EarlyUpload;
pub(crate) use session::Target;
use session::{BYTES, Session, Started, received};

/// Bytes of one piece, if the registry does not want more.
const PIECE: u64 = 16 << 20;
/// The largest piece that a registry may ask for.
const PIECE_MAX: u64 = 1 << 30;

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

/// A blob on its way into a repository.
pub(crate) struct Upload<'a> {
    pub(crate) target: Target,
    pub(crate) descriptor: &'a Descriptor,
    /// A repository of the same registry that may have it.
    pub(crate) mount: Option<&'a Reference>,
    /// What of it was sent while it was made.
    pub(crate) early: Option<EarlyUpload>,
    pub(crate) source: Arc<dyn BodySource>,
}

/// What came of beginning.
enum Begun {
    /// Nothing is left to do.
    Done(Pushed),
    /// The bytes can be sent.
    At(Session),
}

/// How the bytes are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// All in one request, which costs the fewest.
    Whole,
    /// In pieces: what has arrived need not be sent again when the connection breaks.
    Pieces,
    /// All in one request, since the registry takes no pieces.
    OnlyWhole,
}

impl Way {
    /// The way to try next after a failure, if it is another one; whether the failure counts.
    fn after(self, cause: &Cause, is_large: bool) -> (Self, bool) {
        match (self, status(cause)) {
            // A proxy before the registry limits what one request may carry.
            (Self::Whole, Some(413)) => (Self::Pieces, false),
            (Self::Whole, _) if is_large => (Self::Pieces, true),
            (Self::Pieces, Some(404 | 405 | 411 | 416 | 501)) => (Self::OnlyWhole, false),
            _ => (self, true),
        }
    }
}

fn status(cause: &Cause) -> Option<u16> {
    match cause {
        Cause::Status { status, .. } => Some(*status),
        Cause::NotFound => Some(404),
        _ => None,
    }
}

impl Upload<'_> {
    pub(crate) async fn run(&mut self) -> Result<Pushed, Cause> {
        let target = self.target.clone();
        let _permit = target.endpoint.connections().permit().await;
        let mut backoff = target.endpoint.backoff(target.deadline);
        let (mut way, mut session) = (Way::Whole, None);
        loop {
            let cause = match self.attempt(way, &mut session, &mut backoff).await {
                Ok(pushed) => return Ok(pushed),
                // The next attempt would take its word that it has the blob.
                Err(cause @ Cause::DigestMismatch { .. }) => return Err(cause),
                Err(cause) => cause,
            };
            let is_large = session.is_some() && self.descriptor.size > PIECE;
            let (next, counts) = way.after(&cause, is_large);
            if next != Way::Pieces || !counts {
                session = None;
            }
            way = next;
            if counts {
                backoff.wait(cause).await?;
            }
        }
    }

    async fn attempt(
        &mut self,
        way: Way,
        begun: &mut Option<Session>,
        backoff: &mut Backoff<'_>,
    ) -> Result<Pushed, Cause> {
        let resumed = match begun.take() {
            Some(session) => self.resume(session).await?,
            None => None,
        };
        let session = match resumed {
            Some(session) => session,
            None => match self.begin().await? {
                Begun::Done(pushed) => return Ok(pushed),
                Begun::At(session) => session,
            },
        };
        let session = begun.insert(session);
        if way != Way::Pieces {
            return self.complete(session, self.body(0, self.descriptor.size)).await;
        }
        while session.received < self.descriptor.size {
            let before = session.received;
            self.send_piece(session).await?;
            backoff.progressed(session.received - before);
        }
        self.complete(session, Payload::Bytes(Bytes::new())).await
    }

    fn body(&self, from: u64, to: u64) -> Payload {
        Payload::Stream { source: Arc::clone(&self.source), from, size: to - from }
    }

    async fn send(&self, request: Request) -> Result<Response, Cause> {
        self.target.send(&request).await
    }

    /// Begins to bring the blob, unless it is there already, or was sent while it was made.
    async fn begin(&mut self) -> Result<Begun, Cause> {
        let early = self.early.take();
        let is_there = self.target.has(self.descriptor).await?;
        if let Some(early) = early {
            if is_there || self.mount.is_some() {
                early.refuse().await;
            } else if let Some(session) = early.sent().await
                // A way that spares time, and no more: whatever fails here is done again.
                && let Ok(pushed) = self.complete(&session, Payload::Bytes(Bytes::new())).await
            {
                return Ok(Begun::Done(pushed));
            }
        }
        if is_there {
            return Ok(Begun::Done(Pushed::Existing));
        }
        Ok(match self.start().await? {
            Started::Mounted => Begun::Done(Pushed::Mounted),
            Started::At(session) => Begun::At(session),
        })
    }

    /// Begins an upload, unless the registry can mount the blob from where it is. A registry that does not
    /// let us see that repository is asked without it.
    async fn start(&self) -> Result<Started, Cause> {
        let Some(mount) = self.mount else { return self.target.start(None).await };
        match self.target.start(Some((&self.descriptor.digest, mount))).await {
            Err(cause) if is_refusal(&cause) => self.target.start(None).await,
            started => started,
        }
    }

    /// Asks how much the registry has of a session; nothing if it knows it no more.
    async fn resume(&self, mut session: Session) -> Result<Option<Session>, Cause> {
        let response = match self.send(Request::new(Method::GET, session.location.clone())).await {
            Ok(response) => response,
            Err(Cause::NotFound | Cause::Status { status: 400..=499, .. }) => return Ok(None),
            Err(cause) => return Err(cause),
        };
        session.received = received(&response).unwrap_or(0);
        if session.received > self.descriptor.size {
            return Ok(None);
        }
        session.follow(&response)?;
        Ok(Some(session))
    }

    async fn send_piece(&self, session: &mut Session) -> Result<(), Cause> {
        let from = session.received;
        let length = PIECE.max(session.piece_min.min(PIECE_MAX));
        let to = self.descriptor.size.min(from + length);
        let mut request = Request::new(Method::PATCH, session.location.clone());
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(BYTES));
        let range = HeaderValue::from_str(&format!("{from}-{}", to - 1)).expect("it is ASCII");
        request.headers.insert(CONTENT_RANGE, range);
        request.payload = self.body(from, to);
        let response = self.send(request).await?;
        let received = received(&response).unwrap_or(to);
        if !(from + 1..=to).contains(&received) {
            return Err(ProtocolError::UploadRange { from, to, received }.into());
        }
        session.follow(&response)?;
        session.received = received;
        Ok(())
    }

    /// Ends the upload with what is left of the blob.
    async fn complete(&self, session: &Session, rest: Payload) -> Result<Pushed, Cause> {
        let mut request = Request::new(Method::PUT, session.location.clone());
        request.url.query_pairs_mut().append_pair("digest", self.descriptor.digest.as_str());
        request.headers.insert(CONTENT_TYPE, HeaderValue::from_static(BYTES));
        request.payload = rest;
        let response = self.send(request).await?;
        check_stored(&response, &self.descriptor.digest)?;
        Ok(Pushed::Uploaded)
    }
}

fn is_refusal(cause: &Cause) -> bool {
    matches!(cause.kind(), ErrorKind::Unauthorized | ErrorKind::Denied)
}

/// If the registry names the digest of what it stored, it must be that of what was sent.
pub(crate) fn check_stored(response: &Response, expected: &Digest) -> Result<(), Cause> {
    let stored =
        response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
    match stored.map(str::parse::<Digest>) {
        Some(Ok(actual)) if actual != *expected && actual.algorithm() == expected.algorithm() => {
            Err(Cause::DigestMismatch { expected: expected.clone(), actual })
        }
        _ => Ok(()),
    }
}
