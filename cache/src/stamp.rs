//! Stamps: a digest over what `stat` says of a tree, to notice that somebody has changed a layer
//! behind the store's back. It takes a fraction of reading the files; flipped bits that the file
//! system itself does not notice are left to fsck.

use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use crate::snapshot::LayerId;
use crate::store::Store;
use crate::warning::Warning;

/// Files of a directory that are worth a task of their own.
const PARALLEL_MIN: usize = 64;

impl Store {
    /// Whether a layer's tree is as it was when it was sealed: names, types, modes, sizes and
    /// modification times. To be asked before the tree is used; costs one `stat` a file, the
    /// first time in a session. A layer that was changed is absent from now on.
    pub fn check_layer(&self, id: &LayerId) -> bool {
        let checked = self.inner.checked().contains(id);
        if checked {
            return true;
        }
        let Some(row) = self.layer_row(id) else { return false };
        let Some(directory) = self.directory_of(id, &row) else { return true };
        let found = stamp(&directory);
        match (row.stamp, found) {
            (Some(expected), found) if found.as_ref().ok() != Some(&expected) => {
                self.warn(Warning::ChangedLayer { layer: id.clone() });
                self.discard_layer(id);
                return false;
            }
            // The session that made it ended too early.
            (None, Ok(found)) => lock(&self.inner.stamps).push((id.clone(), found)),
            _ => {}
        }
        self.inner.checked().insert(id.clone());
        true
    }

    /// Stamps a tree that was just finished, while the build goes on. A session that ends first
    /// leaves it without a stamp, and so unchecked.
    pub(crate) fn stamp_in_background(&self, id: &LayerId, directory: PathBuf) {
        self.inner.checked().insert(id.clone());
        // Not the store itself: this must not be what keeps the session from ending.
        let (id, stamps) = (id.clone(), self.inner.stamps.clone());
        rayon::spawn(move || {
            if let Ok(stamp) = stamp(&directory) {
                lock(&stamps).push((id, stamp));
            }
        });
    }
}

/// Stamps that wait for the next commit.
pub(crate) type Stamps = Arc<Mutex<Vec<(LayerId, String)>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stamp of the tree at `root`.
fn stamp(root: &Path) -> io::Result<String> {
    let found = std::fs::symlink_metadata(root)?;
    Ok(directory_stamp(root, &found)?.to_hex().to_string())
}

fn directory_stamp(path: &Path, directory: &Metadata) -> io::Result<blake3::Hash> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        names.push(entry?.file_name());
    }
    names.sort_unstable();
    let stamp_of = |name: &std::ffi::OsString| {
        let path = path.join(name);
        let found = std::fs::symlink_metadata(&path)?;
        if found.is_dir() { directory_stamp(&path, &found) } else { Ok(entry_stamp(&found)) }
    };
    let stamps: io::Result<Vec<_>> =
        names.par_iter().with_min_len(PARALLEL_MIN).map(stamp_of).collect();
    let mut hasher = blake3::Hasher::new();
    hasher.update(entry_stamp(directory).as_bytes());
    for (name, stamp) in names.iter().zip(stamps?) {
        hasher.update(&(name.len() as u64).to_le_bytes()).update(name.as_bytes());
        hasher.update(stamp.as_bytes());
    }
    Ok(hasher.finalize())
}

/// Of a directory, the size is the file system's business.
fn entry_stamp(found: &Metadata) -> blake3::Hash {
    let size = if found.is_dir() { 0 } else { found.size() };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&found.mode().to_le_bytes()).update(&size.to_le_bytes());
    hasher.update(&found.mtime().to_le_bytes()).update(&found.mtime_nsec().to_le_bytes());
    hasher.update(&found.rdev().to_le_bytes());
    hasher.finalize()
}
