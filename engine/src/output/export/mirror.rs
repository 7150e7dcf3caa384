//! Removing what a directory has and a result has not.

use std::ffi::OsStr;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::tree::{Kind, Lookup as _, TreeError, View};

/// A tree, and where in the directory it belongs; `None` for all of it.
pub(super) struct Part {
    pub(super) folder: Option<String>,
    pub(super) view: Arc<View>,
}

/// Why not all of it could be removed.
#[derive(Debug, thiserror::Error)]
pub(super) enum MirrorError {
    #[error("failed to remove what the result does not have")]
    Directory(#[from] io::Error),
    #[error("failed to read the result")]
    Result(#[from] TreeError),
    #[error("canceled")]
    Stopped,
}

/// Removes from `dest` what none of `parts` has there, or has as something else. No link is followed.
pub(super) fn remove_others(
    dest: &Path,
    parts: &[Part],
    stop: &CancellationToken,
) -> Result<(), MirrorError> {
    match fs::read_dir(dest) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error.into()),
        Ok(entries) => Mirror { parts, stop }.directory(entries, &[]),
    }
}

struct Mirror<'a> {
    parts: &'a [Part],
    stop: &'a CancellationToken,
}

impl Mirror<'_> {
    fn directory(&self, entries: fs::ReadDir, at: &[u8]) -> Result<(), MirrorError> {
        for entry in entries {
            if self.stop.is_cancelled() {
                return Err(MirrorError::Stopped);
            }
            let entry = entry?;
            let path = join(at, &entry.file_name());
            self.entry(&entry, &path)?;
        }
        Ok(())
    }

    fn entry(&self, entry: &DirEntry, path: &[u8]) -> Result<(), MirrorError> {
        let is_directory = entry.file_type()?.is_dir();
        match (is_directory, self.is_directory(path)?) {
            (true, Some(true)) => self.directory(fs::read_dir(entry.path())?, path),
            (false, Some(false)) => Ok(()),
            (true, _) => Ok(fs::remove_dir_all(entry.path())?),
            (false, _) => Ok(fs::remove_file(entry.path())?),
        }
    }

    /// Whether the result has a directory at `path`; `None` where it has nothing.
    fn is_directory(&self, path: &[u8]) -> Result<Option<bool>, TreeError> {
        for part in self.parts {
            let inside = match &part.folder {
                None => Some(path),
                Some(folder) if folder.as_bytes() == path => return Ok(Some(true)),
                Some(folder) => {
                    path.strip_prefix(folder.as_bytes()).and_then(|rest| rest.strip_prefix(b"/"))
                }
            };
            let Some(inside) = inside else { continue };
            if let Some((kind, _)) = part.view.lookup(inside)? {
                return Ok(Some(kind == Kind::Directory));
            }
        }
        Ok(None)
    }
}

fn join(directory: &[u8], name: &OsStr) -> Vec<u8> {
    match directory {
        [] => name.as_bytes().to_owned(),
        directory => [directory, b"/", name.as_bytes()].concat(),
    }
}
