//! An image run by another engine: unpacked by `umoci`, run by `runc`.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::builder::Builder;
use super::skip;

/// An image unpacked as what `runc` runs.
pub(crate) struct Container {
    bundle: PathBuf,
    state: PathBuf,
}

impl Container {
    /// Takes an image of the store; nothing, and a word about it, where the engine is not installed.
    pub(crate) fn new(builder: &Builder, image: &str) -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            skip("runc needs root");
            return None;
        }
        for program in ["umoci", "runc"] {
            let there =
                ["/usr/bin", "/usr/sbin"].map(|path| Path::new(path).join(program).exists());
            if !there.contains(&true) {
                skip(&format!("{program} is not installed"));
                return None;
            }
        }
        let directory = builder.path("runc");
        let _ = std::fs::remove_dir_all(&directory);
        let output = format!(
            "type=oci,dest={}/layout,tar=false,compression=uncompressed",
            directory.display()
        );
        let dockerfile = format!("FROM {image}\n");
        let tag = format!("{image}:runc");
        builder.build(&dockerfile, &["-t", &tag, "-o", &output]).success();
        let unpacked = Command::new("umoci")
            .args(["unpack", "--image", "layout:runc", "bundle"])
            .current_dir(&directory)
            .output()
            .expect("umoci runs");
        assert!(unpacked.status.success(), "{}", String::from_utf8_lossy(&unpacked.stderr));
        let container = Self { bundle: directory.join("bundle"), state: directory.join("state") };
        container.change(|config| {
            config["process"]["terminal"] = json!(false);
            // The host's network, so that a server can be asked.
            let namespaces = config["linux"]["namespaces"].as_array_mut().expect("a list");
            namespaces.retain(|namespace| namespace["type"] != "network");
        });
        Some(container)
    }

    pub(crate) fn set_environment(&mut self, variable: &str) {
        let name = format!("{}=", variable.split('=').next().expect("a name"));
        self.change(|config| {
            let env = config["process"]["env"].as_array_mut().expect("a list");
            env.retain(|other| !other.as_str().is_some_and(|other| other.starts_with(&name)));
            env.push(json!(variable));
        });
    }

    fn change(&self, change: impl FnOnce(&mut Value)) {
        let path = self.bundle.join("config.json");
        let text = std::fs::read_to_string(&path).expect("umoci wrote it");
        let mut config = serde_json::from_str(&text).expect("JSON");
        change(&mut config);
        std::fs::write(path, config.to_string()).expect("written");
    }

    pub(crate) fn start(&self) -> Child {
        self.runc(&["run", "--bundle"])
            .arg(&self.bundle)
            .arg(self.id())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("runc runs")
    }

    /// Ends it whatever it does about signals: it is the first process of its namespace, so most of
    /// them do nothing by default.
    pub(crate) fn stop(&self) {
        let status = self.runc(&["kill"]).arg(self.id()).arg("KILL").status();
        assert!(status.expect("runc runs").success());
    }

    fn runc(&self, words: &[&str]) -> Command {
        let mut command = Command::new("runc");
        command.arg("--root").arg(&self.state).args(words);
        command
    }

    fn id(&self) -> String {
        let id = format!("mybuild-e2e{}", self.bundle.display());
        id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect()
    }
}

impl Drop for Container {
    /// A test that has failed leaves nothing, either.
    fn drop(&mut self) {
        let _ = self.runc(&["delete", "--force"]).arg(self.id()).status();
    }
}
