//! Docker's own registry, on loopback.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

use super::skip;

/// A running `docker-registry`; it ends when dropped.
pub(crate) struct Registry {
    /// `127.0.0.1:PORT`
    pub(crate) host: String,
    process: Child,
    directory: TempDir,
}

impl Registry {
    /// Starts one; nothing, and a word about it, where it is not installed.
    pub(crate) fn start() -> Option<Self> {
        if Command::new("docker-registry").arg("--version").stdout(Stdio::null()).status().is_err()
        {
            skip("docker-registry is not installed");
            return None;
        }
        // A port that was free a moment ago; another program may be faster, so try again.
        for _ in 0..5 {
            let directory = tempfile::tempdir().expect("a directory");
            let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
            let host = listener.local_addr().expect("an own socket").to_string();
            drop(listener);
            let config = directory.path().join("config.yml");
            let text = format!(
                "version: 0.1\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nlog: {{level: error}}\n\
                 http: {{addr: \"{host}\"}}\n",
                directory.path().join("storage").display(),
            );
            fs::write(&config, text).expect("room");
            let log = fs::File::create(directory.path().join("log")).expect("room");
            let mut command = Command::new("docker-registry");
            command.arg("serve").arg(&config).stdout(log).stderr(Stdio::null());
            let process = command.spawn().expect("it is installed");
            let mut registry = Self { host, process, directory };
            if registry.answers() {
                return Some(registry);
            }
        }
        panic!("docker-registry does not start");
    }

    fn answers(&mut self) -> bool {
        for _ in 0..200 {
            if TcpStream::connect(&self.host).is_ok() {
                return true;
            }
            if self.process.try_wait().expect("an own child").is_some() {
                return false;
            }
            std::thread::sleep(Duration::from_millis(25));
        }
        false
    }

    /// What it has under a tag.
    pub(crate) fn manifest(&self, repository: &str, tag: &str) -> Value {
        let link = format!("repositories/{repository}/_manifests/tags/{tag}/current/link");
        let digest = fs::read_to_string(self.kept(&link)).expect("a tag");
        serde_json::from_slice(&fs::read(self.blob(&digest)).expect("a manifest")).expect("JSON")
    }

    /// Loses the layers of what it has under a tag.
    pub(crate) fn lose_layers(&self, repository: &str, tag: &str) {
        for layer in self.manifest(repository, tag)["layers"].as_array().expect("a list") {
            fs::remove_file(self.blob(layer["digest"].as_str().expect("a digest")))
                .expect("a blob");
        }
    }

    fn blob(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").expect("a digest");
        self.kept(&format!("blobs/sha256/{}/{hex}/data", &hex[..2]))
    }

    fn kept(&self, path: &str) -> PathBuf {
        self.directory.path().join("storage/docker/registry/v2").join(path)
    }

    /// What was asked of it since the last call: `GET /v2/…` in the order of their ends.
    pub(crate) fn requests(&self) -> Vec<String> {
        let path = self.directory.path().join("log");
        let log = fs::read(&path).expect("its log");
        fs::OpenOptions::new().write(true).open(&path).expect("its log").set_len(0).expect("a log");
        let log = String::from_utf8_lossy(&log);
        let quoted = log.lines().filter_map(|line| line.split('"').nth(1));
        quoted.map(|request| request.trim_end_matches(" HTTP/1.1").to_owned()).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().expect("an own child");
        self.process.wait().expect("an own child");
    }
}
