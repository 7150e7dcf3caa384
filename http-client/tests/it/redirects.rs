//! Where requests and credentials go, and where they do not.

use http_client::header::HeaderValue;
use http_client::redirect::{RedirectError, Refusal};
use http_client::{Authorization, Deadline, Error, Method, Payload, Request};

use crate::server::{Reply, Server};
use crate::{connections, get, limits, url};

#[tokio::test]
async fn redirects_are_followed() {
    let store = Server::start(|_| Reply::ok("content")).await;
    let target = format!("http://{}/bucket/file?signature=1", store.host());
    let server = Server::start(move |seen| match seen.path() {
        "/file" => Reply::redirect("/elsewhere").status(302),
        _ => Reply::redirect(target.clone()),
    })
    .await;
    let response = get(server.host(), "/file").await.unwrap();
    assert_eq!(response.url().path(), "/bucket/file");
    assert_eq!(response.body(100).await.unwrap(), b"content");
    assert_eq!(server.lines(), ["GET /file", "GET /elsewhere"]);
    assert_eq!(store.lines(), ["GET /bucket/file?signature=1"]);
}

#[tokio::test]
async fn redirects_lead_nowhere_dangerous() {
    for (name, target, expected) in [
        ("a loop", "/file", Refusal::TooMany),
        ("a file", "file:///etc/passwd", Refusal::Protocol),
        ("another protocol", "ftp://127.0.0.1/x", Refusal::Protocol),
        ("the metadata service", "http://localhost@169.254.169.254/latest", Refusal::PlainHttp),
        ("credentials", "http://user:password@127.0.0.1:1/", Refusal::Credentials),
    ] {
        let server = Server::start(move |_| Reply::redirect(target)).await;
        match get(server.host(), "/file").await.map(drop) {
            Err(Error::Redirect(RedirectError::Refused { reason, .. })) => {
                assert_eq!(reason, expected, "{name}");
                let asked = if reason == Refusal::TooMany { 1 + 10 } else { 1 };
                assert_eq!(server.seen().len(), asked, "{name}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    let server = Server::start(|_| Reply::new(307, "")).await;
    let found = get(server.host(), "/file").await.map(drop);
    assert!(matches!(found, Err(Error::Redirect(RedirectError::NoLocation))), "{found:?}");
    let server = Server::start(|_| Reply::redirect("http://")).await;
    let found = get(server.host(), "/file").await.map(drop);
    let invalid = matches!(found, Err(Error::Redirect(RedirectError::InvalidLocation(_))));
    assert!(invalid, "{found:?}");
    let server = Server::start(|_| Reply::new(304, "")).await;
    assert_eq!(get(server.host(), "/file").await.unwrap().status(), 304);
}

#[tokio::test]
async fn credentials_stay_at_home() {
    let store = Server::start(|_| Reply::ok("")).await;
    let target = format!("http://{}/there", store.host());
    let server = Server::start(move |seen| match seen.path() {
        "/here" => Reply::redirect("/near"),
        _ => Reply::redirect(target.clone()),
    })
    .await;
    let request = Request::new(Method::GET, url(server.host(), "/here"));
    let authorization = Authorization::new(HeaderValue::from_static("Basic x"), &request.url);
    let deadline = Deadline::for_request(&limits());
    let connections = connections(server.host(), limits());
    connections.send(&request, Some(&authorization), deadline).await.unwrap();
    let known = |server: &Server| -> Vec<bool> {
        server.seen().iter().map(|seen| seen.header("authorization").is_some()).collect()
    };
    assert_eq!(known(&server), [true, true]);
    assert_eq!(known(&store), [false]);
}

#[tokio::test]
async fn a_body_is_sent_again_after_a_redirect() {
    let server = Server::start(|seen| match seen.path() {
        "/upload" => Reply::redirect("/moved"),
        _ => Reply::new(201, ""),
    })
    .await;
    let connections = connections(server.host(), limits());
    let deadline = Deadline::for_request(&limits());
    let source = std::sync::Arc::new(tokio_util::bytes::Bytes::from_static(b"a body"));
    for payload in [
        Payload::Bytes((*source).clone()),
        Payload::Stream { source: source.clone(), from: 0, size: 6 },
    ] {
        let mut request = Request::new(Method::PUT, url(server.host(), "/upload"));
        request.payload = payload;
        let response = connections.send(&request, None, deadline).await.unwrap();
        assert_eq!(response.status(), 201);
        // One that is to go nowhere else comes back as it is.
        let response = connections.send_without_redirects(&request, deadline).await.unwrap();
        assert_eq!(response.status(), 307);
    }
    assert_eq!(server.lines().len(), 6);
    assert!(server.seen().iter().all(|seen| seen.body == b"a body"));
}
