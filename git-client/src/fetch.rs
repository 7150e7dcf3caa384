//! Fetching: as little as the server lets us.

use std::path::Path;

use crate::access::Access;
use crate::call::Call;
use crate::error::GitError;
use crate::reference::Commit;
use crate::remote::Remote;
use crate::repository::{Repository, kept};

/// What is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The commit.
    pub commit: Commit,
    /// The annotated tag that leads to it, fetched with it.
    pub tag: Option<Commit>,
    /// The full name of a reference that is at the commit, or was a moment ago.
    pub reference: Option<String>,
}

/// Packs more than this are made into one.
const PACKS_MAX: usize = 40;

impl Repository {
    /// Fetches a commit that is not here yet: it alone, by its name; where the server does not know it by
    /// that, by its reference; and where that has moved on, with all that branches and tags lead to.
    ///
    /// # Errors
    /// [`GitError::NoCommit`], and whatever `git` says of the server.
    pub async fn fetch(
        &self,
        remote: &Remote,
        access: &Access,
        wanted: &Wanted,
    ) -> Result<(), GitError> {
        let object = wanted.tag.as_ref().unwrap_or(&wanted.commit);
        if !self.fetch_object(remote, access, object, wanted.reference.as_deref()).await? {
            self.fetch_all(remote, access).await?;
            self.keep(object).await?;
        }
        if wanted.tag.is_some() {
            self.keep(&wanted.commit).await?;
        }
        self.join_packs().await
    }

    /// Fetches an object by its name, else by a reference that is at it. Whether it is here then.
    async fn fetch_object(
        &self,
        remote: &Remote,
        access: &Access,
        object: &Commit,
        reference: Option<&str>,
    ) -> Result<bool, GitError> {
        let by_name = Some(format!("+{object}:{}", kept(object)));
        let by_reference = reference.map(|reference| format!("+{reference}:{INCOMING}"));
        for refspec in [by_name, by_reference].into_iter().flatten() {
            match self.fetch_alone(remote, access, &refspec).await {
                Ok(()) if self.keep(object).await.is_ok() => return Ok(true),
                Err(error) if !is_unknown(&error) => return Err(error),
                // The reference has moved on, or the server does not know the name.
                Ok(()) | Err(_) => {}
            }
        }
        Ok(false)
    }

    /// Without history, where the server can do that.
    async fn fetch_alone(
        &self,
        remote: &Remote,
        access: &Access,
        refspec: &str,
    ) -> Result<(), GitError> {
        match self.fetch_refs(remote, access, &["--depth=1"], &[refspec]).await {
            Err(error) if cannot_cut(&error) => {
                self.fetch_refs(remote, access, &[], &[refspec]).await
            }
            fetched => fetched,
        }
    }

    /// Everything that has a name.
    async fn fetch_all(&self, remote: &Remote, access: &Access) -> Result<(), GitError> {
        let refspecs = ["+refs/heads/*:refs/all/heads/*", "+refs/tags/*:refs/all/tags/*"];
        let whole: &[&str] =
            if self.path.join("shallow").exists() { &["--unshallow"] } else { &[] };
        let options: Vec<&str> = ["--prune"].iter().chain(whole).copied().collect();
        self.fetch_refs(remote, access, &options, &refspecs).await
    }

    async fn fetch_refs(
        &self,
        remote: &Remote,
        access: &Access,
        options: &[&str],
        refspecs: &[&str],
    ) -> Result<(), GitError> {
        let usual = ["fetch", "--progress", "--no-tags", "--no-write-fetch-head", "--force"];
        let address = ["--end-of-options", remote.address()];
        let arguments = usual.iter().chain(options).chain(&address).chain(refspecs);
        self.git.run(self.call(arguments.copied()).remote(access)).await.map(drop)
    }

    /// Says that an object is here, if it is, and all that belongs to it.
    async fn keep(&self, object: &Commit) -> Result<(), GitError> {
        if self.has(object).await? {
            return Ok(());
        }
        // It counts only with its files, which are there if a reference that was fetched leads to it.
        let files = format!("{object}^{{tree}}");
        let listed =
            self.ask(["rev-list", "--objects", "--quiet", "-1", "--end-of-options", &files]);
        listed.await.map_err(|_| GitError::NoCommit(object.clone()))?;
        self.ask(["update-ref", &kept(object), object.as_str()]).await.map(drop)
    }

    /// Each fetch brings a pack. Many small ones make everything slow.
    async fn join_packs(&self) -> Result<(), GitError> {
        let packs = std::fs::read_dir(self.path.join("objects/pack"));
        let packs = packs.map_err(|error| GitError::io("list packs", error))?;
        let is_pack = |name: std::ffi::OsString| name.to_string_lossy().ends_with(".pack");
        if packs.flatten().filter(|entry| is_pack(entry.file_name())).count() > PACKS_MAX {
            self.ask(["repack", "-a", "-d", "-q"]).await?;
        }
        Ok(())
    }
}

/// Where a reference is fetched to that may have moved on.
const INCOMING: &str = "refs/all/incoming";

/// Whether the server does not know a name, or does not give it away by that.
fn is_unknown(error: &GitError) -> bool {
    const SAID: [&str; 4] =
        ["not our ref", "unadvertised object", "couldn't find remote ref", "no such remote ref"];
    matches!(error, GitError::Failed { said } if SAID.iter().any(|words| said.contains(words)))
}

/// Whether the server cannot leave the history out.
fn cannot_cut(error: &GitError) -> bool {
    const SAID: [&str; 2] = ["shallow", "--depth"];
    matches!(error, GitError::Failed { said } if SAID.iter().any(|words| said.contains(words)))
}

/// A run that reads `from`, a repository of ours.
pub(crate) fn local<'a>(call: Call<'a>, from: &'a Path) -> Call<'a> {
    Call { protocols: crate::call::Protocols::Local, reads: Some(from), ..call }
}
