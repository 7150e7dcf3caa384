//! Servers of objects, on loopback: one that speaks S3, and one that speaks as Azure's blob storage.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::builder::Builder;
use super::skip;

const MOTO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/object-store/bin/moto_server");
const AZURITE: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../target/object-store/azurite/node_modules/.bin/azurite-blob"
);
const LOG: &str = "objects.log";
/// The account and the key that everybody's emulator has.
const ACCOUNT: &str = "devstoreaccount1";
const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// What a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    S3,
    Azure,
    /// Azure's, over TLS and for who has a token, with the certificate of `engine_tls`.
    AzureWithTokens,
}

/// A server; it ends when dropped.
pub(super) struct ObjectStore {
    kind: Kind,
    address: String,
    process: Child,
}

impl ObjectStore {
    /// Starts one, with a bucket called `bucket` if it speaks S3; nothing, and a word about it, where it is not
    /// installed.
    pub(super) fn start(builder: &Builder, kind: Kind) -> Option<Self> {
        let program = if kind == Kind::S3 { MOTO } else { AZURITE };
        if !Path::new(program).exists() {
            skip(&format!("`scripts/object-store` has not made a server for {kind:?}"));
            return None;
        }
        for _ in 0..5 {
            // A port that was free a moment ago; another program may be faster, so try again.
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap().to_string();
            drop(listener);
            let port = address.split_once(':').unwrap().1;
            let log =
                fs::File::options().create(true).append(true).open(builder.path(LOG)).unwrap();
            let mut command = Command::new(program);
            match kind {
                Kind::S3 => command.args(["-H", "127.0.0.1", "-p", port]),
                Kind::Azure | Kind::AzureWithTokens => command
                    .args(["--inMemoryPersistence", "--disableTelemetry", "--blobHost"])
                    .args(["127.0.0.1", "--blobPort", port]),
            };
            if kind == Kind::AzureWithTokens {
                command.args(["--oauth", "basic", "--cert"]).arg(builder.path("tls/server.pem"));
                command.arg("--key").arg(builder.path("tls/server-key.pem"));
            }
            command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
            let mut store = Self { kind, address, process: command.spawn().unwrap() };
            if store.answers() {
                return Some(store);
            }
        }
        panic!("the server for {kind:?} does not start");
    }

    /// Makes the bucket, where one has to be made before.
    fn answers(&mut self) -> bool {
        let url = format!("{}/bucket", self.url());
        for _ in 0..300 {
            let mut curl = Command::new("curl");
            curl.args(["-s", "-k", "-o", "/dev/null", "--noproxy", "*", "-X", "PUT", &url]);
            if curl.status().unwrap().success() {
                return true;
            }
            if self.process.try_wait().unwrap().is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        false
    }

    pub(super) fn url(&self) -> String {
        let protocol = if self.kind == Kind::AzureWithTokens { "https" } else { "http" };
        format!("{protocol}://{}", self.address)
    }

    /// A cache in it.
    pub(super) fn cache(&self) -> String {
        match self.kind {
            Kind::S3 => {
                format!("{},access_key_id=id,secret_access_key=secret", self.cache_of_environment())
            }
            Kind::Azure => format!("{},secret_access_key={KEY}", self.cache_of_environment()),
            Kind::AzureWithTokens => self.cache_of_environment(),
        }
    }

    /// The same for whom the environment names.
    pub(super) fn cache_of_environment(&self) -> String {
        let url = self.url();
        match self.kind {
            Kind::S3 => format!(
                "type=s3,bucket=bucket,region=here,endpoint_url={url},use_path_style=true,prefix=ci/"
            ),
            Kind::Azure | Kind::AzureWithTokens => {
                format!("type=azblob,account_url={url}/{ACCOUNT},account_name={ACCOUNT},prefix=ci")
            }
        }
    }

    /// Caches that cannot be used, and what is said of each.
    pub(super) fn wrong(&self) -> Vec<(String, &'static str)> {
        let cache = self.cache();
        match self.kind {
            Kind::S3 => vec![(cache.replace("bucket=bucket", "bucket=none"), "NoSuchBucket")],
            Kind::Azure | Kind::AzureWithTokens => vec![
                (format!("{cache},container=none"), "azblob:none/buildkit is empty"),
                (cache.replace(KEY, "c2VjcmV0"), "AuthorizationFailure"),
            ],
        }
    }

    /// How many objects and lists were asked for since what was asked was last taken.
    pub(super) fn gets(&self, builder: &Builder) -> usize {
        self.asked(builder).lines().filter(|line| line.contains("GET /")).count()
    }

    /// What was asked since this was last taken.
    pub(super) fn asked(&self, builder: &Builder) -> String {
        let log = fs::read(builder.path(LOG)).unwrap();
        fs::OpenOptions::new().write(true).open(builder.path(LOG)).unwrap().set_len(0).unwrap();
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for ObjectStore {
    fn drop(&mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }
}
