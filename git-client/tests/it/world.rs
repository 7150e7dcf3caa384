//! A place for repositories, and one of ours to fetch into.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git_client::checkout::Options;
use git_client::{Access, Commit, Git, GitError, Limits, Remote, Repository, Wanted};

pub(crate) struct World {
    directory: tempfile::TempDir,
    pub(crate) git: Git,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(limits())
    }

    pub(crate) fn with(limits: Limits) -> Self {
        let directory = tempfile::tempdir().expect("room");
        Self { directory, git: Git::find(limits).expect("git is installed") }
    }

    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The repository `name` of ours, made when it is first asked for.
    pub(crate) fn repository(&self, name: &str) -> Repository {
        self.open(name).expect("a repository")
    }

    pub(crate) fn open(&self, name: &str) -> Result<Repository, GitError> {
        let path = self.path(name);
        if !path.exists() {
            std::fs::create_dir(&path).expect("room");
            Repository::create(&path, "sha1").expect("room");
        }
        let lock = File::create(self.path(&format!("{name}.lock"))).expect("room");
        Repository::open(&self.git, &path, lock.into())
    }

    /// Fetches what a reference is at, and writes its files to the new directory `to`.
    pub(crate) async fn fetch(
        &self,
        url: &str,
        reference: &str,
        to: &str,
    ) -> Result<Commit, GitError> {
        let remote = Remote::parse(url)?;
        let access = Access::default();
        let found = self.git.look_up(&remote, &access, reference).await?;
        let repository = self.repository("ours");
        let wanted = Wanted { commit: found.commit, tag: found.tag, reference: found.reference };
        if !repository.has(&wanted.commit).await? {
            repository.fetch(&remote, &access, &wanted).await?;
        }
        self.check_out(&repository, &wanted.commit, to).await?;
        Ok(wanted.commit)
    }

    pub(crate) async fn check_out(
        &self,
        repository: &Repository,
        commit: &Commit,
        to: &str,
    ) -> Result<(), GitError> {
        std::fs::create_dir(self.path(to)).expect("a new directory");
        repository.check_out(commit, &self.path(to), Options { lfs: None }).await
    }
}

/// Limits that let a failure be seen soon.
pub(crate) fn limits() -> Limits {
    Limits { idle: Duration::from_secs(20), answer: 1 << 20, ..Limits::default() }
}

/// A reference by the commit alone.
pub(crate) fn only(commit: &str) -> Wanted {
    Wanted { commit: commit.parse().expect("a commit"), tag: None, reference: None }
}
