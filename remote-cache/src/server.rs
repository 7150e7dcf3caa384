//! Requests to a server that keeps objects.

use std::ops::Range;
use std::sync::Arc;

use futures_util::future::BoxFuture;
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
    redirects: Redirects,
}

/// What becomes of an answer that leads elsewhere.
#[derive(Debug, Clone, Copy)]
enum Redirects {
    Followed,
    /// It is a refusal like any other: secrets are in the request.
    Refused,
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
        let connections = Connections::new(&host, Tls::default(), limits);
        Self { connections, redirects: Redirects::Followed }
    }

    /// The same, that leads nowhere else.
    pub(crate) fn of_secrets(url: &Url, limits: Limits) -> Self {
        Self { redirects: Redirects::Refused, ..Self::new(url, limits) }
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
        let (connections, request) = (&self.connections, &ask.request);
        let response = match self.redirects {
            Redirects::Followed => {
                connections.send(request, ask.authorization.as_ref(), deadline).await?
            }
            Redirects::Refused => connections.send_without_redirects(request, deadline).await?,
        };
        success(response).await
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
pub(crate) struct Object {
    server: Arc<Server>,
    size: u64,
    deadline: Deadline,
    ask: Box<dyn Fn(Range<u64>) -> Asking + Send + Sync>,
}

/// A request that may have to be let in first.
pub(crate) type Asking = BoxFuture<'static, Result<Ask, ObjectError>>;

impl Object {
    /// The object of which `ask` makes each request for a part: what authorizes one may expire within minutes.
    pub(crate) fn new(
        server: Arc<Server>,
        size: u64,
        ask: impl Fn(Range<u64>) -> Asking + Send + Sync + 'static,
    ) -> Self {
        let deadline = Deadline::for_transfer(server.limits(), size);
        Self { server, size, deadline, ask: Box::new(ask) }
    }
}

impl Resource for Object {
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
        let ask = (self.ask)(range).await?;
        self.server.send_once(&ask, self.deadline).await
    }
}
