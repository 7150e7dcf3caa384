//! A web server in front of `git http-backend`, that answers what a test wants it to, and remembers what
//! it was asked. The tests of `frontend-cli` use it as well.

use std::collections::HashMap;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A request as it came. Header names are in lower case.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
    /// Bytes that were sent in answer.
    pub(crate) sent: usize,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What a request is answered with.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// What `git http-backend` says.
    Backend,
    /// The same, in the protocol of old servers.
    OldBackend,
    /// A status and a body, with headers.
    Is(u16, Vec<(&'static str, String)>, Vec<u8>),
    /// Nothing, for as long as the client waits.
    Silence,
    /// This, again and again, until the client has enough.
    Endless(Vec<u8>),
}

pub(crate) type Rule = dyn Fn(&Seen) -> Reply + Send + Sync;

/// Serves the bare repositories in a directory until it is dropped.
pub(crate) struct Server {
    port: u16,
    seen: Arc<Mutex<Vec<Seen>>>,
    is_over: Arc<AtomicBool>,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        // Wakes it up.
        drop(TcpStream::connect((Ipv4Addr::LOCALHOST, self.port)));
    }
}

impl Server {
    pub(crate) fn new(root: &Path, rule: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("loopback");
        let port = listener.local_addr().expect("bound").port();
        let (seen, is_over): (Arc<Mutex<Vec<Seen>>>, _) = Default::default();
        let server = Self { port, seen, is_over };
        let (seen, is_over) = (server.seen.clone(), server.is_over.clone());
        let (root, rule): (PathBuf, Arc<Rule>) = (root.to_owned(), Arc::new(rule));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if is_over.load(Ordering::Relaxed) {
                    break;
                }
                let Ok(connection) = connection else { continue };
                let (root, rule, seen) = (root.clone(), rule.clone(), seen.clone());
                let is_over = is_over.clone();
                std::thread::spawn(move || {
                    // A client that has enough goes away.
                    let _ = serve(&connection, &root, &*rule, &seen, &is_over);
                });
            }
        });
        server
    }

    /// One that tells everybody everything.
    pub(crate) fn open(root: &Path) -> Self {
        Self::new(root, |_| Reply::Backend)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}/{path}", self.port)
    }

    pub(crate) fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// What it was asked since the last time.
    pub(crate) fn take(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().expect("no test panicked here"))
    }
}

fn serve(
    connection: &TcpStream,
    root: &Path,
    rule: &Rule,
    seen: &Mutex<Vec<Seen>>,
    is_over: &AtomicBool,
) -> io::Result<()> {
    let mut reader = BufReader::new(connection);
    let Some(mut request) = read_head(&mut reader)? else { return Ok(()) };
    request.body = read_body(&mut reader, &request)?;
    let reply = rule(&request);
    let answer = match &reply {
        Reply::Backend => backend(root, &request, true)?,
        Reply::OldBackend => backend(root, &request, false)?,
        Reply::Is(status, headers, body) => {
            let headers = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
            whole(*status, &headers.collect::<String>(), body)
        }
        Reply::Silence => Vec::new(),
        Reply::Endless(_) => {
            let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: \
                        application/x-git-upload-pack-advertisement\r\n\r\n";
            head.as_bytes().to_vec()
        }
    };
    request.sent = answer.len();
    seen.lock().expect("no test panicked here").push(request);
    let mut connection = connection;
    connection.write_all(&answer)?;
    match reply {
        Reply::Silence => {
            connection.set_read_timeout(Some(Duration::from_millis(50)))?;
            // Until the client closes.
            while !is_over.load(Ordering::Relaxed) && !matches!(connection.read(&mut [0]), Ok(0)) {}
        }
        Reply::Endless(again) => {
            while !is_over.load(Ordering::Relaxed) {
                connection.write_all(&again)?;
            }
        }
        _ => {}
    }
    connection.shutdown(Shutdown::Both)
}

fn whole(status: u16, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status} X\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}

fn read_head(reader: &mut BufReader<&TcpStream>) -> io::Result<Option<Seen>> {
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (Some(method), Some(target)) = (words.next(), words.next()) else { return Ok(None) };
    let mut seen = Seen { method: method.to_owned(), target: target.to_owned(), ..Seen::default() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => {
                seen.headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
            }
            None => return Ok(Some(seen)),
        }
    }
}

fn read_body(reader: &mut BufReader<&TcpStream>, request: &Seen) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    if request.header("transfer-encoding") != Some("chunked") {
        let length = request.header("content-length").and_then(|text| text.parse().ok());
        reader.take(length.unwrap_or(0)).read_to_end(&mut body)?;
        return Ok(body);
    }
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = u64::from_str_radix(line.trim(), 16).map_err(io::Error::other)?;
        reader.take(length).read_to_end(&mut body)?;
        reader.read_line(&mut line)?;
        if length == 0 {
            return Ok(body);
        }
    }
}

/// Runs `git http-backend`, a CGI program (RFC 3875).
fn backend(root: &Path, request: &Seen, is_new: bool) -> io::Result<Vec<u8>> {
    let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
    let mut command = Command::new("git");
    command.arg("http-backend").env_clear().env("PATH", std::env::var_os("PATH").unwrap());
    for (name, value) in [
        ("GIT_HTTP_EXPORT_ALL", "1"),
        ("PATH_INFO", path),
        ("QUERY_STRING", query),
        ("REQUEST_METHOD", &request.method),
        ("CONTENT_LENGTH", &request.body.len().to_string()),
        ("GIT_CONFIG_NOSYSTEM", "1"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
        ("GIT_CONFIG_COUNT", "1"),
        ("GIT_CONFIG_KEY_0", "safe.directory"),
        ("GIT_CONFIG_VALUE_0", "*"),
    ] {
        command.env(name, value);
    }
    command.env("GIT_PROJECT_ROOT", root);
    for (header, name) in [
        ("content-type", "CONTENT_TYPE"),
        ("content-encoding", "HTTP_CONTENT_ENCODING"),
        ("git-protocol", "GIT_PROTOCOL"),
    ] {
        if let Some(value) = request.header(header).filter(|_| is_new || header != "git-protocol") {
            command.env(name, value);
        }
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().expect("piped");
    let body = request.body.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&body));
    let output = child.wait_with_output()?;
    // What it does not read does not matter.
    let _ = writer.join();
    let answer = output.stdout;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("headers");
    let headers = String::from_utf8_lossy(&answer[..end + 2]).into_owned();
    let status =
        headers.lines().find_map(|line| line.strip_prefix("Status: ")?.get(..3)?.parse().ok());
    Ok(whole(status.unwrap_or(200), &headers, &answer[end + 4..]))
}
