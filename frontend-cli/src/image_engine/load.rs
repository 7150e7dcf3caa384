//! An archive on its way into an engine: `POST /images/load` of Docker's API.

use std::io::{self, BufWriter, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;

use engine::{ClientCertificate, TlsStream};

use super::ImageEngine;
use super::program::{Dialed, Importing};
use super::response::{self, Response};

/// The longest answer that is read, in bytes.
const ANSWER_MAX: u64 = 1 << 20;

/// What there is to say of one that does not even answer.
const HUNG_UP: &str = "it has hung up without an answer";

/// Bytes of a chunk.
const CHUNK: usize = 1 << 20;

/// Begins to load an archive into `engine`.
pub fn begin(engine: &ImageEngine) -> io::Result<Box<dyn engine::Load>> {
    let connection: Box<dyn Connection> = match engine {
        ImageEngine::Unix(path) => Box::new(UnixStream::connect(path)?),
        ImageEngine::Tcp(host) => Box::new(TcpStream::connect(host)?),
        ImageEngine::Tls { host, certificates } => {
            greet(secure(host, certificates)?)?;
            Box::new(secure(host, certificates)?)
        }
        ImageEngine::Ssh { destination, port } => Box::new(Dialed::ssh(destination, *port)?),
        ImageEngine::Containerd { socket, namespace } => {
            return Ok(Box::new(Importing::begin(socket, namespace)?));
        }
    };
    Ok(Box::new(Loading::begin(connection)?))
}

/// A connection with TLS, by the files of a directory as Docker calls them.
fn secure(host: &str, certificates: &Path) -> io::Result<TlsStream> {
    let file = |name: &str| certificates.join(name);
    let own = ClientCertificate { key: file("key.pem"), chain: file("cert.pem") };
    // One without the other is an error of who reads them.
    let has_own = own.key.exists() || own.chain.exists();
    TlsStream::connect(host, &file("ca.pem"), has_own.then_some(&own)).map_err(io::Error::other)
}

/// Waits until the engine has said something: one that does not take our certificate says so only after the
/// handshake, and an archive on its way would drown its word.
fn greet(mut connection: TlsStream) -> io::Result<()> {
    connection.write_all(b"HEAD /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n")?;
    match connection.read(&mut [0])? {
        0 => Err(io::Error::other(HUNG_UP)),
        _ => Ok(()),
    }
}

/// A request that is being written.
struct Loading {
    out: BufWriter<Chunks>,
}

trait Connection: Read + Write + Send {}

impl<T: Read + Write + Send> Connection for T {}

/// What is written becomes chunks of HTTP/1.1 (RFC 9112, 7.1).
struct Chunks {
    connection: Box<dyn Connection>,
}

impl Loading {
    /// Begins the request.
    fn begin(mut connection: Box<dyn Connection>) -> io::Result<Self> {
        let begun = connection.write_all(
            b"POST /images/load?quiet=1 HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\
              Content-Type: application/x-tar\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        begun.map_err(|_| match connection.read(&mut [0]) {
            // The program that leads there has said why.
            Err(error) if error.kind() == io::ErrorKind::Other => error,
            _ => io::Error::other(HUNG_UP),
        })?;
        Ok(Self { out: BufWriter::with_capacity(CHUNK, Chunks { connection }) })
    }
}

impl Write for Loading {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

impl engine::Load for Loading {
    /// Ends the request, and waits for what the engine says of it.
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        // An engine that has refused the archive already listens no more, and has said why.
        let sent = self.out.flush();
        let chunks = self.out.get_mut();
        let ended = sent.and_then(|()| chunks.connection.write_all(b"0\r\n\r\n"));
        let mut answer = Vec::new();
        let read = (&mut chunks.connection).take(ANSWER_MAX).read_to_end(&mut answer);
        match response::parse(&answer) {
            Some(Response::Loaded) => Ok(()),
            Some(Response::Refused(why)) => Err(io::Error::other(why)),
            None if ended.is_err() || read.is_err() || answer.is_empty() => match read {
                // The program that leads there has said why.
                Err(error) if error.kind() == io::ErrorKind::Other => Err(error),
                _ => Err(io::Error::other(HUNG_UP)),
            },
            None => Err(io::Error::other("it gave no answer that makes sense")),
        }
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            // That would end the request.
            return Ok(0);
        }
        self.connection.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())?;
        self.connection.write_all(bytes)?;
        self.connection.write_all(b"\r\n")?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.connection.flush()
    }
}
