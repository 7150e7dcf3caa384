//! Ports of the host led into a sandbox's network, by connections made from inside it.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::Shutdown as SocketShutdown;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::{PortForward, Protocol};

/// Clients of one UDP port served at once.
const MAX_UDP_CLIENTS: usize = 256;
/// How often a UDP port notices that it is closed.
const UDP_TICK: Duration = Duration::from_millis(200);

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
    inside: SocketAddr,
    /// Both ends of every connection that has not ended.
    connections: Mutex<HashMap<u64, (TcpStream, TcpStream)>>,
}

impl Forward {
    pub(crate) fn start(port: &PortForward, network: BorrowedFd<'_>) -> io::Result<Self> {
        let outside = SocketAddr::new(port.address, port.host);
        let (stop, stopper) = rustix::net::socketpair(
            rustix::net::AddressFamily::UNIX,
            rustix::net::SocketType::STREAM,
            rustix::net::SocketFlags::CLOEXEC,
            None,
        )?;
        let shared = Arc::new(Shared {
            closed: AtomicBool::new(false),
            stop,
            network: network.try_clone_to_owned()?,
            inside: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port.container),
            connections: Mutex::default(),
        });
        let for_thread = Arc::clone(&shared);
        let (address, thread) = match port.protocol {
            Protocol::Tcp => {
                let listener = TcpListener::bind(outside)?;
                listener.set_nonblocking(true)?;
                let address = listener.local_addr()?;
                let serve = move || serve_tcp(&listener, &for_thread, &stopper);
                (address, thread::Builder::new().name("port".to_owned()).spawn(serve)?)
            }
            Protocol::Udp => {
                let socket = UdpSocket::bind(outside)?;
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

    /// Makes a socket in the sandbox's network: in a thread that goes there for good.
    fn inside<T: Send>(&self, make: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
        let make = || {
            move_into_link_name_space(self.network.as_fd(), Some(LinkNameSpaceType::Network))?;
            make()
        };
        thread::scope(|scope| scope.spawn(make).join())
            .unwrap_or_else(|_| Err(io::Error::other("the thread ended early")))
    }
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
    let server = shared.inside(|| TcpStream::connect(shared.inside))?;
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
    let server = shared.inside(|| {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        server.connect(shared.inside)?;
        server.set_read_timeout(Some(UDP_TICK))?;
        Ok(server)
    })?;
    let server = Arc::new(server);
    let (outside, inside, shared) = (socket.try_clone()?, Arc::clone(&server), Arc::clone(shared));
    thread::Builder::new().name("port-answers".to_owned()).spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while !shared.closed() {
            if let Ok(count) = inside.recv(&mut buffer) {
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
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            host: 0,
            container,
            protocol: Protocol::Tcp,
        };
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let inside = server.local_addr().unwrap().port();
        let forward = Forward::start(&port(inside), own_network().as_fd()).unwrap();
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
