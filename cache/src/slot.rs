//! Slots: directories that outlive builds and change in place, each with a lock beside it. Cache mounts
//! and git repositories are kept in them.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::lock::{FileLock, Mode};
use crate::store::Store;

impl Store {
    /// The directory of the slots for `id`.
    pub(crate) fn slots_of(&self, bucket: Bucket, id: &str) -> Result<PathBuf, StoreError> {
        let slots = self.bucket(bucket).join(blake3::hash(id.as_bytes()).to_hex().as_str());
        let made = make(&slots, id);
        made.map_err(|error| StoreError::io("create", &slots, error))?;
        Ok(slots)
    }

    /// Notes that the slot at `path` is used, and makes it if it is new: `prepare` has it before anybody
    /// sees it.
    pub(crate) fn enter(
        &self,
        path: &Path,
        lock: &FileLock,
        mode: u32,
        prepare: &dyn Fn(&Path) -> io::Result<()>,
    ) -> Result<(), StoreError> {
        // When it was last used, for prune.
        let _ = lock.file().set_modified(SystemTime::now());
        if is_directory(path) {
            return Ok(());
        }
        // A link or a file there is none of ours. A directory, just made by another, stays.
        let _ = std::fs::remove_file(path);
        let temporary = self.temporary();
        let created = DirBuilder::new().mode(mode).create(&temporary);
        let prepared = created.and_then(|()| prepare(&temporary));
        let placed = prepared.and_then(|()| std::fs::rename(&temporary, path));
        // Of two that share it, the slower finds it made.
        if let Err(error) = placed
            && !is_directory(path)
        {
            self.inner.removals.start(temporary);
            return Err(StoreError::io("create", path, error));
        }
        self.inner.removals.now(&temporary);
        Ok(())
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
            // Its maker may have been killed before it said what for.
            true if std::fs::read(mount.join("id"))? == id.as_bytes() => Ok(()),
            true => std::fs::write(mount.join("id"), id),
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
    /// [`Bucket::Mounts`] or [`Bucket::Mirrors`].
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

    /// What it is for, as users know it: of a mount's id, without the empty namespace in front, and
    /// without what it was first filled from behind.
    pub(crate) fn id(&self) -> String {
        let whole = std::fs::read_to_string(self.path.with_file_name("id")).unwrap_or_default();
        let id = whole.lines().next().unwrap_or_default();
        id.strip_prefix('/').unwrap_or(id).to_owned()
    }

    /// Whether a step has it.
    pub(crate) fn is_in_use(&self) -> bool {
        let lock = FileLock::try_acquire(&self.lock, Mode::Exclusive);
        !lock.is_ok_and(|lock| lock.map(FileLock::kept).is_some())
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
    for bucket in [Bucket::Mounts, Bucket::Mirrors] {
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
        for entry in std::fs::read_dir(mount.path())? {
            let path = entry?.path();
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
