//! Tokens for Azure's storage, for who is known to its directory: a service principal, a workload, or the machine itself.

use std::fmt;
use std::path::PathBuf;
use std::time::SystemTime;

use http_client::header::{HeaderName, HeaderValue};
use http_client::{Limits, Method};

use super::answer;
use super::service::{Service, token};
use crate::lease::{Granted, Lease};
use crate::object_error::AccessError;

const WHAT: &str = "a token for Azure's storage";
/// What the token is for.
const STORAGE: &str = "https://storage.azure.com/";
/// The kind of assertion that a workload shows (RFC 7523, section 2.2).
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// Who we are in a directory.
#[derive(Clone, PartialEq, Eq)]
pub enum AzureIdentity {
    /// A service principal with a secret.
    Secret {
        /// Address of the directory's service.
        authority: String,
        /// The directory.
        tenant: String,
        /// The principal.
        client: String,
        /// Its secret.
        secret: String,
    },
    /// A workload, by the word of another that a file has.
    Workload {
        /// Address of the directory's service.
        authority: String,
        /// The directory.
        tenant: String,
        /// The principal.
        client: String,
        /// The file, which is read each time.
        token_file: PathBuf,
    },
    /// The identity of the machine.
    Managed {
        /// The service that knows it.
        service: ManagedIdentity,
        /// Which of several; `None` for its only one.
        client: Option<String>,
    },
}

/// A service that knows a machine's identity.
#[derive(Clone, PartialEq, Eq)]
pub enum ManagedIdentity {
    /// That of virtual machines.
    Machine {
        /// Its address.
        endpoint: String,
    },
    /// That of applications and functions.
    Application {
        /// Its address.
        endpoint: String,
        /// What it wants to see.
        header: String,
    },
}

impl fmt::Debug for AzureIdentity {
    /// No secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Secret { .. } => "Secret",
            Self::Workload { .. } => "Workload",
            Self::Managed { .. } => "Managed",
        })
    }
}

/// Tokens, as long as each is good.
pub(crate) struct AzureTokens {
    identity: AzureIdentity,
    limits: Limits,
    lease: Lease<String>,
}

impl AzureTokens {
    pub(crate) fn new(identity: AzureIdentity, limits: Limits) -> Self {
        Self { identity, limits, lease: Lease::new() }
    }

    /// The header that lets in now.
    pub(crate) async fn header(&self) -> Result<HeaderValue, AccessError> {
        let token = self.lease.get(self.fetch()).await?;
        let header = HeaderValue::from_str(&format!("Bearer {token}"));
        let mut header = header.map_err(|_| AccessError::Token("Azure's storage".to_owned()))?;
        header.set_sensitive(true);
        Ok(header)
    }

    async fn fetch(&self) -> Result<Granted<String>, AccessError> {
        let at = |address: &str| Service::new(address, WHAT, &self.limits);
        match &self.identity {
            AzureIdentity::Secret { authority, tenant, client, secret } => {
                of_directory(&at(authority)?, tenant, client, &[("client_secret", secret)]).await
            }
            AzureIdentity::Workload { authority, tenant, client, token_file } => {
                let word = token(token_file).await?;
                let shown =
                    [("client_assertion_type", ASSERTION), ("client_assertion", word.as_str())];
                of_directory(&at(authority)?, tenant, client, &shown).await
            }
            AzureIdentity::Managed { service, client } => {
                let (ManagedIdentity::Machine { endpoint }
                | ManagedIdentity::Application { endpoint, .. }) = service;
                of_machine(&at(endpoint)?, service, client.as_deref()).await
            }
        }
    }
}

async fn of_directory(
    service: &Service,
    tenant: &str,
    client: &str,
    shown: &[(&str, &str)],
) -> Result<Granted<String>, AccessError> {
    let scope = format!("{STORAGE}.default");
    let fields =
        [("grant_type", "client_credentials"), ("client_id", client), ("scope", scope.as_str())];
    let path = format!("/{tenant}/oauth2/v2.0/token");
    let answer = service.ask(service.form(&path, &[&fields[..], shown].concat())).await?;
    answer::token(&answer, SystemTime::now()).ok_or_else(|| service.answer())
}

async fn of_machine(
    service: &Service,
    kind: &ManagedIdentity,
    client: Option<&str>,
) -> Result<Granted<String>, AccessError> {
    let (path, version) = match kind {
        ManagedIdentity::Machine { .. } => ("/metadata/identity/oauth2/token", "2018-02-01"),
        ManagedIdentity::Application { .. } => ("", "2019-08-01"),
    };
    let mut request = service.request(Method::GET, path);
    request.url.query_pairs_mut().append_pair("api-version", version);
    request.url.query_pairs_mut().append_pair("resource", STORAGE);
    if let Some(client) = client {
        request.url.query_pairs_mut().append_pair("client_id", client);
    }
    match kind {
        ManagedIdentity::Machine { .. } => {
            let yes = HeaderValue::from_static("true");
            request.headers.insert(HeaderName::from_static("metadata"), yes);
        }
        ManagedIdentity::Application { header, .. } => {
            service.secret(&mut request, "x-identity-header", header)?;
        }
    }
    let answer = service.ask(request).await?;
    answer::token(&answer, SystemTime::now()).ok_or_else(|| service.answer())
}
