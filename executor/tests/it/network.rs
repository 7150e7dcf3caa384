//! Networks of steps.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};

use executor::{Network, NetworkUsed, PortForward, Process, Protocol, Running};

use crate::fixture::Fixture;
use crate::leftovers::children;
use crate::{Test, say};

pub(crate) const TESTS: &[Test] = &[
    ("privileged_no_network_is_a_loopback_that_is_up", no_network_is_a_loopback),
    ("privileged_the_hosts_network_is_the_hosts", the_hosts_network),
    ("privileged_the_default_network_is_ones_own_or_says_so", the_default_network),
    ("privileged_a_network_is_served_when_asked_for", a_network_is_served_when_asked_for),
    ("privileged_a_port_leads_into_the_sandbox", a_port_leads_into_the_sandbox),
    ("privileged_a_port_is_open_at_every_address", a_port_is_open_at_every_address),
];

fn no_network_is_a_loopback(fixture: &Fixture) {
    let script = "ls /sys/class/net 2>/dev/null; ip -o link | grep -c LOWER_UP; ip -o link | wc -l; cat /etc/resolv.conf";
    let process = fixture.shell(script);
    let output = fixture.output_of(process);
    assert!(output.ends_with("1\n1\n"), "{output}");
    let running = fixture.spawn(fixture.shell("true"));
    assert_eq!(running.network(), NetworkUsed::None);
}

fn the_hosts_network(fixture: &Fixture) {
    let mut process = fixture.shell("readlink /proc/self/ns/net; cat /etc/resolv.conf");
    process.network = Network::Host;
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    let resolvers = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    assert_eq!(fixture.output_of(process), format!("{}\n{resolvers}", own.display()));
}

fn the_default_network(fixture: &Fixture) {
    let process = || {
        let mut process = fixture.shell("readlink /proc/self/ns/net; ip -o link | wc -l");
        process.network = Network::Default;
        process
    };
    let mut running = fixture.spawn(process());
    if fixture.executor.network_helper().is_err() {
        say("no helper here: the step has the host's network");
        assert_eq!(running.network(), NetworkUsed::Host);
        assert_eq!(running.warnings().len(), 1);
        return;
    }
    assert!(matches!(running.network(), NetworkUsed::Pasta | NetworkUsed::Slirp4netns));
    let mut first = String::new();
    File::from(running.stdout().unwrap()).read_to_string(&mut first).unwrap();
    running.wait().unwrap();
    let own = std::fs::read_link("/proc/self/ns/net").unwrap();
    assert!(!first.contains(own.to_str().unwrap()) && first.ends_with("\n2\n"), "{first}");
    assert_eq!(fixture.output_of(process()), first, "the next step gets the same one");
    let mut insecure = process();
    insecure.security = executor::Security::Insecure;
    assert_eq!(fixture.output_of(insecure), first);
    assert_ne!(fixture.output_of(process()), first, "one that could be changed is not used again");
}

/// A helper costs as much as a small step: a step that opens no socket has none.
fn a_network_is_served_when_asked_for(fixture: &Fixture) {
    if fixture.executor.network_helper().is_err() {
        say("no helper here: the step has the host's network");
        return;
    }
    let output = |script: &str| {
        let mut process = fixture.shell(script);
        process.network = Network::Default;
        fixture.output_of(process)
    };
    assert_eq!(output("echo quiet"), "quiet\n");
    assert_eq!(helpers(), 0);
    // A socket of the machine itself is none of a network.
    assert_eq!(output("nc local:/nothing </dev/null 2>/dev/null; echo local"), "local\n");
    assert_eq!(helpers(), 0);
    let links = "ip -o link | wc -l; ip -o link | wc -l";
    assert_eq!(output(links), "2\n2\n");
    assert_eq!(helpers(), 1);
    assert_eq!(output(links), "2\n2\n");
    assert_eq!(helpers(), 1, "the next step finds it served");
    let many = "for n in 1 2 3 4 5 6 7 8; do (ip -o link | wc -l) & done; wait";
    assert_eq!(output(many), "2\n".repeat(8));
}

/// How many helpers of this process run.
fn helpers() -> usize {
    let inits = children(std::process::id());
    let id = |stat: &String| stat.split(' ').next().unwrap().parse::<u32>().unwrap();
    let below = inits.iter().map(id).flat_map(children);
    below.filter(|stat| ["(pas", "(slirp"].iter().any(|name| stat.contains(name))).count()
}

/// Says `up` when it listens, and answers one client.
fn server(fixture: &Fixture, address: Option<IpAddr>) -> Process {
    let mut process = fixture.shell(
        "nc -l -p 8080 -e cat & while ! grep -q ':1F90 ' /proc/net/tcp*; do :; done; echo up; wait",
    );
    process.network = Network::Default;
    let protocol = Protocol::Tcp;
    process.ports.push(PortForward { address, host: 0, container: 8080, protocol });
    process
}

fn start(fixture: &Fixture, process: Process) -> Running {
    let mut running = fixture.spawn(process);
    let mut line = String::new();
    BufReader::new(File::from(running.stdout().unwrap())).read_line(&mut line).unwrap();
    assert_eq!(line, "up\n");
    running
}

/// What comes back from a server that sends back what it gets.
fn answer(address: SocketAddr) -> String {
    let mut client = TcpStream::connect(address).unwrap();
    // A connection that leads nowhere ends before or while it is written to.
    let _ = client.write_all(b"echo\n");
    let _ = client.shutdown(Shutdown::Write);
    let mut answer = String::new();
    let _ = client.read_to_string(&mut answer);
    answer
}

fn a_port_leads_into_the_sandbox(fixture: &Fixture) {
    for network in [Network::Host, Network::None] {
        let mut process = server(fixture, None);
        process.network = network;
        let refusal = fixture.refusal(process);
        assert!(refusal.contains("the process has"), "{refusal}");
    }
    if fixture.executor.network_helper().is_err() {
        say("no helper here: no port can lead anywhere");
        return;
    }
    let v4 = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let running = start(fixture, server(fixture, Some(v4)));
    let address = running.ports()[0];
    assert_eq!(address.ip(), v4);
    assert_eq!(answer(address), "echo\n");
    drop(running);
    assert!(TcpStream::connect(address).is_err(), "the port closes with the sandbox");
}

fn a_port_is_open_at_every_address(fixture: &Fixture) {
    if fixture.executor.network_helper().is_err() {
        say("no helper here: no port can lead anywhere");
        return;
    }
    for from in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        if TcpListener::bind((from, 0)).is_err() {
            say("this machine has no IPv6");
            continue;
        }
        let running = start(fixture, server(fixture, None));
        assert_eq!(answer(SocketAddr::new(from, running.ports()[0].port())), "echo\n", "{from}");
    }
}
