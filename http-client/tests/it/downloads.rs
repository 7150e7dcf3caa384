//! Downloads that go well, or well in the end.

use std::sync::atomic::{AtomicUsize, Ordering};

use http_client::{Error, Limits, Piece, RangeError, download_unsized};

use crate::server::{Reply, Server};
use crate::{fetch, get, limits, noise};

#[tokio::test]
async fn a_broken_connection_is_resumed() {
    let bytes = noise(300_000);
    let answers = AtomicUsize::new(0);
    let file = bytes.clone();
    let server = Server::start(move |seen| match answers.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::cut(file.len(), &file[..100_000]),
        1 => Reply::new(503, ""),
        2 => {
            let (first, last) = seen.range().unwrap();
            Reply::cut(last - first + 1, &file[first..first + 50_000])
                .status(206)
                .with("Content-Range", format!("bytes {first}-{last}/{}", file.len()))
        }
        _ => Reply::part(seen, &file),
    })
    .await;
    // Nothing was sent twice, or there would be more bytes.
    assert!(fetch(server.host(), bytes.len(), limits()).await.unwrap() == bytes);
    let ranges: Vec<_> = server.seen().iter().map(|seen| seen.range()).collect();
    assert_eq!(
        ranges,
        [None, Some((100_000, 299_999)), Some((100_000, 299_999)), Some((150_000, 299_999))]
    );
}

#[tokio::test]
async fn a_connection_that_breaks_every_megabyte_still_ends() {
    let bytes = noise(4 << 20);
    let file = bytes.clone();
    let server = Server::start(move |seen| {
        let first = seen.range().map_or(0, |(first, _)| first);
        Reply::cut(file.len() - first, &file[first..first + (1 << 20)])
            .status(206)
            .with("Content-Range", format!("bytes {first}-{}/{}", file.len() - 1, file.len()))
    })
    .await;
    let limits = Limits { attempts: 2, ..limits() };
    assert!(fetch(server.host(), bytes.len(), limits).await.unwrap() == bytes);
    assert_eq!(server.seen().len(), 4);
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_read_again_from_the_start() {
    let bytes = noise(200_000);
    let answers = AtomicUsize::new(0);
    let file = bytes.clone();
    let server = Server::start(move |_| match answers.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::cut(file.len(), &file[..70_000]),
        _ => Reply::ok(file.clone()),
    })
    .await;
    assert!(fetch(server.host(), bytes.len(), limits()).await.unwrap() == bytes);
    assert_eq!(server.seen().len(), 2);
}

fn segments() -> Limits {
    Limits { parallel_from: 100_000, segment: 64_000, fast: u64::MAX, connections: 3, ..limits() }
}

#[tokio::test]
async fn a_large_file_comes_in_ranges_at_once() {
    let bytes = noise(1_000_000);
    let fails = AtomicUsize::new(3);
    let file = bytes.clone();
    let server = Server::start(move |seen| {
        let is_middle = seen.range().is_some_and(|(first, _)| first > 300_000);
        let fails = is_middle
            && fails
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok();
        if fails { Reply::new(500, "") } else { Reply::part(seen, &file) }
    })
    .await;
    assert!(fetch(server.host(), bytes.len(), segments()).await.unwrap() == bytes);
    assert_eq!(server.seen().len(), 16 + 3);
    // A server that knows no ranges sends it in one.
    let file = bytes.clone();
    let server = Server::start(move |_| Reply::ok(file.clone())).await;
    assert!(fetch(server.host(), bytes.len(), segments()).await.unwrap() == bytes);
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_fast_server_needs_no_second_connection() {
    let bytes = noise(1_000_000);
    let file = bytes.clone();
    let server = Server::start(move |seen| Reply::part(seen, &file)).await;
    let limits = Limits { fast: 1, ..segments() };
    assert!(fetch(server.host(), bytes.len(), limits).await.unwrap() == bytes);
    let ranges: Vec<_> = server.seen().iter().map(|seen| seen.range()).collect();
    assert_eq!(ranges, [Some((0, 63_999)), Some((64_000, 999_999))]);
}

#[tokio::test]
async fn an_empty_file_needs_no_request() {
    let server = Server::start(|_| Reply::not_found()).await;
    assert_eq!(fetch(server.host(), 0, limits()).await.unwrap(), b"");
    assert_eq!(server.lines(), [""; 0]);
}

#[tokio::test]
async fn a_file_of_unknown_length_ends_with_its_connection() {
    let bytes = noise(200_000);
    let file = bytes.clone();
    let server = Server::start(move |seen| match seen.path() {
        "/whole" => Reply::until_close(file.clone()),
        "/encoded" => Reply::until_close("").with("Content-Encoding", "gzip"),
        _ => Reply::endless(),
    })
    .await;
    let whole = fetch_unsized(server.host(), "/whole", usize::MAX).await;
    assert!(matches!(whole, Ok(whole) if whole == bytes));
    let encoded = fetch_unsized(server.host(), "/encoded", usize::MAX).await;
    assert!(matches!(encoded, Err(Error::Range(RangeError::Encoded(_)))), "{encoded:?}");
    // It ends when nobody wants more of it.
    let endless = fetch_unsized(server.host(), "/endless", 100_000).await;
    assert!(matches!(endless, Err(Error::Abandoned)), "{endless:?}");
}

/// Reads at most so many bytes of `path`, before the receiver goes.
async fn fetch_unsized(host: &str, path: &str, most: usize) -> Result<Vec<u8>, Error> {
    let response = get(host, path).await?;
    assert_eq!(response.content_length(), None);
    let (sender, mut receiver) = tokio::sync::mpsc::channel(1);
    let limits = limits();
    let receive = async move {
        let mut bytes = Vec::new();
        while let Some(Piece::Data(chunk)) = receiver.recv().await {
            bytes.extend_from_slice(&chunk);
            if bytes.len() > most {
                break;
            }
        }
        bytes
    };
    let send = async move { download_unsized(response, &limits, &sender).await };
    let (outcome, bytes) = tokio::join!(send, receive);
    outcome.map(|()| bytes)
}
