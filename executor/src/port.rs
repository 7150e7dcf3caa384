//! Ports of the host led into a sandbox's network, by connections made from inside it.
//!
//! They go to the sandbox's own address, as they would over a bridge: what listens on its loopback
//! alone is nobody else's.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Shutdown as SocketShutdown, SocketFlags, SocketType, bind,
    connect as connect_to, listen, socket_with, socketpair, sockopt,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{PortForward, Protocol};

/// Clients of one UDP port served at once.
const MAX_UDP_CLIENTS: usize = 256;
/// How often a UDP port notices that it is closed.
const UDP_TICK: Duration = Duration::from_millis(200);
/// Connections that wait to be accepted.
const BACKLOG: i32 = 128;
/// Addresses of nobody (RFC 5737, RFC 3849): a socket that is to reach them gets the address that the
/// network's packets go out with, and sends none.
const OUTSIDE: [(IpAddr, IpAddr); 2] = [
    (IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1))),
    (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))),
];

/// One open port. Dropping it closes the port and every connection through it.
#[derive(Debug)]
pub(crate) struct Forward {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What the threads of one port have in common.
#[derive(Debug)]
struct Shared {
    closed: AtomicBool,
    /// Readable when the port is to be closed.
    stop: OwnedFd,
    network: OwnedFd,
    /// Where the sandbox is reached, in the order in which it is tried.
    inside: Vec<SocketAddr>,
    /// Both ends of every connection that has not ended.
    connections: Mutex<HashMap<u64, (TcpStream, TcpStream)>>,
}

impl Forward {
    /// Leads `port` to the sandbox in `network`, whose own addresses are `own`.
    pub(crate) fn start(
        port: &PortForward,
        network: BorrowedFd<'_>,
        own: &[IpAddr],
    ) -> io::Result<Self> {
        let (stop, stopper) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        let shared = Arc::new(Shared {
            closed: AtomicBool::new(false),
            stop,
            network: network.try_clone_to_owned()?,
            inside: own.iter().map(|address| SocketAddr::new(*address, port.container)).collect(),
            connections: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        let (address, thread) = match port.protocol {
            Protocol::Tcp => {
                let socket = open(SocketType::STREAM, port.address, port.host)?;
                listen(&socket, BACKLOG)?;
                let listener = TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                let serve = move || serve_tcp(&listener, &for_thread, &stopper);
                (address, thread::Builder::new().name("port".to_owned()).spawn(serve)?)
            }
            Protocol::Udp => {
                let socket = UdpSocket::from(open(SocketType::DGRAM, port.address, port.host)?);
                socket.set_read_timeout(Some(UDP_TICK))?;
                let address = socket.local_addr()?;
                let serve = move || serve_udp(&socket, &for_thread);
                (address, thread::Builder::new().name("port".to_owned()).spawn(serve)?)
            }
        };
        Ok(Self { address, shared, thread: Some(thread) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Forward {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Relaxed);
        // Each is only to make a thread look; one that has gone needs no telling.
        let _ = rustix::net::shutdown(&self.shared.stop, SocketShutdown::Both);
        for (one, other) in self.shared.connections().values() {
            let _ = one.shutdown(Shutdown::Both);
            let _ = other.shutdown(Shutdown::Both);
        }
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Shared {
    fn connections(&self) -> std::sync::MutexGuard<'_, HashMap<u64, (TcpStream, TcpStream)>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// Makes a socket in a network: in a thread that goes there for good.
pub(crate) fn inside<T: Send>(
    network: BorrowedFd<'_>,
    make: impl FnOnce() -> io::Result<T> + Send,
) -> io::Result<T> {
    let make = || {
        move_into_link_name_space(network, Some(LinkNameSpaceType::Network))?;
        make()
    };
    thread::scope(|scope| scope.spawn(make).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
}

/// The addresses under which `network` is known to others, at most one of each version.
pub(crate) fn own_addresses(network: BorrowedFd<'_>) -> io::Result<Vec<IpAddr>> {
    let own = |(any, other): (IpAddr, IpAddr)| {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((other, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    let found: Vec<IpAddr> = inside(network, || {
        Ok(OUTSIDE.into_iter().filter_map(|pair| io::Result::ok(own(pair))).collect())
    })?;
    match found.is_empty() {
        true => Err(io::Error::other("the network of the process has no address")),
        false => Ok(found),
    }
}

/// A socket at an address, or at every one of both versions.
fn open(kind: SocketType, address: Option<IpAddr>, port: u16) -> io::Result<OwnedFd> {
    let open = |address: IpAddr, only: bool| -> rustix::io::Result<OwnedFd> {
        let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
        let socket = socket_with(family, kind, SocketFlags::CLOEXEC, None)?;
        if address.is_ipv6() {
            sockopt::set_ipv6_v6only(&socket, only)?;
        }
        if kind == SocketType::STREAM {
            sockopt::set_socket_reuseaddr(&socket, true)?;
        }
        bind(&socket, &SocketAddr::new(address, port))?;
        Ok(socket)
    };
    let opened = match address {
        Some(address) => open(address, true),
        None => match open(Ipv6Addr::UNSPECIFIED.into(), false) {
            // A machine without IPv6.
            Err(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL) => {
                open(Ipv4Addr::UNSPECIFIED.into(), true)
            }
            other => other,
        },
    };
    Ok(opened?)
}

fn serve_tcp(listener: &TcpListener, shared: &Arc<Shared>, stop: &OwnedFd) {
    let mut count = 0;
    while !shared.closed() {
        let mut ready = [PollFd::new(listener, PollFlags::IN), PollFd::new(stop, PollFlags::IN)];
        if poll(&mut ready, None).is_err() || shared.closed() {
            continue;
        }
        let Ok((client, _)) = listener.accept() else { continue };
        count += 1;
        let (number, shared) = (count, Arc::clone(shared));
        // A connection that cannot be served is closed by being dropped.
        let _ = thread::Builder::new()
            .name("port-connection".to_owned())
            .spawn(move || connect(number, client, &shared));
    }
}

fn connect(number: u64, client: TcpStream, shared: &Shared) -> io::Result<()> {
    client.set_nonblocking(false)?;
    let server = inside(shared.network.as_fd(), || dial(&shared.inside))?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    shared.connections().insert(number, (client.try_clone()?, server.try_clone()?));
    if shared.closed() {
        return Ok(());
    }
    thread::scope(|scope| {
        scope.spawn(|| pump(&client, &server));
        pump(&server, &client);
    });
    shared.connections().remove(&number);
    Ok(())
}

/// Connects to the first of a sandbox's own addresses that answers. Coming from there, too, it cannot
/// leave the sandbox: outside the address is the host's.
fn dial(own: &[SocketAddr]) -> io::Result<TcpStream> {
    let dial = |to: &SocketAddr| -> io::Result<TcpStream> {
        let socket = open(SocketType::STREAM, Some(to.ip()), 0)?;
        connect_to(&socket, to)?;
        Ok(TcpStream::from(socket))
    };
    let mut refused = io::Error::from(io::ErrorKind::AddrNotAvailable);
    for to in own {
        match dial(to) {
            Ok(stream) => return Ok(stream),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

/// Copies until the source ends, then says so to the other side.
fn pump(mut from: &TcpStream, mut to: &TcpStream) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

fn serve_udp(socket: &UdpSocket, shared: &Arc<Shared>) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut buffer = vec![0; 64 << 10];
    while !shared.closed() {
        let Ok((count, client)) = socket.recv_from(&mut buffer) else { continue };
        let known = clients.get(&client).cloned();
        let server = match known {
            Some(server) => server,
            None if clients.len() >= MAX_UDP_CLIENTS => continue,
            None => match answer(socket, client, shared) {
                Ok(server) => {
                    clients.insert(client, Arc::clone(&server));
                    server
                }
                Err(_) => continue,
            },
        };
        // Datagrams may be lost.
        let _ = server.send(&buffer[..count]);
    }
}

/// A socket in the sandbox for one client, and a thread that brings the answers back.
fn answer(
    socket: &UdpSocket,
    client: SocketAddr,
    shared: &Arc<Shared>,
) -> io::Result<Arc<UdpSocket>> {
    let server = inside(shared.network.as_fd(), || {
        let to = shared.inside[0];
        let server = UdpSocket::bind((to.ip(), 0))?;
        server.connect(to)?;
        server.set_read_timeout(Some(UDP_TICK))?;
        Ok(server)
    })?;
    let server = Arc::new(server);
    let (outside, from, shared) = (socket.try_clone()?, Arc::clone(&server), Arc::clone(shared));
    thread::Builder::new().name("port-answers".to_owned()).spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while !shared.closed() {
            if let Ok(count) = from.recv(&mut buffer) {
                let _ = outside.send_to(&buffer[..count], client);
            }
        }
    })?;
    Ok(server)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own_network() -> OwnedFd {
        std::fs::File::open("/proc/self/ns/net").unwrap().into()
    }

    #[test]
    fn a_closed_port_refuses_and_ends_its_connections() {
        // Going to a network needs the right to, even to one's own.
        let port = |container| PortForward {
            address: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host: 0,
            container,
            protocol: Protocol::Tcp,
        };
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let (inside, own) = (server.local_addr().unwrap().port(), [Ipv4Addr::LOCALHOST.into()]);
        let forward = Forward::start(&port(inside), own_network().as_fd(), &own).unwrap();
        if !rustix::process::geteuid().is_root() {
            let _ = io::Write::write_all(
                &mut io::stderr(),
                b"skipped: needs root to enter a network namespace\n",
            );
            return;
        }
        let mut client = TcpStream::connect(forward.address()).unwrap();
        client.write_all(b"hello").unwrap();
        let (mut accepted, _) = server.accept().unwrap();
        let mut bytes = [0; 5];
        accepted.read_exact(&mut bytes).unwrap();
        assert_eq!(&bytes, b"hello");
        let address = forward.address();
        drop(forward);
        assert_eq!(client.read(&mut bytes).unwrap(), 0, "the connection ends with the port");
        assert!(TcpStream::connect(address).is_err(), "the port is closed");
    }
}
