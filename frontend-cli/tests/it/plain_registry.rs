//! Docker's own registry on a loopback address, for everybody.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::docker_registry::{Registry, plain};

/// A running `docker-registry`; dropped, it is gone.
pub(crate) struct PlainRegistry {
    pub(crate) host: String,
    registry: Registry,
}

/// An answer of the registry.
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// By names in lower case.
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl PlainRegistry {
    /// `None`, and a word about it, where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        let registry = Registry::start(plain)?;
        Some(Self { host: registry.host.clone(), registry })
    }

    /// What names an image here: `127.0.0.1:PORT/app:1`.
    pub(crate) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host)
    }

    /// What was asked of it since the last call: `GET /v2/…` in the order of their ends.
    pub(crate) fn requests(&self) -> Vec<String> {
        let path = self.registry.path("log");
        let log = std::fs::read(&path).expect("its log");
        let file = std::fs::OpenOptions::new().write(true).open(&path).expect("its log");
        file.set_len(0).expect("a log");
        let log = String::from_utf8_lossy(&log);
        let quoted = log.lines().filter_map(|line| line.split('"').nth(1));
        quoted.map(|request| request.trim_end_matches(" HTTP/1.1").to_owned()).collect()
    }

    /// Loses the layers of what it has under a tag.
    pub(crate) fn lose_layers(&self, repository: &str, tag: &str) {
        let (_, manifest) = self.manifest(repository, tag);
        for layer in manifest["layers"].as_array().expect("a list") {
            self.forget(layer["digest"].as_str().expect("a digest"));
        }
    }

    /// Loses a blob, in whatever repositories it is.
    pub(crate) fn forget(&self, digest: &str) {
        let hex = &digest["sha256:".len()..];
        let blobs = self.registry.path("storage/docker/registry/v2/blobs/sha256");
        std::fs::remove_dir_all(blobs.join(&hex[..2]).join(hex)).expect("it was there");
    }

    /// What is at a path below `/v2/`.
    pub(crate) fn get(&self, path: &str) -> Answer {
        let mut stream = TcpStream::connect(&self.host).expect("it listens");
        write!(
            stream,
            "GET /v2/{path} HTTP/1.0\r\nHost: {}\r\nAccept: {}, {}\r\n\r\n",
            self.host,
            oci::media_type::MANIFEST,
            oci::media_type::INDEX
        )
        .expect("written");
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).expect("read");
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("headers end");
        let head = String::from_utf8(bytes[..end].to_vec()).expect("UTF-8");
        let status = head.split(' ').nth(1).expect("a status").parse().expect("a number");
        let headers = head.lines().filter_map(|line| line.split_once(": "));
        let headers = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned()));
        Answer { status, headers: headers.collect(), body: bytes[end + 4..].to_vec() }
    }

    /// The manifest or index of a tag or digest, with its digest.
    pub(crate) fn manifest(&self, repository: &str, name: &str) -> (String, serde_json::Value) {
        let answer = self.get(&format!("{repository}/manifests/{name}"));
        assert_eq!(answer.status, 200, "{repository}:{name}");
        let document = serde_json::from_slice(&answer.body).expect("JSON");
        (answer.headers["docker-content-digest"].clone(), document)
    }

    /// The tags of a repository.
    pub(crate) fn tags(&self, repository: &str) -> Vec<String> {
        let answer = self.get(&format!("{repository}/tags/list"));
        let list: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let tags = list["tags"].as_array().cloned().unwrap_or_default();
        tags.iter().map(|tag| tag.as_str().expect("text").to_owned()).collect()
    }
}
