//! Stamps: a digest over what `stat` says of a tree, to notice that somebody has changed a layer
//! behind the store's back. It takes a fraction of reading the files; flipped bits that the file
//! system itself does not notice are left to fsck.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, openat, statat};

use crate::snapshot::LayerId;
use crate::store::Store;
use crate::warning::Warning;

/// Files of a directory that are worth a task of their own.
const PARALLEL_MIN: usize = 64;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Store {
    /// Whether a layer's tree is as it was when it was sealed: names, types, modes, sizes and
    /// modification times, and those of the tree that it lies over. To be asked before the tree is
    /// used; costs one `stat` a file, the first time in a session. A layer that was changed is absent
    /// from now on.
    pub fn check_layer(&self, id: &LayerId) -> bool {
        let Some(row) = self.layer_row(id) else { return false };
        let Some(directory) = self.directory_of(id, &row) else {
            // What it lies over may have been found changed a moment ago.
            return row.over().is_none();
        };
        if row.over().is_some_and(|over| !self.check_layer(over)) {
            self.discard_layer(id);
            return false;
        }
        let checked = self.inner.checked().contains(id);
        if checked {
            return true;
        }
        let found = stamp(&directory);
        match (row.stamp, found) {
            (Some(expected), found)
                if found.as_ref().ok().map(|found| &found.digest) != Some(&expected) =>
            {
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

    /// Takes the stamp of a layer's tree from whoever has read all of it since it was finished.
    pub fn set_stamp(&self, id: &LayerId, stamp: TreeStamp) {
        lock(&self.inner.stamps).push((id.clone(), stamp));
    }

    /// How large the trees are whose stamps wait for a commit.
    pub(crate) fn stamped_sizes(&self) -> HashMap<LayerId, u64> {
        let stamps = lock(&self.inner.stamps);
        stamps.iter().map(|(id, stamp)| (id.clone(), stamp.bytes)).collect()
    }

    /// Takes it that a tree that was just finished is as it should be, without a stamp for now.
    pub(crate) fn trust(&self, id: &LayerId) {
        self.inner.checked().insert(id.clone());
    }

    /// Stamps a tree that was just finished, while the build goes on. A session that ends first
    /// leaves it without a stamp, and so unchecked.
    pub(crate) fn stamp_in_background(&self, id: &LayerId, directory: PathBuf) {
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
pub(crate) type Stamps = Arc<Mutex<Vec<(LayerId, TreeStamp)>>>;

/// A stamp as it is kept, and what was counted on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeStamp {
    pub(crate) digest: String,
    /// Room that the tree takes on disk, in bytes.
    pub(crate) bytes: u64,
}

/// The stamp of one name.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EntryStamp {
    hash: blake3::Hash,
    /// Room on disk of what it stands for, in bytes; of a file with several names, this name's share.
    bytes: u64,
}

/// The stamp of a directory, made while its names are added in the order of their bytes.
pub(crate) struct DirectoryStamp {
    hasher: blake3::Hasher,
    bytes: u64,
}

impl DirectoryStamp {
    /// Of the directory that `found` describes.
    pub(crate) fn new(found: &Stat) -> Self {
        let EntryStamp { hash, bytes } = entry_stamp(found);
        let mut hasher = blake3::Hasher::new();
        hasher.update(hash.as_bytes());
        Self { hasher, bytes }
    }

    /// Adds a name, with the stamp of what it stands for.
    pub(crate) fn add(&mut self, name: &[u8], stamp: &EntryStamp) {
        self.hasher.update(&(name.len() as u64).to_le_bytes()).update(name);
        self.hasher.update(stamp.hash.as_bytes());
        self.bytes += stamp.bytes;
    }

    pub(crate) fn finish(&self) -> EntryStamp {
        EntryStamp { hash: self.hasher.finalize(), bytes: self.bytes }
    }

    /// The stamp of the tree, if this is its root.
    pub(crate) fn finish_tree(&self) -> TreeStamp {
        let EntryStamp { hash, bytes } = self.finish();
        TreeStamp { digest: hash.to_hex().to_string(), bytes }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The stamp of the tree at `root`.
fn stamp(root: &Path) -> io::Result<TreeStamp> {
    let root = rustix::fs::open(root, DIRECTORY, Mode::empty())?;
    let found = rustix::fs::fstat(&root)?;
    Ok(directory_stamp(root.as_fd(), Path::new("."), &found)?.finish_tree())
}

/// The stamp of the directory at `path` below `root`. Names are looked up in their directory rather
/// than from the root on, and no directory is open while those in it are stamped.
fn directory_stamp(root: BorrowedFd<'_>, path: &Path, found: &Stat) -> io::Result<DirectoryStamp> {
    let mut stamped = DirectoryStamp::new(found);
    let names = stats(&openat(root, path, DIRECTORY, Mode::empty())?)?;
    let stamp_of = |(name, found): &(CString, Stat)| match is_directory(found) {
        true => {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            Ok(directory_stamp(root, &path, found)?.finish())
        }
        false => Ok(entry_stamp(found)),
    };
    let stamps: io::Result<Vec<_>> =
        names.par_iter().with_min_len(PARALLEL_MIN).map(stamp_of).collect();
    for ((name, _), stamp) in names.iter().zip(stamps?) {
        stamped.add(name.to_bytes(), &stamp);
    }
    Ok(stamped)
}

/// The names in a directory in the order of bytes, and what they stand for.
fn stats(directory: &OwnedFd) -> io::Result<Vec<(CString, Stat)>> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    names.sort_unstable();
    // One after the other: a thread that waits for others may take up more work meanwhile, and must
    // not hold a descriptor for each.
    let stat = |name: CString| {
        let found = statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok((name, found))
    };
    names.into_iter().map(stat).collect()
}

fn is_directory(found: &Stat) -> bool {
    FileType::from_raw_mode(found.st_mode).is_dir()
}

/// The stamp of a name that is no directory, and what a directory's begins with. Of a directory, the
/// size is the file system's business.
pub(crate) fn entry_stamp(found: &Stat) -> EntryStamp {
    let size = if is_directory(found) { 0 } else { found.st_size as u64 };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&found.st_mode.to_le_bytes()).update(&size.to_le_bytes());
    hasher
        .update(&found.st_mtime.to_le_bytes())
        .update(&(found.st_mtime_nsec as i64).to_le_bytes());
    hasher.update(&found.st_rdev.to_le_bytes());
    let names = if is_directory(found) { 1 } else { found.st_nlink.max(1) };
    EntryStamp { hash: hasher.finalize(), bytes: found.st_blocks as u64 * 512 / names }
}
