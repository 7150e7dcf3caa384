//! Docker's own registry on a loopback address.

use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

pub(super) use crate::docker_registry::has;
use crate::docker_registry::{Registry, plain};

/// A running `docker-registry`; dropped, it is gone.
pub(super) struct DockerRegistry {
    pub(super) host: String,
    registry: Registry,
}

/// An answer of the registry.
pub(super) struct Answer {
    pub(super) status: u16,
    /// By names in lower case.
    pub(super) headers: HashMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl DockerRegistry {
    /// `None`, and a word about it, where it is not installed.
    pub(super) fn start() -> Option<Self> {
        let registry = Registry::start(plain)?;
        Some(Self { host: registry.host.clone(), registry })
    }

    /// What names an image here: `127.0.0.1:PORT/app:1`.
    pub(super) fn name(&self, image: &str) -> String {
        format!("{}/{image}", self.host)
    }

    /// Loses a blob, in whatever repositories it is.
    pub(super) fn forget(&self, digest: &str) {
        let hex = &digest["sha256:".len()..];
        let blobs = self.registry.path("storage/docker/registry/v2/blobs/sha256");
        std::fs::remove_dir_all(blobs.join(&hex[..2]).join(hex)).expect("it was there");
    }

    /// What is at a path below `/v2/`.
    pub(super) fn get(&self, path: &str) -> Answer {
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
    pub(super) fn manifest(&self, repository: &str, name: &str) -> (String, serde_json::Value) {
        let answer = self.get(&format!("{repository}/manifests/{name}"));
        assert_eq!(answer.status, 200, "{repository}:{name}");
        let document = serde_json::from_slice(&answer.body).expect("JSON");
        (answer.headers["docker-content-digest"].clone(), document)
    }

    /// The tags of a repository.
    pub(super) fn tags(&self, repository: &str) -> Vec<String> {
        let answer = self.get(&format!("{repository}/tags/list"));
        let list: serde_json::Value = serde_json::from_slice(&answer.body).expect("JSON");
        let tags = list["tags"].as_array().cloned().unwrap_or_default();
        tags.iter().map(|tag| tag.as_str().expect("text").to_owned()).collect()
    }
}
