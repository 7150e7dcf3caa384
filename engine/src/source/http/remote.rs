//! A URL that is asked for: who is asked, and as whom.

use std::sync::Arc;

use http_client::header::{HeaderValue, InvalidHeaderValue};
use http_client::{
    Authorization, Backoff, Connections, Deadline, Method, PlainHttp, Request, Response,
    StatusCode, Url, Validators,
};
use parser::credentials::without_credentials;

use super::cause::Cause;
use crate::blocking::blocking;
use crate::client::{Client, SECRET_MAX};
use crate::error::BuildError;

/// A secret's id before the host that it is for: all of the header, and the token in it. BuildKit's names.
const HEADER: &str = "HTTP_AUTH_HEADER_";
const TOKEN: &str = "HTTP_AUTH_TOKEN_";

/// A file on a server.
pub(super) struct Remote {
    /// Without user and password.
    url: Url,
    connections: Arc<Connections>,
    authorization: Option<Authorization>,
    deadline: Deadline,
}

/// An address that files are fetched from.
pub(super) fn parse(text: &str) -> Result<Url, BuildError> {
    let invalid = |why: &str| {
        BuildError::input(format!("`{}` is not a URL: {why}", without_credentials(text)))
    };
    let url: Url = text.parse().map_err(|error| invalid(&format!("{error}")))?;
    match url.scheme() {
        "http" | "https" => Ok(url),
        _ => Err(invalid("only HTTP and HTTPS are supported")),
    }
}

impl Remote {
    pub(super) async fn new(
        mut url: Url,
        connections: Arc<Connections>,
        client: Arc<dyn Client>,
    ) -> Result<Self, BuildError> {
        let asked = url.clone();
        let header = blocking(move || header(client.as_ref(), &asked)).await?;
        // A user in the URL was taken over; it cannot fail where there is a host.
        let _ = url.set_username("").and_then(|()| url.set_password(None));
        url.set_fragment(None);
        let authorization = header.map(|header| Authorization::new(header, &url));
        let deadline = Deadline::for_transfer(connections.limits(), u64::MAX);
        Ok(Self { url, connections, authorization, deadline })
    }

    pub(super) fn shown(&self) -> &Url {
        &self.url
    }

    /// What the store's list of what takes room says.
    pub(super) fn title(&self) -> String {
        format!("http url {}", self.url)
    }

    pub(super) fn host(&self) -> &str {
        host(&self.url)
    }

    pub(super) fn is_authorized(&self) -> bool {
        self.authorization.is_some()
    }

    pub(super) fn connections(&self) -> &Connections {
        &self.connections
    }

    pub(super) fn backoff(&self) -> Backoff<'_> {
        Backoff::new(self.connections.limits(), self.deadline)
    }

    /// The whole file, or 304 if it is still the one with the validators `known`. Tries again as
    /// often as failures deserve.
    pub(super) async fn ask_for_another(
        &self,
        known: Option<&Validators>,
    ) -> Result<Response, Cause> {
        let mut backoff = self.backoff();
        loop {
            let change = |request: &mut Request| {
                known.into_iter().for_each(|known| known.ask_for_another(request));
            };
            match self.ask(change).await {
                Ok(response) => match response.status() {
                    StatusCode::NOT_MODIFIED if known.is_some() => return Ok(response),
                    StatusCode::PARTIAL_CONTENT | StatusCode::NOT_MODIFIED => {
                        return Err(status(&response));
                    }
                    _ => return Ok(response),
                },
                Err(cause) => backoff.wait(cause).await?,
            }
        }
    }

    /// Asks once. Success is an answer, and so is 304.
    pub(super) async fn ask(&self, change: impl Fn(&mut Request)) -> Result<Response, Cause> {
        let mut request = Request::new(Method::GET, self.url.clone());
        request.plain_http = PlainHttp::AnyHost;
        change(&mut request);
        let authorization = self.authorization.as_ref();
        let response = self.connections.send(&request, authorization, self.deadline).await?;
        match response.status() {
            StatusCode::NOT_MODIFIED => Ok(response),
            good if good.is_success() => Ok(response),
            _ => Err(status(&response)),
        }
    }
}

fn status(response: &Response) -> Cause {
    Cause::Status { status: response.status().as_u16(), retry_after: response.retry_after() }
}

/// The host as secrets are called by it: without a port, and without the brackets of a number.
fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default().trim_matches(['[', ']'])
}

/// Who we are to the URL's host: what a secret for it says, else the user in the URL.
fn header(client: &dyn Client, url: &Url) -> Result<Option<HeaderValue>, BuildError> {
    let id = format!("{TOKEN}{}", host(url));
    if let Some(token) = secret(client, &id)? {
        return sensitive(&format!("Bearer {token}"), &id).map(Some);
    }
    let id = format!("{HEADER}{}", host(url));
    if let Some(header) = secret(client, &id)? {
        return sensitive(&header, &id).map(Some);
    }
    let (user, password) = (url.username(), url.password().unwrap_or_default());
    if user.is_empty() && password.is_empty() {
        return Ok(None);
    }
    let pair = [super::name::decoded(user), super::name::decoded(password)].join(&b':');
    let basic = data_encoding::BASE64.encode(&pair);
    sensitive(&format!("Basic {basic}"), "the URL").map(Some)
}

/// A secret's text; a file may end with a line's end.
fn secret(client: &dyn Client, id: &str) -> Result<Option<String>, BuildError> {
    let Some(secret) = client.secret(id)? else { return Ok(None) };
    let text = String::from_utf8(secret.0).ok().filter(|text| text.len() as u64 <= SECRET_MAX);
    let text = text.ok_or_else(|| not_a_header(id))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}

fn sensitive(text: &str, from: &str) -> Result<HeaderValue, BuildError> {
    let value: Result<HeaderValue, InvalidHeaderValue> = HeaderValue::from_str(text);
    let mut value = value.map_err(|_| not_a_header(from))?;
    value.set_sensitive(true);
    Ok(value)
}

fn not_a_header(id: &str) -> BuildError {
    BuildError::input(format!("secret `{id}` cannot be sent in an HTTP header"))
        .with_hint("a header is one line of text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_in_an_address_is_not_shown() {
        let error = parse("https://me:secret@example.org:99999/").unwrap_err().to_string();
        assert!(error.starts_with("`https://example.org:99999/` is not a URL: "), "{error}");
        assert!(parse("ftp://example.org/").is_err());
    }
}
