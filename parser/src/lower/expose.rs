//! `EXPOSE`.

use std::net::{IpAddr, Ipv6Addr};
use std::ops::RangeInclusive;

use oci::Empty;

use super::Lowering;
use super::fault::{Fallible, Fault};
use super::stage::StageId;
use crate::check::Place;
use crate::quote::quote;
use crate::span::Text;

impl Lowering<'_> {
    pub(super) fn expose(&mut self, id: StageId, place: Place<'_>, written: &[Text]) -> Fallible {
        let mut words = Vec::new();
        for text in written {
            words.extend(self.expander.words(&text.value, &*self.stages[id].state.environment)?);
        }
        let mut ports = Vec::new();
        for word in &words {
            let exposed = Exposed::parse(word).map_err(|fault| {
                fault.with_hint("a port is written PORT or PORT/tcp, PORT/udp, PORT/sctp; several as FIRST-LAST")
            })?;
            self.check_exposed(place, word, &exposed);
            let protocol = exposed.protocol.to_lowercase();
            ports.extend(exposed.ports.map(|port| format!("{port}/{protocol}")));
        }
        let created_by = format!("EXPOSE [{}]", ports.join(" "));
        self.weigh(created_by.len())?;
        self.record(id, created_by, false);
        let ports = ports.into_iter().map(|port| (port, Empty {}));
        self.stages[id].state.config().exposed_ports.extend(ports);
        Ok(())
    }

    fn check_exposed(&mut self, place: Place<'_>, word: &str, exposed: &Exposed<'_>) {
        if exposed.protocol != exposed.protocol.to_lowercase() {
            let message =
                format!("Defined protocol '{word}' in EXPOSE instruction should be lowercase");
            self.reporter.report("ExposeProtoCasing", place, message);
        }
        if exposed.names_host {
            let message = format!(
                "EXPOSE instruction should not define an IP address or host-port mapping, found \
                 '{word}'"
            );
            self.reporter.report("ExposeInvalidFormat", place, message);
        }
    }
}

/// `[[address:]host port:]port[-port][/protocol]`.
#[derive(Debug, PartialEq, Eq)]
struct Exposed<'w> {
    ports: RangeInclusive<u16>,
    protocol: &'w str,
    /// An address or a port of the host is there: meaningless, but let through.
    names_host: bool,
}

impl<'w> Exposed<'w> {
    fn parse(word: &'w str) -> Fallible<Self> {
        let (host, container) = match word.rsplit_once(':') {
            Some((host, container)) => (host, container),
            None => ("", word),
        };
        let (address, host_port) = host.rsplit_once(':').unwrap_or(("", host));
        let (container, protocol) = protocol_of(container)
            .map_err(|fault| fault.context(&format!("invalid port: {}", quote(word))))?;
        check_address(address)?;
        let ports = port_range(container)
            .ok_or_else(|| Fault::new(format!("invalid containerPort: {container}")))?;
        if !host_port.is_empty() {
            let host_ports = port_range(host_port)
                .ok_or_else(|| Fault::new(format!("invalid hostPort: {host_port}")))?;
            if ports.len() != 1 && ports.len() != host_ports.len() {
                let message = format!(
                    "invalid ranges specified for container and host Ports: {container} and \
                     {host_port}"
                );
                return Err(Fault::new(message));
            }
        }
        let names_host = !address.is_empty() || !host_port.is_empty();
        Ok(Self { ports, protocol, names_host })
    }
}

fn protocol_of(container: &str) -> Fallible<(&str, &str)> {
    let (port, protocol) = container.split_once('/').unwrap_or((container, ""));
    if port.is_empty() {
        return Err(Fault::new("no port specified"));
    }
    match protocol.to_lowercase().as_str() {
        "" => Ok((port, "tcp")),
        "tcp" | "udp" | "sctp" => Ok((port, protocol)),
        _ => Err(Fault::new(format!("invalid proto: {protocol}"))),
    }
}

fn check_address(address: &str) -> Fallible {
    let bare = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let valid = match bare {
        Some(bare) => bare.parse::<Ipv6Addr>().is_ok() || bare.parse::<IpAddr>().is_ok(),
        None => address.is_empty() || address.parse::<IpAddr>().is_ok(),
    };
    match valid {
        true => Ok(()),
        false => Err(Fault::new(format!("invalid IP address: {}", bare.unwrap_or(address)))),
    }
}

fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let number = |text: &str| text.parse::<u16>().ok();
    match text.split_once('-') {
        None => number(text).map(|port| port..=port),
        Some((start, end)) => {
            let range = number(start)?..=number(end)?;
            (!range.is_empty()).then_some(range)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Exposed;

    #[test]
    fn ports_are_read_with_and_without_a_host() {
        let cases = [
            ("80", 80..=80, "tcp", false),
            ("0", 0..=0, "tcp", false),
            ("8000-8002/UDP", 8000..=8002, "UDP", false),
            ("80:8080", 8080..=8080, "tcp", true),
            ("127.0.0.1:80:8080/sctp", 8080..=8080, "sctp", true),
            ("[::1]:80:8080", 8080..=8080, "tcp", true),
            ("8000-8010:80", 80..=80, "tcp", true),
        ];
        for (word, ports, protocol, names_host) in cases {
            let exposed = Exposed::parse(word).expect(word);
            assert_eq!(exposed, Exposed { ports, protocol, names_host });
        }
    }

    #[test]
    fn what_is_no_port_is_refused() {
        for word in
            ["", "x", "80/http", "65536", "90-80", "/tcp", "1.2.3:80:80", "80-81:80-83", "a:80"]
        {
            assert!(Exposed::parse(word).is_err(), "{word}");
        }
    }
}
