//! Writing the files of a commit.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, Timespec, Timestamps};

use crate::access::Access;
use crate::call::Call;
use crate::error::GitError;
use crate::installed::find;
use crate::reference::Commit;
use crate::remote::Remote;
use crate::repository::{INDEX, Repository};

/// What of a commit is written, beside its files.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    /// Where Git LFS keeps the content of large files, if that is wanted in place of what names it.
    pub lfs: Option<(&'a Remote, &'a Access)>,
}

impl Repository {
    /// Writes all files of a commit into the empty directory `target`, as the user and with the umask of
    /// this process. Directories of submodules are empty.
    ///
    /// # Errors
    /// What `git` says; the directory has any part of the files then.
    pub async fn check_out(
        &self,
        commit: &Commit,
        target: &Path,
        options: Options<'_>,
    ) -> Result<(), GitError> {
        let index = self.path.join(INDEX);
        let call = self.call(["read-tree", "--reset", "-u", commit.as_str()]);
        let call = Call { work_tree: Some(target), index: Some(&index), ..call };
        let call = match options.lfs {
            None => call,
            Some((remote, access)) => {
                find("git-lfs").ok_or(GitError::NotInstalled("git-lfs"))?;
                Call { settings: lfs_settings(remote), ..call }.remote(access)
            }
        };
        let written = self.git.run(call).await.map(drop);
        let removed = std::fs::remove_file(&index);
        written?;
        removed.map_err(|error| GitError::io(format!("remove `{}`", index.display()), error))
    }
}

/// Makes `git` ask Git LFS for the content of files, and fail where it cannot get it.
fn lfs_settings(remote: &Remote) -> Vec<(String, String)> {
    [
        ("filter.lfs.process", "git-lfs filter-process"),
        ("filter.lfs.smudge", "git-lfs smudge -- %f"),
        ("filter.lfs.required", "true"),
        ("remote.origin.url", remote.address()),
        ("lfs.concurrentTransfers", "4"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// Opens the directory `path` below `root`. Every part of it must be a directory, not a link to one.
///
/// # Errors
/// [`GitError::NoDirectory`].
pub fn open_directory(root: &Path, path: &str) -> Result<OwnedFd, GitError> {
    let failed = |error: rustix::io::Errno| {
        let why = match error {
            rustix::io::Errno::LOOP => ": a part of the path is a symbolic link",
            rustix::io::Errno::NOTDIR => ": it is not a directory",
            rustix::io::Errno::NOENT => "",
            _ => ": it cannot be opened",
        };
        GitError::NoDirectory { path: path.to_owned(), why }
    };
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(root, flags, Mode::empty()).map_err(failed)?;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(&root, path, flags, Mode::empty(), resolve).map_err(failed)
}

/// Moves all that is in `from` into `to`, an empty directory of the same file system.
///
/// # Errors
/// Those of the file system.
pub fn move_entries(from: &OwnedFd, to: &Path) -> io::Result<()> {
    let to =
        rustix::fs::open(to, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(from)? {
        let name = entry?.file_name().to_owned();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name);
        }
    }
    for name in names {
        rustix::fs::renameat(from, &name, &to, &name)?;
    }
    Ok(())
}

/// Gives everything in `directory`, and itself, one modification time.
///
/// # Errors
/// Those of the file system.
pub fn set_times(directory: &Path, seconds: i64) -> io::Result<()> {
    let time = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    for entry in walkdir::WalkDir::new(directory).follow_links(false) {
        rustix::fs::utimensat(CWD, entry?.path(), &times, AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}
