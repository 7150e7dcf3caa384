//! What was fetched, in the store: one repository for each address.

use std::sync::atomic::{AtomicBool, Ordering};

use cache::Mirror;
use git_client::{GitError, Remote, Repository, Wanted};
use tokio_util::sync::CancellationToken;

use super::failure::failed;
use super::{Repositories, system};
use crate::blocking::blocking;
use crate::error::BuildError;

/// A mirror in use. The repository goes first: it has the lock open.
pub(super) struct InUse {
    pub(super) repository: Repository,
    mirror: Mirror,
}

impl Repositories {
    /// The mirror of `remote`, with the commit that is wanted in it: fetched if need be. One that is damaged
    /// is made again.
    pub(super) async fn mirror(
        &self,
        remote: &Remote,
        main: &Remote,
        wanted: &Wanted,
        stop: &CancellationToken,
    ) -> Result<InUse, BuildError> {
        let damaged = match self.try_mirror(remote, main, wanted, stop).await? {
            Ok(in_use) => return Ok(in_use),
            Err(damaged) => damaged,
        };
        self.discard(damaged)?;
        let again = self.try_mirror(remote, main, wanted, stop).await?;
        again.map_err(|_| failed(Some(remote), GitError::Damaged))
    }

    /// Gives the mirror back if it is damaged.
    async fn try_mirror(
        &self,
        remote: &Remote,
        main: &Remote,
        wanted: &Wanted,
        stop: &CancellationToken,
    ) -> Result<Result<InUse, Mirror>, BuildError> {
        let in_use = match self.open(remote, wanted, stop).await? {
            Ok(in_use) => in_use,
            Err(damaged) => return Ok(Err(damaged)),
        };
        let repository = &in_use.repository;
        let object = wanted.tag.as_ref().unwrap_or(&wanted.commit);
        if repository.has(object).await.map_err(|e| failed(Some(remote), e))? {
            return Ok(Ok(in_use));
        }
        self.check_online(remote)?;
        let is_damaged = &AtomicBool::new(false);
        let fetch = |remote: Remote, access| async move {
            let fetched = repository.fetch(&remote, &access, wanted).await;
            let damage = fetched.as_ref().is_err_and(GitError::is_damage);
            is_damaged.store(damage, Ordering::Relaxed);
            fetched
        };
        match self.ask(remote, main, fetch).await {
            Err(_) if is_damaged.load(Ordering::Relaxed) => Ok(Err(in_use.into_mirror())),
            fetched => fetched.map(|()| Ok(in_use)),
        }
    }

    /// Waits for the mirror of `remote`; gives it back if it is not a repository.
    async fn open(
        &self,
        remote: &Remote,
        wanted: &Wanted,
        stop: &CancellationToken,
    ) -> Result<Result<InUse, Mirror>, BuildError> {
        let (store, git) = (self.store.clone(), self.git(remote)?);
        // Names in one repository have one length.
        let format = wanted.commit.format();
        let id = match format {
            "sha1" => remote.address().to_owned(),
            format => format!("{} ({format})", remote.address()),
        };
        let remote = remote.clone();
        let stop = stop.child_token();
        let _stopped = stop.clone().drop_guard();
        let opened = blocking(move || {
            let prepare = |path: &std::path::Path| Repository::create(path, format);
            let mirror = store.mirror(&id, &prepare, &|| stop.is_cancelled());
            let mirror = mirror.map_err(system)?.ok_or(BuildError::Canceled)?;
            let lock = mirror.lock().map_err(system)?;
            match Repository::open(&git, mirror.path(), lock) {
                Ok(repository) => Ok(Ok(InUse { repository, mirror })),
                Err(GitError::Damaged) => Ok(Err(mirror)),
                Err(error) => Err(failed(Some(&remote), error)),
            }
        });
        opened.await
    }

    /// Removes a mirror that is damaged.
    pub(super) fn discard(&self, mirror: Mirror) -> Result<(), BuildError> {
        self.store.discard_mirror(mirror).map_err(system)
    }
}

impl InUse {
    pub(super) fn into_mirror(self) -> Mirror {
        self.mirror
    }
}
