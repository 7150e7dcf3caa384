//! Uploads that break, that are refused, and registries that lie about them.

use std::io;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http_client::Limits;
use oci::{Descriptor, Digest, media_type};
use registry::{Config, Credentials, Error, ErrorKind, Pushed, Registries};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::bytes::Bytes;

use crate::docker_registry::{Registry, plain};
use crate::server::{Reply, Seen, Server};
use crate::{client, limits, noise, reference};

/// One piece of an upload.
const PIECE: usize = 16 << 20;

fn client_of(limits: Limits) -> Registries {
    Registries::new(Config { limits, ..Config::default() }, Credentials::anonymous())
}

async fn push(client: &Registries, host: &str, bytes: &[u8]) -> Result<Pushed, Error> {
    let descriptor = Descriptor::new("", Digest::of(bytes), bytes.len() as u64);
    let source = Arc::new(Bytes::from(bytes.to_vec()));
    client.push_blob(&reference(host, "app"), &descriptor, None, None, source).await
}

async fn push_manifest(client: &Registries, host: &str) -> Result<Descriptor, Error> {
    let bytes = Bytes::from_static(b"{}");
    client.push_manifest(&reference(host, "app:1"), media_type::MANIFEST, bytes).await
}

/// Answers like a registry that has nothing, but for what `answer` says.
async fn server(answer: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static) -> Server {
    Server::start(move |seen| {
        if seen.path() == "/v2/" {
            return Reply::ok("{}");
        }
        answer(seen).unwrap_or_else(|| match seen.method.as_str() {
            "HEAD" => Reply::not_found(),
            "POST" => Reply::new(202, "").with("Location", "/session"),
            "PATCH" => Reply::new(202, "").with("Location", "/session"),
            _ => Reply::new(201, ""),
        })
    })
    .await
}

/// The methods of the requests so far, with the ranges of pieces.
fn lines(server: &Server) -> Vec<String> {
    let line = |seen: &Seen| match seen.header("content-range") {
        Some(range) => format!("{} {range}", seen.method),
        None => format!("{} {}", seen.method, seen.body.len()),
    };
    server.seen().iter().map(line).collect()
}

/// Passes bytes on to a registry, and breaks the first connections that carry more than `most`.
struct Cutter {
    host: String,
    /// Bytes that have reached the registry.
    passed: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Cutter {
    async fn start(to: &str, most: u64, cuts: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (to, left) = (to.to_owned(), Arc::new(AtomicUsize::new(cuts)));
        let passed = Arc::new(AtomicU64::new(0));
        let counted = passed.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let registry = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(pass(client, registry, most, left.clone(), counted.clone()));
            }
        });
        Self { host, passed, task }
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn pass(
    client: TcpStream,
    registry: TcpStream,
    most: u64,
    left: Arc<AtomicUsize>,
    passed: Arc<AtomicU64>,
) -> io::Result<()> {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_registry, mut to_registry) = registry.into_split();
    let back = tokio::spawn(async move {
        let copied = tokio::io::copy(&mut from_registry, &mut to_client).await;
        drop(to_client.shutdown().await);
        copied
    });
    let (mut buffer, mut sum) = (vec![0; 64 << 10], 0);
    loop {
        let length = from_client.read(&mut buffer).await?;
        if length == 0 {
            break;
        }
        to_registry.write_all(&buffer[..length]).await?;
        sum += length as u64;
        passed.fetch_add(length as u64, Ordering::Relaxed);
        let cut = || left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1));
        if sum > most && cut().is_ok() {
            break;
        }
    }
    back.abort();
    Ok(())
}

/// Docker's registry forgets an upload that was cut, so all of it is sent again.
#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_the_registry_forgets_begins_again() {
    let Some(registry) = Registry::start(plain) else { return };
    let bytes = noise(20 << 20);
    let cutter = Cutter::start(&registry.host, 12 << 20, 1).await;
    let client = client_of(Limits { request: Duration::from_secs(60), ..limits() });
    assert_eq!(push(&client, &cutter.host, &bytes).await.unwrap(), Pushed::Uploaded);
    assert!(cutter.passed.load(Ordering::Relaxed) > 32 << 20);
    assert_eq!(push(&client, &registry.host, &bytes).await.unwrap(), Pushed::Existing);
}

/// A registry that keeps what arrives of one upload, and breaks the connection whenever another `most`
/// bytes have come.
struct Keeping {
    host: String,
    kept: Arc<Mutex<Vec<u8>>>,
    /// The requests, with what pieces say of themselves.
    lines: Arc<Mutex<Vec<String>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Keeping {
    async fn start(most: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let (kept, lines) = <(Arc<Mutex<Vec<u8>>>, Arc<Mutex<Vec<String>>>)>::default();
        let all = (kept.clone(), lines.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (kept, lines) = all.clone();
                tokio::spawn(
                    async move { keep(BufReader::new(stream), &kept, &lines, most).await },
                );
            }
        });
        Self { host, kept, lines, task }
    }
}

impl Drop for Keeping {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn keep(
    mut stream: BufReader<TcpStream>,
    kept: &Mutex<Vec<u8>>,
    lines: &Mutex<Vec<String>>,
    most: usize,
) -> io::Result<()> {
    loop {
        let (mut first, mut length, mut range) = (String::new(), 0, String::new());
        if stream.read_line(&mut first).await? == 0 {
            return Ok(());
        }
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            match line.trim_end().to_lowercase().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().unwrap(),
                Some(("content-range", value)) => range = value.to_owned(),
                Some(_) => {}
                None => break,
            }
        }
        let method = first.split(' ').next().unwrap().to_owned();
        if !first.contains(" /v2/ ") {
            lines.lock().unwrap().push(format!("{method} {range}").trim_end().to_owned());
        }
        let mut body = vec![0; length.min(most)];
        stream.read_exact(&mut body).await?;
        kept.lock().unwrap().extend_from_slice(&body);
        if length > most {
            return Ok(());
        }
        let size = kept.lock().unwrap().len();
        let (status, more) = match method.as_str() {
            "HEAD" => ("404 Not Found", String::new()),
            "POST" => ("202 Accepted", "Location: /session\r\n".to_owned()),
            "GET" if first.contains(" /v2/ ") => ("200 OK", String::new()),
            "GET" => ("204 No Content", format!("Range: 0-{}\r\n", size - 1)),
            "PATCH" => ("202 Accepted", format!("Location: /session\r\nRange: 0-{}\r\n", size - 1)),
            _ => ("201 Created", String::new()),
        };
        let length = if status.starts_with("204") { "" } else { "Content-Length: 0\r\n" };
        let answer = format!("HTTP/1.1 {status}\r\n{more}{length}\r\n");
        stream.get_mut().write_all(answer.as_bytes()).await?;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_goes_on_where_it_was_cut() {
    const MIB: usize = 1 << 20;
    let (bytes, registry) = (noise(40 * MIB), Keeping::start(15 * MIB).await);
    assert_eq!(push(&client(), &registry.host, &bytes).await.unwrap(), Pushed::Uploaded);
    assert!(*registry.kept.lock().unwrap() == bytes, "other bytes");
    let range = |from: usize, to: usize| format!("PATCH {}-{}", from * MIB, to * MIB - 1);
    // A piece of 16 MiB is cut as well; the last one goes through.
    let expected = [
        "HEAD".to_owned(),
        "POST".to_owned(),
        "PUT".to_owned(),
        "GET".to_owned(),
        range(15, 31),
        "GET".to_owned(),
        range(30, 40),
        "PUT".to_owned(),
    ];
    assert_eq!(*registry.lines.lock().unwrap(), expected);
}

#[tokio::test]
async fn a_small_blob_takes_three_requests() {
    let server = server(|_| None).await;
    assert_eq!(push(&client(), server.host(), &noise(5)).await.unwrap(), Pushed::Uploaded);
    assert_eq!(lines(&server), ["HEAD 0", "POST 0", "PUT 5"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_too_large_for_one_request_goes_in_pieces() {
    let size = PIECE * 2 + 10;
    let too_large = |seen: &Seen| {
        (seen.method == "PUT" && seen.body.len() > PIECE).then(|| Reply::new(413, "too large"))
    };
    let server = server(too_large).await;
    assert_eq!(push(&client(), server.host(), &noise(size)).await.unwrap(), Pushed::Uploaded);
    let (first, second) = (PIECE - 1, 2 * PIECE - 1);
    let expected = [
        "HEAD 0".to_owned(),
        "POST 0".to_owned(),
        format!("PUT {size}"),
        "HEAD 0".to_owned(),
        "POST 0".to_owned(),
        format!("PATCH 0-{first}"),
        format!("PATCH {}-{second}", first + 1),
        format!("PATCH {}-{}", second + 1, size - 1),
        "PUT 0".to_owned(),
    ];
    assert_eq!(lines(&server), expected);
    let pieces = server.seen().into_iter().filter(|seen| seen.method == "PATCH");
    assert!(pieces.flat_map(|seen| seen.body).collect::<Vec<u8>>() == noise(size));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_says_how_small_a_piece_may_be_and_how_much_it_has() {
    let size = PIECE * 3;
    let server = server(move |seen| match seen.method.as_str() {
        "PUT" if !seen.body.is_empty() => Some(Reply::new(413, "")),
        "POST" => Some(
            Reply::new(202, "")
                .with("Location", "/session")
                .with("OCI-Chunk-Min-Length", (PIECE + 1).to_string()),
        ),
        // It keeps less of the first piece than it got.
        "PATCH" if seen.header("content-range").unwrap().starts_with("0-") => {
            Some(Reply::new(202, "").with("Location", "/next").with("Range", "0-9"))
        }
        _ => None,
    })
    .await;
    push(&client(), server.host(), &noise(size)).await.unwrap();
    let expected = [
        format!("PATCH 0-{PIECE}"),
        format!("PATCH 10-{}", PIECE + 10),
        format!("PATCH {}-{}", PIECE + 11, 2 * PIECE + 11),
        format!("PATCH {}-{}", 2 * PIECE + 12, size - 1),
        "PUT 0".to_owned(),
    ];
    assert_eq!(lines(&server)[5..], expected);
    assert_eq!(server.seen()[6].path(), "/next");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_takes_no_pieces_gets_all_at_once() {
    let first = AtomicUsize::new(0);
    let server = server(move |seen| match seen.method.as_str() {
        "PUT" if first.fetch_add(1, Ordering::Relaxed) == 0 => Some(Reply::new(502, "")),
        "GET" => Some(Reply::new(405, "")),
        "PATCH" => Some(Reply::new(405, "")),
        _ => None,
    })
    .await;
    let size = PIECE + 1;
    assert_eq!(push(&client(), server.host(), &noise(size)).await.unwrap(), Pushed::Uploaded);
    assert_eq!(lines(&server).last().unwrap(), &format!("PUT {size}"));
}

#[tokio::test]
async fn every_request_waits_as_long_as_the_registry_asks() {
    for method in ["HEAD", "POST", "PUT"] {
        let refused = AtomicUsize::new(0);
        let busy = move |seen: &Seen| {
            let is_first = seen.method == method && refused.fetch_add(1, Ordering::Relaxed) < 2;
            is_first.then(|| Reply::new(429, "").with("Retry-After", "1"))
        };
        let server = server(busy).await;
        let patient = Limits { longest_delay: Duration::from_secs(2), ..limits() };
        let client = client_of(patient);
        let begin = Instant::now();
        push(&client, server.host(), &noise(5)).await.unwrap();
        assert!(begin.elapsed() >= Duration::from_secs(2), "{method}");
        if method == "PUT" {
            push_manifest(&client, server.host()).await.unwrap();
        }
    }
}

/// How a push to a registry that always gives one answer ends.
async fn check(
    name: &str,
    expected: ErrorKind,
    reply: impl Fn(&Seen) -> Option<Reply> + Send + Sync + 'static,
) {
    let server = server(reply).await;
    let begin = Instant::now();
    let error = push(&client(), server.host(), &noise(5000)).await.unwrap_err();
    assert_eq!(error.kind(), expected, "{name}: {error:?}");
    let most = 4 * limits().attempts as usize;
    assert!(server.seen().len() <= most, "{name}: {:?}", server.lines());
    assert!(begin.elapsed() < limits().request * 2, "{name}");
}

#[tokio::test]
async fn a_registry_that_never_takes_a_blob_ends_the_push_soon() {
    let when = |method: &'static str, reply: Reply| {
        move |seen: &Seen| (seen.method == method).then(|| reply.clone())
    };
    let busy = || Reply::new(429, "").with("Retry-After", "3600");
    for method in ["HEAD", "POST", "PUT"] {
        check(method, ErrorKind::Unavailable, when(method, Reply::new(500, ""))).await;
        check(method, ErrorKind::TooManyRequests, when(method, busy())).await;
        let storm = Reply::new(401, "").with("WWW-Authenticate", "Basic realm=\"x\"");
        check(method, ErrorKind::Unauthorized, when(method, storm)).await;
    }
    for (reply, kind) in [
        (Reply::new(403, ""), ErrorKind::Denied),
        (Reply::new(400, "digest invalid"), ErrorKind::InvalidAnswer),
        (
            Reply::new(201, "").with("Docker-Content-Digest", Digest::of(b"x").to_string()),
            ErrorKind::DigestMismatch,
        ),
    ] {
        check("the end", kind, when("PUT", reply)).await;
    }
    for (reply, kind) in [
        (Reply::new(202, ""), ErrorKind::InvalidAnswer),
        (Reply::new(200, ""), ErrorKind::InvalidAnswer),
        (Reply::new(202, "").with("Location", "http://169.254.169.254/"), ErrorKind::InvalidAnswer),
        (Reply::new(202, "").with("Location", "file:///etc/passwd"), ErrorKind::InvalidAnswer),
    ] {
        check("the start", kind, when("POST", reply)).await;
    }
}

#[tokio::test]
async fn a_manifest_that_was_stored_as_another_is_an_error() {
    let wrong = || Reply::new(201, "").with("Docker-Content-Digest", Digest::of(b"x").to_string());
    let server = server(move |seen| (seen.method == "PUT").then(wrong)).await;
    let error = push_manifest(&client(), server.host()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DigestMismatch);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_lies_about_what_it_has_is_refused() {
    for range in ["0-99999999999", "0-18446744073709551615", "0-0"] {
        let server = server(move |seen| match seen.method.as_str() {
            "PUT" => Some(Reply::new(413, "")),
            "PATCH" => Some(Reply::new(202, "").with("Location", "/session").with("Range", range)),
            _ => None,
        })
        .await;
        // More than there can be is like nothing at all.
        let error = push(&client(), server.host(), &noise(PIECE + 1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidAnswer, "{range}: {error:?}");
        assert!(server.seen().len() < 20, "{range}: {:?}", lines(&server));
    }
}

#[tokio::test]
async fn a_mount_that_is_not_allowed_is_an_upload() {
    let server = server(|seen| {
        seen.target.contains("mount=").then(|| Reply::new(403, "that one is not yours"))
    })
    .await;
    let bytes = noise(5);
    let descriptor = Descriptor::new("", Digest::of(&bytes), 5);
    let (to, mount) = (reference(server.host(), "app"), reference(server.host(), "secret"));
    let source = Arc::new(Bytes::from(bytes));
    let pushed = client().push_blob(&to, &descriptor, Some(&mount), None, source).await.unwrap();
    assert_eq!(pushed, Pushed::Uploaded);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_does_not_read_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let host = listener.local_addr().unwrap().to_string();
    let deaf = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut buffer = [0; 64 << 10];
            while let Ok(length) = stream.read(&mut buffer).await {
                let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
                let answer = match text.split(' ').next() {
                    Some("GET") => "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
                    Some("HEAD") => "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
                    Some("POST") => {
                        "HTTP/1.1 202 Accepted\r\nLocation: /session\r\nContent-Length: 0\r\n\r\n"
                    }
                    _ => break,
                };
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            kept.push(stream);
        }
    });
    let impatient = Limits {
        slow: Duration::from_millis(100),
        minimum_rate: 1 << 30,
        request: Duration::from_secs(60),
        ..limits()
    };
    let client = client_of(impatient);
    let begin = Instant::now();
    let error = push(&client, &host, &noise(PIECE)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(20));
    deaf.abort();
}
