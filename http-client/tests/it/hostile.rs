//! Servers that lie, stall or never end. Each must end soon, with a clear error.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_client::{Error, Limits, RangeError};

use crate::server::{Reply, Seen, Server};
use crate::{Failed, fetch, get, limits, noise};

/// Downloads 5000 bytes from a server that answers with `answer`; gives what went wrong, and how
/// often the server was asked.
async fn failure(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> (Failed, usize) {
    let server = Server::start(answer).await;
    let started = Instant::now();
    let failed = fetch(server.host(), 5000, limits()).await.unwrap_err();
    assert!(started.elapsed() < limits().request * 2, "{failed:?}");
    (failed, server.seen().len())
}

#[tokio::test]
async fn sizes_that_do_not_fit_are_refused() {
    for (name, reply, actual) in [
        ("more bytes", Reply::ok(noise(5001)), 5001),
        ("fewer bytes", Reply::ok(noise(4999)), 4999),
        ("more bytes, no length", Reply::until_close(noise(5001)), 5001),
        ("fewer bytes, no length", Reply::until_close(noise(4999)), 4999),
    ] {
        match failure(move |_| reply.clone()).await {
            (Failed::Http(Error::SizeMismatch { expected: 5000, actual: found }), 1 | 2) => {
                assert_eq!(found, actual, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn parts_that_do_not_fit_are_refused() {
    let cut_then = |then: fn() -> Reply| {
        let first = AtomicUsize::new(0);
        move |_: &Seen| match first.fetch_add(1, Ordering::Relaxed) {
            0 => Reply::cut(5000, &noise(5000)[..2000]),
            _ => then(),
        }
    };
    for (name, then, expected) in [
        (
            "other part",
            (|| Reply::range(&noise(5000), 1000, 3999)) as fn() -> Reply,
            "bytes 1000-3999/5000",
        ),
        ("part of another size", || Reply::range(&noise(6000), 2000, 4999), "bytes 2000-4999/6000"),
        ("no part named", || Reply::new(206, &noise(5000)[2000..]), ""),
    ] {
        match failure(cut_then(then)).await {
            (Failed::Http(Error::Range(RangeError::OtherPart { asked, got })), 2) => {
                assert_eq!((asked, got.as_str()), (2000..5000, expected), "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    match failure(|_| Reply::ok(noise(5000)).with("Content-Encoding", "gzip")).await {
        (Failed::Http(Error::Range(RangeError::Encoded(encoding))), 1) => {
            assert_eq!(encoding, "gzip");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn failures_are_tried_again_as_often_as_they_deserve() {
    let attempts = limits().attempts as usize;
    let (failed, asked) = failure(|_| Reply::cut(5000, "")).await;
    let cut_short = matches!(failed, Failed::Http(Error::CutShort { received: 0, size: 5000, .. }));
    assert!(cut_short, "{failed:?}");
    assert_eq!(asked, attempts);
    let (failed, asked) = failure(|_| Reply::new(503, "")).await;
    assert!(matches!(failed, Failed::Status(503)), "{failed:?}");
    assert_eq!(asked, attempts);
    let (failed, asked) = failure(|_| Reply::not_found()).await;
    assert!(matches!(failed, Failed::Status(404)), "{failed:?}");
    assert_eq!(asked, 1);
    let (failed, asked) = failure(|_| Reply::stall(5000, "")).await;
    assert!(matches!(failed, Failed::Http(Error::TimedOut { what: "the next bytes", .. })));
    assert_eq!(asked, 2);
    let failed = fetch("127.0.0.1:1", 5000, limits()).await.unwrap_err();
    assert!(matches!(failed, Failed::Http(Error::Connect(_))), "{failed:?}");
}

#[tokio::test]
async fn answers_are_bounded() {
    let body = async |reply: Reply, cap| {
        let server = Server::start(move |_| reply.clone()).await;
        get(server.host(), "/").await.unwrap().body(cap).await
    };
    assert_eq!(body(Reply::ok("12345"), 5).await.unwrap(), b"12345");
    for reply in [Reply::ok("123456"), Reply::until_close("123456"), Reply::stall(200 << 20, "1")] {
        assert!(matches!(body(reply, 5).await, Err(Error::TooLarge(5))));
    }
    let server = Server::start(|_| Reply::endless_headers()).await;
    let endless = get(server.host(), "/").await.map(drop);
    assert!(matches!(endless, Err(Error::Transport(_) | Error::TimedOut { .. })), "{endless:?}");
    // Of an error's words, what comes soon is enough.
    let server = Server::start(|_| Reply::stall(1 << 30, "gone").status(404)).await;
    let response = get(server.host(), "/").await.unwrap();
    assert_eq!(response.start(3, Duration::from_secs(60)).await, b"gon");
    let response = get(server.host(), "/").await.unwrap();
    assert_eq!(response.start(100, Duration::from_secs(1)).await, b"gone");
}

#[tokio::test]
async fn a_dripping_body_meets_the_minimum_rate() {
    let limits =
        Limits { slow: Duration::from_millis(300), request: Duration::from_secs(60), ..limits() };
    let server = Server::start(|_| Reply::drip(noise(5000), Duration::from_millis(20))).await;
    let failed = fetch(server.host(), 5000, limits).await.unwrap_err();
    let too_slow = matches!(failed, Failed::Http(Error::TooSlow { rate: 1..100, minimum: 4096 }));
    assert!(too_slow, "{failed:?}");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_slow_body_meets_the_deadline() {
    // Each attempt brings a byte before it breaks, so only the deadline ends it.
    let limits = Limits { request: Duration::from_millis(500), attempts: 100_000, ..limits() };
    let server = Server::start(|seen| {
        let first = seen.range().map_or(0, |(first, _)| first);
        let range = format!("bytes {first}-4999/5000");
        Reply::cut(5000 - first, &noise(5000)[first..first + 1])
            .status(206)
            .with("Content-Range", range)
    })
    .await;
    let started = Instant::now();
    assert!(fetch(server.host(), 5000, limits).await.is_err());
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}
