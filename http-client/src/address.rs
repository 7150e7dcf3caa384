//! Hosts that are this machine or its neighbours.

use std::net::Ipv4Addr;

use url::{Host, Url};

/// Whether the host is this machine, by its name or number (RFC 6761, section 6.3; RFC 6890).
pub fn is_loopback(url: &Url) -> bool {
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
pub(crate) fn is_link_local(url: &Url) -> bool {
    let is_link_local_v4 = |ip: Ipv4Addr| ip.is_link_local() || ip.is_unspecified();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_many_names() {
        for (host, expected) in [
            ("127.0.0.1", "loopback"),
            ("127.9.9.9:5000", "loopback"),
            ("[::1]:80", "loopback"),
            ("[::ffff:127.0.0.1]", "loopback"),
            ("localhost", "loopback"),
            ("LOCALHOST:1", "loopback"),
            ("registry.localhost", "loopback"),
            ("notlocalhost", "elsewhere"),
            ("localhost.example", "elsewhere"),
            ("169.254.169.254", "link-local"),
            ("0.0.0.0", "link-local"),
            ("[::]", "link-local"),
            ("[fe80::1]", "link-local"),
            ("[::ffff:169.254.0.1]", "link-local"),
            ("10.0.0.1", "elsewhere"),
            ("[2001:db8::1]", "elsewhere"),
        ] {
            let url: Url = format!("http://{host}/").parse().unwrap();
            let found = match (is_loopback(&url), is_link_local(&url)) {
                (true, false) => "loopback",
                (false, true) => "link-local",
                (false, false) => "elsewhere",
                (true, true) => "both",
            };
            assert_eq!(found, expected, "{host}");
        }
    }
}
