//! Connections to one host, and to where it redirects.

use std::sync::Arc;
use std::time::Duration;

use reqwest::Client;
use reqwest::header::{ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HeaderValue};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit};
use url::Url;

use crate::address::{is_link_local, is_loopback};
use crate::authorization::Authorization;
use crate::deadline::Deadline;
use crate::error::Error;
use crate::limits::Limits;
use crate::redirect::{REDIRECTS_MAX, RedirectError, Refusal};
use crate::request::{BodySource, Payload, Request};
use crate::response::Response;
use crate::sending::{Sending, stream_body};
use crate::tls::{SetupError, Tls};

const HTTP2_WINDOW: u32 = 8 << 20;

/// Connections to one host, and to where it redirects, with one set of settings. They are opened
/// when needed and kept for the next request.
pub struct Connections {
    tls: Tls,
    limits: Limits,
    proxy: Proxy,
    plain: OnceCell<Client>,
    secure: OnceCell<Client>,
    permits: Semaphore,
}

/// The proxy in front of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Proxy {
    /// The one in the environment, if any.
    FromEnvironment,
    /// None: the host is this machine, or one that only its neighbours reach.
    None,
}

impl Proxy {
    fn before(host: &str) -> Self {
        match format!("http://{host}").parse() {
            Ok(url) if is_loopback(&url) || is_link_local(&url) => Self::None,
            _ => Self::FromEnvironment,
        }
    }
}

impl Connections {
    /// Connections to `host`, a name or address with an optional port. None is opened yet.
    pub fn new(host: &str, tls: Tls, limits: Limits) -> Self {
        Self {
            tls,
            proxy: Proxy::before(host),
            plain: OnceCell::new(),
            secure: OnceCell::new(),
            permits: Semaphore::new(limits.connections.max(1)),
            limits,
        }
    }

    /// The limits of its requests.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// A permit for one more request, if it may run now.
    pub fn try_permit(&self) -> Option<SemaphorePermit<'_>> {
        self.permits.try_acquire().ok()
    }

    /// Waits until one more request may run. The permit is for one request, to the end of its answer.
    pub async fn permit(&self) -> SemaphorePermit<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed")
    }

    /// Sends a request and waits for the headers of the answer, following redirects. Only the
    /// origin in `authorization` gets the credentials.
    ///
    /// # Errors
    /// [`Error`] when there is no answer. Any status is an answer.
    pub async fn send(
        &self,
        request: &Request,
        authorization: Option<&Authorization>,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        let mut url = request.url.clone();
        for _ in 0..=REDIRECTS_MAX {
            let header = authorization.and_then(|authorization| authorization.at(&url));
            let response = self.exchange(request, &url, header, deadline).await?;
            match response.redirect()? {
                None => return Ok(response),
                Some(next) => url = next,
            }
        }
        Err(RedirectError::refused(&request.url, Refusal::TooMany).into())
    }

    /// Sends a request to its own URL and nowhere else: a redirect is returned like any other answer.
    ///
    /// # Errors
    /// Those of [`send`](Self::send).
    pub async fn send_without_redirects(
        &self,
        request: &Request,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        self.exchange(request, &request.url, None, deadline).await
    }

    async fn exchange(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&HeaderValue>,
        deadline: Deadline,
    ) -> Result<Response, Error> {
        let client = self.client(url).await?;
        let mut builder =
            client.request(request.method.clone(), url.clone()).headers(request.headers.clone());
        // Content must be sent as it is stored: digests and ranges refer to that.
        builder = builder.header(ACCEPT_ENCODING, "identity");
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization.clone());
        }
        let inner = match &request.payload {
            Payload::Empty => self.answer(builder, deadline).await?,
            Payload::Bytes(bytes) => self.answer(builder.body(bytes.clone()), deadline).await?,
            Payload::Stream { source, from, size } => {
                let builder = builder.header(CONTENT_LENGTH, *size);
                self.sent(builder, Body { source, from: *from, size: *size }, deadline).await?
            }
            Payload::Growing { source } => {
                self.sent(builder, Body { source, from: 0, size: u64::MAX }, deadline).await?
            }
        };
        let (method, plain_http) = (request.method.clone(), request.plain_http);
        Ok(Response { inner, method, plain_http, idle: self.limits.idle, deadline })
    }

    /// Sends a request with a body that is read meanwhile.
    async fn sent(
        &self,
        builder: reqwest::RequestBuilder,
        body: Body<'_>,
        deadline: Deadline,
    ) -> Result<reqwest::Response, Error> {
        let sending = Arc::new(Sending::new());
        let body = stream_body(body.source.clone(), body.from, body.size, sending.clone());
        let answer = builder.body(body).send();
        tokio::select! {
            answer = deadline.wait("an answer", Duration::MAX, answer) => Ok(answer??),
            error = sending.is_stuck(&self.limits) => Err(error),
        }
    }

    async fn answer(
        &self,
        request: reqwest::RequestBuilder,
        deadline: Deadline,
    ) -> Result<reqwest::Response, Error> {
        Ok(deadline.wait("an answer", self.limits.idle, request.send()).await??)
    }

    /// The client for `url`. Reading the system's certificates takes milliseconds and may fail, so
    /// plain HTTP has a client without them.
    async fn client(&self, url: &Url) -> Result<&Client, SetupError> {
        match url.scheme() {
            "https" => self.secure.get_or_try_init(|| self.build_client(Some(&self.tls))).await,
            _ => self.plain.get_or_try_init(|| self.build_client(None)).await,
        }
    }

    async fn build_client(&self, tls: Option<&Tls>) -> Result<Client, SetupError> {
        let (tls, limits, proxy) = (tls.cloned(), self.limits.clone(), self.proxy);
        let build = move || build_client(tls.as_ref(), &limits, proxy);
        tokio::task::spawn_blocking(build).await.expect("building a client does not panic")
    }
}

/// A body that is read while it is sent: at most `size` bytes of a source, from one on.
struct Body<'a> {
    source: &'a Arc<dyn BodySource>,
    from: u64,
    size: u64,
}

/// A client that does not follow redirects itself and, without `tls`, trusts no certificate.
fn build_client(tls: Option<&Tls>, limits: &Limits, proxy: Proxy) -> Result<Client, SetupError> {
    // Fails when a provider is installed already, which is as good.
    drop(rustls::crypto::ring::default_provider().install_default());
    let mut builder = Client::builder()
        .user_agent(concat!("mybuild/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(limits.connect)
        .tcp_nodelay(true)
        .http2_initial_stream_window_size(HTTP2_WINDOW)
        .http2_initial_connection_window_size(HTTP2_WINDOW * 2);
    if proxy == Proxy::None {
        builder = builder.no_proxy();
    }
    builder = match tls {
        Some(tls) => tls.apply(builder)?,
        None => builder.tls_certs_only([]),
    };
    builder.build().map_err(SetupError::Client)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_proxy_is_before_this_machine() {
        for (host, expected) in [
            ("127.0.0.1:5000", Proxy::None),
            ("localhost", Proxy::None),
            ("[::1]:80", Proxy::None),
            ("169.254.169.254", Proxy::None),
            ("registry.example", Proxy::FromEnvironment),
            ("10.0.0.1:5000", Proxy::FromEnvironment),
            ("not a host", Proxy::FromEnvironment),
        ] {
            assert_eq!(Proxy::before(host), expected, "{host}");
        }
    }
}
