//! Deleting from a merged tree what is not the layer's own.

use std::collections::HashSet;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Dir, Mode, fstat, futimens, openat};
use rustix::io::Errno;

use crate::layer::beneath::{self, DIRECTORY};
use crate::layer::remove::remove;
use crate::layer::{name, read};

/// The paths a layer has put into a merged tree, which its whiteouts spare. Paths are kept as
/// hashes, for there may be millions.
#[derive(Default)]
pub(super) struct Replaced {
    own: HashSet<[u8; 16]>,
}

impl Replaced {
    /// Notes a path and the directories it is in.
    pub(super) fn note(&mut self, path: Vec<u8>) {
        let mut path = &path[..];
        while !path.is_empty() && self.own.insert(key(path)) {
            path = name::split(path).0;
        }
    }

    /// Deletes `name` in `directory`, which is at `path`, and what is below it, but for the
    /// layer's own.
    pub(super) fn delete(
        &self,
        directory: BorrowedFd<'_>,
        path: &[u8],
        name: &[u8],
    ) -> Result<(), Errno> {
        let path = name::join(path, name);
        if !self.own.contains(&key(&path)) {
            return remove(directory, name);
        }
        match openat(directory, name, DIRECTORY, Mode::empty()) {
            Ok(directory) => {
                // What goes from a directory is not the layer's change to it.
                let time = read::mtime(&fstat(&directory)?);
                self.empty(directory.as_fd(), &path)?;
                futimens(&directory, &beneath::timestamps(time))
            }
            Err(Errno::NOTDIR | Errno::LOOP | Errno::NOENT) => Ok(()),
            Err(errno) => Err(errno),
        }
    }

    /// Deletes everything in `directory`, which is at `path`, but the layer's own.
    pub(super) fn empty(&self, directory: BorrowedFd<'_>, path: &[u8]) -> Result<(), Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            names.push(entry?.file_name().to_bytes().to_vec());
        }
        for name in names.iter().filter(|name| !matches!(&name[..], b"." | b"..")) {
            self.delete(directory, path, name)?;
        }
        Ok(())
    }
}

fn key(path: &[u8]) -> [u8; 16] {
    let hash = blake3::hash(path);
    *hash.as_bytes().first_chunk().expect("a hash has 32 bytes")
}
