//! Against Docker's own registry, where it is installed.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use http_client::BodySource;
use oci::{Descriptor, Digest, Reference, manifest, media_type};
use registry::{
    Config, Credential, Credentials, ErrorKind, HostConfig, KeyPair, Pushed, Registries,
};
use tokio_util::bytes::Bytes;

use crate::image::Image;
use crate::{client, client_with, fetch, noise, reference};

/// A running `docker-registry`, gone when dropped.
struct Registry {
    host: String,
    process: Child,
    directory: tempfile::TempDir,
}

impl Registry {
    /// Starts one with more settings from `http`, or says that there is none.
    async fn start(http: impl Fn(&Path) -> String) -> Option<Self> {
        if !has("docker-registry") {
            eprintln!("skipped: docker-registry is not installed");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        // A port that was free a moment ago; another program may be faster, so try again.
        for _ in 0..5 {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let host = listener.local_addr().unwrap().to_string();
            drop(listener);
            let config = directory.path().join("config.yml");
            let storage = directory.path().join("storage");
            let text = format!(
                "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nlog: {{level: error, accesslog: {{disabled: true}}}}\n{}\n",
                storage.display(),
                http(directory.path()).replace("ADDRESS", &host)
            );
            std::fs::write(&config, text).unwrap();
            let mut process = Command::new("docker-registry")
                .arg("serve")
                .arg(&config)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap();
            if answers(&host, &mut process).await {
                return Some(Self { host, process, directory });
            }
            drop(process.kill());
            process.wait().unwrap();
        }
        panic!("docker-registry does not start");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

async fn answers(host: &str, process: &mut Child) -> bool {
    for _ in 0..200 {
        if tokio::net::TcpStream::connect(host).await.is_ok() {
            return true;
        }
        if process.try_wait().unwrap().is_some() {
            return false;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn plain(_: &Path) -> String {
    "http: {addr: \"ADDRESS\"}".to_owned()
}

fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, Digest::of(bytes), bytes.len() as u64)
}

async fn push(client: &Registries, to: &Reference, image: &Image) {
    for blob in [&image.config, &image.layer] {
        let source: Arc<dyn BodySource> = Arc::new(Bytes::from(blob.clone()));
        client.push_blob(to, &describe("", blob), None, source).await.unwrap();
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
    let Some(registry) = Registry::start(plain).await else { return };
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
            client.push_blob(to, &descriptor, mount, Arc::clone(&layer)).await.unwrap(),
            expected
        );
    }
    // The registry refuses what it is not told truly, and manifests whose blobs it lacks.
    let wrong = describe("", b"other bytes");
    assert!(
        client
            .push_blob(&copy, &wrong, None, Arc::new(Bytes::from_static(b"wrong bytes")))
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
    let Some(registry) = Registry::start(plain).await else { return };
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

/// A certificate for loopback, if `openssl` is there to make it.
fn certificate(directory: &Path) -> bool {
    if !has("openssl") {
        eprintln!("skipped: openssl is not installed");
        return false;
    }
    let settings = "[req]\ndistinguished_name = name\nx509_extensions = server\nprompt = no\n\
        [name]\nCN = localhost\n\
        [server]\nbasicConstraints = critical, CA:FALSE\nsubjectAltName = IP:127.0.0.1, DNS:localhost\n";
    std::fs::write(directory.join("openssl.cnf"), settings).unwrap();
    let status = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-config",
            "openssl.cnf",
        ])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(directory)
        .stderr(Stdio::null())
        .status();
    status.unwrap().success()
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_verified_unless_the_user_says_otherwise() {
    let keys = tempfile::tempdir().unwrap();
    if !certificate(keys.path()) {
        return;
    }
    let tls = |_: &Path| {
        let file = |name| keys.path().join(name).display().to_string();
        format!(
            "http: {{addr: \"ADDRESS\", tls: {{certificate: {}, key: {}}}}}",
            file("cert.pem"),
            file("key.pem")
        )
    };
    let Some(registry) = Registry::start(tls).await else { return };
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
    let Some(registry) = Registry::start(tls).await else { return };
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
