//! One host that speaks the distribution protocol: connection, authentication, redirects.

use std::collections::HashSet;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use reqwest::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONTENT_LENGTH, HeaderMap, HeaderValue, RETRY_AFTER,
};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::{OnceCell, Semaphore, SemaphorePermit, mpsc};
use tokio_util::bytes::Bytes;
use url::Url;

use crate::auth::{Auth, Scope};
use crate::config::{Config, HostConfig, KeyPair, Limits};
use crate::credentials::Credentials;
use crate::deadline::Deadline;
use crate::error::{Cause, error_detail};
use crate::push::BlobSource;
use crate::redirect;

const ERROR_BODY_MAX: u64 = 64 << 10;
const UPLOAD_CHUNK: usize = 256 << 10;
const HTTP2_WINDOW: u32 = 8 << 20;

/// One host, which may be a registry or a mirror of one.
pub(crate) struct Endpoint {
    /// Host and port on the network.
    host: String,
    /// Name in configuration and credential files.
    registry: String,
    /// Path below which a mirror keeps its repositories, with a slash at its end when not empty.
    prefix: String,
    /// The registry that a mirror stands in for.
    namespace: Option<String>,
    settings: HostConfig,
    config: Arc<Config>,
    credentials: Credentials,
    /// Decided once: a loopback host may speak plain HTTP or TLS.
    scheme: OnceCell<&'static str>,
    plain: OnceCell<reqwest::Client>,
    tls: OnceCell<reqwest::Client>,
    auth: Auth,
    permits: Semaphore,
}

/// A request before authentication.
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Payload,
}

impl Request {
    pub(crate) fn new(method: Method, url: Url) -> Self {
        Self { method, url, headers: HeaderMap::new(), payload: Payload::Empty }
    }
}

/// A request's body, which can be sent more than once.
#[derive(Clone)]
pub(crate) enum Payload {
    Empty,
    Bytes(Bytes),
    Stream { source: Arc<dyn BlobSource>, size: u64 },
}

impl Endpoint {
    /// The hosts to ask for `domain`, mirrors first.
    pub(crate) fn list(
        domain: &str,
        config: &Arc<Config>,
        credentials: &Credentials,
    ) -> Vec<Arc<Self>> {
        let settings = config.hosts.get(domain).cloned().unwrap_or_default();
        let mut seen = HashSet::new();
        let mirrors = settings.mirrors.iter().filter(|mirror| seen.insert((*mirror).clone()));
        let mut list: Vec<Arc<Self>> = mirrors
            .map(|mirror| Arc::new(Self::mirror(mirror, domain, config, credentials)))
            .collect();
        list.push(Arc::new(Self::new(domain, settings.clone(), config, credentials)));
        list
    }

    fn new(
        registry: &str,
        settings: HostConfig,
        config: &Arc<Config>,
        credentials: &Credentials,
    ) -> Self {
        let host = if registry == oci::reference::DEFAULT_DOMAIN {
            "registry-1.docker.io"
        } else {
            registry
        };
        Self {
            host: host.to_owned(),
            registry: registry.to_owned(),
            prefix: String::new(),
            namespace: None,
            settings,
            permits: Semaphore::new(config.limits.connections.max(1)),
            config: Arc::clone(config),
            credentials: credentials.clone(),
            scheme: OnceCell::new(),
            plain: OnceCell::new(),
            tls: OnceCell::new(),
            auth: Auth::default(),
        }
    }

    /// A mirror is `[http[s]://]HOST[:PORT][/PATH]`.
    fn mirror(text: &str, domain: &str, config: &Arc<Config>, credentials: &Credentials) -> Self {
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        let (host, path) =
            rest.trim_end_matches('/').split_once('/').unwrap_or((rest.trim_end_matches('/'), ""));
        let mut settings = config.hosts.get(host).cloned().unwrap_or_default();
        settings.http = scheme.map(|scheme| scheme == "http").or(settings.http);
        Self {
            prefix: if path.is_empty() { String::new() } else { format!("{path}/") },
            namespace: Some(domain.to_owned()),
            ..Self::new(host, settings, config, credentials)
        }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn registry(&self) -> &str {
        &self.registry
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.config.limits
    }

    pub(crate) fn is_mirror(&self) -> bool {
        self.namespace.is_some()
    }

    /// Waits until one more request to this host may run.
    pub(crate) async fn permit(&self) -> SemaphorePermit<'_> {
        self.permits.acquire().await.expect("the semaphore is never closed")
    }

    /// The scope of `actions` on the repository `path`.
    pub(crate) fn scope(&self, path: &str, actions: &str) -> Scope {
        let path = format!("{}{path}", self.prefix);
        Scope { actions: format!("repository:{path}:{actions}"), path }
    }

    /// URL of `rest` (`manifests/latest`) in the repository `path`.
    pub(crate) async fn url(
        &self,
        path: &str,
        rest: &str,
        deadline: Deadline,
    ) -> Result<Url, Cause> {
        let scheme = self.scheme(deadline).await?;
        let text = format!("{scheme}://{}/v2/{}{path}/{rest}", self.host, self.prefix);
        let mut url: Url = text.parse().map_err(|_| self.not_a_host())?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    fn not_a_host(&self) -> Cause {
        Cause::Configuration(format!("`{}` is not a host", self.host))
    }

    async fn scheme(&self, deadline: Deadline) -> Result<&'static str, Cause> {
        let plain: Url =
            format!("http://{}/v2/", self.host).parse().map_err(|_| self.not_a_host())?;
        let may_be_plain = self.settings.http.unwrap_or_else(|| redirect::is_loopback(&plain));
        if !may_be_plain {
            return Ok("https");
        }
        self.scheme.get_or_try_init(|| self.probe(plain, deadline)).await.copied()
    }

    /// Finds out whether a host that may speak plain HTTP does.
    async fn probe(&self, url: Url, deadline: Deadline) -> Result<&'static str, Cause> {
        let request = Request::new(Method::GET, url);
        match self.send_once(&request, &request.url, None, deadline).await {
            Ok(response) if response.status() == StatusCode::BAD_REQUEST => {
                let body = read_capped(response, ERROR_BODY_MAX, self.limits(), deadline)
                    .await
                    .unwrap_or_default();
                let is_tls = String::from_utf8_lossy(&body).contains("HTTPS");
                Ok(if is_tls { "https" } else { "http" })
            }
            // Many hosts speak plain HTTP only to say that they do not.
            Ok(response) => Ok(match redirect::target(&response, &request.method) {
                Ok(Some(url)) if url.host() == request.url.host() && url.scheme() == "https" => {
                    "https"
                }
                _ => "http",
            }),
            // A TLS server that answers the greeting with an alert, or hangs up.
            Err(Cause::Transport(_)) => Ok("https"),
            Err(cause) => Err(cause),
        }
    }

    /// Sends a request, authenticating when the host asks for it. Every status below 300 is a
    /// success, and so is 304; the others come back as their cause.
    pub(crate) async fn send(
        &self,
        request: &Request,
        scope: &Scope,
        deadline: Deadline,
    ) -> Result<Response, Cause> {
        let used = self.auth.header(self, &self.credentials, scope, deadline).await?;
        let response = self.follow(request, used.as_ref(), deadline).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.is_home(response.url()) {
            return success(response, deadline).await;
        }
        self.auth.learn(self, &self.credentials, scope, &response, used.as_ref()).await?;
        // The connection can serve again once its answer is read.
        drop(read_capped(response, ERROR_BODY_MAX, self.limits(), deadline).await);
        let header = self.auth.header(self, &self.credentials, scope, deadline).await?;
        let response = self.follow(request, header.as_ref(), deadline).await?;
        match success(response, deadline).await {
            Err(cause) => Err(self.auth.explain(cause).await),
            response => response,
        }
    }

    /// Whether `url` is at this very host, protocol and port: no other place gets credentials.
    fn is_home(&self, url: &Url) -> bool {
        let scheme = self.scheme.get().unwrap_or(&"https");
        format!("{scheme}://{}", self.host)
            .parse()
            .is_ok_and(|home: Url| home.origin() == url.origin())
    }

    async fn follow(
        &self,
        request: &Request,
        authorization: Option<&HeaderValue>,
        deadline: Deadline,
    ) -> Result<Response, Cause> {
        let mut url = request.url.clone();
        for _ in 0..=redirect::REDIRECTS_MAX {
            let authorization = authorization.filter(|_| self.is_home(&url));
            let response = self.send_once(request, &url, authorization, deadline).await?;
            match redirect::target(&response, &request.method)? {
                None => return Ok(response),
                Some(next) => {
                    redirect::check(&url, &next)?;
                    url = next;
                }
            }
        }
        Err(Cause::Refused { url: request.url.path().to_owned(), reason: "it redirects too often" })
    }

    /// Sends a request to `url`, whatever it says of its own, and waits for the answer's headers.
    pub(crate) async fn send_once(
        &self,
        request: &Request,
        url: &Url,
        authorization: Option<&HeaderValue>,
        deadline: Deadline,
    ) -> Result<Response, Cause> {
        let http = self.http(url).await?;
        let mut builder =
            http.request(request.method.clone(), url.clone()).headers(request.headers.clone());
        // Layers must arrive as they are stored.
        builder = builder.header(ACCEPT_ENCODING, "identity");
        if let Some(authorization) = authorization {
            builder = builder.header(AUTHORIZATION, authorization.clone());
        }
        let mut patience = self.limits().idle;
        match &request.payload {
            Payload::Empty => {}
            Payload::Bytes(bytes) => builder = builder.body(bytes.clone()),
            Payload::Stream { source, size } => {
                // The answer comes after the whole body.
                patience = Duration::MAX;
                builder =
                    builder.header(CONTENT_LENGTH, *size).body(stream_body(Arc::clone(source)));
            }
        }
        let answer = deadline.wait("an answer", patience, builder.send()).await?;
        answer.map_err(Cause::from_reqwest)
    }

    /// The HTTP client for `url`. Reading the system's certificates takes milliseconds and may
    /// fail, so a host without TLS does without.
    async fn http(&self, url: &Url) -> Result<&reqwest::Client, Cause> {
        let is_tls = url.scheme() == "https";
        let cell = if is_tls { &self.tls } else { &self.plain };
        cell.get_or_try_init(|| async {
            let (settings, limits) = (self.settings.clone(), self.limits().clone());
            let is_loopback = format!("http://{}", self.host)
                .parse()
                .is_ok_and(|url| redirect::is_loopback(&url));
            let build = move || build_client(&settings, &limits, is_tls, is_loopback);
            let built =
                tokio::task::spawn_blocking(build).await.expect("building a client does not panic");
            built.map_err(Cause::Configuration)
        })
        .await
    }
}

fn build_client(
    settings: &HostConfig,
    limits: &Limits,
    is_tls: bool,
    is_loopback: bool,
) -> Result<reqwest::Client, String> {
    let text = |error: reqwest::Error| chain(&error);
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("mybuild/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(limits.connect)
        .tcp_nodelay(true)
        .http2_initial_stream_window_size(HTTP2_WINDOW)
        .http2_initial_connection_window_size(HTTP2_WINDOW * 2);
    if is_loopback {
        builder = builder.no_proxy();
    }
    if !is_tls {
        return builder.tls_certs_only([]).build().map_err(text);
    }
    for path in &settings.ca {
        let pem = std::fs::read(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
        let certificates = reqwest::Certificate::from_pem_bundle(&pem).map_err(text)?;
        if certificates.is_empty() {
            return Err(format!("`{}` holds no certificate", path.display()));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    if let Some(pair) = settings.keypair.first() {
        if settings.keypair.len() > 1 {
            return Err(
                "`keypair` names several client certificates, and only one is supported".to_owned()
            );
        }
        builder = builder.identity(identity(pair)?);
    }
    if settings.insecure {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    builder.build().map_err(text)
}

fn identity(pair: &KeyPair) -> Result<reqwest::Identity, String> {
    let read = |path: &Path| std::fs::read(path).map_err(|e| format!("`{}`: {e}", path.display()));
    let pem = [read(&pair.cert)?, b"\n".to_vec(), read(&pair.key)?].concat();
    reqwest::Identity::from_pem(&pem).map_err(|error| chain(&error))
}

/// An error and its sources in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Reads a blob on a blocking thread, a few chunks ahead of the network.
fn stream_body(source: Arc<dyn BlobSource>) -> reqwest::Body {
    let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let read = || -> std::io::Result<()> {
            let mut reader = source.open()?;
            loop {
                let mut chunk = Vec::with_capacity(UPLOAD_CHUNK);
                let length = reader.by_ref().take(UPLOAD_CHUNK as u64).read_to_end(&mut chunk)?;
                if length == 0 || sender.blocking_send(Ok(chunk.into())).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(error) = read() {
            // Nobody listens any more when the request has ended; then the error is of no use.
            drop(sender.blocking_send(Err(error)));
        }
    });
    let chunks =
        stream::unfold(receiver, |mut receiver| async { Some((receiver.recv().await?, receiver)) });
    reqwest::Body::wrap_stream(chunks)
}

async fn success(response: Response, deadline: Deadline) -> Result<Response, Cause> {
    if response.status().is_success() {
        Ok(response)
    } else {
        Err(failure(response, deadline).await)
    }
}

/// What an answer that is no success means.
pub(crate) async fn failure(response: Response, deadline: Deadline) -> Cause {
    let status = response.status();
    let seconds = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let retry_after = seconds.map(Duration::from_secs);
    // An error's words are worth a moment, no more.
    let deadline = deadline.at_most(Duration::from_secs(1));
    let detail = error_detail(&read_start(response, ERROR_BODY_MAX, deadline).await);
    match status.as_u16() {
        404 => Cause::NotFound,
        401 => Cause::Unauthorized(detail),
        403 => Cause::Denied(detail),
        429 => Cause::TooManyRequests { retry_after, detail },
        status => Cause::Status { status, retry_after, detail },
    }
}

/// As much of a body as comes in time and fits.
async fn read_start(mut response: Response, cap: u64, deadline: Deadline) -> Vec<u8> {
    let mut body = Vec::new();
    while let Ok(Ok(Some(chunk))) =
        deadline.wait("an error's text", Duration::MAX, response.chunk()).await
    {
        body.extend_from_slice(&chunk);
        if body.len() as u64 >= cap {
            body.truncate(cap as usize);
            break;
        }
    }
    body
}

/// A whole body, which must not be larger than `cap` bytes.
pub(crate) async fn read_capped(
    mut response: Response,
    cap: u64,
    limits: &Limits,
    deadline: Deadline,
) -> Result<Vec<u8>, Cause> {
    if response.content_length().is_some_and(|length| length > cap) {
        return Err(Cause::TooLarge(cap));
    }
    let mut body = Vec::new();
    while let Some(chunk) = next_chunk(&mut response, limits, deadline).await? {
        if body.len() as u64 + chunk.len() as u64 > cap {
            return Err(Cause::TooLarge(cap));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The next piece of a body.
pub(crate) async fn next_chunk(
    response: &mut Response,
    limits: &Limits,
    deadline: Deadline,
) -> Result<Option<Bytes>, Cause> {
    let chunk = deadline.wait("the next bytes", limits.idle, response.chunk()).await?;
    chunk.map_err(Cause::from_reqwest)
}
