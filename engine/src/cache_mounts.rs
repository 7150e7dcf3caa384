//! Looking after cache mounts: which there are, what is in them, removing them, copying to and from them.

mod copy;

use std::os::unix::fs::MetadataExt as _;

use cache::{CacheMount, MountItem, Store};
use registry::chain;

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::workspace::Workspace;

pub use copy::{LocalSide, MountCopy, MountSide};

impl Workspace {
    /// All cache mounts of the store.
    pub async fn cache_mounts(&self) -> Result<Vec<MountItem>, BuildError> {
        let store = self.store.clone();
        blocking(move || list(&store)).await
    }

    /// What is at the top of the one cache mount that `word` names, by its name, each with the room it takes in bytes.
    pub async fn cache_mount_usage(&self, word: &str) -> Result<Vec<(String, u64)>, BuildError> {
        let (store, word) = (self.store.clone(), word.to_owned());
        blocking(move || {
            let mount = open(&store, &word, Use::Reading)?;
            let failed = |e| {
                BuildError::system(format!("failed to read the cache mount `{word}`")).because(e)
            };
            let mut sizes = Vec::new();
            for entry in std::fs::read_dir(mount.path()).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name().to_string_lossy().into_owned();
                let found = entry.metadata().map_err(failed)?;
                let bytes = match found.is_dir() {
                    true => cache::size_of(&entry.path()),
                    false => found.blocks() * 512,
                };
                sizes.push((name, bytes));
            }
            Ok(sizes)
        })
        .await
    }

    /// Removes the cache mounts that `word` names: the one of this name, or all of this id. Gives them back.
    ///
    /// # Errors
    /// [`BuildError`] if there is none, or a step has one; those before it are removed then.
    pub async fn remove_cache_mounts(&self, word: &str) -> Result<Vec<MountItem>, BuildError> {
        let (store, word) = (self.store.clone(), word.to_owned());
        blocking(move || {
            let mounts = find(&store, &word)?;
            for mount in &mounts {
                let removed = store.remove_cache_mount(&mount.name).map_err(|e| {
                    BuildError::system(format!("failed to remove the cache mount `{word}`"))
                        .because(e)
                })?;
                if !removed {
                    return Err(in_use(mount));
                }
            }
            Ok(mounts)
        })
        .await
    }
}

/// What a mount is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    Reading,
    Writing,
}

fn list(store: &Store) -> Result<Vec<MountItem>, BuildError> {
    store.cache_mounts().map_err(|e| BuildError::system("failed to list cache mounts").because(e))
}

/// The mounts that a user means, at least one.
fn find(store: &Store, word: &str) -> Result<Vec<MountItem>, BuildError> {
    let all = list(store)?;
    let named = all.iter().filter(|mount| mount.name == word);
    let of_id = all.iter().filter(|mount| mount.id == word);
    let found: Vec<MountItem> = match named.clone().next() {
        Some(_) => named.cloned().collect(),
        None => of_id.cloned().collect(),
    };
    match found.is_empty() {
        true => Err(BuildError::input(format!("no cache mount `{word}`"))
            .with_hint("`mybuild cache-mount ls` lists them")),
        false => Ok(found),
    }
}

/// Takes hold of the one mount that a user means, unless a step has it.
fn open(store: &Store, word: &str, purpose: Use) -> Result<CacheMount, BuildError> {
    let found = find(store, word)?;
    let [mount] = &found[..] else {
        let names: Vec<String> = found.iter().map(|mount| format!("`{}`", mount.name)).collect();
        return Err(BuildError::input(format!("`{word}` is the id of several cache mounts"))
            .with_hint(format!("name one of {}", names.join(", "))));
    };
    let held = store.named_cache_mount(&mount.name, purpose == Use::Writing);
    let held = held.map_err(|e| {
        BuildError::system(format!("failed to open the cache mount `{word}`: {}", chain(&e)))
    })?;
    held.ok_or_else(|| in_use(mount))
}

fn in_use(mount: &MountItem) -> BuildError {
    BuildError::refused(format!("the cache mount `{}` is in use", mount.id))
        .with_hint("a build has it; try again when that is over")
}
