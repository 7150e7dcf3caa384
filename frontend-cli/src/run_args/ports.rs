//! `--publish`.

use std::net::{IpAddr, Ipv4Addr};

use engine::run::{PortForward, Protocol};

use crate::error::UsageError;

/// Ports of one flag; more is a range that nobody means.
const RANGE_MAX: usize = 1000;

pub(super) fn resolve(texts: &[String]) -> Result<Vec<PortForward>, UsageError> {
    let mut ports = Vec::new();
    for text in texts {
        ports.extend(publish(text)?);
    }
    Ok(ports)
}

/// `[[ADDRESS:]HOST:]PORT[/PROTOCOL]`; ports may be ranges, the address may stand in brackets.
fn publish(text: &str) -> Result<Vec<PortForward>, UsageError> {
    let invalid = |why: String| {
        UsageError::new(format!("`--publish {text}`: {why}"))
            .with_hint("write 8080:80, 127.0.0.1:8080:80 or 53:53/udp")
    };
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        other => return Err(invalid(format!("protocol `{other}` is not supported"))),
    };
    let (rest, container) = ports.rsplit_once(':').unwrap_or(("", ports));
    let (address, host) = match rest.rsplit_once(':') {
        Some((address, host)) => (address, host),
        None => ("", rest),
    };
    let address =
        address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(address);
    let address = match address {
        // Every address of this machine, of either version.
        "" => None,
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        text => Some(text.parse().map_err(|_| invalid(format!("`{text}` is not an address")))?),
    };
    let container =
        range(container).ok_or_else(|| invalid(format!("`{container}` is not a port")))?;
    let host = match host {
        // The kernel chooses.
        "" => vec![0; container.len()],
        text => range(text).ok_or_else(|| invalid(format!("`{text}` is not a port")))?,
    };
    if host.len() != container.len() {
        return Err(invalid("the ranges have different lengths".to_owned()));
    }
    let forward = |(host, container)| PortForward { address, host, container, protocol };
    Ok(host.into_iter().zip(container).map(forward).collect())
}

/// `80` or `8000-8010`.
fn range(text: &str) -> Option<Vec<u16>> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|port| *port > 0);
    let (first, last) = match text.split_once('-') {
        Some((first, last)) => (port(first)?, port(last)?),
        None => (port(text)?, port(text)?),
    };
    let ports: Vec<u16> = (first..=last).collect();
    (!ports.is_empty() && ports.len() <= RANGE_MAX).then_some(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_written_as_for_docker() {
        let any = None;
        let local = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let v4 = Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        for (text, address, pairs, protocol) in [
            ("80", any, &[(0, 80)][..], Protocol::Tcp),
            ("8080:80", any, &[(8080, 80)], Protocol::Tcp),
            ("0.0.0.0:8080:80", v4, &[(8080, 80)], Protocol::Tcp),
            ("127.0.0.1:8080:80", local, &[(8080, 80)], Protocol::Tcp),
            ("localhost::80", local, &[(0, 80)], Protocol::Tcp),
            ("53:53/udp", any, &[(53, 53)], Protocol::Udp),
            ("8000-8001:90-91", any, &[(8000, 90), (8001, 91)], Protocol::Tcp),
            (
                "[::1]:8080:80",
                Some(IpAddr::V6(std::net::Ipv6Addr::LOCALHOST)),
                &[(8080, 80)],
                Protocol::Tcp,
            ),
        ] {
            let wanted: Vec<_> = pairs
                .iter()
                .map(|&(host, container)| PortForward { address, host, container, protocol })
                .collect();
            assert_eq!(publish(text).unwrap(), wanted, "{text}");
        }
        for text in ["", "x", "0", "70000", "1:2:3:4x", "80/sctp", "1-2:3", "host:80:80", "9-8"] {
            assert!(publish(text).is_err(), "{text}");
        }
    }
}
