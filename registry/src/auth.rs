//! Authentication: passwords (RFC 7617) and tokens (RFC 6750).

use std::collections::HashMap;

use http_client::header::{HeaderValue, WWW_AUTHENTICATE};
use http_client::{Connections, Deadline, PlainHttp, Response, Url, may_see_credentials, redirect};
use tokio::sync::Mutex;

use crate::cause::Cause;
use crate::challenge::{self, Challenge};
use crate::credentials::{Credential, Credentials};
use crate::protocol::ProtocolError;
use crate::scope::Scope;
use crate::token::{self, Token, TokenService, Unsent, Withheld, basic_header};

/// The authentication that one host requires, and the tokens for it.
pub(crate) struct Auth {
    /// The host's name in credential files.
    registry: String,
    credentials: Credentials,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    method: Option<AuthMethod>,
    tokens: HashMap<String, Token>,
    /// The token service that did not get the user's credentials.
    withheld: Option<Withheld>,
}

#[derive(Clone)]
enum AuthMethod {
    Basic(HeaderValue),
    Bearer { realm: Url, service: Option<String>, may_see: bool },
}

impl Auth {
    /// Nothing is known yet about what `registry` requires.
    pub(crate) fn new(registry: &str, credentials: Credentials) -> Self {
        Self { registry: registry.to_owned(), credentials, state: Mutex::default() }
    }

    /// The header for a request, if the host has already said what it requires.
    pub(crate) async fn header(
        &self,
        connections: &Connections,
        scope: &Scope,
        deadline: Deadline,
    ) -> Result<Option<HeaderValue>, Cause> {
        // Held while a token is fetched: the requests that wait need the same one.
        let mut state = self.state.lock().await;
        match state.method.clone() {
            None => Ok(None),
            Some(AuthMethod::Basic(header)) => Ok(Some(header)),
            Some(AuthMethod::Bearer { realm, service, may_see }) => {
                if let Some(token) = state.tokens.get(&scope.actions)
                    && token.is_fresh()
                {
                    return Ok(Some(token.header.clone()));
                }
                let registry = &self.registry;
                let service = service.as_deref();
                let realm = &realm;
                let service =
                    TokenService { registry, connections, realm, service, may_see, deadline };
                let (token, withheld) = service.token(&self.credentials, scope).await?;
                state.withheld = withheld;
                let header = token.header.clone();
                state.tokens.insert(scope.actions.clone(), token);
                Ok(Some(header))
            }
        }
    }

    /// Shows `credential` as the host that answered `response` with 401 asks for it: the header for
    /// further requests, and the identity token that its token service gives.
    pub(crate) async fn log_in(
        &self,
        connections: &Connections,
        response: &Response,
        credential: &Credential,
        deadline: Deadline,
    ) -> Result<(HeaderValue, Option<String>), Cause> {
        match self.pick_method(&Scope::none(), response).await? {
            AuthMethod::Basic(header) => Ok((header, None)),
            AuthMethod::Bearer { realm, service, may_see } => {
                let (registry, realm) = (self.registry.as_str(), &realm);
                let service = service.as_deref();
                let service =
                    TokenService { registry, connections, realm, service, may_see, deadline };
                let (token, identity) = service.log_in(credential).await?;
                Ok((token.header, identity))
            }
        }
    }

    /// Why a request was refused: perhaps because the credentials were withheld from the token service.
    pub(crate) async fn explain(&self, cause: Cause) -> Cause {
        let withheld = self.state.lock().await.withheld.clone();
        token::explain_refusal(cause, withheld.map(Unsent::Withheld))
    }

    /// Learns from a 401 what the host requires, and forgets `used`, which it did not accept.
    pub(crate) async fn learn(
        &self,
        scope: &Scope,
        response: &Response,
        used: Option<&HeaderValue>,
    ) -> Result<(), Cause> {
        let method = self.pick_method(scope, response).await?;
        let mut state = self.state.lock().await;
        if state.tokens.get(&scope.actions).is_some_and(|token| Some(&token.header) == used) {
            state.tokens.remove(&scope.actions);
        }
        state.method = Some(method);
        Ok(())
    }

    async fn pick_method(&self, scope: &Scope, response: &Response) -> Result<AuthMethod, Cause> {
        let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
        let challenges: Vec<Challenge> =
            headers.filter_map(|header| header.to_str().ok()).flat_map(challenge::parse).collect();
        let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
        if let Some(bearer) = find("bearer") {
            return bearer_method(bearer, response.url());
        }
        if find("basic").is_none() {
            return Err(Cause::NoAuthMethod);
        }
        match self.credentials.get(&self.registry, &scope.path).await? {
            Some(Credential::Basic { username, password }) => {
                Ok(AuthMethod::Basic(basic_header(&username, &password)))
            }
            Some(Credential::IdentityToken(_)) => Err(Cause::IdentityTokenRefused),
            None => Err(Cause::NoCredentials(self.registry.clone())),
        }
    }
}

/// The token service that the registry at `from` names.
fn bearer_method(challenge: &Challenge, from: &Url) -> Result<AuthMethod, Cause> {
    let realm = challenge.parameter("realm").ok_or(ProtocolError::NoRealm)?;
    let realm = realm.parse().map_err(ProtocolError::InvalidRealm)?;
    redirect::check(from, &realm, PlainHttp::SameHost).map_err(http_client::Error::from)?;
    let may_see = may_see_credentials(from, &realm);
    let service = challenge.parameter("service").map(str::to_owned);
    Ok(AuthMethod::Bearer { realm, service, may_see })
}
