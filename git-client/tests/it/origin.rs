//! Repositories to fetch from. The tests of `frontend-cli` use it as well.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs `git` in a directory, with nothing of this machine's configuration.
#[track_caller]
pub(crate) fn git(directory: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .args(["-c", "init.defaultBranch=main", "-c", "protocol.file.allow=always"])
        .args(["-c", "core.hooksPath=/dev/null", "-c", "safe.directory=*"])
        .args(words)
        .current_dir(directory)
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_NAME"), "someone")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_EMAIL"), "a@b.example")))
        .envs(["AUTHOR", "COMMITTER"].map(|who| (format!("GIT_{who}_DATE"), "1600000000 +0000")))
        .output()
        .expect("git runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "git {words:?}: {said}");
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

/// A repository with files, and what servers serve of it: `ROOT/NAME.git`.
pub(crate) struct Origin {
    work: PathBuf,
    bare: PathBuf,
}

impl Origin {
    pub(crate) fn new(root: &Path, name: &str) -> Self {
        Self::with_format(root, name, "sha1")
    }

    pub(crate) fn with_format(root: &Path, name: &str, format: &str) -> Self {
        let (work, bare) = (root.join(format!("{name}.work")), root.join(format!("{name}.git")));
        let format = format!("--object-format={format}");
        for (path, more) in [(&work, None), (&bare, Some("--bare"))] {
            std::fs::create_dir_all(path).expect("room");
            git(path, &[&["init", "-q", format.as_str()][..], more.as_slice()].concat());
        }
        Self { work, bare }
    }

    pub(crate) fn work(&self) -> &Path {
        &self.work
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.work.join(name);
        std::fs::create_dir_all(path.parent().expect("below")).expect("room");
        std::fs::write(path, content).expect("room");
    }

    /// Commits all files and publishes all branches and tags. Gives the commit.
    pub(crate) fn commit(&self) -> String {
        git(&self.work, &["add", "-A"]);
        self.commit_index()
    }

    /// The same with what is in the index.
    pub(crate) fn commit_index(&self) -> String {
        git(&self.work, &["commit", "-q", "--allow-empty", "-m", "a commit"]);
        self.publish();
        git(&self.work, &["rev-parse", "HEAD"])
    }

    pub(crate) fn publish(&self) {
        let bare = self.bare.to_str().expect("a text path");
        git(&self.work, &["push", "-q", "--force", "--mirror", bare]);
    }

    pub(crate) fn git(&self, words: &[&str]) -> String {
        git(&self.work, words)
    }

    /// Puts another repository at `path`, which is called `name` and whose address is `url`.
    pub(crate) fn add_submodule(&self, name: &str, path: &str, url: &str, commit: &str) {
        let known = std::fs::read_to_string(self.work.join(".gitmodules")).unwrap_or_default();
        self.write(
            ".gitmodules",
            format!("{known}[submodule \"{name}\"]\n\tpath = {path}\n\turl = {url}\n"),
        );
        self.git(&["add", ".gitmodules"]);
        self.git(&["update-index", "--add", "--cacheinfo", &format!("160000,{commit},{path}")]);
    }
}
