//! What a path is: one entry read from a directory, with its attributes.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, OFlags, Stat, fgetxattr, flistxattr, lgetxattr, llistxattr, major, minor,
    readlinkat, statat,
};
use rustix::io::Errno;

use super::{Entry, EntryKind, LayerError, Time};

/// Attributes whose names start so belong to the form layers are kept in, not to their content.
const OWN_PREFIXES: [&[u8]; 3] = [b"trusted.overlay.", b"user.overlay.", b"user.mybuild."];

/// Keeps the true owner of a file in trees written without the right to change owners: user and
/// group in decimal with a colon between.
pub(super) const OWNER: &str = "user.mybuild.owner";

/// Whether an attribute says how a layer is kept rather than what is in it.
pub(super) fn is_own(attribute: &[u8]) -> bool {
    OWN_PREFIXES.iter().any(|prefix| attribute.starts_with(prefix))
}

/// Opens a file to be read by `open`, which is given flags besides its own, without a note of when it
/// was read: with one, each file that is read has to be written to the disk once more. Only its owner
/// may do so.
pub(super) fn quietly<T>(open: impl Fn(OFlags) -> Result<T, Errno>) -> Result<T, Errno> {
    match open(OFlags::NOATIME) {
        Err(Errno::PERM) => open(OFlags::empty()),
        opened => opened,
    }
}

/// The entry `name` of `directory` as it stands there, link or not; its path is `name`. Nothing
/// is said about other names of the same file: a hard link reads as a file. A character device
/// 0:0 reads as a whiteout. A socket reads as nothing, for no layer can hold one.
pub fn read_entry(directory: impl AsFd, name: &[u8]) -> Result<Option<Entry>, LayerError> {
    let directory = directory.as_fd();
    let stat =
        statat(directory, name, AtFlags::SYMLINK_NOFOLLOW).map_err(LayerError::at("stat", name))?;
    let Some(kind) = kind(directory, name, &stat).map_err(LayerError::at("read", name))? else {
        return Ok(None);
    };
    let mut entry = from_stat(name.to_vec(), kind, &stat);
    entry.xattrs = read_xattrs(directory, name)?;
    if let Some(owner) = entry.xattrs.remove(OWNER.as_bytes()) {
        (entry.uid, entry.gid) = parse_owner(&owner).unwrap_or((entry.uid, entry.gid));
    }
    entry.xattrs.retain(|name, _| !is_own(name));
    Ok(Some(entry))
}

/// The extended attributes of `name` in `directory`, all of them, of the link itself if it is one.
/// A file system without attributes has none.
pub fn read_xattrs(
    directory: impl AsFd,
    name: &[u8],
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, LayerError> {
    // There is no `lgetxattrat` before Linux 6.13; procfs makes one of the ordinary call.
    let path = in_proc(directory.as_fd(), name);
    let list = |buffer: &mut [u8]| llistxattr(&path, buffer);
    let get = |key: &[u8], buffer: &mut [u8]| lgetxattr(&path, key, buffer);
    collect(list, get).map_err(LayerError::at("read the attributes of", name))
}

/// The extended attributes of an open file.
pub(super) fn file_xattrs(file: BorrowedFd<'_>) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    collect(|buffer| flistxattr(file, buffer), |key, buffer| fgetxattr(file, key, buffer))
}

/// A path through procfs to `name` in `directory`, the ordinary path for the current directory.
pub(super) fn in_proc(directory: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    if directory.as_raw_fd() == rustix::fs::CWD.as_raw_fd() {
        return name.to_vec();
    }
    let mut path = format!("/proc/self/fd/{}/", directory.as_raw_fd()).into_bytes();
    path.extend_from_slice(name);
    path
}

fn collect(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&[u8], &mut [u8]) -> Result<usize, Errno>,
) -> Result<BTreeMap<Vec<u8>, Vec<u8>>, Errno> {
    let names = match value(&list) {
        Err(Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        names => names?,
    };
    let mut xattrs = BTreeMap::new();
    for key in names.split(|&byte| byte == 0).filter(|key| !key.is_empty()) {
        match value(|buffer| get(key, buffer)) {
            // Taken away since it was listed, or not for this process to see.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            read => drop(xattrs.insert(key.to_vec(), read?)),
        }
    }
    Ok(xattrs)
}

/// Calls `read` with a buffer that is large enough. The kernel's limit for both the list of names
/// and one value is 64 KiB.
pub(super) fn value(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut small = [0; 256];
    match read(&mut small) {
        Ok(length) => return Ok(small[..length].to_vec()),
        Err(Errno::RANGE) => {}
        Err(errno) => return Err(errno),
    }
    let mut buffer = vec![0; 65536];
    let length = read(&mut buffer)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// One attribute of an open file, or nothing where it is not set or cannot be.
pub(super) fn attribute(file: BorrowedFd<'_>, key: &str) -> Result<Option<Vec<u8>>, Errno> {
    match value(|buffer| fgetxattr(file, key, buffer)) {
        Ok(value) => Ok(Some(value)),
        Err(Errno::NODATA | Errno::OPNOTSUPP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// The owner kept in [`OWNER`].
pub(super) fn parse_owner(value: &[u8]) -> Option<(u32, u32)> {
    let (uid, gid) = std::str::from_utf8(value).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

/// The kind of what `stat` describes; nothing for a socket.
pub(super) fn kind(
    directory: BorrowedFd<'_>,
    name: &[u8],
    stat: &Stat,
) -> Result<Option<EntryKind>, Errno> {
    let (major, minor) = (major(stat.st_rdev), minor(stat.st_rdev));
    Ok(Some(match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {
            EntryKind::File { size: u64::try_from(stat.st_size).expect("sizes are positive") }
        }
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => {
            EntryKind::Symlink { target: readlinkat(directory, name, Vec::new())?.into_bytes() }
        }
        FileType::CharacterDevice if (major, minor) == (0, 0) => EntryKind::Whiteout,
        FileType::CharacterDevice => EntryKind::CharDevice { major, minor },
        FileType::BlockDevice => EntryKind::BlockDevice { major, minor },
        FileType::Fifo => EntryKind::Fifo,
        _ => return Ok(None),
    }))
}

/// An entry without attributes from what `stat` says.
pub(super) fn from_stat(path: Vec<u8>, kind: EntryKind, stat: &Stat) -> Entry {
    Entry {
        path,
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        mtime: mtime(stat),
        xattrs: BTreeMap::new(),
    }
}

/// The modification time in `stat`.
#[expect(clippy::unnecessary_cast, reason = "the fields' types differ between architectures")]
pub(crate) fn mtime(stat: &Stat) -> Time {
    Time { seconds: stat.st_mtime as i64, nanoseconds: stat.st_mtime_nsec as u32 }
}
