//! A bare repository that keeps what was fetched.
//!
//! It is never cloned: its few files are written here, so that no template and no configuration of
//! anybody's takes part. Each commit that was fetched whole has a reference `refs/kept/COMMIT`; git makes
//! it after it has seen that all objects are there, so that a fetch that was killed leaves nothing that
//! looks complete.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use crate::call::Call;
use crate::error::GitError;
use crate::program::Git;
use crate::reference::Commit;

/// A repository of ours, which nobody else changes meanwhile.
pub struct Repository {
    pub(crate) git: Git,
    pub(crate) path: PathBuf,
    /// The lock that says so: kept open by everything that is started.
    pub(crate) lock: OwnedFd,
}

/// What a check-out keeps of its files, as long as it goes on.
pub(crate) const INDEX: &str = "check-out";

/// Where references to what was fetched are.
const KEPT: &str = "refs/kept/";

impl Repository {
    /// Makes an empty one at `path`, an empty directory, for objects named as in `format` (`sha1` or `sha256`).
    ///
    /// # Errors
    /// Those of the file system.
    pub fn create(path: &Path, format: &str) -> io::Result<()> {
        write_empty(path, &bare_config(format))
    }

    /// The one at `path`, which nobody else may change while `lock` is held. What a process has left
    /// that was killed there is removed.
    ///
    /// # Errors
    /// [`GitError::Damaged`] if it is none, and those of the file system.
    pub fn open(git: &Git, path: &Path, lock: OwnedFd) -> Result<Self, GitError> {
        if !is_whole(path) {
            return Err(GitError::Damaged);
        }
        let cleared = clear_leftovers(path);
        cleared.map_err(|error| GitError::io(format!("clear up `{}`", path.display()), error))?;
        Ok(Self { git: git.clone(), path: path.to_owned(), lock })
    }

    /// Whether all of a commit, or of an annotated tag, is here.
    ///
    /// # Errors
    /// When `git` cannot be asked.
    pub async fn has(&self, object: &Commit) -> Result<bool, GitError> {
        let name = kept(object);
        let listed = self.ask(["for-each-ref", "--format=%(objectname)", "--", &name]).await?;
        Ok(String::from_utf8_lossy(&listed).trim() == object.as_str())
    }

    /// When a commit was made, in seconds since 1970.
    ///
    /// # Errors
    /// When it is not here.
    pub async fn time(&self, commit: &Commit) -> Result<i64, GitError> {
        let format = ["log", "-1", "--format=%ct", "--end-of-options", commit.as_str()];
        let time = self.ask(format).await?;
        let time = String::from_utf8_lossy(&time).trim().parse();
        time.map_err(|_| GitError::NoCommit(commit.clone()))
    }

    /// Whether all that is here is what its name says; takes as long as reading it.
    ///
    /// # Errors
    /// What is damaged.
    pub async fn verify(&self) -> Result<(), GitError> {
        self.ask(["fsck", "--full", "--no-dangling", "--no-progress"]).await.map(drop)
    }

    /// A run of the program in this repository that reads or writes only here.
    pub(crate) fn call<T: Into<std::ffi::OsString>>(
        &self,
        arguments: impl IntoIterator<Item = T>,
    ) -> Call<'_> {
        let held = Some(&self.lock);
        Call { repository: Some(&self.path), held, ..Call::new(arguments) }
    }

    pub(crate) async fn ask<const N: usize>(
        &self,
        arguments: [&str; N],
    ) -> Result<Vec<u8>, GitError> {
        self.git.run(self.call(arguments)).await
    }
}

/// The reference that says that an object is here as a whole.
pub(crate) fn kept(object: &Commit) -> String {
    format!("{KEPT}{object}")
}

/// The file `config` of a repository. `more` belongs to the section `core`.
pub(crate) fn config(format: &str, more: &str) -> String {
    let (version, extension) = match format {
        "sha1" => (0, String::new()),
        format => (1, format!("[extensions]\n\tobjectFormat = {format}\n")),
    };
    format!("[core]\n\trepositoryFormatVersion = {version}\n\tfileMode = true\n{more}{extension}")
}

/// A branch that is never made.
const HEAD: &[u8] = b"ref: refs/heads/main\n";

/// Directories of a repository.
const DIRECTORIES: [&str; 6] =
    ["objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags"];

/// Whether everything is there that this has made, and says what it did.
fn is_whole(path: &Path) -> bool {
    let has_head = || std::fs::read(path.join("HEAD")).is_ok_and(|found| found == HEAD);
    let is_directory = |name: &&str| path.join(name).is_dir();
    has_head() && has_config(path) && ["objects/pack", "refs"].iter().all(is_directory)
}

/// Whether a configuration of ours is there, of either format.
fn has_config(path: &Path) -> bool {
    let found = std::fs::read_to_string(path.join("config"));
    found.is_ok_and(|found| ["sha1", "sha256"].iter().any(|format| found == bare_config(format)))
}

fn bare_config(format: &str) -> String {
    config(format, "\tbare = true\n")
}

/// Makes the files of a repository without objects and references.
pub(crate) fn write_empty(path: &Path, config: &str) -> io::Result<()> {
    for directory in DIRECTORIES {
        std::fs::create_dir(path.join(directory))?;
    }
    std::fs::write(path.join("HEAD"), HEAD)?;
    std::fs::write(path.join("config"), config)
}

/// Removes lock files and half packs: their makers are gone.
fn clear_leftovers(path: &Path) -> io::Result<()> {
    let index = [INDEX, "check-out.lock"];
    for name in
        ["shallow.lock", "packed-refs.lock", "HEAD.lock", "config.lock"].iter().chain(&index)
    {
        remove(&path.join(name))?;
    }
    for entry in walkdir::WalkDir::new(path.join("refs")) {
        let entry = entry?;
        if entry.file_name().to_string_lossy().ends_with(".lock") {
            remove(entry.path())?;
        }
    }
    for entry in std::fs::read_dir(path.join("objects/pack"))? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("tmp_") || name.starts_with(".tmp-") {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
