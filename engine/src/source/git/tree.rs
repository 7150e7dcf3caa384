//! The files of a commit, with those of its submodules.

use std::path::Path;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use git_client::checkout::{Options, open_directory};
use git_client::{Access, GitError, Place, Remote, Submodule, Wanted};
use llb::GitSource;
use tokio_util::sync::CancellationToken;

use super::failure::failed;
use super::mirror::InUse;
use super::{Repositories, system};
use crate::error::BuildError;

/// Submodules in submodules in …: more than anybody has, and fewer than a hostile repository could have.
const DEPTH_MAX: usize = 16;

/// One checkout.
pub(super) struct Tree<'a> {
    pub(super) repositories: &'a Repositories,
    pub(super) source: &'a GitSource,
    /// The repository that the user has named.
    pub(super) main: &'a Remote,
    pub(super) stop: &'a CancellationToken,
}

impl Tree<'_> {
    /// Writes the files of a commit into the empty directory `target`, and its repository to `kept`. Gives
    /// the time of the commit.
    pub(super) async fn write(
        &self,
        remote: &Remote,
        wanted: &Wanted,
        target: &Path,
        kept: Option<Place<'_>>,
    ) -> Result<i64, BuildError> {
        self.write_at(remote, wanted, target, kept, 0).await
    }

    fn write_at<'f>(
        &'f self,
        remote: &'f Remote,
        wanted: &'f Wanted,
        target: &'f Path,
        kept: Option<Place<'f>>,
        depth: usize,
    ) -> BoxFuture<'f, Result<i64, BuildError>> {
        async move {
            let (submodules, time) = self.write_own(remote, wanted, target, kept).await?;
            for submodule in &submodules {
                if depth == DEPTH_MAX {
                    return Err(refused(remote, submodule, "there are too many inside each other"));
                }
                self.write_submodule(remote, submodule, target, kept, depth + 1).await?;
            }
            Ok(time)
        }
        .boxed()
    }

    /// The files of the repository itself. Gives its submodules.
    async fn write_own(
        &self,
        remote: &Remote,
        wanted: &Wanted,
        target: &Path,
        kept: Option<Place<'_>>,
    ) -> Result<(Vec<Submodule>, i64), BuildError> {
        let in_use = self.write_files(remote, wanted, target).await?;
        let repository = &in_use.repository;
        let told = |error| failed(Some(remote), error);
        let commit = &wanted.commit;
        let submodules = match self.source.submodules {
            true => repository.submodules(commit, remote).await.map_err(told)?,
            false => Vec::new(),
        };
        if let Some(place) = kept {
            let named = submodules.iter().map(|s| (s.name.clone(), s.remote.clone()));
            let named: Vec<(String, Remote)> = named.collect();
            repository.make_git_dir(place, remote, wanted, &named).await.map_err(told)?;
        }
        let time = repository.time(commit).await.map_err(told)?;
        Ok((submodules, time))
    }

    /// The files themselves, out of a mirror; that is made again if it turns out to be damaged.
    async fn write_files(
        &self,
        remote: &Remote,
        wanted: &Wanted,
        target: &Path,
    ) -> Result<InUse, BuildError> {
        let repositories = self.repositories;
        let in_use = repositories.mirror(remote, self.main, wanted, self.stop).await?;
        if self.source.lfs {
            self.write_large_files(&in_use, remote, wanted, target).await?;
            return Ok(in_use);
        }
        let (commit, options) = (&wanted.commit, Options { lfs: None });
        let written = in_use.repository.check_out(commit, target, options).await;
        let in_use = match written {
            Ok(()) => return Ok(in_use),
            Err(error) if error.is_damage() => {
                repositories.discard(in_use.into_mirror())?;
                repositories.mirror(remote, self.main, wanted, self.stop).await?
            }
            Err(error) => return Err(failed(Some(remote), error)),
        };
        let written = in_use.repository.check_out(commit, target, options).await;
        written.map(|()| in_use).map_err(|error| failed(Some(remote), error))
    }

    /// The same with the content of what Git LFS keeps elsewhere.
    async fn write_large_files(
        &self,
        in_use: &InUse,
        remote: &Remote,
        wanted: &Wanted,
        target: &Path,
    ) -> Result<(), BuildError> {
        self.repositories.check_online(remote)?;
        let (repository, commit) = (&in_use.repository, &wanted.commit);
        let check_out = |remote: Remote, access: Access| async move {
            let options = Options { lfs: Some((&remote, &access)) };
            repository.check_out(commit, target, options).await
        };
        self.repositories.ask(remote, self.main, check_out).await
    }

    async fn write_submodule(
        &self,
        parent: &Remote,
        submodule: &Submodule,
        target: &Path,
        kept: Option<Place<'_>>,
        depth: usize,
    ) -> Result<(), BuildError> {
        // `git` has made it, and nobody else writes here; it is looked at nevertheless.
        open_directory(target, &submodule.path)
            .map_err(|error| refused(parent, submodule, &error.to_string()))?;
        let inner = target.join(&submodule.path);
        let commit = submodule.commit.clone();
        let wanted = Wanted { commit, tag: None, reference: None };
        let Some(place) = kept else {
            self.write_at(&submodule.remote, &wanted, &inner, None, depth).await?;
            return Ok(());
        };
        let git_dir = place.git_dir.join("modules").join(&submodule.name);
        let worktree = relative(&git_dir, &inner);
        let place =
            Place { git_dir: &git_dir, work_tree: &inner, worktree_setting: Some(&worktree) };
        self.write_at(&submodule.remote, &wanted, &inner, Some(place), depth).await?;
        let text = format!("gitdir: {}\n", relative(&inner, &git_dir));
        std::fs::write(inner.join(".git"), text).map_err(system)
    }
}

fn refused(parent: &Remote, submodule: &Submodule, why: &str) -> BuildError {
    let path = submodule.path.clone();
    failed(Some(parent), GitError::Submodule { path, why: why.to_owned() })
}

/// The way from the directory `from` to `to`.
fn relative(from: &Path, to: &Path) -> String {
    let (from, to): (Vec<_>, Vec<_>) = (from.iter().collect(), to.iter().collect());
    let common = from.iter().zip(&to).take_while(|(a, b)| a == b).count();
    let up = std::iter::repeat_n("..".to_owned(), from.len() - common);
    let down = to[common..].iter().map(|part| part.to_string_lossy().into_owned());
    up.chain(down).collect::<Vec<_>>().join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submodules_find_their_repositories() {
        let of = |from: &str, to: &str| relative(Path::new(from), Path::new(to));
        assert_eq!(of("/t/a/b", "/t/.git/modules/x"), "../../.git/modules/x");
        assert_eq!(of("/t/.git/modules/x/y", "/t/a"), "../../../../a");
    }
}
