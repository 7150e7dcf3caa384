//! Stamps: a digest over what `stat` says of a tree, to notice that somebody has changed a layer
//! behind the store's back. It takes a fraction of reading the files; flipped bits that the file
//! system itself does not notice are left to fsck.

use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use rayon::prelude::*;

use crate::snapshot::LayerId;
use crate::store::Store;
use crate::warning::Warning;

/// Files of a directory that are worth a task of their own.
const PARALLEL_MIN: usize = 64;

impl Store {
    /// Whether a layer's tree is as it was when it was sealed: names, types, modes, sizes and
    /// modification times (to the second: archives keep no more). To be asked before the tree is
    /// used; costs one `stat` a file, the first time in a session. A layer that was changed is
    /// absent from now on.
    pub fn check_layer(&self, id: &LayerId) -> bool {
        let checked = self.inner.checked().contains(id);
        if checked {
            return true;
        }
        let Some(row) = self.layer_row(id) else { return false };
        if let (Some(directory), Some(expected)) = (self.directory_of(id, &row), &row.stamp) {
            let found = stamp(&directory);
            if found.as_ref().ok() != Some(expected) {
                self.warn(Warning::ChangedLayer { layer: id.clone() });
                self.discard_layer(id);
                return false;
            }
        }
        self.inner.checked().insert(id.clone());
        true
    }

    /// Stamps a tree that was just finished, while the build goes on. A session that ends first
    /// leaves it without a stamp, and so unchecked.
    pub(crate) fn stamp_in_background(&self, id: &LayerId, directory: &Path) {
        self.inner.checked().insert(id.clone());
        let weak = Arc::downgrade(&self.inner);
        let (id, directory) = (id.clone(), directory.to_owned());
        rayon::spawn(move || {
            let stamped = stamp(&directory);
            if let (Ok(stamp), Some(inner)) = (stamped, weak.upgrade()) {
                Self { inner }.set_stamp(&id, &stamp);
            }
        });
    }
}

/// The stamp of the tree at `root`.
pub(crate) fn stamp(root: &Path) -> io::Result<String> {
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
    hasher.update(&found.mtime().to_le_bytes()).update(&found.rdev().to_le_bytes());
    hasher.finalize()
}
