//! Logging in: whether a registry takes a credential (OCI distribution specification, "Determining
//! Support"; the distribution project's "Token Authentication").

use http_client::{Deadline, Method, Request, StatusCode};

use crate::answer::{self, success};
use crate::attempts::Attempts;
use crate::cause::Cause;
use crate::credentials::{Credential, Credentials};
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::registries::Registries;

/// What came of [`Registries::log_in`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// What to log in with from now on: an identity token, if the token service has given one.
    pub credential: Credential,
    /// Whether the registry asked for it at all.
    pub checked: bool,
}

impl Registries {
    /// Shows `credential` to the registry `domain` itself, not to its mirrors.
    ///
    /// # Errors
    /// [`Error`] once all attempts have failed; of kind [`Unauthorized`](crate::ErrorKind::Unauthorized) if the
    /// registry or its token service does not take it.
    pub async fn log_in(&self, domain: &str, credential: &Credential) -> Result<Login, Error> {
        let attempts = Attempts::new("log in to", domain);
        let credentials = Credentials::anonymous().with(domain, credential.clone());
        let endpoint = Endpoint::origin(domain, self.config(), &credentials);
        let deadline = self.request_deadline();
        let mut backoff = endpoint.backoff(deadline);
        loop {
            let cause = match attempt(&endpoint, credential, deadline).await {
                Ok(login) => return Ok(login),
                Err(cause) => cause,
            };
            if let Err(cause) = backoff.wait(cause).await {
                return Err(attempts.fatal(&endpoint, cause));
            }
        }
    }
}

async fn attempt(
    endpoint: &Endpoint,
    credential: &Credential,
    deadline: Deadline,
) -> Result<Login, Cause> {
    let request = Request::new(Method::GET, endpoint.base(deadline).await?);
    let response = endpoint.send_with(&request, None, deadline).await?;
    if response.status() != StatusCode::UNAUTHORIZED {
        answer::discard(success(response).await?).await;
        return Ok(Login { credential: credential.clone(), checked: false });
    }
    let (header, token) =
        endpoint.auth().log_in(endpoint.connections(), &response, credential, deadline).await?;
    answer::discard(response).await;
    let response = endpoint.send_with(&request, Some(&header), deadline).await?;
    answer::discard(success(response).await?).await;
    let credential = token.map_or_else(|| credential.clone(), Credential::IdentityToken);
    Ok(Login { credential, checked: true })
}
