//! Stamps: a digest over what `stat` says of a layer's tree and of what stands beside it, to notice
//! that somebody has changed a layer behind the store's back. It takes a fraction of reading the files;
//! bits that flip below the file system are left to fsck.
//!
//! Nobody but the kernel sets a change time, so that nobody changes a file and leaves its stamp as it
//! was, whatever he does to size and modification time. A copy of a store has other inodes and change
//! times: all its stamps are wrong.

use std::ffi::{CString, OsStr};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, openat, statat};

/// Files of a directory that are worth a task of their own.
const PARALLEL_MIN: usize = 64;

const DIRECTORY: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// A stamp as it is kept, and what was counted on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) digest: String,
    /// Room that the tree takes on disk, in bytes.
    pub(crate) bytes: u64,
}

/// The stamp of a tree without what stands beside it.
#[derive(Debug, Clone, Copy)]
pub struct TreeStamp(EntryStamp);

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
        TreeStamp(self.finish())
    }
}

/// The stamp of the tree at `fs` and of what stands beside it.
pub(crate) fn stamp(fs: &Path) -> io::Result<Stamp> {
    let root = rustix::fs::open(fs, DIRECTORY, Mode::empty())?;
    let found = rustix::fs::fstat(&root)?;
    with_neighbours(directory_stamp(root.as_fd(), Path::new("."), &found)?.finish_tree(), fs)
}

/// A stamp as it is kept, of the tree at `fs` that has the stamp `tree`. What stands beside it says how
/// it is to be read.
pub(crate) fn with_neighbours(tree: TreeStamp, fs: &Path) -> io::Result<Stamp> {
    let directory = fs.parent().ok_or(io::ErrorKind::InvalidInput)?;
    let directory = rustix::fs::open(directory, DIRECTORY, Mode::empty())?;
    let mut hasher = blake3::Hasher::new();
    let EntryStamp { hash, bytes } = tree.0;
    hasher.update(hash.as_bytes());
    for (name, found) in stats(&directory)? {
        if !is_directory(&found) {
            hasher.update(name.to_bytes_with_nul()).update(entry_stamp(&found).hash.as_bytes());
        }
    }
    Ok(Stamp { digest: hasher.finalize().to_hex().to_string(), bytes })
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

/// The stamp of a name that is not a directory, and what a directory's begins with. Of a directory, the
/// size is the file system's business, and its number is not the same for ever on all of them.
pub(crate) fn entry_stamp(found: &Stat) -> EntryStamp {
    let of_file = |number: u64| if is_directory(found) { 0 } else { number };
    let mut hasher = blake3::Hasher::new();
    hasher.update(&found.st_mode.to_le_bytes());
    for number in [of_file(found.st_size as u64), of_file(found.st_ino), found.st_rdev] {
        hasher.update(&number.to_le_bytes());
    }
    for time in
        [found.st_mtime, found.st_mtime_nsec as i64, found.st_ctime, found.st_ctime_nsec as i64]
    {
        hasher.update(&time.to_le_bytes());
    }
    let names = if is_directory(found) { 1 } else { found.st_nlink.max(1) };
    EntryStamp { hash: hasher.finalize(), bytes: found.st_blocks as u64 * 512 / names }
}
