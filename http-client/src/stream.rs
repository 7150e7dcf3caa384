//! One connection with TLS for those who speak for themselves on it.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::tls::ClientCertificate;

/// How long a server may take for each answer of the handshake.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// A connection whose server has shown a certificate that is trusted. Reading and writing block.
pub struct TlsStream {
    connection: ClientConnection,
    socket: TcpStream,
}

/// Why there is no such connection.
#[derive(Debug, thiserror::Error)]
pub enum TlsStreamError {
    /// A file with certificates or keys cannot be read.
    #[error("failed to read `{}`", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A file is not PEM with what it should contain.
    #[error("`{}` is not valid", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: pem::Error,
    },
    /// A certificate cannot be used, alone or with its key.
    #[error("`{}` is not valid", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: rustls::Error,
    },
    /// A file contains no certificate.
    #[error("`{}` contains no certificate", .0.display())]
    NoCertificate(PathBuf),
    /// The address has no host that a certificate could be for.
    #[error("`{0}` is not a valid address: want HOST:PORT")]
    Address(String),
    /// Nobody listens there.
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    /// The server's certificate is not trusted for its name.
    #[error("the server's certificate is not trusted")]
    Untrusted(#[source] rustls::Error),
    /// The handshake failed otherwise.
    #[error("no TLS connection could be made")]
    Handshake(#[source] io::Error),
}

impl TlsStream {
    /// Connects to `address`, a host and a port. Its certificate has to be signed by one of the PEM file
    /// `roots`, and by nobody else; `certificate` is shown if the server asks for one. With TLS 1.3 a server
    /// that does not take it says so when something is read.
    ///
    /// # Errors
    /// [`TlsStreamError`] when a file is not usable, nobody listens or the server is not trusted.
    pub fn connect(
        address: &str,
        roots: &Path,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Self, TlsStreamError> {
        let config = config(roots, certificate)?;
        let name = server_name(address)?;
        let mut socket = TcpStream::connect(address).map_err(TlsStreamError::Connect)?;
        let failed = TlsStreamError::Handshake;
        let mut connection = ClientConnection::new(Arc::new(config), name)
            .map_err(|error| failed(io::Error::other(error)))?;
        socket.set_read_timeout(Some(HANDSHAKE)).map_err(failed)?;
        while connection.is_handshaking() {
            connection.complete_io(&mut socket).map_err(refused)?;
        }
        socket.set_read_timeout(None).map_err(failed)?;
        Ok(Self { connection, socket })
    }
}

impl Read for TlsStream {
    /// Sends nothing: what a server has said before it hung up is read even if what was being written is lost.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.connection.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return read,
            }
            self.connection.read_tls(&mut self.socket)?;
            self.connection.process_new_packets().map_err(io::Error::other)?;
        }
    }
}

impl Write for TlsStream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        rustls::Stream::new(&mut self.connection, &mut self.socket).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        rustls::Stream::new(&mut self.connection, &mut self.socket).flush()
    }
}

fn config(
    roots: &Path,
    certificate: Option<&ClientCertificate>,
) -> Result<ClientConfig, TlsStreamError> {
    let mut store = RootCertStore::empty();
    for root in certificates(roots)? {
        store.add(root).map_err(|source| invalid(roots, source))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has what these versions need")
        .with_root_certificates(store);
    let Some(ClientCertificate { key, chain }) = certificate else {
        return Ok(builder.with_no_client_auth());
    };
    let private = PrivateKeyDer::from_pem_slice(&read(key)?)
        .map_err(|source| TlsStreamError::Pem { path: key.clone(), source })?;
    builder
        .with_client_auth_cert(certificates(chain)?, private)
        .map_err(|source| invalid(chain, source))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsStreamError> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(path)?).collect();
    let certificates =
        certificates.map_err(|source| TlsStreamError::Pem { path: path.to_owned(), source })?;
    match certificates.is_empty() {
        true => Err(TlsStreamError::NoCertificate(path.to_owned())),
        false => Ok(certificates),
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsStreamError> {
    std::fs::read(path).map_err(|source| TlsStreamError::Read { path: path.to_owned(), source })
}

fn invalid(path: &Path, source: rustls::Error) -> TlsStreamError {
    TlsStreamError::Certificate { path: path.to_owned(), source }
}

/// The host of `HOST:PORT`, where an address of version 6 stands in brackets.
fn server_name(address: &str) -> Result<ServerName<'static>, TlsStreamError> {
    let host = address.rsplit_once(':').map(|(host, _)| host);
    let plain = |host: &str| host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = host.and_then(|host| ServerName::try_from(plain(host)).ok());
    name.ok_or_else(|| TlsStreamError::Address(address.to_owned()))
}

/// Tells a certificate that is not trusted from what else may go wrong in a handshake.
fn refused(error: io::Error) -> TlsStreamError {
    let verdict = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match verdict {
        Some(verdict @ rustls::Error::InvalidCertificate(_)) => {
            TlsStreamError::Untrusted(verdict.clone())
        }
        _ => TlsStreamError::Handshake(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_for_the_host_of_an_address() {
        for (address, expected) in [
            ("host.example:2376", Some("host.example")),
            ("127.0.0.1:2376", Some("127.0.0.1")),
            ("[::1]:2376", Some("::1")),
            ("host.example", None),
            ("a b:1", None),
            (":1", None),
            ("", None),
        ] {
            let name = server_name(address).ok().map(|name| name.to_str().into_owned());
            assert_eq!(name.as_deref(), expected, "{address}");
        }
    }
}
