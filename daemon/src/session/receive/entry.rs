//! What a client says of a file, and whether it may be so.

use rustix::fs::Timespec;

use crate::wire::fsutil::Stat;

/// Why what a client says of a file is not possible.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntryError {
    /// Its path leads elsewhere, or nowhere.
    #[error("`{0}` is not a path in a directory")]
    Path(String),
    /// Too many folders in each other.
    #[error("`{0}` is more than {DEPTH_MAX} folders deep")]
    Depth(String),
    /// It is not sorted, or comes twice.
    #[error("`{path}` comes after `{last}`")]
    Order {
        /// What came.
        path: String,
        /// What came before.
        last: String,
    },
    /// The directory it is in was not sent.
    #[error("`{0}` is in no directory that was sent")]
    Parent(String),
    /// It is linked with what is not there.
    #[error("`{path}` is linked with `{target}`, which is not a file that came before")]
    Link {
        /// What came.
        path: String,
        /// What it names.
        target: String,
    },
    /// A device, a socket, or something without a name.
    #[error("`{0}` is neither a file, a directory, a link nor a pipe")]
    Kind(String),
    /// It has less than no bytes.
    #[error("`{0}` has a size below zero")]
    Size(String),
}

/// Deepest folder. Each on the way to a file is open while it is received.
const DEPTH_MAX: usize = 256;
/// Longest path and name that Linux has, in bytes.
const PATH_MAX: usize = 4096;
const NAME_MAX: usize = 255;

/// What a file is, as Linux has it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Directory,
    File {
        size: u64,
    },
    /// Another name of the file at this path.
    Hardlink(String),
    Symlink(String),
    Pipe,
}

/// A file, as it may be.
#[derive(Debug)]
pub(super) struct Entry<'a> {
    pub(super) path: &'a str,
    pub(super) parts: Vec<&'a str>,
    pub(super) kind: Kind,
    /// The lower twelve bits of `st_mode`.
    pub(super) mode: u32,
    pub(super) modified: Timespec,
}

/// Bits of Go's `FileMode`.
mod go {
    pub(super) const DIRECTORY: u32 = 1 << 31;
    pub(super) const SYMLINK: u32 = 1 << 27;
    pub(super) const PIPE: u32 = 1 << 25;
    pub(super) const SETUID: u32 = 1 << 23;
    pub(super) const SETGID: u32 = 1 << 22;
    pub(super) const STICKY: u32 = 1 << 20;
    pub(super) const TYPE: u32 = 0x8F28_0000;
}

impl<'a> Entry<'a> {
    pub(super) fn read(stat: &'a Stat) -> Result<Self, EntryError> {
        let path = stat.path.as_str();
        let parts = parts(path)?;
        let seconds = stat.mod_time.div_euclid(1_000_000_000);
        let nanoseconds = stat.mod_time.rem_euclid(1_000_000_000);
        Ok(Self {
            path,
            parts,
            kind: kind(stat)?,
            mode: mode(stat.mode),
            modified: Timespec { tv_sec: seconds, tv_nsec: nanoseconds },
        })
    }
}

/// The names in a path. None leads up, and none is empty.
pub(super) fn parts(path: &str) -> Result<Vec<&str>, EntryError> {
    let is_name = |name: &&str| {
        !matches!(*name, "" | "." | "..") && name.len() <= NAME_MAX && !name.contains('\0')
    };
    let parts: Vec<&str> = path.split('/').collect();
    if path.len() >= PATH_MAX || !parts.iter().all(is_name) {
        return Err(EntryError::Path(path.to_owned()));
    }
    match parts.len() > DEPTH_MAX {
        true => Err(EntryError::Depth(path.to_owned())),
        false => Ok(parts),
    }
}

fn kind(stat: &Stat) -> Result<Kind, EntryError> {
    match stat.mode & go::TYPE {
        0 if stat.linkname.is_empty() => match u64::try_from(stat.size) {
            Ok(size) => Ok(Kind::File { size }),
            Err(_) => Err(EntryError::Size(stat.path.clone())),
        },
        0 => Ok(Kind::Hardlink(stat.linkname.clone())),
        go::DIRECTORY => Ok(Kind::Directory),
        go::SYMLINK if is_target(&stat.linkname) => Ok(Kind::Symlink(stat.linkname.clone())),
        go::PIPE => Ok(Kind::Pipe),
        _ => Err(EntryError::Kind(stat.path.clone())),
    }
}

fn is_target(text: &str) -> bool {
    !text.is_empty() && text.len() < PATH_MAX && !text.contains('\0')
}

fn mode(bits: u32) -> u32 {
    let special = [(go::SETUID, 0o4000), (go::SETGID, 0o2000), (go::STICKY, 0o1000)];
    let special = special.iter().filter(|(bit, _)| bits & bit != 0).map(|(_, mode)| mode);
    special.fold(bits & 0o777, |mode, bit| mode | bit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(path: &str, mode: u32, linkname: &str) -> Stat {
        Stat { path: path.to_owned(), mode, linkname: linkname.to_owned(), ..Stat::default() }
    }

    #[test]
    fn modes_are_those_of_go() {
        for (bits, link, kind, mode) in [
            (0o644, "", Kind::File { size: 0 }, 0o644),
            (0o644, "a", Kind::Hardlink("a".to_owned()), 0o644),
            (go::DIRECTORY | 0o755, "", Kind::Directory, 0o755),
            (go::DIRECTORY | go::STICKY | 0o777, "", Kind::Directory, 0o1777),
            (go::SYMLINK | 0o777, "../x", Kind::Symlink("../x".to_owned()), 0o777),
            (go::PIPE | 0o600, "", Kind::Pipe, 0o600),
            (go::SETUID | go::SETGID | 0o755, "", Kind::File { size: 0 }, 0o6755),
        ] {
            let stat = stat("a", bits, link);
            let entry = Entry::read(&stat).unwrap();
            assert_eq!((entry.kind, entry.mode), (kind, mode));
        }
        for bits in [1 << 26, 1 << 24, 1 << 26 | 1 << 21, 1 << 19, go::DIRECTORY | go::SYMLINK] {
            let refused = Entry::read(&stat("dev", bits, "")).unwrap_err();
            assert_eq!(refused, EntryError::Kind("dev".to_owned()), "{bits:x}");
        }
        assert!(Entry::read(&stat("link", go::SYMLINK, "")).is_err());
    }

    #[test]
    fn no_path_leads_out() {
        let long = "x".repeat(256);
        let deep = ["d"; 257].join("/");
        for path in [
            "", "/", "/etc", "..", "a/..", "a/../b", ".", "a/.", "a//b", "a/", "nul\0", &long,
            &deep,
        ] {
            assert!(Entry::read(&stat(path, 0o644, "")).is_err(), "{path}");
        }
        let below_zero = Stat { size: -1, ..stat("a", 0o644, "") };
        assert_eq!(Entry::read(&below_zero).unwrap_err(), EntryError::Size("a".to_owned()));
    }
}
