//! Where a registry may send us: never to a weaker protocol, never inside our own machine.

use reqwest::header::LOCATION;
use reqwest::{Method, Response};
use url::{Host, Url};

use crate::error::Cause;

/// Redirects that are followed for one request.
pub(crate) const REDIRECTS_MAX: usize = 5;

/// The URL that `response` points at, if it is a redirect that the method may follow.
pub(crate) fn target(response: &Response, method: &Method) -> Result<Option<Url>, Cause> {
    let is_redirect = match response.status().as_u16() {
        307 | 308 => true,
        301..=303 => matches!(*method, Method::GET | Method::HEAD),
        _ => false,
    };
    if !is_redirect {
        return Ok(None);
    }
    let location = response.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let url = location.and_then(|location| response.url().join(location).ok());
    url.map(Some)
        .ok_or_else(|| Cause::Protocol("a redirect without a usable `Location`".to_owned()))
}

/// Whether `from`, itself reached on the user's word, may send us to `to`.
pub(crate) fn check(from: &Url, to: &Url) -> Result<(), Cause> {
    let refused = |reason| Err(Cause::Refused { url: without_query(to), reason });
    match to.scheme() {
        "https" => {}
        // Plain HTTP is spoken only where the user allowed it; that does not reach other hosts.
        "http" if from.scheme() == "http" && (is_loopback(to) || from.host() == to.host()) => {}
        "http" => return refused("plain HTTP is not allowed there"),
        _ => return refused("only HTTP and HTTPS are followed"),
    }
    if is_loopback(to) && !is_loopback(from) || is_link_local(to) && from.host() != to.host() {
        return refused("the address is local");
    }
    if !to.username().is_empty() || to.password().is_some() {
        return refused("the address carries credentials");
    }
    Ok(())
}

/// Whether a token service at `realm`, named by a registry that was reached at `registry`, is told the
/// user's credentials: at the registry's own host, and over TLS on its site.
pub(crate) fn may_know_credentials(registry: &Url, realm: &Url) -> bool {
    let is_own = registry.host() == realm.host();
    match realm.scheme() {
        "https" => is_own || is_same_site(registry, realm),
        // The user has said that plain HTTP is spoken there.
        scheme => is_own && scheme == registry.scheme(),
    }
}

/// Whether two hosts belong to the same owner, as far as their names tell.
fn is_same_site(one: &Url, other: &Url) -> bool {
    let (Some(Host::Domain(one)), Some(Host::Domain(other))) = (one.host(), other.host()) else {
        return false;
    };
    let labels = one.rsplit('.').zip(other.rsplit('.'));
    let common: Vec<&str> = labels.take_while(|(a, b)| a == b).map(|(label, _)| label).collect();
    match common[..] {
        // `example.co.uk` belongs to somebody, `co.uk` to everybody.
        [country, second] => country.len() > 2 || second.len() > 3,
        _ => common.len() > 2,
    }
}

/// Whether the host is this machine by its name or number.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(ip)) => ip.is_loopback(),
        Some(Host::Ipv6(ip)) => {
            ip.is_loopback() || ip.to_ipv4_mapped().is_some_and(|ip| ip.is_loopback())
        }
        Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
        None => false,
    }
}

/// Link-local addresses, where clouds keep their metadata service, and unspecified ones.
fn is_link_local(url: &Url) -> bool {
    let is_link_local_v4 = |ip: std::net::Ipv4Addr| ip.is_link_local() || ip.is_unspecified();
    match url.host() {
        Some(Host::Ipv4(ip)) => is_link_local_v4(ip),
        Some(Host::Ipv6(ip)) => {
            ip.is_unicast_link_local()
                || ip.is_unspecified()
                || ip.to_ipv4_mapped().is_some_and(is_link_local_v4)
        }
        _ => false,
    }
}

/// The query of a blob store's URL carries a signature: nothing for error messages.
fn without_query(url: &Url) -> String {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    url.to_string().chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::{check, may_know_credentials};

    #[test]
    fn registries_cannot_send_us_anywhere() {
        for (from, to, allowed) in [
            ("https://r.example/v2/", "https://cdn.example/x", true),
            ("https://r.example/v2/", "http://r.example/x", false),
            ("https://r.example/v2/", "http://127.0.0.1/x", false),
            ("https://r.example/v2/", "https://127.0.0.1/x", false),
            ("https://r.example/v2/", "https://localhost/x", false),
            ("https://r.example/v2/", "https://169.254.169.254/x", false),
            ("https://r.example/v2/", "https://[fe80::1]/x", false),
            ("https://r.example/v2/", "https://[::ffff:127.0.0.1]/x", false),
            ("https://r.example/v2/", "file:///etc/passwd", false),
            ("https://r.example/v2/", "https://user:password@cdn.example/x", false),
            ("http://127.0.0.1:5000/v2/", "http://127.0.0.1:9000/x", true),
            ("http://127.0.0.1:5000/v2/", "https://cdn.example/x", true),
            ("http://127.0.0.1:5000/v2/", "http://cdn.example/x", false),
            ("http://127.0.0.1:5000/v2/", "https://169.254.169.254/x", false),
            ("http://169.254.3.4:5000/v2/", "http://169.254.3.4:5001/x", true),
            ("http://r.example/v2/", "http://r.example:81/x", true),
            ("http://r.example/v2/", "http://other.example/x", false),
        ] {
            let (from, to) = (from.parse().unwrap(), to.parse().unwrap());
            assert_eq!(check(&from, &to).is_ok(), allowed, "{from} to {to}");
        }
    }

    #[test]
    fn credentials_stay_on_the_registry_s_site() {
        for (registry, realm, allowed) in [
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
            let (registry, realm) = (registry.parse().unwrap(), realm.parse().unwrap());
            assert_eq!(may_know_credentials(&registry, &realm), allowed, "{registry} to {realm}");
        }
    }
}
