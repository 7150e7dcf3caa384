//! Requests to a server that keeps objects.

use std::ops::Range;
use std::sync::Arc;

use http_client::{
    Authorization, Backoff, Connections, Deadline, Limits, Request, Resource, Response, Tls, Url,
};

use crate::object_error::ObjectError;
use crate::refusal::Code;

/// What an error's body is read of.
const MESSAGE_MAX: u64 = 64 << 10;

/// A server that keeps objects.
pub(crate) struct Server {
    connections: Connections,
}

/// A request, and what only its own host may see.
pub(crate) struct Ask {
    pub(crate) request: Request,
    pub(crate) authorization: Option<Authorization>,
}

impl From<Request> for Ask {
    fn from(request: Request) -> Self {
        Self { request, authorization: None }
    }
}

impl Server {
    /// The server that `url` leads to. Opens no connection.
    pub(crate) fn new(url: &Url, limits: Limits) -> Self {
        let host = match (url.host_str().unwrap_or_default(), url.port()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        Self { connections: Connections::new(&host, Tls::default(), limits) }
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    pub(crate) fn limits(&self) -> &Limits {
        self.connections.limits()
    }

    /// Sends a request until it succeeds, or no more.
    ///
    /// # Errors
    /// [`ObjectError`] of the last attempt.
    pub(crate) async fn send(
        &self,
        ask: &Ask,
        deadline: Deadline,
    ) -> Result<Response, ObjectError> {
        let _permit = self.connections.permit().await;
        let mut backoff = Backoff::new(self.limits(), deadline);
        loop {
            match self.send_once(ask, deadline).await {
                Ok(response) => return Ok(response),
                Err(error) => backoff.wait(error).await?,
            }
        }
    }

    /// Sends a request one time.
    ///
    /// # Errors
    /// [`ObjectError`] if there is no answer, or a refusal.
    pub(crate) async fn send_once(
        &self,
        ask: &Ask,
        deadline: Deadline,
    ) -> Result<Response, ObjectError> {
        let sent = self.connections.send(&ask.request, ask.authorization.as_ref(), deadline);
        success(sent.await?).await
    }

    /// The body of the answer, of `cap` bytes at most.
    ///
    /// # Errors
    /// [`ObjectError`] of the last attempt; a larger body is one.
    pub(crate) async fn ask(&self, ask: &Ask, cap: u64) -> Result<Vec<u8>, ObjectError> {
        let deadline = Deadline::for_request(self.limits());
        Ok(self.send(ask, deadline).await?.body(cap).await?)
    }
}

/// An answer, if it is not a refusal.
async fn success(response: Response) -> Result<Response, ObjectError> {
    if response.status().is_success() {
        return Ok(response);
    }
    let (status, retry_after) = (response.status(), response.retry_after());
    let body = response.body(MESSAGE_MAX).await.unwrap_or_default();
    Err(ObjectError::Status { status: status.as_u16(), code: Code::of(&body), retry_after })
}

/// An object of known size, to be downloaded.
pub(crate) struct Object<A> {
    server: Arc<Server>,
    size: u64,
    deadline: Deadline,
    ask: A,
}

impl<A: Fn(Range<u64>) -> Ask + Send + Sync + 'static> Object<A> {
    /// The object of which `ask` makes each request for a part: what authorizes one may expire within minutes.
    pub(crate) fn new(server: Arc<Server>, size: u64, ask: A) -> Self {
        let deadline = Deadline::for_transfer(server.limits(), size);
        Self { server, size, deadline, ask }
    }
}

impl<A: Fn(Range<u64>) -> Ask + Send + Sync + 'static> Resource for Object<A> {
    type Error = ObjectError;

    fn size(&self) -> u64 {
        self.size
    }

    fn connections(&self) -> &Connections {
        &self.server.connections
    }

    fn backoff(&self) -> Backoff<'_> {
        Backoff::new(self.server.limits(), self.deadline)
    }

    async fn open(&self, range: Range<u64>) -> Result<Response, ObjectError> {
        self.server.send_once(&(self.ask)(range), self.deadline).await
    }
}
