//! Room for SQLite's shared memory (`records-v1.db-shm`), which it writes through a mapping:
//! where a missing block cannot be allocated, the kernel kills the process.
//!
//! SQLite writes one byte into each page of 4 KiB to have it allocated. On file systems with
//! smaller blocks (ext4 below 512 MB) that leaves holes, which are filled here while there is room.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

use crate::bucket::RECORDS;
use crate::mutex::lock;

const PAGE: u64 = 4096;
/// What SQLite maps at a time; enough for a log of 16 MiB.
const REGION: u64 = 32 << 10;

/// Users of each store, by its root's device and inode, and the files opened here for them.
///
/// These are closed with the last user only: closing one lets go of all locks that SQLite, in
/// this process, has on the file (POSIX locks belong to the process, not to the descriptor).
static USERS: LazyLock<Mutex<HashMap<Inode, Users>>> = LazyLock::new(Mutex::default);

type Inode = (u64, u64);

#[derive(Default)]
struct Users {
    count: usize,
    /// One that was moved aside may have another in its place.
    files: Vec<(Inode, File)>,
}

/// Counts as a user; to be taken before SQLite opens the database, and dropped after it has
/// closed it.
#[derive(Debug)]
pub(crate) struct SharedMemory {
    store: Inode,
    path: PathBuf,
    is_needed: bool,
}

impl SharedMemory {
    /// A new user of the database at `root`.
    pub(crate) fn of(root: &Path) -> io::Result<Self> {
        let store = inode(&std::fs::metadata(root)?);
        users().entry(store).or_default().count += 1;
        let path = root.join(format!("{RECORDS}-shm"));
        let is_needed = statvfs(root).is_ok_and(|stat| stat.f_frsize < PAGE);
        Ok(Self { store, path, is_needed })
    }

    /// Fills the holes; the database must be open.
    pub(crate) fn reserve(&self) -> io::Result<()> {
        if !self.is_needed {
            return Ok(());
        }
        let mut users = users();
        let files = &mut users.entry(self.store).or_default().files;
        let now = inode(&std::fs::metadata(&self.path)?);
        let at = match files.iter().position(|(known, _)| *known == now) {
            Some(at) => at,
            None => {
                let file = File::options().read(true).write(true).open(&self.path)?;
                files.push((inode(&file.metadata()?), file));
                files.len() - 1
            }
        };
        Ok(fallocate(&files[at].1, FallocateFlags::empty(), 0, REGION)?)
    }
}

fn inode(metadata: &Metadata) -> Inode {
    (metadata.dev(), metadata.ino())
}

impl Drop for SharedMemory {
    fn drop(&mut self) {
        let mut all = users();
        if let Some(users) = all.get_mut(&self.store) {
            users.count -= 1;
            if users.count == 0 {
                all.remove(&self.store);
            }
        }
    }
}

fn users() -> MutexGuard<'static, HashMap<Inode, Users>> {
    lock(&USERS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_of_one_process_share_a_descriptor() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(format!("{RECORDS}-shm"));
        std::fs::write(&path, [0; 10]).unwrap();
        let user = || {
            let mut user = SharedMemory::of(root.path()).unwrap();
            user.is_needed = true;
            user
        };
        let files = |user: &SharedMemory| users()[&user.store].files.len();
        let first = user();
        for _ in 0..3 {
            let next = user();
            next.reserve().unwrap();
            assert_eq!(files(&next), 1);
        }
        assert_eq!(std::fs::metadata(&path).unwrap().len(), REGION);
        // Another file has its name.
        std::fs::rename(&path, root.path().join("aside")).unwrap();
        std::fs::write(&path, []).unwrap();
        first.reserve().unwrap();
        assert_eq!(files(&first), 2);
        let store = first.store;
        drop(first);
        assert!(!users().contains_key(&store));
    }
}
