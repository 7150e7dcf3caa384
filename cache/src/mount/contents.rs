//! What is in a cache mount, on its way to other stores and back.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd as _;
use std::path::Path;

use rustix::fs::{XattrFlags, fgetxattr, fsetxattr, fstat};

use super::CacheMount;
use crate::allowance::Allowance;
use crate::bucket::Bucket;
use crate::disk::size_of;
use crate::error::StoreError;
use crate::layer::{
    Content, DiffOptions, DirectoryOptions, Entry, EntryKind, ExtractOptions, Flavor, LayerError,
    LayerSink as _, LeftOut, Over, TarSink, diff, merge_archive, mtime,
};
use crate::lock::{FileLock, Mode};
use crate::slot;
use crate::store::Store;

/// Says on a mount's directory which contents it came from, so that it goes when the directory goes. Names, each
/// followed by a space.
const CAME_FROM: &str = "user.mybuild.contents";
/// So many names are kept, the newest ones.
const NAMES_MAX: usize = 64;
/// The longest list, in bytes. File systems hold no more than 4096 of all attributes of a file together.
const LIST_MAX: usize = 2048;

impl Store {
    /// Whether there is a directory for the cache mount `id`.
    pub fn has_cache_mount(&self, id: &str) -> bool {
        slot::place(self, Bucket::Mounts, id, 0).is_dir()
    }

    /// Room that the cache mount `id` takes, in bytes; `None` if there is none.
    pub fn cache_mount_size(&self, id: &str) -> Option<u64> {
        let path = slot::place(self, Bucket::Mounts, id, 0);
        path.is_dir().then(|| size_of(&path))
    }

    /// The directory of the cache mount `id`, if there is one, as soon as nobody else has it. `cancelled` is asked
    /// meanwhile; the result is then `None`.
    pub fn cache_mount_alone(
        &self,
        id: &str,
        cancelled: &dyn Fn() -> bool,
    ) -> Result<Option<CacheMount>, StoreError> {
        let path = slot::place(self, Bucket::Mounts, id, 0);
        if !path.is_dir() {
            return Ok(None);
        }
        let lock = FileLock::acquire(&path.with_extension("lock"), Mode::Exclusive, cancelled);
        let lock = lock.map_err(|error| StoreError::io("lock", &path, error))?.map(FileLock::kept);
        Ok(lock.filter(|_| path.is_dir()).map(|lock| CacheMount { path, _lock: lock }))
    }
}

impl CacheMount {
    /// Writes everything in it to `out` as a tar: its own owner and mode first, then the names in the order of their
    /// bytes, with exact times. Equal directories give equal tars. Gives back what tars cannot have.
    ///
    /// # Errors
    /// [`LayerError`] if it cannot be read, or written.
    pub fn write_archive(&self, out: &mut dyn Write) -> Result<Vec<LeftOut>, LayerError> {
        let root = File::open(&self.path).map_err(LayerError::Read)?;
        let stat = fstat(&root).map_err(|errno| LayerError::Read(errno.into()))?;
        let mut sink = TarSink::new(out).with_exact_times();
        let mode = stat.st_mode & 0o7777;
        let entry = Entry::new("", EntryKind::Directory, mode);
        let mtime = mtime(&stat);
        let entry = Entry { uid: stat.st_uid, gid: stat.st_gid, mtime, ..entry };
        sink.entry(&entry, Content::None)?;
        let options = DiffOptions { flavor: Flavor::Plain, lower: None, all_xattrs: false };
        let left_out = diff(root.as_fd(), &options, &mut sink)?;
        sink.finish()?;
        Ok(left_out)
    }

    /// Names of the contents that it came from.
    pub fn came_from(&self) -> Vec<String> {
        let mut list = vec![0; LIST_MAX];
        let read = File::open(&self.path).map(|root| fgetxattr(root, CAME_FROM, &mut list[..]));
        let Ok(Ok(length)) = read else { return Vec::new() };
        let list = String::from_utf8_lossy(&list[..length]);
        list.split_whitespace().map(str::to_owned).collect()
    }

    /// Notes that `names` are in it. Where the file system takes no note, they count as written beside it.
    pub fn put_came_from(&self, names: &[String]) {
        put_came_from(&self.path, names);
    }
}

/// Notes of a directory that is to be a cache mount that it came from contents of these names, the newest first.
pub fn put_came_from(directory: &Path, names: &[String]) {
    let mut list = String::new();
    for name in names.iter().take(NAMES_MAX) {
        if list.len() + name.len() < LIST_MAX && !name.contains(char::is_whitespace) {
            list.push_str(name);
            list.push(' ');
        }
    }
    let set = |root: File| fsetxattr(root, CAME_FROM, list.as_bytes(), XattrFlags::empty());
    let _ = File::open(directory).map(set);
}

/// Puts what `archive` has, which [`CacheMount::write_archive`] wrote, into `target`; of files with one name the newer
/// counts. With `ignore_owner` owners are kept aside, as those of layers.
///
/// # Errors
/// [`LayerError`] if it is no such archive, or there is no room. What was written until then stays.
pub fn fill(
    target: &Path,
    archive: impl Read + Send,
    ignore_owner: bool,
) -> Result<(), LayerError> {
    let root = File::open(target).map_err(LayerError::Read)?;
    let directory = DirectoryOptions { ignore_owner, ..DirectoryOptions::new(Flavor::Plain) };
    let options = ExtractOptions { room: Allowance::in_store(target), ..ExtractOptions::default() };
    merge_archive(archive, root.into(), Over::Older, directory, &options)?;
    Ok(())
}

/// Takes out of `target` what is in it, and gives it the owner and mode of a new one.
///
/// # Errors
/// What the file system says.
pub fn empty(target: &Path) -> io::Result<()> {
    let root = File::open(target)?;
    for entry in std::fs::read_dir(target)? {
        let name = std::os::unix::ffi::OsStringExt::into_vec(entry?.file_name());
        crate::layer::remove_tree(root.as_fd(), &name)?;
    }
    std::os::unix::fs::chown(target, Some(0), Some(0))?;
    root.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
}
