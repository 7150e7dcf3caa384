//! Where the daemon listens.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use engine::{Engine, Entitlement};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Router;
use tonic::transport::{Certificate, Identity, Server, ServerTlsConfig};

use crate::accept::connections;
use crate::bridge::Bridge;
use crate::build::Builder;
use crate::builds::Builds;
use crate::control::Controller;
use crate::session::MESSAGE_MAX;
use crate::wire::control::control_server::ControlServer;
use crate::wire::gateway::llb_bridge_server::LlbBridgeServer;
use crate::words::Vocabulary;

/// A peer that says nothing for so long is asked whether it is there, and has so long to answer.
const SILENCE: Duration = Duration::from_secs(15);
const ANSWER: Duration = Duration::from_secs(20);
/// Connections that wait to be taken.
const BACKLOG: i32 = 1024;

/// Where to listen.
#[derive(Debug, Clone)]
pub enum Address {
    /// A socket of this machine.
    Unix {
        /// Its path.
        path: PathBuf,
        /// The group whose members may use it; only its owner without.
        group: Option<u32>,
    },
    /// A port.
    Tcp {
        /// The address; unless clients have to show a certificate it has to be one of this machine alone.
        address: SocketAddr,
        /// What proves who the daemon and its clients are.
        tls: Option<Tls>,
    },
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix { path, .. } => write!(f, "unix://{}", path.display()),
            Self::Tcp { address, .. } => write!(f, "tcp://{address}"),
        }
    }
}

/// Certificates in PEM.
#[derive(Clone)]
pub struct Tls {
    /// The daemon's.
    pub certificate: Vec<u8>,
    /// Its key.
    pub key: Vec<u8>,
    /// Who signs clients' certificates; without it every client of this machine may connect.
    pub clients: Option<Vec<u8>>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}

/// Why the daemon does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Anybody who reaches the port could build as this user.
    #[error("`tcp://{0}` is open to whoever reaches it: clients have to prove who they are")]
    Open(SocketAddr),
    /// Another daemon is there.
    #[error("`{0}` is in use: another daemon listens there")]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("`{0}` is there, and is not a socket")]
    NotASocket(PathBuf),
    /// It cannot be listened there.
    #[error("failed to listen at `{address}`")]
    Listen {
        /// Where.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The certificates cannot be used, or connections no longer taken.
    #[error("failed to serve `{address}`")]
    Serve {
        /// Where.
        address: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// A daemon that listens, and has taken no connection yet.
pub struct Daemon {
    listeners: Vec<(Address, Listener)>,
    builder: Arc<Builder>,
    builds: Arc<Builds>,
}

enum Listener {
    Unix(UnixListener, SocketFile),
    Tcp(TcpListener, Option<Tls>),
}

/// The name of a socket, which goes with it.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Daemon {
    /// Begins to listen. Clients may grant to steps what is in `grants`.
    pub async fn listen(
        engine: Engine,
        vocabulary: Box<dyn Vocabulary>,
        grants: Vec<Entitlement>,
        addresses: Vec<Address>,
    ) -> Result<Self, ServeError> {
        let mut listeners = Vec::new();
        for address in addresses {
            let listener = listen(&address).await?;
            listeners.push((address, listener));
        }
        let builder = Builder { engine, vocabulary, grants, sessions: Arc::default() };
        Ok(Self { listeners, builder: Arc::new(builder), builds: Arc::default() })
    }

    /// Serves until `stop` is cancelled; builds that run then are canceled.
    pub async fn serve(self, stop: CancellationToken) -> Result<(), ServeError> {
        let mut serving = Vec::new();
        for (address, listener) in self.listeners {
            let failed = {
                let address = address.to_string();
                move |source| ServeError::Serve { address, source }
            };
            let services = (self.builder.clone(), self.builds.clone());
            let stopped = stop.clone().cancelled_owned();
            serving.push(async move { serve(listener, services, stopped).await.map_err(failed) });
        }
        let (builds, stopped) = (self.builds.clone(), stop.clone());
        let canceling = async move {
            stopped.cancelled().await;
            builds.cancel_all();
        };
        let serving = futures_util::future::try_join_all(serving);
        tokio::select! {
            served = serving => served.map(drop),
            // Connections may stay open for as long as their clients like.
            () = canceling => { self.builds.all_ended().await; Ok(()) }
        }
    }
}

async fn serve(
    listener: Listener,
    (builder, builds): (Arc<Builder>, Arc<Builds>),
    stopped: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    let mut server = Server::builder()
        .http2_keepalive_interval(Some(SILENCE))
        .http2_keepalive_timeout(Some(ANSWER))
        .initial_stream_window_size(1 << 20)
        .initial_connection_window_size(4 << 20);
    if let Listener::Tcp(_, Some(tls)) = &listener {
        server = server.tls_config(tls_config(tls))?;
    }
    let control = Controller { builder: builder.clone(), builds: builds.clone() };
    let bridge = Bridge { builder, builds };
    let router: Router = server
        .add_service(ControlServer::new(control).max_decoding_message_size(MESSAGE_MAX))
        .add_service(LlbBridgeServer::new(bridge).max_decoding_message_size(MESSAGE_MAX));
    match listener {
        Listener::Unix(listener, _file) => {
            router.serve_with_incoming_shutdown(connections(listener), stopped).await
        }
        Listener::Tcp(listener, _) => {
            router.serve_with_incoming_shutdown(connections(listener), stopped).await
        }
    }
}

fn tls_config(tls: &Tls) -> ServerTlsConfig {
    let config = ServerTlsConfig::new().identity(Identity::from_pem(&tls.certificate, &tls.key));
    match &tls.clients {
        Some(authority) => config.client_ca_root(Certificate::from_pem(authority)),
        None => config,
    }
}

async fn listen(address: &Address) -> Result<Listener, ServeError> {
    let failed = |source| ServeError::Listen { address: address.to_string(), source };
    match address {
        Address::Unix { path, group } => {
            make_way(path)?;
            let listener = unix_listener(path, *group).map_err(failed)?;
            Ok(Listener::Unix(listener, SocketFile(path.clone())))
        }
        Address::Tcp { address, tls } => {
            let asks_clients = tls.as_ref().is_some_and(|tls| tls.clients.is_some());
            if !asks_clients && !address.ip().is_loopback() {
                return Err(ServeError::Open(*address));
            }
            let listener = TcpListener::bind(address).await.map_err(failed)?;
            Ok(Listener::Tcp(listener, tls.clone()))
        }
    }
}

/// Removes the socket of a daemon that is gone.
fn make_way(path: &Path) -> Result<(), ServeError> {
    let Ok(metadata) = std::fs::symlink_metadata(path) else { return Ok(()) };
    if !metadata.file_type().is_socket() {
        return Err(ServeError::NotASocket(path.to_owned()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ServeError::InUse(path.to_owned())),
        // What cannot be removed cannot be bound either: that is told then.
        Err(_) => {
            let _ = std::fs::remove_file(path);
            Ok(())
        }
    }
}

/// A socket that nobody but its owner can use before it has its group.
fn unix_listener(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket: OwnedFd =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    rustix::fs::fchmod(&socket, rustix::fs::Mode::from_raw_mode(0o600))?;
    rustix::net::bind(&socket, &SocketAddrUnix::new(path)?)?;
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group))?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o660))?;
    }
    rustix::net::listen(&socket, BACKLOG)?;
    UnixListener::from_std(std::os::unix::net::UnixListener::from(socket))
}
