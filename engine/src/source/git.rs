//! Git repositories of others, as a build takes them: which commit it is, and its files as a layer.

mod access;
mod check;
mod failure;
mod mirror;
mod ssh;
mod tree;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use buildkit_cache::Identity;
use cache::{Allowance, LayerId, Store};
use git_client::{Commit, Found, Git, Limits, Place, Remote, Wanted};
use llb::encode::Encoder;
use llb::{GitSource, GitTimes};
use solver::CacheKey;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;

use self::access::Moved;
pub(crate) use self::check::check_mirrors;
use self::failure::failed;
use self::tree::Tree;
use crate::blocking::blocking;
use crate::client::Client;
use crate::error::{BoxedError, BuildError};

/// What was looked up of one repository and reference.
type LookedUp = Arc<OnceCell<Found>>;

/// The repositories of one build. What a reference is at is asked once.
pub(crate) struct Repositories {
    store: Store,
    client: Arc<dyn Client>,
    offline: bool,
    found: Mutex<HashMap<(String, String), LookedUp>>,
    moved: Moved,
}

/// What a git source is at.
#[derive(Debug, Clone)]
pub(crate) struct Revision {
    remote: Remote,
    wanted: Wanted,
}

impl Revision {
    /// The commit, and what names it.
    pub(crate) fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Key of what [`Repositories::check_out`] makes of it: the commit, and what changes the bytes.
    pub(crate) fn key(&self, source: &GitSource) -> CacheKey {
        let mut encoder = Encoder::new("git checkout");
        encoder.text(self.wanted.commit.as_str()).text(&source.subdirectory);
        encoder.flag(source.submodules).flag(source.lfs);
        encoder.flag(source.times == GitTimes::Commit);
        let kept = keeps_git_dir(source).then_some(self);
        encoder.option(kept, |e, revision| {
            e.text(revision.remote.address());
            e.option(revision.wanted.reference.as_ref(), |e, name| {
                e.text(name);
            });
            e.option(revision.wanted.tag.as_ref(), |e, tag| {
                e.text(tag.as_str());
            });
        });
        CacheKey(encoder.finish())
    }
}

impl Revision {
    /// What it is for BuildKit's caches.
    pub(crate) fn identity<'a>(&'a self, source: &'a GitSource) -> Identity<'a> {
        let Wanted { commit, tag, reference } = &self.wanted;
        let tag = tag.as_ref().filter(|_| source.keep_git_dir);
        Identity::Git {
            source,
            commit: tag.unwrap_or(commit).as_str(),
            reference: reference.as_deref().unwrap_or(commit.as_str()),
        }
    }
}

/// Of a directory alone there is no repository to keep.
fn keeps_git_dir(source: &GitSource) -> bool {
    source.keep_git_dir && source.subdirectory.is_empty()
}

/// A warning where `.git` is asked for and not kept.
pub(crate) fn unkept_git_dir(source: &GitSource) -> Option<String> {
    (source.keep_git_dir && !keeps_git_dir(source))
        .then(|| format!("`.git` is not kept: only the directory `{}` is", source.subdirectory))
}

impl Repositories {
    pub(crate) fn new(store: Store, client: Arc<dyn Client>, offline: bool) -> Self {
        Self { store, client, offline, found: Mutex::default(), moved: Moved::default() }
    }

    /// Finds out which commit a source is at: without the network if it names a whole commit.
    pub(crate) async fn identify(&self, source: &GitSource) -> Result<Revision, BuildError> {
        let remote = Remote::parse(&source.remote).map_err(|e| failed(None, e.into()))?;
        let checksum = source.checksum.as_deref().map(str::to_ascii_lowercase);
        if let Some(checksum) = checksum.as_deref().filter(|text| !is_hex(text)) {
            return Err(wrong(format!(
                "invalid checksum {checksum} for Git URL, expected hex commit hash"
            )));
        }
        if let Some(pinned) = pinned(source, checksum.as_deref())? {
            return Ok(Revision { remote, wanted: pinned });
        }
        let found = self.look_up(&remote, &source.reference).await?;
        let fits = |commit: &Commit| {
            checksum.as_ref().is_none_or(|checksum| commit.as_str().starts_with(checksum.as_str()))
        };
        if !fits(&found.commit) && !found.tag.as_ref().is_some_and(fits) {
            let expected = checksum.unwrap_or_default();
            return Err(wrong(format!(
                "expected checksum to match {expected}, got {}",
                found.commit
            ))
            .with_hint(format!("that is what `{}` of {remote} is at now", shown(source))));
        }
        let Found { commit, tag, reference } = found;
        Ok(Revision { remote, wanted: Wanted { commit, tag, reference } })
    }

    async fn look_up(&self, remote: &Remote, reference: &str) -> Result<Found, BuildError> {
        let key = (remote.address().to_owned(), reference.to_owned());
        let cell = self.found.lock().expect("no panic while held").entry(key).or_default().clone();
        let ask = || async {
            self.check_online(remote).map_err(|error| {
                error.with_hint("a branch or tag may have moved: name the commit, as in `#COMMIT`, which is kept")
            })?;
            let git = self.git(remote)?;
            self.ask(remote, remote, |remote, access| {
                let git = &git;
                async move { git.look_up(&remote, &access, reference).await }
            })
            .await
        };
        cell.get_or_try_init(ask).await.cloned()
    }

    /// Makes a layer of the files of a revision.
    pub(crate) async fn check_out(
        &self,
        source: &GitSource,
        revision: &Revision,
        stop: &CancellationToken,
    ) -> Result<LayerId, BuildError> {
        let Revision { remote, wanted } = revision;
        let layer = self.store.new_layer().map_err(system)?;
        let (fs, work) = (layer.fs(), layer.work());
        let is_whole = source.subdirectory.is_empty();
        let target = if is_whole { fs.clone() } else { work.join("checkout") };
        if !is_whole {
            std::fs::create_dir(&target).map_err(system)?;
        }
        let git_dir = target.join(".git");
        let place = Place { git_dir: &git_dir, work_tree: &target, worktree_setting: None };
        let tree = Tree { repositories: self, source, main: remote, stop };
        let time =
            tree.write(remote, wanted, &target, keeps_git_dir(source).then_some(place)).await?;
        if !is_whole {
            self.take_subdirectory(remote, source, &target, &fs).await?;
        }
        if source.times == GitTimes::Commit {
            let set = blocking(move || git_client::checkout::set_times(&fs, time).map_err(system));
            set.await?;
        }
        Ok(self.store.seal(layer))
    }

    async fn take_subdirectory(
        &self,
        remote: &Remote,
        source: &GitSource,
        from: &Path,
        to: &Path,
    ) -> Result<(), BuildError> {
        let directory = git_client::checkout::open_directory(from, &source.subdirectory);
        let directory = directory.map_err(|error| failed(Some(remote), error))?;
        git_client::checkout::move_entries(&directory, to).map_err(system)
    }

    /// When the commit of a source was made, in seconds since 1970.
    pub(crate) async fn time(&self, source: &GitSource) -> Result<i64, BuildError> {
        let Revision { remote, wanted } = self.identify(source).await?;
        let mirror = self.mirror(&remote, &remote, &wanted, &CancellationToken::new()).await?;
        let time = mirror.repository.time(&wanted.commit).await;
        time.map_err(|error| failed(Some(&remote), error))
    }

    fn git(&self, remote: &Remote) -> Result<Git, BuildError> {
        let root = self.store.root().to_owned();
        let watch = move || {
            // More than an allowance has before it looks.
            Allowance::in_store(&root).take_bytes(2 << 20).err().map(|error| error.to_string())
        };
        let limits = Limits { watch: Arc::new(watch), ..Limits::default() };
        Git::find(limits).map_err(|error| failed(Some(remote), error))
    }

    fn check_online(&self, remote: &Remote) -> Result<(), BuildError> {
        match self.offline {
            true => Err(BuildError::offline(format!("`{remote}` would have to be fetched"))),
            false => Ok(()),
        }
    }
}

/// What a source that names a whole commit is at, whatever the server says.
fn pinned(source: &GitSource, checksum: Option<&str>) -> Result<Option<Wanted>, BuildError> {
    let at = |commit, reference| Some(Wanted { commit, tag: None, reference });
    if let Ok(commit) = source.reference.parse::<Commit>() {
        return match checksum.is_none_or(|checksum| commit.as_str().starts_with(checksum)) {
            true => Ok(at(commit, None)),
            false => Err(wrong(format!(
                "expected checksum to match {}, got {commit}",
                checksum.unwrap_or_default()
            ))),
        };
    }
    let commit = checksum.and_then(|checksum| checksum.parse::<Commit>().ok());
    match (source.fetch_by_commit, source.reference.is_empty(), commit, checksum) {
        (true, _, None, None) => {
            Err(wrong("fetch-by-commit requires a checksum or a commit SHA ref"))
        }
        (true, _, None, Some(text)) => Err(wrong(format!(
            "fetch-by-commit requires a full commit SHA checksum, got \"{text}\""
        ))),
        (true, false, Some(commit), _) => Ok(at(commit, Some(full_name(&source.reference)?))),
        (_, true, Some(commit), _) => Ok(at(commit, None)),
        (false, ..) => Ok(None),
    }
}

/// A name that is not a full one is that of a branch.
fn full_name(reference: &str) -> Result<String, BuildError> {
    if !git_client::reference::is_name(reference) {
        return Err(wrong(format!("`{reference}` is not a valid git reference")));
    }
    Ok(match reference.starts_with("refs/") {
        true => reference.to_owned(),
        false => format!("refs/heads/{reference}"),
    })
}

fn shown(source: &GitSource) -> &str {
    if source.reference.is_empty() { "HEAD" } else { &source.reference }
}

fn is_hex(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn wrong(message: impl Into<String>) -> BuildError {
    BuildError::input(message)
}

fn system(error: impl Into<BoxedError>) -> BuildError {
    BuildError::system("failed to write the files of a repository").because(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FULL: &str = "0123456789abcdef0123456789abcdef01234567";

    fn source(change: impl FnOnce(&mut GitSource)) -> GitSource {
        let mut source = GitSource::new("https://example.org/a.git");
        change(&mut source);
        source
    }

    #[test]
    fn a_whole_commit_needs_no_server() {
        type Change = fn(&mut GitSource);
        let of = |change: Change| {
            let source = source(change);
            let checksum = source.checksum.clone();
            pinned(&source, checksum.as_deref()).map_err(|error| error.to_string())
        };
        let at = |reference: Option<&str>| {
            let reference = reference.map(str::to_owned);
            Ok(Some(Wanted { commit: FULL.parse().unwrap(), tag: None, reference }))
        };
        let cases: [(Change, Result<Option<Wanted>, String>); 9] = [
            (|s| s.reference = FULL.into(), at(None)),
            (|s| (s.reference, s.checksum) = (FULL.into(), Some("0123".into())), at(None)),
            (
                |s| (s.reference, s.checksum) = (FULL.into(), Some("0124".into())),
                Err(format!("expected checksum to match 0124, got {FULL}")),
            ),
            (|s| s.checksum = Some(FULL.into()), at(None)),
            (|s| s.checksum = Some("0123".into()), Ok(None)),
            (|s| (s.reference, s.checksum) = ("main".into(), Some(FULL.into())), Ok(None)),
            (
                |s| {
                    (s.reference, s.checksum) = ("main".into(), Some(FULL.into()));
                    s.fetch_by_commit = true;
                },
                at(Some("refs/heads/main")),
            ),
            (
                |s| s.fetch_by_commit = true,
                Err("fetch-by-commit requires a checksum or a commit SHA ref".to_owned()),
            ),
            (
                |s| (s.fetch_by_commit, s.checksum) = (true, Some("0123".into())),
                Err("fetch-by-commit requires a full commit SHA checksum, got \"0123\"".to_owned()),
            ),
        ];
        for (number, (change, want)) in cases.into_iter().enumerate() {
            assert_eq!(of(change), want, "{number}");
        }
    }

    #[test]
    fn a_key_has_what_changes_the_bytes() {
        let revision = |remote: &str, reference: &str| Revision {
            remote: Remote::parse(remote).unwrap(),
            wanted: Wanted {
                commit: FULL.parse().unwrap(),
                tag: None,
                reference: Some(reference.to_owned()),
            },
        };
        let one = revision("https://example.org/a.git", "refs/heads/a");
        let other = revision("https://example.org/b.git", "refs/heads/b");
        let plain = source(|_| ());
        let key = one.key(&plain);
        assert_eq!(key, other.key(&plain), "only the commit counts");
        type Change = fn(&mut GitSource);
        let changes: [Change; 5] = [
            |s| s.subdirectory = "d".into(),
            |s| s.submodules = false,
            |s| s.lfs = true,
            |s| s.times = GitTimes::Commit,
            |s| s.keep_git_dir = true,
        ];
        let mut keys: Vec<_> = changes.iter().map(|change| one.key(&source(*change)).0).collect();
        keys.push(key.0);
        keys.push(other.key(&source(|s| s.keep_git_dir = true)).0);
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), 7);
        let directory = |keep| source(|s| (s.subdirectory, s.keep_git_dir) = ("d".into(), keep));
        assert_eq!(one.key(&directory(true)), one.key(&directory(false)));
    }
}
