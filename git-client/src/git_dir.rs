//! `.git` beside files that were checked out: what people find who run `git` there.

use std::path::Path;

use crate::call::Call;
use crate::error::GitError;
use crate::fetch::{Wanted, local};
use crate::remote::Remote;
use crate::repository::{Repository, config, kept, write_empty};

/// Where a checkout and its `.git` are.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The directory of its objects and references; it does not exist yet.
    pub git_dir: &'a Path,
    /// The checked out files.
    pub work_tree: &'a Path,
    /// What `core.worktree` says, if the two do not lie as usual.
    pub worktree_setting: Option<&'a str>,
}

impl Repository {
    /// Makes the repository of files that are checked out already: a commit without history, and the
    /// reference it was asked for by. It names `remote` without a password, and no path of this machine.
    ///
    /// # Errors
    /// What `git` says.
    pub async fn make_git_dir(
        &self,
        place: Place<'_>,
        remote: &Remote,
        wanted: &Wanted,
        submodules: &[(String, Remote)],
    ) -> Result<(), GitError> {
        let failed = |error| GitError::io("write a `.git` directory", error);
        let format = wanted.commit.format();
        let git_dir = place.git_dir;
        std::fs::create_dir_all(git_dir).map_err(failed)?;
        write_empty(git_dir, &config(format, "")).map_err(failed)?;
        let object = kept(wanted.tag.as_ref().unwrap_or(&wanted.commit));
        let name = wanted.reference.as_deref();
        let name = name.filter(|name| crate::reference::is_name(name) && name.starts_with("refs/"));
        let refspec = name.map_or(object.clone(), |name| format!("+{object}:{name}"));
        let from = format!("file://{}", self.path.display());
        let arguments = [
            "fetch",
            "--depth=1",
            "--no-tags",
            "--no-write-fetch-head",
            "--update-head-ok",
            "--end-of-options",
            &from,
            &refspec,
        ];
        let held = Some(&self.lock);
        let fetch = Call { repository: Some(git_dir), held, ..Call::new(arguments) };
        self.git.run(local(fetch, &self.path)).await?;
        std::fs::write(git_dir.join("HEAD"), format!("{}\n", wanted.commit)).map_err(failed)?;
        // Only the index: the files are there.
        let read = Call::new(["read-tree", "--reset", wanted.commit.as_str()]);
        let read =
            Call { repository: Some(git_dir), work_tree: Some(place.work_tree), held, ..read };
        self.git.run(read).await?;
        let text = config(format, &core(place)) + &sections(remote, submodules);
        std::fs::write(git_dir.join("config"), text).map_err(failed)
    }
}

fn core(place: Place<'_>) -> String {
    let worktree = place.worktree_setting.map(|path| format!("\tworktree = {}\n", quoted(path)));
    format!("\tbare = false\n\tlogAllRefUpdates = true\n{}", worktree.unwrap_or_default())
}

fn sections(remote: &Remote, submodules: &[(String, Remote)]) -> String {
    let mut text = format!(
        "[remote \"origin\"]\n\turl = {}\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
        quoted(remote.address())
    );
    for (name, remote) in submodules {
        let (name, url) = (quoted(name), quoted(remote.address()));
        text.push_str(&format!("[submodule {name}]\n\tactive = true\n\turl = {url}\n"));
    }
    text
}

/// A value of a configuration file; values have no line breaks.
fn quoted(value: &str) -> String {
    format!("\"{}\"", value.replace('\\', "\\\\").replace('"', "\\\""))
}
