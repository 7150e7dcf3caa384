//! A small HTTP/1.1 server that says what a test wants it to say, and remembers what it was asked.
//! The tests of `registry` and `frontend-cli` use it as well.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A request as it came. Header names are in lower case.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap()
    }

    /// First and last byte asked for.
    pub(crate) fn range(&self) -> Option<(usize, usize)> {
        let (first, last) = self.header("range")?.strip_prefix("bytes=")?.split_once('-')?;
        Some((first.parse().unwrap(), last.parse().unwrap()))
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(String, String)>,
    body: Body,
}

#[derive(Debug, Clone)]
enum Body {
    /// With a `Content-Length`.
    Whole(Vec<u8>),
    /// Without a length, ended by closing the connection.
    UntilClose(Vec<u8>),
    /// Announces more than it sends, then closes.
    Cut { announced: usize, sent: Vec<u8> },
    /// Sends what it has and then nothing more.
    Stall { announced: usize, sent: Vec<u8> },
    /// Sends a byte, waits, and so on.
    Drip { sent: Vec<u8>, pause: Duration },
    /// Header lines for ever.
    EndlessHeaders,
    /// Content for ever, without a length.
    Endless,
}

impl Reply {
    pub(crate) fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, headers: Vec::new(), body: Body::Whole(body.into()) }
    }

    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Self {
        Self::new(200, body)
    }

    pub(crate) fn not_found() -> Self {
        Self::new(404, r#"{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such thing"}]}"#)
    }

    pub(crate) fn redirect(location: impl Into<String>) -> Self {
        Self::new(307, "").with("Location", location)
    }

    pub(crate) fn until_close(body: impl Into<Vec<u8>>) -> Self {
        Self { body: Body::UntilClose(body.into()), ..Self::new(200, "") }
    }

    pub(crate) fn cut(announced: usize, sent: impl Into<Vec<u8>>) -> Self {
        Self { body: Body::Cut { announced, sent: sent.into() }, ..Self::new(200, "") }
    }

    pub(crate) fn stall(announced: usize, sent: impl Into<Vec<u8>>) -> Self {
        Self { body: Body::Stall { announced, sent: sent.into() }, ..Self::new(200, "") }
    }

    pub(crate) fn drip(sent: Vec<u8>, pause: Duration) -> Self {
        Self { body: Body::Drip { sent, pause }, ..Self::new(200, "") }
    }

    pub(crate) fn endless_headers() -> Self {
        Self { body: Body::EndlessHeaders, ..Self::new(200, "") }
    }

    pub(crate) fn endless() -> Self {
        Self { body: Body::Endless, ..Self::new(200, "") }
    }

    pub(crate) fn status(self, status: u16) -> Self {
        Self { status, ..self }
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// The part that `seen` asks for, of `bytes`.
    pub(crate) fn part(seen: &Seen, bytes: &[u8]) -> Self {
        match seen.range() {
            Some((first, last)) => Self::range(bytes, first, last),
            None => Self::ok(bytes),
        }
    }

    pub(crate) fn range(bytes: &[u8], first: usize, last: usize) -> Self {
        let range = format!("bytes {first}-{last}/{}", bytes.len());
        Self::new(206, &bytes[first..=last]).with("Content-Range", range)
    }
}

/// A server that stops when it is dropped.
pub(crate) struct Server {
    host: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Server {
    /// A server at a free port, answering with what `answer` says.
    pub(crate) async fn start(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&seen));
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                connections.spawn(serve(stream, Arc::clone(&answer), Arc::clone(&log)));
            }
        });
        Self { host, seen, task }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// The requests so far, without those that only find out about the protocol.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.path() != "/v2/").cloned().collect()
    }

    /// Method and target of each request so far.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.seen().iter().map(|seen| format!("{} {}", seen.method, seen.target)).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves one connection; a client that goes away is no failure.
async fn serve(
    stream: TcpStream,
    answer: Arc<impl Fn(&Seen) -> Reply>,
    log: Arc<Mutex<Vec<Seen>>>,
) {
    let mut stream = BufReader::new(stream);
    while let Some(seen) = read_request(&mut stream).await {
        log.lock().unwrap().push(seen.clone());
        if write_reply(stream.get_mut(), &seen, answer(&seen)).await != Some(KeepAlive) {
            return;
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Seen> {
    let mut line = String::new();
    stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        match line.trim_end().split_once(':') {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.trim().to_owned()),
            None => break,
        };
    }
    let body = match headers.contains_key("transfer-encoding") {
        true => read_chunks(stream).await?,
        false => {
            let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            stream.read_exact(&mut body).await.ok()?;
            body
        }
    };
    Some(Seen { method, target, headers, body })
}

/// A body in chunks (RFC 9112, section 7.1), if it comes to its end.
async fn read_chunks(stream: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.ok().filter(|length| *length > 0)?;
        let length = usize::from_str_radix(line.trim_end(), 16).ok()?;
        let begin = body.len();
        body.resize(begin + length + 2, 0);
        stream.read_exact(&mut body[begin..]).await.ok()?;
        body.truncate(begin + length);
        if length == 0 {
            return Some(body);
        }
    }
}

#[derive(PartialEq)]
struct KeepAlive;

async fn write_reply(stream: &mut TcpStream, seen: &Seen, reply: Reply) -> Option<KeepAlive> {
    let mut head = format!("HTTP/1.1 {} Words\r\n", reply.status);
    for (name, value) in &reply.headers {
        head += &format!("{name}: {value}\r\n");
    }
    let length = match &reply.body {
        Body::Whole(body) | Body::Drip { sent: body, .. } => Some(body.len()),
        Body::Cut { announced, .. } | Body::Stall { announced, .. } => Some(*announced),
        Body::UntilClose(_) | Body::Endless => None,
        Body::EndlessHeaders => loop {
            head += "X-More: and more\r\n";
            stream.write_all(head.as_bytes()).await.ok()?;
            head.clear();
        },
    };
    if let Some(length) = length {
        head += &format!("Content-Length: {length}\r\n");
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).await.ok()?;
    let is_head = seen.method == "HEAD";
    match reply.body {
        _ if is_head => Some(KeepAlive),
        Body::Whole(body) => stream.write_all(&body).await.ok().map(|()| KeepAlive),
        Body::UntilClose(sent) | Body::Cut { sent, .. } => {
            stream.write_all(&sent).await.ok()?;
            stream.shutdown().await.ok()?;
            None
        }
        Body::Drip { sent, pause } => {
            for byte in sent {
                stream.write_all(&[byte]).await.ok()?;
                tokio::time::sleep(pause).await;
            }
            Some(KeepAlive)
        }
        Body::Stall { sent, .. } => {
            stream.write_all(&sent).await.ok()?;
            // Until the client hangs up.
            let mut byte = [0];
            drop(stream.read(&mut byte).await);
            None
        }
        Body::Endless => loop {
            stream.write_all(&[b'x'; 4096]).await.ok()?;
        },
        Body::EndlessHeaders => None,
    }
}
