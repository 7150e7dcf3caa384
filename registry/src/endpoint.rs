//! One host that speaks the distribution protocol: its URLs, protocol and authentication.

use std::collections::HashSet;
use std::sync::Arc;

use http_client::header::HeaderValue;
use http_client::{
    Authorization, Backoff, Connections, Deadline, InvalidUrl, Method, Request, Response,
    StatusCode, Url, is_loopback,
};
use tokio::sync::OnceCell;

use crate::answer::{self, success};
use crate::auth::Auth;
use crate::cause::Cause;
use crate::config::{Config, HostConfig};
use crate::credentials::Credentials;
use crate::scope::Scope;

const PROBE_BODY_MAX: u64 = 64 << 10;

/// One host, which may be a registry or a mirror of one.
pub(crate) struct Endpoint {
    /// Host and port on the network.
    host: String,
    /// Path of a mirror's repositories, empty or with a slash at its end.
    prefix: String,
    /// The registry that a mirror stands in for.
    namespace: Option<String>,
    /// Whether to use plain HTTP, if it is configured.
    http: Option<bool>,
    connections: Connections,
    /// Found out once: a loopback host may speak plain HTTP or TLS.
    scheme: OnceCell<&'static str>,
    auth: Auth,
}

impl Endpoint {
    /// The hosts to try for `domain`, mirrors first.
    pub(crate) fn list(domain: &str, config: &Config, credentials: &Credentials) -> Vec<Arc<Self>> {
        let settings = config.hosts.get(domain).cloned().unwrap_or_default();
        let mut seen = HashSet::new();
        let mirrors = settings.mirrors.iter().filter(|mirror| seen.insert((*mirror).clone()));
        let mut list: Vec<Arc<Self>> = mirrors
            .map(|mirror| Arc::new(Self::mirror(mirror, domain, config, credentials)))
            .collect();
        list.push(Arc::new(Self::origin(domain, config, credentials)));
        list
    }

    /// The registry itself.
    pub(crate) fn origin(domain: &str, config: &Config, credentials: &Credentials) -> Self {
        let settings = config.hosts.get(domain).cloned().unwrap_or_default();
        Self::new(domain, &settings, config, credentials)
    }

    fn new(
        registry: &str,
        settings: &HostConfig,
        config: &Config,
        credentials: &Credentials,
    ) -> Self {
        let host = if registry == oci::reference::DEFAULT_DOMAIN {
            "registry-1.docker.io"
        } else {
            registry
        };
        Self {
            host: host.to_owned(),
            prefix: String::new(),
            namespace: None,
            http: settings.http,
            connections: Connections::new(
                host,
                settings.tls(registry, &config.certificates),
                config.limits.clone(),
            ),
            scheme: OnceCell::new(),
            auth: Auth::new(registry, credentials.clone()),
        }
    }

    /// A mirror is `[http[s]://]HOST[:PORT][/PATH]`.
    fn mirror(text: &str, domain: &str, config: &Config, credentials: &Credentials) -> Self {
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
            ..Self::new(host, &settings, config, credentials)
        }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    pub(crate) fn auth(&self) -> &Auth {
        &self.auth
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The retries of an operation that has to be done by `deadline`.
    pub(crate) fn backoff(&self, deadline: Deadline) -> Backoff<'_> {
        let backoff = Backoff::new(self.connections.limits(), deadline);
        // After a mirror there is always the registry itself to try.
        if self.namespace.is_some() { backoff.without_reconnecting() } else { backoff }
    }

    /// The scope of `actions` on the repository `path`.
    pub(crate) fn scope(&self, path: &str, actions: &str) -> Scope {
        let path = format!("{}{path}", self.prefix);
        Scope { actions: format!("repository:{path}:{actions}"), path }
    }

    /// The URL that tells whether this host speaks the protocol, and to whom.
    pub(crate) async fn base(&self, deadline: Deadline) -> Result<Url, Cause> {
        let scheme = self.scheme(deadline).await?;
        format!("{scheme}://{}/v2/", self.host).parse().map_err(|source| self.not_a_host(source))
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
        let mut url: Url = text.parse().map_err(|source| self.not_a_host(source))?;
        if let Some(namespace) = &self.namespace {
            url.query_pairs_mut().append_pair("ns", namespace);
        }
        Ok(url)
    }

    fn not_a_host(&self, source: InvalidUrl) -> Cause {
        Cause::InvalidHost { host: self.host.clone(), source }
    }

    async fn scheme(&self, deadline: Deadline) -> Result<&'static str, Cause> {
        let plain: Url = format!("http://{}/v2/", self.host)
            .parse()
            .map_err(|source| self.not_a_host(source))?;
        let may_be_plain = self.http.unwrap_or_else(|| is_loopback(&plain));
        if !may_be_plain {
            return Ok("https");
        }
        self.scheme.get_or_try_init(|| self.probe(plain, deadline)).await.copied()
    }

    /// Finds out whether a host that may speak plain HTTP does.
    async fn probe(&self, url: Url, deadline: Deadline) -> Result<&'static str, Cause> {
        let request = Request::new(Method::GET, url);
        match self.connections.send_without_redirects(&request, deadline).await {
            Ok(response) if response.status() == StatusCode::BAD_REQUEST => {
                let body = response.body(PROBE_BODY_MAX).await.unwrap_or_default();
                let is_tls = String::from_utf8_lossy(&body).contains("HTTPS");
                Ok(if is_tls { "https" } else { "http" })
            }
            // Many hosts answer plain HTTP only to redirect to TLS.
            Ok(response) => Ok(match response.redirect() {
                Ok(Some(url)) if url.host() == request.url.host() && url.scheme() == "https" => {
                    "https"
                }
                _ => "http",
            }),
            // A TLS server answers plain HTTP with an alert, or closes the connection.
            Err(http_client::Error::Transport(_)) => Ok("https"),
            Err(error) => Err(error.into()),
        }
    }

    /// Sends a request, authenticating when the host asks for it. Every status below 300 is a
    /// success; the others come back as their cause.
    pub(crate) async fn send(
        &self,
        request: &Request,
        scope: &Scope,
        deadline: Deadline,
    ) -> Result<Response, Cause> {
        let used = self.auth.header(&self.connections, scope, deadline).await?;
        let response = self.send_with(request, used.as_ref(), deadline).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !self.is_home(response.url()) {
            return success(response).await;
        }
        self.auth.learn(scope, &response, used.as_ref()).await?;
        answer::discard(response).await;
        let header = self.auth.header(&self.connections, scope, deadline).await?;
        let response = self.send_with(request, header.as_ref(), deadline).await?;
        match success(response).await {
            Err(cause) => Err(self.auth.explain(cause).await),
            response => response,
        }
    }

    /// Sends a request with credentials for this host only.
    pub(crate) async fn send_with(
        &self,
        request: &Request,
        header: Option<&HeaderValue>,
        deadline: Deadline,
    ) -> Result<Response, Cause> {
        let home = self.home();
        let authorization =
            header.zip(home).map(|(header, home)| Authorization::new(header.clone(), &home));
        Ok(self.connections.send(request, authorization.as_ref(), deadline).await?)
    }

    /// Whether `url` has this host, protocol and port: no other origin gets credentials.
    fn is_home(&self, url: &Url) -> bool {
        self.home().is_some_and(|home| home.origin() == url.origin())
    }

    fn home(&self) -> Option<Url> {
        let scheme = self.scheme.get().unwrap_or(&"https");
        format!("{scheme}://{}", self.host).parse().ok()
    }
}
