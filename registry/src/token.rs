//! Tokens from a token service (the distribution project's "Token Authentication"; RFC 6749 for
//! identity tokens).

use std::time::Duration;

use http_client::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use http_client::{Connections, Deadline, Method, Payload, Request, StatusCode, Url};
use serde::Deserialize;
use tokio::time::Instant;

use crate::answer;
use crate::cause::Cause;
use crate::credentials::{Credential, Credentials, CredentialsError};
use crate::protocol::ProtocolError;
use crate::scope::Scope;

const TOKEN_ANSWER_MAX: u64 = 256 << 10;
/// Lifetime of a token without `expires_in` (the specification's default).
const TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// Tokens that expire this soon are not used any more.
const TOKEN_MARGIN: Duration = Duration::from_secs(10);
const CLIENT_ID: &str = "mybuild";

/// A token, as the header that carries it.
pub(crate) struct Token {
    pub(crate) header: HeaderValue,
    expires: Instant,
}

impl Token {
    pub(crate) fn is_fresh(&self) -> bool {
        self.expires > Instant::now()
    }
}

/// A token service, at the realm that the registry named.
pub(crate) struct TokenService<'a> {
    /// The registry's name in credential files.
    pub(crate) registry: &'a str,
    pub(crate) connections: &'a Connections,
    pub(crate) realm: &'a Url,
    pub(crate) service: Option<&'a str>,
    /// Whether it gets the user's credentials.
    pub(crate) may_see: bool,
    pub(crate) deadline: Deadline,
}

impl TokenService<'_> {
    /// A token for `scope`, and whether the credentials were withheld. That they were, or cannot be
    /// read, matters only if there is no token without them: a public image can be pulled despite a
    /// broken credential helper.
    pub(crate) async fn token(
        &self,
        credentials: &Credentials,
        scope: &Scope,
    ) -> Result<(Token, Option<Withheld>), Cause> {
        let (credential, unsent) = match credentials.get(self.registry, &scope.path).await {
            Ok(Some(_)) if !self.may_see => (None, Some(Unsent::Withheld(self.withheld()))),
            Ok(credential) => (credential, None),
            Err(error) => (None, Some(Unsent::Unreadable(error))),
        };
        let withheld = match &unsent {
            Some(Unsent::Withheld(withheld)) => Some(withheld.clone()),
            _ => None,
        };
        let answer = match &credential {
            Some(Credential::IdentityToken(token)) => self.exchange(token, scope).await,
            Some(Credential::Basic { username, password }) => {
                let account = Some((&**username, basic_header(username, password)));
                self.get(scope, account, Wanted::Token).await
            }
            None => self.get(scope, None, Wanted::Token).await,
        };
        let answer = answer.map_err(|cause| explain_refusal(cause, unsent))?;
        Ok((answer.into_token()?, withheld))
    }

    /// A token for nothing but to show it, and the identity token to be kept in the place of
    /// `credential`, if the service gives one.
    pub(crate) async fn log_in(
        &self,
        credential: &Credential,
    ) -> Result<(Token, Option<String>), Cause> {
        if !self.may_see {
            let Withheld(host) = self.withheld();
            return Err(Cause::Withheld(host));
        }
        let mut answer = match credential {
            Credential::IdentityToken(token) => self.exchange(token, &Scope::none()).await?,
            Credential::Basic { username, password } => {
                let account = Some((&**username, basic_header(username, password)));
                self.get(&Scope::none(), account, Wanted::IdentityToken).await?
            }
        };
        let identity = answer.refresh_token.take().filter(|token| !token.is_empty());
        Ok((answer.into_token()?, identity))
    }

    fn withheld(&self) -> Withheld {
        Withheld(self.realm.host_str().unwrap_or_default().to_owned())
    }

    async fn get(
        &self,
        scope: &Scope,
        account: Option<(&str, HeaderValue)>,
        wanted: Wanted,
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
            if let Wanted::IdentityToken = wanted {
                query.append_pair("client_id", CLIENT_ID).append_pair("offline_token", "true");
            }
        }
        self.send(Request { headers, ..Request::new(Method::GET, url) }).await
    }

    async fn exchange(&self, refresh_token: &str, scope: &Scope) -> Result<TokenAnswer, Cause> {
        let form = self.form(refresh_token, scope);
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        let headers = HeaderMap::from_iter([(CONTENT_TYPE, form_type)]);
        let payload = Payload::Bytes(form.into());
        self.send(Request { headers, payload, ..Request::new(Method::POST, self.realm.clone()) })
            .await
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

    /// Does not follow redirects: only the realm gets the credentials.
    async fn send(&self, request: Request) -> Result<TokenAnswer, Cause> {
        let response = self.connections.send_without_redirects(&request, self.deadline).await?;
        if response.status() != StatusCode::OK {
            return Err(match answer::failure(response).await {
                Cause::NotFound => ProtocolError::NoTokenService.into(),
                Cause::Status { status: 400, detail, .. } => Cause::Unauthorized(detail),
                cause => cause,
            });
        }
        let body = response.body(TOKEN_ANSWER_MAX).await?;
        serde_json::from_slice(&body).map_err(|_| ProtocolError::NoToken.into())
    }
}

/// What a service is asked for.
enum Wanted {
    /// A token for the scope.
    Token,
    /// An identity token as well, to be kept.
    IdentityToken,
}

/// Why a token was requested without the user's credentials.
pub(crate) enum Unsent {
    Unreadable(CredentialsError),
    Withheld(Withheld),
}

/// The host that did not get them.
#[derive(Clone)]
pub(crate) struct Withheld(String);

/// The cause, or the reason behind it: a request may be refused because it had no credentials.
pub(crate) fn explain_refusal(cause: Cause, unsent: Option<Unsent>) -> Cause {
    match (cause, unsent) {
        (Cause::Unauthorized(_) | Cause::Denied(_), Some(unsent)) => match unsent {
            Unsent::Unreadable(error) => Cause::Credentials(error),
            Unsent::Withheld(Withheld(host)) => Cause::Withheld(host),
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
    #[serde(default)]
    refresh_token: Option<String>,
}

impl TokenAnswer {
    fn into_token(self) -> Result<Token, ProtocolError> {
        let token =
            [self.token, self.access_token].into_iter().flatten().find(|token| !token.is_empty());
        let header = token.and_then(|token| secret_header(&format!("Bearer {token}")));
        let header = header.ok_or(ProtocolError::UnusableToken)?;
        // A cap of a day is enough and keeps the sum in range.
        let lifetime =
            self.expires_in.map_or(TOKEN_LIFETIME, |s| Duration::from_secs(s.clamp(60, 86_400)));
        Ok(Token { header, expires: Instant::now() + lifetime - TOKEN_MARGIN })
    }
}

/// The header for a name and a password (RFC 7617).
pub(crate) fn basic_header(username: &str, password: &str) -> HeaderValue {
    let encoded = data_encoding::BASE64.encode(format!("{username}:{password}").as_bytes());
    secret_header(&format!("Basic {encoded}")).expect("base64 fits into a header")
}

fn secret_header(value: &str) -> Option<HeaderValue> {
    let mut header = HeaderValue::from_str(value).ok()?;
    header.set_sensitive(true);
    Some(header)
}
