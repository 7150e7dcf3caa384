//! Registries that lie, stall or lead astray. Each must end soon, with a clear error, and without
//! wrong bytes passing for right ones.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use oci::manifest::SIZE_MAX;
use oci::{Descriptor, Digest, media_type};
use registry::{Cause, ErrorKind};
use serde_json::json;

use crate::image::Image;
use crate::server::{Reply, Seen, Server};
use crate::{client, fetch, fetch_into, limits, noise, reference};

/// Answers the question for the protocol well, and all others with `answer`.
async fn hostile(answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static) -> Server {
    Server::start(move |seen| if seen.path() == "/v2/" { Reply::ok("{}") } else { answer(seen) })
        .await
}

async fn check_blob(
    name: &str,
    expected: ErrorKind,
    answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) {
    let server = hostile(answer).await;
    let started = Instant::now();
    let error = fetch(&client(), server.host(), &noise(5000)).await.unwrap_err();
    assert_eq!(error.kind(), expected, "{name}: {error:?}");
    assert!(
        server.seen().len() <= 1 + 2 * limits().attempts as usize,
        "{name}: {:?}",
        server.lines()
    );
    assert!(started.elapsed() < limits().request * 2, "{name}");
}

async fn check_manifest(
    name: &str,
    expected: ErrorKind,
    answer: impl Fn(&Seen) -> Reply + Send + Sync + 'static,
) {
    let server = hostile(answer).await;
    let started = Instant::now();
    let error = client().manifest(&reference(server.host(), "app:1")).await.unwrap_err();
    assert_eq!(error.kind(), expected, "{name}: {error:?}");
    assert!(server.seen().len() <= limits().attempts as usize, "{name}: {:?}", server.lines());
    assert!(started.elapsed() < limits().request * 2, "{name}");
}

#[tokio::test]
async fn r1_wrong_bytes_are_refused() {
    let wrong: Vec<u8> = noise(5000).into_iter().rev().collect();
    let longer = [noise(5000), vec![0]].concat();
    let shorter = noise(4999);
    check_blob("other bytes", ErrorKind::DigestMismatch, move |_| Reply::ok(wrong.clone())).await;
    let (long, short) = (longer.clone(), shorter.clone());
    check_blob("more bytes", ErrorKind::InvalidAnswer, move |_| Reply::ok(long.clone())).await;
    check_blob("fewer bytes", ErrorKind::InvalidAnswer, move |_| Reply::ok(short.clone())).await;
    check_blob("more bytes, no length", ErrorKind::InvalidAnswer, move |_| {
        Reply::until_close(longer.clone())
    })
    .await;
    check_blob("fewer bytes, no length", ErrorKind::InvalidAnswer, move |_| {
        Reply::until_close(shorter.clone())
    })
    .await;
    check_blob("compressed on the way", ErrorKind::InvalidAnswer, |_| {
        Reply::ok(noise(5000)).with("Content-Encoding", "gzip")
    })
    .await;
}

#[tokio::test]
async fn r2_parts_that_do_not_fit_are_refused() {
    check_blob("always cut", ErrorKind::Unavailable, |_| Reply::cut(5000, "")).await;
    check_blob("other part", ErrorKind::InvalidAnswer, |seen| match seen.range() {
        None => Reply::cut(5000, &noise(5000)[..2000]),
        Some(_) => Reply::range(&noise(5000), 1000, 3999),
    })
    .await;
    let other = || Reply::new(206, vec![0; 3000]).with("Content-Range", "bytes 2000-4999/5000");
    check_blob("other bytes in the part", ErrorKind::DigestMismatch, move |seen| {
        match seen.range() {
            None => Reply::cut(5000, &noise(5000)[..2000]),
            Some(_) => other(),
        }
    })
    .await;
}

#[tokio::test]
async fn r2_a_blob_with_a_wrong_part_is_fetched_again() {
    let first = AtomicUsize::new(0);
    let server = hostile(move |_| match first.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::cut(5000, vec![0; 2000]),
        1 => Reply::range(&noise(5000), 2000, 4999),
        _ => Reply::ok(noise(5000)),
    })
    .await;
    assert!(fetch(&client(), server.host(), &noise(5000)).await.unwrap().0 == noise(5000));
}

#[tokio::test]
async fn r3_ambiguous_manifests_are_refused() {
    let image = Image::new(noise(10));
    let both = json!({"schemaVersion": 2, "config": {}, "layers": [], "manifests": []}).to_string();
    for (name, body, content_type) in [
        ("header against body", image.manifest.clone(), media_type::INDEX),
        ("docker's header", image.manifest.clone(), media_type::DOCKER_MANIFEST),
        ("both kinds", both.clone().into_bytes(), media_type::MANIFEST),
        ("both kinds, as an index", both.into_bytes(), media_type::INDEX),
        ("a web page", b"<html>".to_vec(), "text/html"),
        ("nothing", Vec::new(), media_type::MANIFEST),
    ] {
        check_manifest(name, ErrorKind::InvalidAnswer, move |_| {
            Reply::ok(body.clone()).with("Content-Type", content_type)
        })
        .await;
    }
}

#[tokio::test]
async fn r4_broken_digests_are_refused() {
    let image = Image::new(noise(10));
    for digest in [
        "sha256:../../x",
        "sha256:",
        "md5:d41d8cd98f00b204e9800998ecf8427e",
        &format!("sha256:{}", "a".repeat(63)),
        &format!("sha256:{}", "A".repeat(64)),
        &"sha256:A".repeat(9),
        "x",
    ] {
        let (image, digest) = (image.clone(), digest.to_owned());
        let answer = move |seen: &Seen| {
            let name = "Docker-Content-Digest";
            let reply =
                Reply::ok(if seen.method == "HEAD" { Vec::new() } else { image.manifest.clone() });
            reply.with("Content-Type", media_type::MANIFEST).with(name, digest.clone())
        };
        check_manifest("digest header", ErrorKind::InvalidAnswer, answer.clone()).await;
        let server = hostile(answer).await;
        let error = client().resolve(&reference(server.host(), "app")).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidAnswer);
    }
    let manifest = String::from_utf8(image.manifest).unwrap();
    let body = manifest.replace(Digest::of(&image.config).as_str(), "sha256:../../../etc/passwd");
    check_manifest("digest in the body", ErrorKind::InvalidAnswer, move |_| {
        Reply::ok(body.clone())
    })
    .await;
}

#[tokio::test]
async fn r5_oversized_manifests_are_refused() {
    let announced = Reply::stall(200 << 20, "{");
    check_manifest("announced", ErrorKind::InvalidAnswer, move |_| announced.clone()).await;
    let large = Reply::until_close(vec![b' '; SIZE_MAX + 1]);
    check_manifest("without a length", ErrorKind::InvalidAnswer, move |_| large.clone()).await;
    let entry =
        json!({"mediaType": media_type::MANIFEST, "digest": Digest::of(b"").as_str(), "size": 0});
    let many = json!({"schemaVersion": 2, "manifests": vec![entry; 20_000]}).to_string();
    check_manifest("many descriptors", ErrorKind::InvalidAnswer, move |_| Reply::ok(many.clone()))
        .await;
    let deep = format!(
        "{{\"schemaVersion\":2,\"manifests\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    check_manifest("deep", ErrorKind::InvalidAnswer, move |_| Reply::ok(deep.clone())).await;
    let head = |_: &Seen| Reply::stall(200 << 20, "").with("Content-Type", media_type::MANIFEST);
    let server =
        hostile(move |seen| head(seen).with("Docker-Content-Digest", Digest::of(b"").as_str()))
            .await;
    let error = client().resolve(&reference(server.host(), "app")).await.unwrap_err();
    assert!(matches!(error.cause(), Cause::Http(http_client::Error::TooLarge(_))), "{error:?}");
}

#[tokio::test]
async fn r6_redirects_lead_nowhere_dangerous() {
    for (name, target) in [
        ("a loop", "/v2/app/blobs/again"),
        ("the metadata service over plain HTTP", "http://localhost@169.254.169.254/latest"),
        ("no address", "http://"),
    ] {
        check_blob(name, ErrorKind::InvalidAnswer, move |_| Reply::redirect(target)).await;
    }
    check_blob("no location", ErrorKind::InvalidAnswer, |_| Reply::new(307, "")).await;
    check_blob("not modified", ErrorKind::InvalidAnswer, |_| Reply::new(304, "")).await;
}

#[tokio::test]
async fn r7_refusals_and_delays_are_bounded() {
    use ErrorKind::{NotFound, TooManyRequests, Unauthorized, Unavailable};
    let no_service = |_: &Seen| {
        Reply::new(401, "").with("WWW-Authenticate", "Bearer realm=\"http://127.0.0.1:1/token\"")
    };
    let limited = |_: &Seen| Reply::new(429, "").with("Retry-After", "1000000000");
    // Most of these wait for the client to lose its patience: all at once.
    tokio::join!(
        check_manifest("no token service", Unavailable, no_service),
        check_manifest("no challenge", Unauthorized, |_| Reply::new(401, "")),
        check_manifest("limited for ever", TooManyRequests, limited),
        check_manifest("endless headers", Unavailable, |_| Reply::endless_headers()),
        check_blob("a stalled body", Unavailable, |_| Reply::stall(5000, &noise(5000)[..10])),
        check_manifest("a stalled manifest", Unavailable, |_| Reply::stall(5000, "{")),
        check_manifest("a stalled error", NotFound, |_| Reply::stall(1 << 30, "gone").status(404)),
        check_manifest("a huge error", NotFound, |_| Reply::new(404, vec![b'x'; 1 << 20])),
    );
}

#[tokio::test]
async fn r7_a_registry_that_asks_for_too_long_a_pause_is_not_asked_again() {
    let words = |status: u16| match status {
        429 => "too many requests (it asks to wait for 1000000000 seconds)".to_owned(),
        status => format!(
            "the registry answered with status {status} (it asks to wait for 1000000000 seconds)"
        ),
    };
    for status in [429, 503] {
        let server =
            hostile(move |_| Reply::new(status, "").with("Retry-After", "1000000000")).await;
        let error = client().manifest(&reference(server.host(), "app:1")).await.unwrap_err();
        assert_eq!(error.cause().to_string(), words(status));
        assert_eq!(server.lines(), ["GET /v2/app/manifests/1"]);
    }
}

#[tokio::test]
async fn r7_a_401_storm_ends() {
    let host = std::sync::Arc::new(std::sync::OnceLock::<String>::new());
    let realm = std::sync::Arc::clone(&host);
    let server = hostile(move |seen| match seen.path() {
        "/token" => Reply::ok(r#"{"token":"never good enough"}"#),
        _ => {
            let challenge =
                format!("Bearer realm=\"http://{}/token\",service=\"s\"", realm.get().unwrap());
            Reply::new(401, r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#)
                .with("WWW-Authenticate", challenge)
        }
    })
    .await;
    host.set(server.host().to_owned()).unwrap();
    let error = client().manifest(&reference(server.host(), "app:1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthorized);
    assert_eq!(error.cause().to_string(), "authentication required: unauthorized");
    assert_eq!(server.seen().len(), 3, "{:?}", server.lines());
}

#[tokio::test]
async fn r9_foreign_urls_are_not_followed() {
    let elsewhere = Server::start(|_| Reply::ok(noise(5000))).await;
    let server = hostile(|_| Reply::not_found()).await;
    let digest = Digest::of(&noise(5000));
    let mut descriptor =
        Descriptor::new("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", digest, 5000);
    descriptor.urls.push(format!("http://{}/layer", elsewhere.host()));
    let sink = registry::MemorySink::new(&descriptor.digest);
    let error = fetch_into(&client(), server.host(), &descriptor, sink).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(elsewhere.lines().is_empty());
}

#[tokio::test]
async fn r10_a_moved_tag_does_not_change_what_was_resolved() {
    let (old, new) = (Image::new(noise(10)), Image::new(noise(20)));
    let digest = Digest::of(&old.manifest);
    // The tag moves between HEAD and GET; the registry still has the old manifest by its digest.
    let (before, after) = (old.clone(), new.clone());
    let server = hostile(move |seen| match seen.method.as_str() {
        "HEAD" => before.answer(seen),
        _ if seen.path().contains("sha256:") => before.answer(seen),
        _ => after.answer(seen),
    })
    .await;
    let client = client();
    let tagged = reference(server.host(), "app:latest");
    let resolved = client.resolve(&tagged).await.unwrap().descriptor;
    assert_eq!(resolved.digest, digest);
    let (descriptor, bytes) = client.manifest(&tagged.with_digest(resolved.digest)).await.unwrap();
    assert_eq!((descriptor.digest, &bytes[..]), (digest.clone(), &old.manifest[..]));
    // A registry that answers the digest with the new manifest is refused.
    let server = hostile(move |_| {
        Reply::ok(new.manifest.clone()).with("Content-Type", media_type::MANIFEST)
    })
    .await;
    let pinned = reference(server.host(), "app").with_digest(digest);
    for outcome in
        [client.manifest(&pinned).await.map(drop), client.resolve(&pinned).await.map(drop)]
    {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::DigestMismatch);
    }
}
