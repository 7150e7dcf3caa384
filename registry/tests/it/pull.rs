//! Pulls that go well, or well in the end.

use std::io;

use oci::{Descriptor, Digest, Index, media_type};
use registry::{BlobSink, Config, Credentials, ErrorKind, MemorySink};

use crate::image::Image;
use crate::server::{Reply, Server};
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
