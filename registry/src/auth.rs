//! Who we say we are: Basic, and tokens from a token service (the distribution project's
//! "Token Authentication", RFC 6750 and, for identity tokens, RFC 6749).

use std::collections::HashMap;
use std::time::Duration;

use http_client::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue, WWW_AUTHENTICATE};
use http_client::{
    Deadline, Method, Payload, Request, Response, StatusCode, Url, may_see_credentials, redirect,
};
use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::challenge::{self, Challenge};
use crate::credentials::{Credential, Credentials, CredentialsError};
use crate::endpoint::{self, Endpoint};
use crate::error::Cause;

const TOKEN_ANSWER_MAX: u64 = 256 << 10;
/// Lifetime of a token that does not say (the specification's default).
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// Tokens this close to their end are not used any more.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);
const CLIENT_ID: &str = "mybuild";

/// What a host wants and what it was given so far.
#[derive(Default)]
pub(crate) struct Auth {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    method: Option<AuthMethod>,
    tokens: HashMap<String, Token>,
    /// Who was not told the user's credentials.
    withheld: Option<Withheld>,
}

#[derive(Clone)]
enum AuthMethod {
    Basic(HeaderValue),
    Bearer { realm: Url, service: Option<String>, may_see: bool },
}

struct Token {
    header: HeaderValue,
    expires: Instant,
}

/// What a request wants to do: `repository:library/alpine:pull`, several separated by spaces.
#[derive(Debug, Clone)]
pub(crate) struct Scope {
    pub(crate) actions: String,
    /// Repository, for credential files that tell repositories apart.
    pub(crate) path: String,
}

impl Auth {
    /// The header for a request to a host that has already said what it wants.
    pub(crate) async fn header(
        &self,
        endpoint: &Endpoint,
        credentials: &Credentials,
        scope: &Scope,
        deadline: Deadline,
    ) -> Result<Option<HeaderValue>, Cause> {
        // Held while a token is fetched: requests that wait for it want the same one.
        let mut state = self.state.lock().await;
        match state.method.clone() {
            None => Ok(None),
            Some(AuthMethod::Basic(header)) => Ok(Some(header)),
            Some(AuthMethod::Bearer { realm, service, may_see }) => {
                if let Some(token) = state.tokens.get(&scope.actions)
                    && token.expires > Instant::now()
                {
                    return Ok(Some(token.header.clone()));
                }
                let service = service.as_deref();
                let service = Service { endpoint, realm: &realm, service, may_see, deadline };
                let (token, withheld) = service.token(credentials, scope).await?;
                state.withheld = withheld;
                let header = token.header.clone();
                state.tokens.insert(scope.actions.clone(), token);
                Ok(Some(header))
            }
        }
    }

    /// Why a request failed that was refused: maybe because there was no account in it.
    pub(crate) async fn explain(&self, cause: Cause) -> Cause {
        let withheld = self.state.lock().await.withheld.clone();
        or_trouble(cause, withheld.map(Trouble::Withheld))
    }

    /// Learns from a 401 what the host wants, and forgets `used`, which it did not accept.
    pub(crate) async fn learn(
        &self,
        endpoint: &Endpoint,
        credentials: &Credentials,
        scope: &Scope,
        response: &Response,
        used: Option<&HeaderValue>,
    ) -> Result<(), Cause> {
        let method = pick_method(endpoint, credentials, scope, response).await?;
        let mut state = self.state.lock().await;
        if state.tokens.get(&scope.actions).is_some_and(|token| Some(&token.header) == used) {
            state.tokens.remove(&scope.actions);
        }
        state.method = Some(method);
        Ok(())
    }
}

async fn pick_method(
    endpoint: &Endpoint,
    credentials: &Credentials,
    scope: &Scope,
    response: &Response,
) -> Result<AuthMethod, Cause> {
    let headers = response.headers().get_all(WWW_AUTHENTICATE).iter();
    let challenges: Vec<Challenge> =
        headers.filter_map(|header| header.to_str().ok()).flat_map(challenge::parse).collect();
    let find = |scheme: &str| challenges.iter().find(|challenge| challenge.scheme == scheme);
    if let Some(bearer) = find("bearer") {
        let realm = bearer.parameter("realm").and_then(|realm| realm.parse().ok());
        let realm = realm
            .ok_or_else(|| Cause::Protocol("a token service without a usable realm".to_owned()))?;
        redirect::check(response.url(), &realm).map_err(http_client::Error::from)?;
        let may_see = may_see_credentials(response.url(), &realm);
        let service = bearer.parameter("service").map(str::to_owned);
        return Ok(AuthMethod::Bearer { realm, service, may_see });
    }
    if find("basic").is_none() {
        return Err(Cause::Unauthorized("the registry names no way to authenticate".to_owned()));
    }
    match credentials.get(endpoint.registry(), &scope.path).await? {
        Some(Credential::Basic { username, password }) => {
            Ok(AuthMethod::Basic(basic(&username, &password)?))
        }
        Some(Credential::IdentityToken(_)) => {
            Err(Cause::Unauthorized("the registry takes no identity tokens".to_owned()))
        }
        None => Err(Cause::Unauthorized(format!("no credentials for `{}`", endpoint.registry()))),
    }
}

/// A token service, at the realm that the registry named.
struct Service<'a> {
    endpoint: &'a Endpoint,
    realm: &'a Url,
    service: Option<&'a str>,
    /// Whether it gets the user's credentials.
    may_see: bool,
    deadline: Deadline,
}

impl Service<'_> {
    /// A token for `scope`, and whether the credentials were kept back. Those, and what cannot be
    /// read, matter only when there is no token without them: a broken helper is no reason to refuse a
    /// public image.
    async fn token(
        &self,
        credentials: &Credentials,
        scope: &Scope,
    ) -> Result<(Token, Option<Withheld>), Cause> {
        let (credential, trouble) =
            match credentials.get(self.endpoint.registry(), &scope.path).await {
                Ok(Some(_)) if !self.may_see => (None, Some(Trouble::Withheld(self.withheld()))),
                Ok(credential) => (credential, None),
                Err(error) => (None, Some(Trouble::Unreadable(error))),
            };
        let withheld = match &trouble {
            Some(Trouble::Withheld(withheld)) => Some(withheld.clone()),
            _ => None,
        };
        let answer = match &credential {
            Some(Credential::IdentityToken(token)) => self.exchange(token, scope).await,
            Some(Credential::Basic { username, password }) => {
                self.get(scope, Some((username, basic(username, password)?))).await
            }
            None => self.get(scope, None).await,
        };
        let answer = answer.map_err(|cause| or_trouble(cause, trouble))?;
        Ok((answer.into_token()?, withheld))
    }

    fn withheld(&self) -> Withheld {
        Withheld(self.realm.host_str().unwrap_or_default().to_owned())
    }

    async fn get(
        &self,
        scope: &Scope,
        account: Option<(&str, HeaderValue)>,
    ) -> Result<TokenAnswer, Cause> {
        let mut url = self.realm.clone();
        let mut headers = HeaderMap::new();
        {
            let mut query = url.query_pairs_mut();
            if let Some(service) = self.service {
                query.append_pair("service", service);
            }
            for actions in scope.actions.split_whitespace() {
                query.append_pair("scope", actions);
            }
            if let Some((username, authorization)) = account {
                query.append_pair("account", username);
                headers.insert(AUTHORIZATION, authorization);
            }
        }
        self.send(Request { method: Method::GET, url, headers, payload: Payload::Empty }).await
    }

    async fn exchange(&self, refresh_token: &str, scope: &Scope) -> Result<TokenAnswer, Cause> {
        let form = self.form(refresh_token, scope);
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, form_type)]);
        let payload = Payload::Bytes(form.into());
        self.send(Request { method: Method::POST, url: self.realm.clone(), headers, payload }).await
    }

    fn form(&self, refresh_token: &str, scope: &Scope) -> String {
        let mut form = url::form_urlencoded::Serializer::new(String::new());
        form.append_pair("grant_type", "refresh_token").append_pair("refresh_token", refresh_token);
        form.append_pair("client_id", CLIENT_ID).append_pair("scope", &scope.actions);
        if let Some(service) = self.service {
            form.append_pair("service", service);
        }
        form.finish()
    }

    /// Redirects are not followed here: the realm is the one place that gets the credentials.
    async fn send(&self, request: Request) -> Result<TokenAnswer, Cause> {
        let response =
            self.endpoint.connections().send_without_redirects(&request, self.deadline).await?;
        if response.status() != StatusCode::OK {
            return Err(match endpoint::failure(response).await {
                Cause::NotFound => Cause::Protocol("the token service does not exist".to_owned()),
                Cause::Status { status: 400, detail, .. } => Cause::Unauthorized(detail),
                cause => cause,
            });
        }
        let body = response.body(TOKEN_ANSWER_MAX).await?;
        serde_json::from_slice(&body)
            .map_err(|_| Cause::Protocol("the token service sent no token".to_owned()))
    }
}

/// Why a token was asked for without the user's credentials.
enum Trouble {
    Unreadable(CredentialsError),
    Withheld(Withheld),
}

/// The host that was not told them.
#[derive(Clone)]
struct Withheld(String);

fn or_trouble(cause: Cause, trouble: Option<Trouble>) -> Cause {
    match (cause, trouble) {
        (Cause::Unauthorized(_) | Cause::Denied(_), Some(trouble)) => match trouble {
            Trouble::Unreadable(error) => Cause::Credentials(error),
            Trouble::Withheld(Withheld(host)) => Cause::Withheld(host),
        },
        (cause, _) => cause,
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl TokenAnswer {
    fn into_token(self) -> Result<Token, Cause> {
        let unusable = || Cause::Protocol("the token service sent no usable token".to_owned());
        let token =
            [self.token, self.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let header = secret_header(&format!("Bearer {}", token.ok_or_else(unusable)?))
            .ok_or_else(unusable)?;
        // A day is as good as for ever, and keeps the sum in range.
        let lifetime =
            self.expires_in.map_or(TOKEN_LIFETIME, |s| Duration::from_secs(s.clamp(60, 86_400)));
        Ok(Token { header, expires: Instant::now() + lifetime - TOKEN_MARGIN })
    }
}

fn basic(username: &str, password: &str) -> Result<HeaderValue, Cause> {
    let encoded = data_encoding::BASE64.encode(format!("{username}:{password}").as_bytes());
    Ok(secret_header(&format!("Basic {encoded}")).expect("base64 fits into a header"))
}

fn secret_header(value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(value).ok()?;
    header.set_sensitive(true);
    Some(header)
}
