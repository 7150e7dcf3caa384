//! Copying between a cache mount and the outside, by the rules of `docker cp`.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cache::Allowance;
use cache::layer::{
    DirectoryOptions, ExtractOptions, Flavor, LayerError, LeftOut, Over, Subtree, merge_archive,
    open_directory,
};
use tokio_util::sync::CancellationToken;

use super::{Use, open};
use crate::blocking::{blocking, until};
use crate::client::Client;
use crate::error::BuildError;
use crate::request::{Destination, TarSource};
use crate::stop::Stoppable;
use crate::workspace::Workspace;

/// A place in a cache mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountSide {
    /// The mount's name or id.
    pub mount: String,
    /// The path in it. With `/.` at the end it stands for what is in the directory.
    pub path: String,
}

/// The other side of a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LocalSide {
    /// A path of the client's.
    Path(PathBuf),
    /// A tar on a standard stream.
    Tar,
}

/// How something is copied.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountCopy {
    /// The source's own link is followed.
    pub follow: bool,
    /// Owners stay what they are; else what is copied is root's in the mount, and the user's outside.
    pub keep_owner: bool,
}

impl Workspace {
    /// Copies from a cache mount; gives back what was left out.
    pub async fn copy_from_cache_mount(
        &self,
        from: MountSide,
        to: LocalSide,
        how: MountCopy,
        client: Arc<dyn Client>,
        cancel: CancellationToken,
    ) -> Result<Vec<String>, BuildError> {
        let (store, stop) = (self.store.clone(), cancel.clone());
        let copying = blocking(move || {
            let mount = open(&store, &from.mount, Use::Reading)?;
            let root = opened(mount.path())?;
            let source = Source::find(root.as_fd(), from.path.as_bytes(), how)?;
            match to {
                LocalSide::Tar => {
                    let target = client.output(&Destination::Stdout)?;
                    let mut left_out = Vec::new();
                    let written = target.fill(|out| {
                        let mut out = Stoppable::new(out, &stop);
                        left_out = source
                            .tree
                            .write(&source.called, &mut out)
                            .map_err(io::Error::other)?;
                        Ok(())
                    });
                    written.map_err(|e| failed(&from.path, e))?;
                    Ok(told(left_out))
                }
                LocalSide::Path(path) => {
                    let path = absolute(&client.output_directory(&path)?)?;
                    let outside = opened(Path::new("/"))?;
                    let target = source.target(outside.as_fd(), path.as_os_str().as_bytes())?;
                    let options = ExtractOptions {
                        owner: (!how.keep_owner).then_some((0, 0)),
                        ..room(&path)
                    };
                    source.copy(target, false, &options, &stop).map_err(|e| failed(&from.path, e))
                }
            }
        });
        until(&cancel, copying).await
    }

    /// Copies into a cache mount; gives back what was left out.
    pub async fn copy_to_cache_mount(
        &self,
        from: LocalSide,
        to: MountSide,
        how: MountCopy,
        client: Arc<dyn Client>,
        cancel: CancellationToken,
    ) -> Result<Vec<String>, BuildError> {
        let (store, stop) = (self.store.clone(), cancel.clone());
        let ignore_owner = self.machine.host().single_id();
        let copying = blocking(move || {
            let mount = open(&store, &to.mount, Use::Writing)?;
            let root = opened(mount.path())?;
            let room =
                ExtractOptions { room: Allowance::in_store(mount.path()), ..Default::default() };
            let options = ExtractOptions { owner: (!how.keep_owner).then_some((0, 0)), ..room };
            match from {
                LocalSide::Tar => {
                    let archive = client.archive(&TarSource::Stdin)?;
                    let into = directory(root.as_fd(), to.path.as_bytes())?;
                    let archive = Stoppable::new(archive, &stop);
                    let extracted = extract(archive, into, ignore_owner, &options);
                    extracted.map(|()| Vec::new()).map_err(|e| failed(&to.path, e))
                }
                LocalSide::Path(path) => {
                    let shown = path.display().to_string();
                    let path = absolute(&client.directory(&path)?)?;
                    let outside = opened(Path::new("/"))?;
                    let source = Source::find(outside.as_fd(), path.as_os_str().as_bytes(), how)?;
                    let target = source.target(root.as_fd(), to.path.as_bytes())?;
                    let copied = source.copy(target, ignore_owner, &options, &stop);
                    copied.map_err(|e| failed(&shown, e))
                }
            }
        });
        until(&cancel, copying).await
    }
}

/// What is copied.
struct Source {
    tree: Subtree,
    /// Its name; empty for what is in a directory.
    called: Vec<u8>,
}

/// Where it goes.
struct Into {
    directory: OwnedFd,
    /// What it is to be called there; empty for what is in a directory.
    called: Vec<u8>,
}

impl Source {
    fn find(tree: BorrowedFd<'_>, path: &[u8], how: MountCopy) -> Result<Self, BuildError> {
        let is_content = path.ends_with(b"/.") || matches!(last(path), b"" | b"." | b"..");
        let follow = how.follow || is_content || path.ends_with(b"/");
        let found = Subtree::find(tree, path, follow).map_err(|e| failed(&text(path), e))?;
        let found = found.ok_or_else(|| missing(path))?;
        let is_directory = found.is_directory();
        if !is_directory && (is_content || path.ends_with(b"/")) {
            return Err(BuildError::input(format!("`{}` is not a directory", text(path))));
        }
        let called = if is_content { Vec::new() } else { last(path).to_vec() };
        Ok(Self { tree: found, called })
    }

    /// Where it goes when it is copied to `path`: into a directory that is there, else it gets that name.
    fn target(&self, tree: BorrowedFd<'_>, path: &[u8]) -> Result<Into, BuildError> {
        let found = Subtree::find(tree, path, true).map_err(|e| failed(&text(path), e))?;
        let is_directory = self.tree.is_directory();
        match found {
            Some(found) if found.is_directory() => {
                Ok(Into { directory: directory(tree, path)?, called: self.called.clone() })
            }
            Some(_) if is_directory => Err(BuildError::input(format!(
                "`{}` is a file: a directory does not go in its place",
                text(path)
            ))),
            _ if path.ends_with(b"/") && !is_directory => Err(missing(path)),
            _ => {
                let trimmed =
                    &path[..path.len() - path.iter().rev().take_while(|b| **b == b'/').count()];
                let parent = &trimmed[..trimmed.len() - last(trimmed).len()];
                Ok(Into { directory: directory(tree, parent)?, called: last(trimmed).to_vec() })
            }
        }
    }

    fn copy(
        &self,
        into: Into,
        ignore_owner: bool,
        options: &ExtractOptions,
        stop: &CancellationToken,
    ) -> Result<Vec<String>, LayerError> {
        let (reader, writer) = io::pipe().map_err(LayerError::Read)?;
        let (written, extracted) = std::thread::scope(|scope| {
            let called = &into.called;
            let written = scope.spawn(move || self.tree.write(called, &mut { writer }));
            let archive = Stoppable::new(reader, stop);
            let extracted = extract(archive, into.directory, ignore_owner, options);
            (written.join().expect("who reads the source does not panic"), extracted)
        });
        // Who takes no more has the better reason than who could not go on writing.
        extracted?;
        Ok(told(written?))
    }
}

fn extract(
    archive: impl Read + Send,
    into: OwnedFd,
    ignore_owner: bool,
    options: &ExtractOptions,
) -> Result<(), LayerError> {
    let directory = DirectoryOptions { ignore_owner, ..DirectoryOptions::new(Flavor::Plain) };
    merge_archive(archive, into, Over::Files, directory, options).map(drop)
}

fn room(path: &Path) -> ExtractOptions {
    // Where it goes need not be there yet.
    let there = path.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    ExtractOptions { room: Allowance::at(there), ..ExtractOptions::default() }
}

fn opened(path: &Path) -> Result<File, BuildError> {
    File::open(path)
        .map_err(|e| BuildError::system(format!("failed to open `{}`", path.display())).because(e))
}

fn absolute(path: &Path) -> Result<PathBuf, BuildError> {
    let is_content = path.as_os_str().as_bytes().ends_with(b"/.");
    let found = std::path::absolute(path);
    let found = found
        .map_err(|e| BuildError::input(format!("`{}` is not a path", path.display())).because(e))?;
    // What stands for the content of a directory, or wants one to be there, is lost on the way.
    Ok(if is_content { found.join(".") } else { found })
}

fn directory(tree: BorrowedFd<'_>, path: &[u8]) -> Result<OwnedFd, BuildError> {
    let opened = open_directory(tree, path).map_err(|e| failed(&text(path), e))?;
    opened.ok_or_else(|| missing(path))
}

/// The last component, as it stands.
fn last(path: &[u8]) -> &[u8] {
    let end = path.len() - path.iter().rev().take_while(|byte| **byte == b'/').count();
    let start = path[..end].iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
    &path[start..end]
}

fn text(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn missing(path: &[u8]) -> BuildError {
    BuildError::input(format!("`{}` does not exist", text(path)))
}

fn failed(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> BuildError {
    BuildError::system(format!("failed to copy `{what}`")).because(error)
}

fn told(left_out: Vec<LeftOut>) -> Vec<String> {
    left_out.iter().map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_component_is_a_name() {
        for (path, name) in [
            ("a", "a"),
            ("/a", "a"),
            ("a/b/", "b"),
            ("a//", "a"),
            ("", ""),
            ("/", ""),
            ("a/.", "."),
        ] {
            assert_eq!(last(path.as_bytes()), name.as_bytes(), "{path}");
        }
    }
}
