//! Pulls that go well, or well in the end.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use oci::{Descriptor, Digest, Index, media_type};
use registry::{BlobSink, Config, Credentials, ErrorKind, Limits, MemorySink, Registries};

use crate::server::{Image, Reply, Server};
use crate::{chain, client, client_with, fetch, fetch_into, limits, noise, reference};

#[tokio::test]
async fn an_image_is_pulled_by_tag_and_by_digest() {
    let image = Image::new(noise(100_000));
    let server = Server::start({
        let image = image.clone();
        move |seen| image.answer(seen)
    })
    .await;
    let client = client();
    let digest = Digest::of(&image.manifest);
    let tagged = reference(server.host(), "app:latest");
    for reference in [tagged.clone(), tagged.without_tag(), tagged.with_digest(digest.clone())] {
        let resolved = client.resolve(&reference).await.unwrap();
        let (descriptor, bytes) = client.manifest(&reference).await.unwrap();
        assert_eq!(resolved.descriptor, descriptor);
        assert_eq!(resolved.host, server.host());
        assert_eq!((descriptor.digest, descriptor.size), (digest.clone(), bytes.len() as u64));
        assert_eq!(
            (descriptor.media_type.as_str(), &bytes[..]),
            (media_type::MANIFEST, &image.manifest[..])
        );
    }
    let (layer, told) = fetch(&client, server.host(), &image.layer).await.unwrap();
    assert_eq!(layer, image.layer);
    assert!(told.is_sorted() && told.first() == Some(&0) && told.last() == Some(&100_000));
    let config =
        Descriptor::new(media_type::CONFIG, Digest::of(&image.config), image.config.len() as u64);
    assert_eq!(client.fetch_bytes(&tagged, &config, 1 << 20).await.unwrap(), image.config);
    let error = client.fetch_bytes(&tagged, &config, 3).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidAnswer);
}

#[tokio::test]
async fn a_registry_without_head_or_digest_header_is_asked_for_the_manifest() {
    let index = serde_json::to_vec(&Index::default()).unwrap();
    for head in
        [Reply::new(405, ""), Reply::ok(""), Reply::ok("").with("Content-Type", media_type::INDEX)]
    {
        let body = index.clone();
        let server = Server::start(move |seen| match seen.method.as_str() {
            "HEAD" => head.clone(),
            _ => Reply::ok(body.clone()),
        })
        .await;
        let resolved = client().resolve(&reference(server.host(), "app")).await.unwrap();
        let expected = Descriptor::new(media_type::INDEX, Digest::of(&index), index.len() as u64);
        assert_eq!(resolved.descriptor, expected);
    }
}

#[tokio::test]
async fn a_missing_image_is_reported_as_such() {
    let server = Server::start(|_| Reply::not_found()).await;
    let error = client().manifest(&reference(server.host(), "app:1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(
        chain(&error, server.host()),
        "failed to fetch the manifest of `HOST/app:1` at `HOST`: not found"
    );
    let error = fetch(&client(), server.host(), b"x").await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_broken_connection_is_resumed() {
    let bytes = noise(300_000);
    let answers = AtomicUsize::new(0);
    let blob = bytes.clone();
    let server = Server::start(move |seen| match answers.fetch_add(1, Ordering::Relaxed) {
        // The first request finds out about the protocol.
        0 => Reply::ok("{}"),
        1 => Reply::cut(blob.len(), &blob[..100_000]),
        2 => Reply::new(503, ""),
        3 => {
            let (first, last) = seen.range().unwrap();
            Reply::cut(last - first + 1, &blob[first..first + 50_000])
                .status(206)
                .with("Content-Range", format!("bytes {first}-{last}/{}", blob.len()))
        }
        _ => Reply::part(seen, &blob),
    })
    .await;
    let (found, told) = fetch(&client(), server.host(), &bytes).await.unwrap();
    assert!(found == bytes);
    assert!(told.is_sorted(), "nothing was fetched twice");
    let ranges: Vec<_> = server.seen().iter().map(|seen| seen.range()).collect();
    assert_eq!(
        ranges,
        [None, Some((100_000, 299_999)), Some((100_000, 299_999)), Some((150_000, 299_999))]
    );
}

#[tokio::test]
async fn a_server_that_ignores_ranges_is_read_again_from_the_start() {
    let bytes = noise(200_000);
    let answers = AtomicUsize::new(0);
    let blob = bytes.clone();
    let server = Server::start(move |_| match answers.fetch_add(1, Ordering::Relaxed) {
        0 => Reply::ok("{}"),
        1 => Reply::cut(blob.len(), &blob[..70_000]),
        _ => Reply::ok(blob.clone()),
    })
    .await;
    let (found, told) = fetch(&client(), server.host(), &bytes).await.unwrap();
    assert!(found == bytes && told.is_sorted());
}

#[tokio::test]
async fn bytes_of_an_earlier_run_are_not_fetched_again() {
    let bytes = noise(50_000);
    let descriptor = Descriptor::new("", Digest::of(&bytes), bytes.len() as u64);
    let blob = bytes.clone();
    let server = Server::start(move |seen| Reply::part(seen, &blob)).await;
    let started_with = |earlier: &[u8]| {
        let mut sink = MemorySink::new(&descriptor.digest);
        sink.write(earlier).unwrap();
        sink
    };
    let client = client();
    let host = server.host();
    let (found, told) =
        fetch_into(&client, host, &descriptor, started_with(&bytes[..20_000])).await.unwrap();
    assert!(found == bytes && told[0] == 20_000);
    assert_eq!(server.seen().last().unwrap().range(), Some((20_000, 49_999)));
    // A finished blob needs no request, a wrong or oversized start is thrown away.
    let requests = server.seen().len();
    let (found, _) = fetch_into(&client, host, &descriptor, started_with(&bytes)).await.unwrap();
    assert!(found == bytes && server.seen().len() == requests);
    for wrong in [vec![0; 20_000], vec![0; 50_000], vec![0; 60_000]] {
        let (found, _) =
            fetch_into(&client, host, &descriptor, started_with(&wrong)).await.unwrap();
        assert!(found == bytes);
    }
}

#[tokio::test]
async fn an_empty_blob_needs_no_request() {
    let server = Server::start(|_| Reply::not_found()).await;
    assert_eq!(fetch(&client(), server.host(), b"").await.unwrap().0, b"");
    assert_eq!(server.lines(), [""; 0]);
}

#[tokio::test]
async fn a_large_blob_comes_in_ranges_at_once() {
    let bytes = noise(1_000_000);
    let client = Registries::new(
        Config { limits: segments(), ..Config::default() },
        Credentials::anonymous(),
    );
    let fails = AtomicUsize::new(3);
    let blob = bytes.clone();
    let server = Server::start(move |seen| {
        let is_middle = seen.range().is_some_and(|(first, _)| first > 300_000);
        let fails = is_middle
            && fails
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
                .is_ok();
        if fails { Reply::new(500, "") } else { Reply::part(seen, &blob) }
    })
    .await;
    let (found, told) = fetch(&client, server.host(), &bytes).await.unwrap();
    assert!(found == bytes && told.is_sorted());
    assert_eq!(server.seen().len(), 16 + 3);
    // A server that knows no ranges sends it in one.
    let blob = bytes.clone();
    let server = Server::start(move |_| Reply::ok(blob.clone())).await;
    let (found, _) = fetch(&client, server.host(), &bytes).await.unwrap();
    assert!(found == bytes && server.seen().len() == 1);
}

#[tokio::test]
async fn a_fast_server_needs_no_second_connection() {
    let bytes = noise(1_000_000);
    let limits = Limits { fast: 1, ..segments() };
    let client = Registries::new(Config { limits, ..Config::default() }, Credentials::anonymous());
    let blob = bytes.clone();
    let server = Server::start(move |seen| Reply::part(seen, &blob)).await;
    assert!(fetch(&client, server.host(), &bytes).await.unwrap().0 == bytes);
    let ranges: Vec<_> = server.seen().iter().map(|seen| seen.range()).collect();
    assert_eq!(ranges, [Some((0, 63_999)), Some((64_000, 999_999))]);
}

fn segments() -> Limits {
    Limits { parallel_from: 100_000, segment: 64_000, fast: u64::MAX, connections: 3, ..limits() }
}

#[tokio::test]
async fn a_blob_is_redirected_to_another_place() {
    let bytes = noise(10_000);
    let blob = bytes.clone();
    let store = Server::start(move |seen| Reply::part(seen, &blob)).await;
    let target = format!("http://{}/bucket/blob?signature=1", store.host());
    let server = Server::start(move |seen| match seen.path() {
        "/v2/" => Reply::ok("{}"),
        path if path.starts_with("/v2/") => Reply::redirect("/elsewhere").status(302),
        _ => Reply::redirect(target.clone()),
    })
    .await;
    assert!(fetch(&client(), server.host(), &bytes).await.unwrap().0 == bytes);
    assert_eq!(store.lines(), ["GET /bucket/blob?signature=1"]);
}

#[tokio::test]
async fn server_errors_are_tried_again_and_then_reported() {
    let server = Server::start(|seen| match seen.path() {
        "/v2/" => Reply::ok("{}"),
        _ => Reply::new(503, "come\u{1b}[31m back later"),
    })
    .await;
    let error = client().manifest(&reference(server.host(), "app:1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    let expected = "failed to fetch the manifest of `HOST/app:1` at `HOST`: \
                    the registry answered with status 503: come [31m back later";
    assert_eq!(chain(&error, server.host()), expected);
    assert_eq!(server.seen().len(), limits().attempts as usize);
}

/// A sink on a full disk.
struct Full;

impl BlobSink for Full {
    fn received(&self) -> u64 {
        0
    }
    fn write(&mut self, _: &[u8]) -> io::Result<()> {
        Err(io::Error::from(io::ErrorKind::StorageFull))
    }
    fn restart(&mut self) -> io::Result<()> {
        Ok(())
    }
    fn digest(&mut self) -> io::Result<Digest> {
        Ok(Digest::of(b""))
    }
}

#[tokio::test]
async fn a_full_disk_is_not_the_registry_s_fault() {
    let bytes = noise(1_000_000);
    let descriptor = Descriptor::new("", Digest::of(&bytes), bytes.len() as u64);
    let server = Server::start(move |seen| Reply::part(seen, &bytes)).await;
    let config = Config {
        hosts: [(
            "mirrored.example".to_owned(),
            crate::mirrors::mirrored_by(&[server.host(), "127.0.0.1:1"]),
        )]
        .into(),
        ..Config::default()
    };
    let client = client_with(config, Credentials::anonymous());
    let reference = reference("mirrored.example", "app");
    let error = client.fetch_blob(&reference, &descriptor, Full, |_| {}).await.err().unwrap();
    assert_eq!((error.kind(), error.host()), (ErrorKind::Storage, server.host()));
    assert_eq!(server.seen().len(), 1);
}
