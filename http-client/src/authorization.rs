//! Credentials, and who may see them.

use reqwest::header::HeaderValue;
use url::{Host, Origin, Url};

/// An `Authorization` header (RFC 9110, section 11.6.2) and the one origin (RFC 6454) that gets
/// it: host, port and protocol. It is not sent along with redirects elsewhere. Mark the header as
/// sensitive to keep it out of debug output.
#[derive(Debug, Clone)]
pub struct Authorization {
    header: HeaderValue,
    origin: Origin,
}

impl Authorization {
    /// The header for the origin of `home`.
    pub fn new(header: HeaderValue, home: &Url) -> Self {
        Self { header, origin: home.origin() }
    }

    /// The header, if `url` may see it.
    pub(crate) fn at(&self, url: &Url) -> Option<&HeaderValue> {
        (url.origin() == self.origin).then_some(&self.header)
    }
}

/// Whether a service at `to`, which the host `from` named, may see the user's credentials for
/// `from`: yes on the same host, and over TLS on the same site.
pub fn may_see_credentials(from: &Url, to: &Url) -> bool {
    let is_own = from.host() == to.host();
    match to.scheme() {
        "https" => is_own || is_same_site(from, to),
        // The user has allowed plain HTTP for this host.
        scheme => is_own && scheme == from.scheme(),
    }
}

/// Whether two hosts have the same owner, judged by their names.
fn is_same_site(one: &Url, other: &Url) -> bool {
    let (Some(Host::Domain(one)), Some(Host::Domain(other))) = (one.host(), other.host()) else {
        return false;
    };
    let labels = one.rsplit('.').zip(other.rsplit('.'));
    let common: Vec<&str> = labels.take_while(|(a, b)| a == b).map(|(label, _)| label).collect();
    match common[..] {
        // `example.co.uk` has an owner, `co.uk` is a public suffix.
        [country, second] => country.len() > 2 || second.len() > 3,
        _ => common.len() > 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_for_one_origin() {
        let home = "https://r.example/v2/".parse().unwrap();
        let authorization = Authorization::new(HeaderValue::from_static("Basic x"), &home);
        for (url, expected) in [
            ("https://r.example/other", true),
            ("https://r.example:443/", true),
            ("https://r.example:5000/", false),
            ("http://r.example/v2/", false),
            ("https://cdn.r.example/v2/", false),
        ] {
            assert_eq!(authorization.at(&url.parse().unwrap()).is_some(), expected, "{url}");
        }
    }

    #[test]
    fn credentials_stay_on_the_site() {
        for (from, to, allowed) in [
            ("https://r.example/v2/", "https://r.example/token", true),
            ("https://r.example:5000/v2/", "https://r.example/token", true),
            ("https://registry-1.docker.io/v2/", "https://auth.docker.io/token", true),
            ("https://registry.gitlab.com/v2/", "https://gitlab.com/jwt/auth", true),
            ("https://registry.acme.co.uk/v2/", "https://login.acme.co.uk/token", true),
            ("https://r.acme.co.uk/v2/", "https://r.other.co.uk/token", false),
            ("https://r.example/v2/", "https://other.example/token", false),
            ("https://r.acme.example/v2/", "https://r.acme.example.evil.test/token", false),
            ("https://r.example/v2/", "http://r.example/token", false),
            ("http://r.example/v2/", "http://r.example/token", true),
            ("http://r.example/v2/", "https://r.example/token", true),
            ("http://a.acme.example/v2/", "http://b.acme.example/token", false),
            ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:5001/token", true),
            ("http://127.0.0.1:5000/v2/", "http://127.0.0.2:5000/token", false),
            ("https://10.0.0.1/v2/", "https://10.0.0.2/token", false),
        ] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(may_see_credentials(&from, &to), allowed, "{from} to {to}");
        }
    }
}
