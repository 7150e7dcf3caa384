//! Asking a service.

use std::path::Path;
use std::time::Duration;

use http_client::header::{HeaderName, HeaderValue};
use http_client::{Limits, Method, Payload, Request, Url, is_loopback};
use tokio_util::bytes::Bytes;

use crate::object_error::{AccessError, ObjectError};
use crate::server::Server;

/// The longest answer, in bytes.
const ANSWER_MAX: u64 = 256 << 10;
/// The longest token in a file, in bytes.
const TOKEN_MAX: u64 = 64 << 10;
/// Services of the machine itself answer at once, or are not there.
const OWN_MACHINE: Duration = Duration::from_secs(1);
const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");

/// A service that gives out something.
pub(super) struct Service {
    name: String,
    what: &'static str,
    url: Url,
    server: Server,
}

impl Service {
    /// The service at `address`, which has to be one that nobody on the way can listen to, or this machine's.
    pub(super) fn new(
        address: &str,
        what: &'static str,
        limits: &Limits,
    ) -> Result<Self, AccessError> {
        let url: Option<Url> = address.parse().ok();
        let url = url.filter(|url| url.scheme() == "https" || is_own(url));
        let url = url.ok_or_else(|| AccessError::Address(address.to_owned()))?;
        let limits = match is_own(&url) && !is_loopback(&url) {
            true => Limits { connect: OWN_MACHINE, attempts: 1, ..limits.clone() },
            false => limits.clone(),
        };
        let name = url.host_str().unwrap_or_default().to_owned();
        Ok(Self { server: Server::of_secrets(&url, limits), name, what, url })
    }

    /// A request to it, behind the path of its address.
    pub(super) fn request(&self, method: Method, path: &str) -> Request {
        let mut url = self.url.clone();
        url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
        Request::new(method, url)
    }

    /// A request to it with the fields of a form.
    pub(super) fn form(&self, path: &str, fields: &[(&str, &str)]) -> Request {
        let mut request = self.request(Method::POST, path);
        let mut form = self.url.clone();
        form.query_pairs_mut().clear().extend_pairs(fields);
        let body = form.query().unwrap_or_default().to_owned();
        request.payload = Payload::Bytes(Bytes::from(body));
        request.headers.insert(http_client::header::CONTENT_TYPE, FORM);
        request
    }

    /// The text that it answers.
    pub(super) async fn ask(&self, request: Request) -> Result<String, AccessError> {
        let body = self.server.ask(&request.into(), ANSWER_MAX).await;
        let body = body.map_err(|source| self.refused(source))?;
        String::from_utf8(body).map_err(|_| self.answer())
    }

    /// The same; `None` where nothing answers, or says that it has nothing.
    pub(super) async fn ask_if_there(
        &self,
        request: Request,
    ) -> Result<Option<String>, AccessError> {
        match self.ask(request).await {
            Err(AccessError::Refused { source, .. }) if is_absent(&source) => Ok(None),
            answer => answer.map(Some),
        }
    }

    /// Puts a secret into a header of a request.
    pub(super) fn secret(
        &self,
        request: &mut Request,
        name: &'static str,
        value: &str,
    ) -> Result<(), AccessError> {
        let value = HeaderValue::from_str(value.trim());
        let mut value = value.map_err(|_| AccessError::Token(self.name.clone()))?;
        value.set_sensitive(true);
        request.headers.insert(HeaderName::from_static(name), value);
        Ok(())
    }

    fn refused(&self, source: ObjectError) -> AccessError {
        AccessError::Refused { what: self.what, service: self.name.clone(), source }
    }

    /// Its answer is not what was asked for.
    pub(super) fn answer(&self) -> AccessError {
        AccessError::Answer { what: self.what, service: self.name.clone() }
    }
}

/// Whether it is this machine, or what a cloud shows to its machines alone.
fn is_own(url: &Url) -> bool {
    const OWN: [&str; 5] =
        ["169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]", "[fd00:ec2::23]"];
    url.scheme() == "http" && (is_loopback(url) || url.host_str().is_some_and(|h| OWN.contains(&h)))
}

fn is_absent(error: &ObjectError) -> bool {
    use http_client::Error;
    matches!(
        error,
        ObjectError::Http(Error::Connect(_) | Error::TimedOut { .. })
            // AWS says so of an instance's service that is turned off.
            | ObjectError::Status { status: 403 | 404, .. }
    )
}

/// What a file with a token has, now: others write it again from time to time.
pub(super) async fn token(path: &Path) -> Result<String, AccessError> {
    use std::io::Read as _;

    let (file, path) = (path.to_owned(), path.to_owned());
    let read = tokio::task::spawn_blocking(move || {
        let mut text = String::new();
        std::fs::File::open(file)?.take(TOKEN_MAX).read_to_string(&mut text)?;
        Ok(text.trim().to_owned())
    });
    let read = read.await.expect("reading a file does not panic");
    read.map_err(|source| AccessError::File { path, source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_only_where_nobody_listens() {
        for (address, expected) in [
            ("https://sts.example", true),
            ("http://127.0.0.1:1", true),
            ("http://localhost", true),
            ("http://169.254.170.2/v2", true),
            ("http://[fd00:ec2::254]", true),
            ("http://sts.example", false),
            ("http://10.0.0.1", false),
            ("ftp://127.0.0.1", false),
            ("sts.example", false),
            ("", false),
        ] {
            let service = Service::new(address, "a key", &Limits::default());
            assert_eq!(service.is_ok(), expected, "{address}");
        }
        let service = Service::new("http://127.0.0.1:1/a/", "a key", &Limits::default()).unwrap();
        let request = service.form("/b", &[("x", "1 &"), ("y", "")]);
        assert_eq!(request.url.as_str(), "http://127.0.0.1:1/a/b");
        assert!(matches!(request.payload, Payload::Bytes(body) if body == "x=1+%26&y="));
    }
}
