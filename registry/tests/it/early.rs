//! Blobs that are sent while they are made.

use std::io::{self, Read};
use std::sync::Arc;
use std::time::Duration;

use http_client::BodySource;
use oci::{Descriptor, Digest};
use registry::{Error, Pushed, Registries};
use tokio_util::bytes::Bytes;

use crate::docker_registry::{Registry, plain};
use crate::server::{Reply, Seen, Server};
use crate::{client, fetch, noise, reference};

/// Pushes `bytes`, whose sending begins before they are named; `is_worth` says whether it does.
async fn push(
    client: &Registries,
    host: &str,
    bytes: &[u8],
    is_worth: bool,
) -> Result<Pushed, Error> {
    let (name, source) = (reference(host, "app"), Arc::new(Bytes::from(bytes.to_vec())));
    let early = client.push_early(&name, source.clone(), async move { is_worth });
    // It is well on its way before somebody knows the digest.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let descriptor = Descriptor::new("", Digest::of(bytes), bytes.len() as u64);
    client.push_blob(&name, &descriptor, None, Some(early), source).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_has_what_was_sent_before_its_digest() {
    let Some(registry) = Registry::start(plain) else { return };
    let client = client();
    for (bytes, expected) in [
        (noise(20 << 20), Pushed::Uploaded),
        (noise(1 << 20), Pushed::Uploaded),
        (noise(1 << 20), Pushed::Existing),
        (noise(1), Pushed::Uploaded),
    ] {
        assert_eq!(push(&client, &registry.host, &bytes, true).await.unwrap(), expected);
        assert!(fetch(&client, &registry.host, &bytes).await.unwrap().0 == bytes);
    }
    // Docker's registry forgets the bytes, and keeps a few others.
    let uploads = registry.path("storage/docker/registry/v2/repositories/app/_uploads");
    let left = std::fs::read_dir(uploads).unwrap().map(|upload| upload.unwrap().path());
    assert_eq!(left.filter(|upload| upload.join("data").exists()).count(), 0);
}

#[tokio::test]
async fn what_was_sent_is_not_sent_again_unless_it_is_lost() {
    type Answer = fn(&Seen) -> Option<Reply>;
    let whole = "HEAD 0, POST 0, PUT 5";
    let cases: [(&str, bool, Answer, Pushed, &str); 5] = [
        ("all is well", true, |_| None, Pushed::Uploaded, "POST 0, PATCH 5, HEAD 0, PUT 0"),
        ("it is small", false, |_| None, Pushed::Uploaded, whole),
        (
            "it is there",
            true,
            |seen| (seen.method == "HEAD").then(|| Reply::ok("").with("content-length", "5")),
            Pushed::Existing,
            "POST 0, PATCH 5, HEAD 0, DELETE 0",
        ),
        (
            "no pieces are taken",
            true,
            |seen| (seen.method == "PATCH").then(|| Reply::new(405, "")),
            Pushed::Uploaded,
            "POST 0, PATCH 5, DELETE 0, HEAD 0, POST 0, PUT 5",
        ),
        (
            "it is forgotten",
            true,
            |seen| (seen.method == "PUT" && seen.body.is_empty()).then(Reply::not_found),
            Pushed::Uploaded,
            "POST 0, PATCH 5, HEAD 0, PUT 0, POST 0, PUT 5",
        ),
    ];
    for (what, is_worth, answer, expected, lines) in cases {
        let server = Server::start(move |seen| {
            let usual = || match seen.method.as_str() {
                "GET" => Reply::ok("{}"),
                "HEAD" => Reply::not_found(),
                "POST" | "PATCH" => Reply::new(202, "").with("Location", "/session"),
                _ => Reply::new(201, ""),
            };
            answer(seen).unwrap_or_else(usual)
        })
        .await;
        let pushed = push(&client(), server.host(), b"bytes", is_worth).await;
        assert_eq!(pushed.unwrap(), expected, "{what}");
        let line = |seen: &Seen| format!("{} {}", seen.method, seen.body.len());
        let seen = server.seen();
        let seen: Vec<_> = seen.iter().filter(|seen| seen.method != "GET").map(line).collect();
        assert_eq!(seen.join(", "), lines, "{what}");
    }
}

/// A blob that is never whole.
struct GivenUp;

impl BodySource for GivenUp {
    fn open(&self, _: u64) -> io::Result<Box<dyn Read + Send>> {
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("given up"))
            }
        }
        Ok(Box::new(io::repeat(7).take(1 << 20).chain(Failing)))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_given_up_is_sent_in_the_ordinary_way() {
    let Some(registry) = Registry::start(plain) else { return };
    let (client, bytes) = (client(), noise(100));
    let name = reference(&registry.host, "app");
    let early = client.push_early(&name, Arc::new(GivenUp), async { true });
    let descriptor = Descriptor::new("", Digest::of(&bytes), 100);
    let source = Arc::new(Bytes::from(bytes.clone()));
    let pushed = client.push_blob(&name, &descriptor, None, Some(early), source).await;
    assert_eq!(pushed.unwrap(), Pushed::Uploaded);
    assert!(fetch(&client, &registry.host, &bytes).await.unwrap().0 == bytes);
}
