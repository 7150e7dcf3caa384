//! A registry on a loopback address that serves what it is given.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use oci::Descriptor;

/// Type and bytes by path.
type Content = Arc<Mutex<HashMap<String, (String, Vec<u8>)>>>;
/// How many bytes of a blob are sent before nothing more comes, by path.
type Stalled = Arc<Mutex<HashMap<String, usize>>>;
/// The ranges that were asked for.
type Ranges = Arc<Mutex<Vec<String>>>;

/// The server; dropped, it is gone.
pub(super) struct Registry {
    address: SocketAddr,
    content: Content,
    stalled: Stalled,
    ranges: Ranges,
    asked: Arc<AtomicUsize>,
    closed: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Registry {
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let content = Content::default();
        let closed = Arc::new(AtomicBool::new(false));
        let (stalled, ranges) = (Stalled::default(), Ranges::default());
        let served = (content.clone(), stalled.clone(), ranges.clone());
        let (stop, asked) = (closed.clone(), Arc::new(AtomicUsize::new(0)));
        let count = asked.clone();
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                count.fetch_add(1, Ordering::Relaxed);
                let served = served.clone();
                std::thread::spawn(move || {
                    // A client may go away at any time.
                    let (content, stalled, ranges) = served;
                    let _ = connection
                        .and_then(|connection| answer(connection, &content, &stalled, &ranges));
                });
            }
        });
        Self { address, content, stalled, ranges, asked, closed, thread: Some(thread) }
    }

    /// How often somebody has connected.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }

    /// What names an image here: `127.0.0.1:PORT/small:1`.
    pub(super) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.address)
    }

    /// Serves all blobs of a layout, and `top` under `repository:tag`.
    pub(super) fn serve(&self, layout: &Path, repository: &str, tag: &str, top: &Descriptor) {
        let mut content = self.content.lock().expect("no panic while held");
        for blob in std::fs::read_dir(layout.join("blobs/sha256")).expect("listed").flatten() {
            let bytes = std::fs::read(blob.path()).expect("read");
            let digest = format!("sha256:{}", blob.file_name().to_str().expect("hex"));
            let kind = serde_json::from_slice::<serde_json::Value>(&bytes)
                .ok()
                .and_then(|value| Some(value.get("mediaType")?.as_str()?.to_owned()));
            if let Some(kind) = kind {
                if digest == top.digest.as_str() {
                    content.insert(
                        format!("/v2/{repository}/manifests/{tag}"),
                        (kind.clone(), bytes.clone()),
                    );
                }
                content
                    .insert(format!("/v2/{repository}/manifests/{digest}"), (kind, bytes.clone()));
            }
            let kind = "application/octet-stream".to_owned();
            content.insert(format!("/v2/{repository}/blobs/{digest}"), (kind, bytes));
        }
    }

    /// From now on sends so many bytes of a blob and then nothing more; without a number, all of it.
    pub(super) fn stall(&self, repository: &str, digest: &oci::Digest, after: Option<usize>) {
        let path = format!("/v2/{repository}/blobs/{digest}");
        let mut stalled = self.stalled.lock().expect("no panic while held");
        match after {
            Some(after) => stalled.insert(path, after),
            None => stalled.remove(&path),
        };
    }

    /// The ranges that were asked for.
    pub(super) fn ranges(&self) -> Vec<String> {
        self.ranges.lock().expect("no panic while held").clone()
    }

    /// Serves other bytes for a blob than it should have.
    pub(super) fn damage(&self, repository: &str, digest: &oci::Digest) {
        let mut content = self.content.lock().expect("no panic while held");
        let blob =
            content.get_mut(&format!("/v2/{repository}/blobs/{digest}")).expect("it is served");
        blob.1[0] ^= 1;
    }
}

fn answer(
    connection: TcpStream,
    content: &Content,
    stalled: &Stalled,
    ranges: &Ranges,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let (mut line, mut range) = (String::new(), None);
    while reader.read_line(&mut line)? > 2 {
        let value = line.trim_end().to_lowercase();
        if let Some(value) = value.strip_prefix("range: ") {
            range = Some(value.to_owned());
        }
        line.clear();
    }
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let found = content.lock().expect("no panic while held").get(path).cloned();
    let (status, kind, bytes) = match found {
        Some((kind, bytes)) => ("200 OK", kind, bytes),
        None if path == "/v2/" => ("200 OK", "application/json".to_owned(), b"{}".to_vec()),
        None => ("404 Not Found", "application/json".to_owned(), b"{}".to_vec()),
    };
    let (status, part, bytes) = match range {
        Some(range) => {
            let first = range["bytes=".len()..].split('-').next().and_then(|n| n.parse().ok());
            let (first, size): (usize, _) = (first.expect("a number"), bytes.len());
            ranges.lock().expect("no panic while held").push(range);
            let part = format!("Content-Range: bytes {first}-{}/{size}\r\n", size - 1);
            ("206 Partial Content", part, bytes[first..].to_vec())
        }
        None => (status, String::new(), bytes),
    };
    let mut connection = connection;
    write!(
        connection,
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{part}Content-Length: {}\r\nConnection: close\r\n\r\n",
        bytes.len()
    )?;
    if method == "HEAD" {
        return connection.flush();
    }
    let stalled = stalled.lock().expect("no panic while held").get(path).copied();
    let sent = stalled.unwrap_or(bytes.len());
    connection.write_all(&bytes[..sent])?;
    connection.flush()?;
    if sent < bytes.len() {
        // Until the client hangs up.
        reader.read_line(&mut line)?;
    }
    Ok(())
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        // Only to make it look.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
