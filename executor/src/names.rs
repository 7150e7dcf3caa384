//! `/etc/hosts` and `/etc/resolv.conf` of a sandbox.

use std::fs;
use std::io::Read;
use std::net::IpAddr;

use crate::process::{HostAddress, NetworkUsed};

/// No resolver configuration is longer.
const MAX_RESOLV_CONF: u64 = 64 << 10;
/// Where `pasta` is told to answer name queries.
pub(crate) const PASTA_RESOLVER: &str = "169.254.1.1";
/// Where `slirp4netns` always does.
const SLIRP_RESOLVER: &str = "10.0.2.3";

/// The loopback names, the sandbox's own and the caller's. Without a `gateway` the names that stand
/// for it are left out.
pub(crate) fn hosts(
    hostname: &str,
    extra: &[(String, HostAddress)],
    gateway: Option<IpAddr>,
) -> String {
    let mut text =
        format!("127.0.0.1\tlocalhost {hostname}\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    for &(ref name, address) in extra {
        let line = match (address, gateway) {
            (HostAddress::Ip(address), _) | (HostAddress::Gateway, Some(address)) => {
                format!("{address}\t{name}\n")
            }
            (HostAddress::Gateway, None) => {
                format!("# {name} (host-gateway) cannot be reached without a network\n")
            }
        };
        text.push_str(&line);
    }
    text
}

/// How names are resolved, given how the sandbox reaches the network.
pub(crate) fn resolv_conf(network: NetworkUsed) -> String {
    adapt(&host_resolv_conf(), network)
}

fn host_resolv_conf() -> String {
    let mut text = String::new();
    if let Ok(file) = fs::File::open("/etc/resolv.conf") {
        // What cannot be read is as good as not there.
        let _ = file.take(MAX_RESOLV_CONF).read_to_string(&mut text);
    }
    text
}

/// A resolver on the host's loopback is out of reach from another network: the helper stands in. It
/// also stands in for the host's first resolver, since older versions of `pasta` answer queries to
/// that in their own name, which a resolver that asked the real one does not accept.
fn adapt(host: &str, network: NetworkUsed) -> String {
    let stand_in = match network {
        NetworkUsed::Host => return host.to_owned(),
        NetworkUsed::None => return String::new(),
        NetworkUsed::Pasta => PASTA_RESOLVER,
        NetworkUsed::Slirp4netns => SLIRP_RESOLVER,
    };
    let mut servers = Vec::new();
    let mut others = String::new();
    for line in host.lines() {
        match line.trim().strip_prefix("nameserver") {
            Some(address) => {
                let address = address.trim();
                let reachable = address.parse::<IpAddr>().is_ok_and(|ip| {
                    let served = network == NetworkUsed::Pasta && ip.is_ipv4();
                    !ip.is_loopback() && (!served || servers.contains(&stand_in))
                });
                servers.push(if reachable { address } else { stand_in });
            }
            None => others.push_str(&format!("{line}\n")),
        }
    }
    if servers.is_empty() {
        servers.push(stand_in);
    }
    servers.dedup();
    let servers: String =
        servers.into_iter().map(|server| format!("nameserver {server}\n")).collect();
    servers + &others
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_resolvers_are_replaced() {
        let host = "nameserver 127.0.0.53\nnameserver 10.1.1.1\nsearch a.b\noptions edns0\n";
        let cases = [
            (NetworkUsed::Host, host),
            (NetworkUsed::None, ""),
            (
                NetworkUsed::Pasta,
                "nameserver 169.254.1.1\nnameserver 10.1.1.1\nsearch a.b\noptions edns0\n",
            ),
            (
                NetworkUsed::Slirp4netns,
                "nameserver 10.0.2.3\nnameserver 10.1.1.1\nsearch a.b\noptions edns0\n",
            ),
        ];
        for (network, expected) in cases {
            assert_eq!(adapt(host, network), expected, "{network:?}");
        }
        assert_eq!(adapt("", NetworkUsed::Pasta), "nameserver 169.254.1.1\n");
        assert_eq!(
            adapt(
                "nameserver fd00::1\nnameserver 10.1.1.1\nnameserver 10.1.1.2\n",
                NetworkUsed::Pasta
            ),
            "nameserver fd00::1\nnameserver 169.254.1.1\nnameserver 10.1.1.2\n"
        );
    }

    #[test]
    fn extra_hosts_come_last() {
        let own = "127.0.0.1\tlocalhost box\n::1\tlocalhost ip6-localhost ip6-loopback\n";
        let extra = ["db=10.0.0.7", "six=::7", "up=host-gateway"].map(|text| {
            let (name, address) = text.split_once('=').unwrap();
            (name.to_owned(), address.parse().unwrap())
        });
        for (gateway, last) in [
            (Some(IpAddr::from([10, 0, 2, 2])), "10.0.2.2\tup"),
            (None, "# up (host-gateway) cannot be reached without a network"),
        ] {
            let wanted = format!("{own}10.0.0.7\tdb\n::7\tsix\n{last}\n");
            assert_eq!(hosts("box", &extra, gateway), wanted);
        }
    }
}
