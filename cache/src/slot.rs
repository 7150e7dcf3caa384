//! Slots: directories that outlive builds and change in place, each with a lock beside it. Cache mounts,
//! git repositories and what was received from clients are kept in them.
//!
//! All slots for one id are in one directory, with a file that says the id. Who makes a slot holds a lock
//! that the one who removes what has no slot any more takes alone.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::lock::{FileLock, Mode};
use crate::store::Store;

/// Where there are slots.
const BUCKETS: [Bucket; 3] = [Bucket::Mounts, Bucket::Mirrors, Bucket::Received];

/// Which slot is wanted, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) bucket: Bucket,
    pub(crate) id: &'a str,
    pub(crate) number: u32,
    /// Who may have it at the same time.
    pub(crate) lock: Mode,
    /// Permission bits of a new one.
    pub(crate) mode: u32,
}

impl Store {
    /// A slot and its lock, unless somebody has it. One that is new is handed to `prepare` before anybody
    /// sees it.
    pub(crate) fn try_slot(
        &self,
        wanted: Wanted<'_>,
        prepare: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<Option<(PathBuf, FileLock)>, StoreError> {
        let id = wanted.id;
        let slots = place_of(self, wanted.bucket, id);
        let guard = guard(self.root());
        let _guard = FileLock::wait(&guard, Mode::Shared)
            .map_err(|error| StoreError::io("lock", &guard, error))?;
        make(&slots, id).map_err(|error| StoreError::io("create", &slots, error))?;
        let path = slots.join(wanted.number.to_string());
        let lock = FileLock::try_acquire(&path.with_extension("lock"), wanted.lock);
        let lock = lock.map_err(|error| StoreError::io("lock", &path, error))?;
        let Some(lock) = lock.map(FileLock::kept) else { return Ok(None) };
        self.enter(&path, &lock, wanted.mode, prepare)?;
        Ok(Some((path, lock)))
    }

    /// The same as soon as nobody has it. `cancelled` is asked while waiting; the result is then `None`.
    pub(crate) fn slot(
        &self,
        wanted: Wanted<'_>,
        prepare: &dyn Fn(&Path) -> io::Result<()>,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<(PathBuf, FileLock)>, StoreError> {
        crate::lock::poll(cancelled, || self.try_slot(wanted, prepare))
    }

    /// Notes that the slot at `path` is used, and makes it if it is new.
    fn enter(
        &self,
        path: &Path,
        lock: &FileLock,
        mode: u32,
        prepare: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        // When it was last used, for prune.
        Slot::touch(lock);
        if is_directory(path) {
            return Ok(());
        }
        // Of those that share it, one makes it: a second would take the place of one that is empty yet.
        let making = path.with_extension("new");
        let _making = FileLock::wait(&making, Mode::Exclusive)
            .map_err(|error| StoreError::io("lock", &making, error))?;
        if is_directory(path) {
            return Ok(());
        }
        // A link or a file there is none of ours.
        let _ = std::fs::remove_file(path);
        let temporary = self.temporary();
        let created = DirBuilder::new().mode(mode).create(&temporary);
        let prepared = created.and_then(|()| prepare(&temporary));
        let placed = prepared.and_then(|()| std::fs::rename(&temporary, path));
        placed.map_err(|error| {
            self.inner.removals.start(temporary);
            StoreError::io("create", path, error)
        })
    }
}

/// An id of a cache mount as users know it: without the empty namespace in front, and without what it was first
/// filled from behind.
pub fn shown(id: &str) -> &str {
    let id = id.lines().next().unwrap_or_default();
    id.strip_prefix('/').unwrap_or(id)
}

/// Where the slots for an id are.
fn place_of(store: &Store, bucket: Bucket, id: &str) -> PathBuf {
    store.bucket(bucket).join(blake3::hash(id.as_bytes()).to_hex().as_str())
}

/// Where a slot is, or would be.
pub(crate) fn place(store: &Store, bucket: Bucket, id: &str, number: u32) -> PathBuf {
    place_of(store, bucket, id).join(number.to_string())
}

/// Where the lock is that whoever makes a slot holds.
fn guard(root: &Path) -> PathBuf {
    Bucket::Locks.path(root).join("slots")
}

/// Removes the directories of ids that have no slot any more, unless somebody is just making one.
pub(crate) fn remove_unused(store: &Store) -> io::Result<()> {
    let Some(_guard) = FileLock::try_acquire(&guard(store.root()), Mode::Exclusive)? else {
        return Ok(());
    };
    for bucket in BUCKETS {
        for slots in entries(&store.bucket(bucket))? {
            if is_directory(&slots) && is_unused(&slots)? {
                let temporary = store.temporary();
                std::fs::rename(&slots, &temporary)?;
                store.inner.removals.now(&temporary);
            }
        }
    }
    Ok(())
}

/// Whether nothing is there but the id and locks that nobody has. Those go.
fn is_unused(slots: &Path) -> io::Result<bool> {
    let entries = entries(slots)?;
    if entries.iter().any(|path| is_directory(path)) {
        return Ok(false);
    }
    for lock in entries.iter().filter(|path| path.extension().is_some_and(|kind| kind == "lock")) {
        if FileLock::try_acquire(lock, Mode::Exclusive)?.is_none() {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What is in a directory; nothing when it is not there.
fn entries(directory: &Path) -> io::Result<Vec<PathBuf>> {
    match std::fs::read_dir(directory) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether there is a directory at `path`, rather than a link to one.
fn is_directory(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_dir())
}

/// Makes the directory of the slots for `id`, which says so.
fn make(mount: &Path, id: &str) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(mount) {
        Ok(()) => std::fs::write(mount.join("id"), id),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match is_directory(mount) {
            true => match std::fs::read(mount.join("id")) {
                Ok(found) if found == id.as_bytes() => Ok(()),
                // Its maker has not said yet what for, or was killed before.
                Ok(_) => std::fs::write(mount.join("id"), id),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    std::fs::write(mount.join("id"), id)
                }
                Err(error) => Err(error),
            },
            false => std::fs::remove_file(mount).and_then(|()| make(mount, id)),
        },
        // A store of a program before.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let bucket = mount.parent().ok_or(error)?;
            DirBuilder::new().recursive(true).mode(0o700).create(bucket)?;
            make(mount, id)
        }
        Err(error) => Err(error),
    }
}

/// A slot as prune and `du` see it.
#[derive(Debug, Clone)]
pub(crate) struct Slot {
    /// One of [`BUCKETS`].
    pub(crate) bucket: Bucket,
    pub(crate) path: PathBuf,
    pub(crate) lock: PathBuf,
    /// Seconds since 1970.
    pub(crate) used: i64,
}

impl Slot {
    /// A name for it that no other has.
    pub(crate) fn name(&self) -> String {
        let parts = self.path.components().rev().take(2).map(|part| part.as_os_str());
        let mut parts: Vec<_> = parts.map(|part| part.to_string_lossy()).collect();
        parts.reverse();
        // The first half of the hash is more than enough.
        format!("{:.16}-{}", parts[0], parts[1])
    }

    /// What it is for, as users know it.
    pub(crate) fn id(&self) -> String {
        let whole = std::fs::read_to_string(self.path.with_file_name("id")).unwrap_or_default();
        shown(&whole).to_owned()
    }

    /// Whether a step has it.
    pub(crate) fn is_in_use(&self) -> bool {
        let lock = FileLock::try_acquire(&self.lock, Mode::Exclusive);
        !lock.is_ok_and(|lock| lock.map(FileLock::kept).is_some())
    }

    /// Notes that it is used now.
    pub(crate) fn touch(lock: &FileLock) {
        let _ = lock.file().set_modified(SystemTime::now());
    }

    /// When it was last used, in seconds since 1970.
    pub(crate) fn last_used(&self) -> i64 {
        let used = std::fs::metadata(&self.lock).and_then(|found| found.modified());
        let used = used.ok().and_then(|used| used.duration_since(SystemTime::UNIX_EPOCH).ok());
        used.map_or(0, |used| i64::try_from(used.as_secs()).unwrap_or(0))
    }
}

/// All slots.
pub(crate) fn slots(root: &Path) -> Result<Vec<Slot>, StoreError> {
    let mut slots = Vec::new();
    for bucket in BUCKETS {
        slots.extend(slots_in(root, bucket)?);
    }
    Ok(slots)
}

/// All slots of one bucket.
pub(crate) fn slots_in(root: &Path, bucket: Bucket) -> Result<Vec<Slot>, StoreError> {
    let path = bucket.path(root);
    match list_slots(&path, bucket) {
        // Made when it is first used.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.exists() => Ok(Vec::new()),
        listed => listed.map_err(|error| StoreError::io("list", &path, error)),
    }
}

fn list_slots(path: &Path, bucket: Bucket) -> io::Result<Vec<Slot>> {
    let mut slots = Vec::new();
    for mount in std::fs::read_dir(path)? {
        let mount = mount?;
        if !mount.file_type()?.is_dir() {
            continue;
        }
        for path in entries(&mount.path())? {
            let lock = path.with_extension("lock");
            if !std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir()) {
                continue;
            }
            let slot = Slot { bucket, path, lock, used: 0 };
            slots.push(Slot { used: slot.last_used(), ..slot });
        }
    }
    Ok(slots)
}
