//! Where a server may send us: never to a weaker protocol, never into our own machine.

use reqwest::Method;
use url::Url;

use crate::address::{is_link_local, is_loopback};

/// Redirects that are followed for one request.
pub(crate) const REDIRECTS_MAX: usize = 10;

/// Where plain HTTP may lead by plain HTTP. From TLS it never does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlainHttp {
    /// To ports of the same host, for which the user has allowed it, and on this machine.
    SameHost,
    /// To any host: nobody relies on who it is.
    AnyHost,
}

/// Why a redirect (RFC 9110, section 15.4), or a `Location` of another kind, is not followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RedirectError {
    /// There is no `Location`.
    #[error("unexpected answer: it has no usable `Location`")]
    NoLocation,
    /// `Location` is not a URL.
    #[error("unexpected answer: its `Location` is not a URL")]
    InvalidLocation(#[source] url::ParseError),
    /// It breaks a rule.
    #[error("refused to connect to `{url}`: {reason}")]
    Refused {
        /// Where the server pointed, without query and user: a signature or a password may be in them.
        url: String,
        /// Why not.
        reason: Refusal,
    },
}

/// The rule that a redirect breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// From TLS to plain HTTP, or by plain HTTP to another host.
    #[error("plain HTTP is not allowed there")]
    PlainHttp,
    /// Another protocol.
    #[error("only HTTP and HTTPS are supported")]
    Protocol,
    /// From elsewhere to this machine, or to a link-local address.
    #[error("the address is local")]
    Local,
    /// A name or password in the URL.
    #[error("the address contains credentials")]
    Credentials,
    /// One redirect too many.
    #[error("too many redirects")]
    TooMany,
}

/// Whether an answer with `status` sends a request with `method` elsewhere. 301 to 303 may turn
/// another method into GET, so only GET and HEAD follow them.
pub(crate) fn is_redirect(status: u16, method: &Method) -> bool {
    match status {
        307 | 308 => true,
        301..=303 => matches!(*method, Method::GET | Method::HEAD),
        _ => false,
    }
}

/// Whether `from`, which the user configured or an earlier check allowed, may send us to `to`.
///
/// # Errors
/// [`RedirectError::Refused`] names the rule that it would break.
pub fn check(from: &Url, to: &Url, plain_http: PlainHttp) -> Result<(), RedirectError> {
    let is_same_host = from.host() == to.host();
    let reason = match to.scheme() {
        "http" if from.scheme() != "http" => Refusal::PlainHttp,
        "http" if plain_http == PlainHttp::SameHost && !(is_loopback(to) || is_same_host) => {
            Refusal::PlainHttp
        }
        scheme if !["http", "https"].contains(&scheme) => Refusal::Protocol,
        _ if is_loopback(to) && !is_loopback(from) => Refusal::Local,
        _ if is_link_local(to) && !is_same_host => Refusal::Local,
        _ if !to.username().is_empty() || to.password().is_some() => Refusal::Credentials,
        _ => return Ok(()),
    };
    Err(RedirectError::refused(to, reason))
}

impl RedirectError {
    pub(crate) fn refused(to: &Url, reason: Refusal) -> Self {
        Self::Refused { url: shown(to), reason }
    }
}

/// The query of a blob store's URL may contain a signature, which does not belong in a message, nor
/// does a password.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    // It has none where this fails.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url.set_query(None);
    url.set_fragment(None);
    url.to_string().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_cannot_send_us_anywhere() {
        use Refusal::{Credentials, Local, PlainHttp, Protocol};
        for (from, to, refusal) in [
            ("https://r.example/v2/", "https://cdn.example/x", None),
            ("https://r.example/v2/", "http://r.example/x", Some(PlainHttp)),
            ("https://r.example/v2/", "http://127.0.0.1/x", Some(PlainHttp)),
            ("https://r.example/v2/", "https://127.0.0.1/x", Some(Local)),
            ("https://r.example/v2/", "https://localhost/x", Some(Local)),
            ("https://r.example/v2/", "https://169.254.169.254/x", Some(Local)),
            ("https://r.example/v2/", "https://[fe80::1]/x", Some(Local)),
            ("https://r.example/v2/", "https://[::ffff:127.0.0.1]/x", Some(Local)),
            ("https://r.example/v2/", "file:///etc/passwd", Some(Protocol)),
            ("https://r.example/v2/", "https://user:password@cdn.example/x", Some(Credentials)),
            ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:9000/x", None),
            ("http://127.0.0.1:5000/v2/", "https://cdn.example/x", None),
            ("http://127.0.0.1:5000/v2/", "http://cdn.example/x", Some(PlainHttp)),
            ("http://127.0.0.1:5000/v2/", "https://169.254.169.254/x", Some(Local)),
            ("http://169.254.3.4:5000/v2/", "http://169.254.3.4:5001/x", None),
            ("http://r.example/v2/", "http://r.example:81/x", None),
            ("http://r.example/v2/", "http://other.example/x", Some(PlainHttp)),
        ] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let expected = refusal.map_or(Ok(()), |r| Err(RedirectError::refused(&to, r)));
            assert_eq!(check(&from, &to, super::PlainHttp::SameHost), expected, "{from} to {to}");
        }
        for (from, to, refusal) in [
            ("http://r.example/v2/", "http://other.example/x", None),
            ("http://r.example/v2/", "https://other.example/x", None),
            ("https://r.example/v2/", "http://other.example/x", Some(PlainHttp)),
            ("https://r.example/v2/", "http://r.example/x", Some(PlainHttp)),
            ("http://r.example/v2/", "http://127.0.0.1/x", Some(Local)),
            ("http://r.example/v2/", "http://169.254.169.254/x", Some(Local)),
            ("http://r.example/v2/", "file:///etc/passwd", Some(Protocol)),
        ] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            let expected = refusal.map_or(Ok(()), |r| Err(RedirectError::refused(&to, r)));
            assert_eq!(check(&from, &to, super::PlainHttp::AnyHost), expected, "{from} to {to}");
        }
    }

    #[test]
    fn only_reading_follows_redirects_that_may_change_the_method() {
        for (status, reads, writes) in [
            (300, false, false),
            (301, true, false),
            (302, true, false),
            (303, true, false),
            (304, false, false),
            (307, true, true),
            (308, true, true),
            (200, false, false),
        ] {
            for (method, expected) in
                [(Method::GET, reads), (Method::HEAD, reads), (Method::PUT, writes)]
            {
                assert_eq!(is_redirect(status, &method), expected, "{status} {method}");
            }
        }
    }

    #[test]
    fn an_error_shows_no_signature() {
        let to = "ftp://me:secret@store.example/blob?signature=secret#part".parse().unwrap();
        let error = RedirectError::refused(&to, Refusal::Protocol);
        assert_eq!(
            error.to_string(),
            "refused to connect to `ftp://store.example/blob`: only HTTP and HTTPS are supported"
        );
    }
}
