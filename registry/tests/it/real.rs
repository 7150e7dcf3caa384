//! Against Docker's own registry, where it is installed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use http_client::BodySource;
use oci::{Descriptor, Digest, Reference, manifest, media_type};
use registry::{
    Config, Credential, Credentials, ErrorKind, HostConfig, KeyPair, Pushed, Registries,
};
use tokio_util::bytes::Bytes;

use crate::docker_registry::{
    IDENTITY, Registry, TokenService, certificate, has, plain, with_passwords, with_tls,
    with_tokens,
};
use crate::image::Image;
use crate::server::Server;
use crate::{client, client_with, fetch, noise, reference};

fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
}

async fn push(client: &Registries, to: &Reference, image: &Image) {
    for blob in [&image.config, &image.layer] {
        let source: Arc<dyn BodySource> = Arc::new(Bytes::from(blob.clone()));
        client.push_blob(to, &describe("", blob), None, None, source).await.unwrap();
    }
    let bytes = Bytes::from(image.manifest.clone());
    let descriptor = client.push_manifest(to, media_type::MANIFEST, bytes).await.unwrap();
    assert_eq!(descriptor, describe(media_type::MANIFEST, &image.manifest));
}

async fn pull(client: &Registries, from: &Reference, image: &Image) {
    let resolved = client.resolve(from).await.unwrap();
    let (descriptor, bytes) =
        client.manifest(&from.with_digest(resolved.descriptor.digest.clone())).await.unwrap();
    assert_eq!((descriptor, &bytes[..]), (resolved.descriptor, &image.manifest[..]));
    assert!(fetch(client, from.domain(), &image.layer).await.unwrap().0 == image.layer);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_goes_to_a_registry_and_comes_back() {
    let Some(registry) = Registry::start(plain) else { return };
    let client = client();
    let image = Image::new(noise(40 << 20));
    let app = reference(&registry.host, "app:latest");
    push(&client, &app, &image).await;
    pull(&client, &app, &image).await;
    // Blobs go over the wire once.
    let layer: Arc<dyn BodySource> = Arc::new(Bytes::from(image.layer.clone()));
    let descriptor = describe("", &image.layer);
    let copy = reference(&registry.host, "team/copy");
    for (to, mount, expected) in [
        (&app, None, Pushed::Existing),
        (&copy, Some(&app), Pushed::Mounted),
        (&copy, None, Pushed::Existing),
    ] {
        assert_eq!(
            client.push_blob(to, &descriptor, mount, None, Arc::clone(&layer)).await.unwrap(),
            expected
        );
    }
    // The registry refuses what it is not told truly, and manifests whose blobs it lacks.
    let wrong = describe("", b"other bytes");
    assert!(
        client
            .push_blob(&copy, &wrong, None, None, Arc::new(Bytes::from_static(b"wrong bytes")))
            .await
            .is_err()
    );
    let manifest = Bytes::from(Image::new(noise(5)).manifest);
    let error = client.push_manifest(&copy, media_type::MANIFEST, manifest).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidAnswer);
    let error = client.resolve(&reference(&registry.host, "app:none")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_skopeo_pushes_we_pull() {
    if !has("skopeo") {
        eprintln!("skipped: skopeo is not installed");
        return;
    }
    let Some(registry) = Registry::start(plain) else { return };
    let layout = registry.path("layout");
    // What does not look compressed, skopeo compresses.
    let image = Image::new([b"\x1f\x8b\x08".to_vec(), noise(100_000)].concat());
    write_layout(&layout, &image);
    let app = reference(&registry.host, "app:latest");
    let status = Command::new("skopeo")
        .args(["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"])
        .arg(format!("oci:{}:latest", layout.display()))
        .arg(format!("docker://{app}"))
        .status()
        .unwrap();
    assert!(status.success());
    let client = client();
    pull(&client, &app, &image).await;
    let (_, bytes) = client.manifest(&app).await.unwrap();
    assert!(matches!(manifest::parse(&bytes, None), Ok(manifest::Document::Manifest(_))));
}

fn write_layout(layout: &Path, image: &Image) {
    let blobs = layout.join("blobs/sha256");
    std::fs::create_dir_all(&blobs).unwrap();
    for blob in [&image.config, &image.layer, &image.manifest] {
        std::fs::write(blobs.join(Digest::of(blob).hex()), blob).unwrap();
    }
    let mut entry = describe(media_type::MANIFEST, &image.manifest);
    entry.annotations.insert("org.opencontainers.image.ref.name".into(), "latest".into());
    let index = oci::Index { manifests: vec![entry], ..oci::Index::default() };
    std::fs::write(layout.join("index.json"), serde_json::to_vec(&index).unwrap()).unwrap();
    std::fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_verified_unless_the_user_says_otherwise() {
    let keys = tempfile::tempdir().unwrap();
    if !certificate(keys.path()) {
        return;
    }
    let Some(registry) = Registry::start(|_| with_tls(keys.path())) else { return };
    let client = |settings: HostConfig| {
        let hosts = [(registry.host.clone(), settings)].into();
        let credentials = Credentials::anonymous().with(
            &registry.host,
            Credential::Basic { username: "nobody".into(), password: "asks".into() },
        );
        client_with(Config { hosts, ..Config::default() }, credentials)
    };
    let image = Image::new(noise(100_000));
    let app = reference(&registry.host, "app:latest");
    let trusting = HostConfig { ca: vec![keys.path().join("cert.pem")], ..HostConfig::default() };
    push(&client(trusting.clone()), &app, &image).await;
    let careless = HostConfig { insecure: true, ..HostConfig::default() };
    for settings in
        [trusting.clone(), careless, HostConfig { http: Some(false), ..trusting.clone() }]
    {
        pull(&client(settings), &app, &image).await;
    }
    let untrusted = client(HostConfig::default()).resolve(&app).await.unwrap_err();
    assert_eq!(untrusted.kind(), ErrorKind::Untrusted, "{untrusted:?}");
    for unusable in ["none.pem", "key.pem"] {
        let settings = HostConfig { ca: vec![keys.path().join(unusable)], ..HostConfig::default() };
        let error = client(settings).resolve(&app).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Configuration, "{unusable}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_opens_a_registry_that_asks_for_one() {
    let keys = tempfile::tempdir().unwrap();
    if !certificate(keys.path()) {
        return;
    }
    let file = |name| keys.path().join(name);
    let tls = |_: &Path| {
        let (cert, key) = (file("cert.pem"), file("key.pem"));
        let (cert, key) = (cert.display(), key.display());
        format!(
            "http: {{addr: \"ADDRESS\", tls: {{certificate: {cert}, key: {key}, clientcas: [{cert}]}}}}"
        )
    };
    let Some(registry) = Registry::start(tls) else { return };
    let outcome = async |pairs: usize| {
        let pair = KeyPair { key: file("key.pem"), cert: file("cert.pem") };
        let settings = HostConfig {
            ca: vec![file("cert.pem")],
            keypair: vec![pair; pairs],
            ..HostConfig::default()
        };
        let config =
            Config { hosts: [(registry.host.clone(), settings)].into(), ..Config::default() };
        let client = client_with(config, Credentials::anonymous());
        client.resolve(&reference(&registry.host, "app")).await.unwrap_err().kind()
    };
    assert_eq!(outcome(0).await, ErrorKind::Unavailable);
    assert_eq!(outcome(1).await, ErrorKind::NotFound);
    assert_eq!(outcome(2).await, ErrorKind::Configuration);
}

const ALICE: &str = "alice";

fn as_alice(host: &str, password: &str) -> Registries {
    let credential = Credential::Basic { username: ALICE.into(), password: password.into() };
    client_with(Config::default(), Credentials::anonymous().with(host, credential))
}

/// What comes of a push and of a pull of `name`.
async fn outcomes(
    client: &Registries,
    name: &Reference,
) -> (Result<Pushed, ErrorKind>, Result<(), ErrorKind>) {
    let blob = Bytes::from(noise(1000));
    let descriptor = describe("", &blob);
    let pushed = client.push_blob(name, &descriptor, None, None, Arc::new(blob)).await;
    let pulled = client.resolve(name).await;
    (pushed.map_err(|e| e.kind()), pulled.map(drop).map_err(|e| e.kind()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_passwords_is_for_those_who_know_them() {
    let Some(registry) = Registry::start(with_passwords) else { return };
    let (alice, image) = (as_alice(&registry.host, "secret"), Image::new(noise(100_000)));
    let app = reference(&registry.host, "app:latest");
    push(&alice, &app, &image).await;
    let resolved = alice.resolve(&app).await.unwrap();
    let pinned = app.with_digest(resolved.descriptor.digest);
    assert_eq!(alice.manifest(&pinned).await.unwrap().1, image.manifest);
    assert!(fetch(&alice, &registry.host, &image.layer).await.unwrap().0 == image.layer);
    let refused = (Err(ErrorKind::Unauthorized), Err(ErrorKind::Unauthorized));
    for client in [client(), as_alice(&registry.host, "wrong")] {
        assert_eq!(outcomes(&client, &app).await, refused);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_with_tokens_takes_those_of_its_service() {
    let keys = tempfile::tempdir().unwrap();
    if !certificate(keys.path()) {
        return;
    }
    let service = TokenService::new(keys.path());
    let service = Server::start(move |seen| service.answer(seen)).await;
    let Some(registry) = Registry::start(|_| with_tokens(service.host(), keys.path())) else {
        return;
    };
    let (alice, image) = (as_alice(&registry.host, "secret"), Image::new(noise(100_000)));
    let private = reference(&registry.host, "team/app:latest");
    let public = reference(&registry.host, "public/app:latest");
    push(&alice, &private, &image).await;
    // One token for both repositories.
    for blob in [&image.config, &image.layer] {
        let source: Arc<dyn BodySource> = Arc::new(Bytes::from(blob.clone()));
        let pushed =
            alice.push_blob(&public, &describe("", blob), Some(&private), None, source).await;
        assert_eq!(pushed.unwrap(), Pushed::Mounted);
    }
    push(&alice, &public, &image).await;
    let identity = Credential::IdentityToken(IDENTITY.to_owned());
    let known = Credentials::anonymous().with(&registry.host, identity);
    let known = client_with(Config::default(), known);
    let refused = Err(ErrorKind::Unauthorized);
    for (client, name, expected) in [
        (&alice, &private, (Ok(Pushed::Uploaded), Ok(()))),
        (&known, &private, (Ok(Pushed::Existing), Ok(()))),
        (&client(), &private, (refused, Err(ErrorKind::Unauthorized))),
        (&client(), &public, (refused, Ok(()))),
        (&as_alice(&registry.host, "wrong"), &public, (refused, Err(ErrorKind::Unauthorized))),
    ] {
        assert_eq!(outcomes(client, name).await, expected, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_may_lie_in_a_directory_of_the_registry() {
    let keys = tempfile::tempdir().unwrap();
    if !certificate(keys.path()) {
        return;
    }
    let asks = |_: &Path| {
        let cert = keys.path().join("cert.pem");
        with_tls(keys.path()).replace("key:", &format!("clientcas: [{}], key:", cert.display()))
    };
    let Some(registry) = Registry::start(asks) else { return };
    let directory = keys.path().join("certs.d").join(&registry.host);
    std::fs::create_dir_all(&directory).unwrap();
    let outcome = async || {
        let certificates = vec![keys.path().join("nosuch"), keys.path().join("certs.d")];
        let config = Config { certificates, ..Config::default() };
        let client = client_with(config, Credentials::anonymous());
        client.resolve(&reference(&registry.host, "app")).await.unwrap_err()
    };
    let put = |from: &str, name: &str| {
        std::fs::copy(keys.path().join(from), directory.join(name)).unwrap();
    };
    assert_eq!(outcome().await.kind(), ErrorKind::Untrusted);
    put("cert.pem", "ca.crt");
    assert_eq!(outcome().await.kind(), ErrorKind::Unavailable);
    put("cert.pem", "me.cert");
    let keyless = outcome().await;
    assert_eq!(keyless.kind(), ErrorKind::Configuration);
    assert!(registry::chain(&keyless).contains("me.cert` has no key"), "{keyless:?}");
    put("key.pem", "me.key");
    assert_eq!(outcome().await.kind(), ErrorKind::NotFound);
    std::fs::write(directory.join("broken.crt"), "x").unwrap();
    assert_eq!(outcome().await.kind(), ErrorKind::Configuration);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mirror_that_fetches_what_it_lacks_serves_what_the_registry_has() {
    let Some(registry) = Registry::start(plain) else { return };
    let origin = registry.host.clone();
    let Some(mirror) = Registry::start(|directory| {
        format!("{}\nproxy: {{remoteurl: \"http://{origin}\"}}", plain(directory))
    }) else {
        return;
    };
    let mirrored = || {
        let settings = HostConfig { mirrors: vec![mirror.host.clone()], ..HostConfig::default() };
        let hosts = [(origin.clone(), settings)].into();
        client_with(Config { hosts, ..Config::default() }, Credentials::anonymous())
    };
    let (image, app) = (Image::new(noise(100_000)), reference(&origin, "app:latest"));
    // A push goes to the registry itself: the mirror would refuse it.
    push(&mirrored(), &app, &image).await;
    let resolved = mirrored().resolve(&app).await.unwrap();
    assert_eq!(resolved.host, mirror.host);
    pull(&mirrored(), &app, &image).await;
    // The mirror keeps what it has fetched, which takes it a moment.
    let blob = mirror.path("storage/docker/registry/v2/blobs/sha256");
    let hex = Digest::of(&image.layer).hex().to_owned();
    let kept = blob.join(&hex[..2]).join(&hex).join("data");
    for _ in 0..200 {
        if kept.exists() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(25)).await;
    }
    drop(registry);
    pull(&mirrored(), &app, &image).await;
    // What it has not, nobody has now; both are named.
    let error = mirrored().resolve(&reference(&origin, "other")).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains(&origin) && text.contains(&format!("mirror `{}`", mirror.host)),
        "{text}"
    );
}
