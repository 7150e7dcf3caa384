//! What a layer holds: entries, and the ways they are written, read, compared and compressed.
//!
//! A layer has two forms. As a *tree* it is a directory in overlayfs's form: what the layer adds, a
//! 0:0 character device for each name it deletes, an attribute on each directory that hides what
//! is below it. As a *tar* it is what registries carry (OCI image specification, "Image Layer
//! Filesystem Changeset"). [`unpack()`] goes from tar to tree, [`write_tar`] from tree to tar, and
//! between them stand [`Entry`] and the two sinks, [`DirectorySink`] and [`TarSink`].
//!
//! Everything here blocks. Names from outside are taken apart and walked one component at a time,
//! so no archive can reach out of the directory it is unpacked into.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::fd::BorrowedFd;

mod archive;
mod beneath;
pub mod compress;
mod content;
mod diff;
mod directory;
mod files;
mod flavor;
mod left_out;
mod lower;
mod name;
mod pipe;
mod read;
mod remove;
mod subtree;
mod tarball;
mod unpack;

pub use archive::ArchiveError;
pub use content::read_up_to;
pub use diff::{
    CompressedCopy, DiffOptions, WrittenTar, diff, diff_and_stamp, diff_trees, write_entries,
    write_tar,
};
pub use directory::{DirectoryOptions, DirectorySink, Finished};
pub use files::TarFiles;
pub use flavor::Flavor;
pub use left_out::LeftOut;
pub use lower::Lower;
pub(crate) use read::mtime;
pub use read::{read_entry, read_xattrs};
pub use remove::remove_tree;
pub(crate) use remove::{IsLeft, remove_tree_unless};
pub use subtree::{Subtree, open_directory};
pub use tarball::{TarSink, set_checksum};
pub use unpack::{
    ExtractOptions, Extracted, Limits, Over, UnpackOptions, Unpacked, adopt, extract_archive,
    merge_archive, unpack,
};

/// One name of a layer, with everything but its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands below the root: raw bytes, no leading, trailing or double slash, no `.` or
    /// `..`. Empty only for [`EntryKind::Opaque`] of the root.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with set-uid, set-gid and sticky (`0o7777`).
    pub mode: u32,
    /// Owning user.
    pub uid: u32,
    /// Owning group.
    pub gid: u32,
    /// When it was last changed.
    pub mtime: Time,
    /// Extended attributes by full name, as `security.capability`.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Entry {
    /// An entry of root's at the epoch, without extended attributes.
    pub fn new(path: impl Into<Vec<u8>>, kind: EntryKind, mode: u32) -> Self {
        Self {
            path: path.into(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: Time::EPOCH,
            xattrs: BTreeMap::new(),
        }
    }
}

/// What an [`Entry`] is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File {
        /// Length of its content in bytes.
        size: u64,
    },
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink {
        /// The link's text, kept as it is.
        target: Vec<u8>,
    },
    /// One more name of a file of this layer.
    Hardlink {
        /// Path of the other name, in the form of [`Entry::path`].
        target: Vec<u8>,
    },
    /// A character device.
    CharDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Major number.
        major: u32,
        /// Minor number.
        minor: u32,
    },
    /// A named pipe.
    Fifo,
    /// The layer deletes this name from the layers below.
    Whiteout,
    /// The layer hides everything that layers below have in the directory at this path.
    Opaque,
}

/// A point in time as the file system keeps it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time {
    /// Whole seconds since 1970.
    pub seconds: i64,
    /// Nanoseconds after `seconds`, less than 10⁹.
    pub nanoseconds: u32,
}

impl Time {
    /// The start of 1970.
    pub const EPOCH: Self = Self { seconds: 0, nanoseconds: 0 };

    /// What the clock says.
    pub fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let seconds = i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
        Self { seconds, nanoseconds: since.subsec_nanos() }
    }
}

/// Where the content of a file comes from. Every entry but a [`EntryKind::File`] has `None`.
pub enum Content<'a> {
    /// No content; also right for an empty file.
    None,
    /// Exactly as many bytes as the entry says, then the end.
    Reader(&'a mut dyn BufRead),
    /// An open file, copied from its start; shared blocks where the file system can.
    File(&'a File),
    /// Bytes in memory.
    Bytes(&'a [u8]),
    /// A file that nobody needs where it is, that has no other name, and that has this entry's owner,
    /// mode, time and attributes already: it may become the entry by a rename instead of a copy.
    Move {
        /// Where `path` starts, [`rustix::fs::CWD`] for an ordinary path.
        directory: BorrowedFd<'a>,
        /// The file; not followed when it is a link.
        path: &'a Path,
    },
}

/// Something that takes the entries of a layer, parents before their children.
pub trait LayerSink {
    /// Adds one entry. The last of several entries with one path wins.
    fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), LayerError>;
}

/// Why a layer could not be written, read or compared.
#[derive(Debug, thiserror::Error)]
pub enum LayerError {
    /// A system call on an entry failed.
    #[error("failed to {action} `{}`", path.display())]
    Entry {
        /// What was tried, as in "failed to …".
        action: &'static str,
        /// The entry's path within the layer.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An entry belongs to a user or group that the caller's user namespace does not have.
    #[error(
        "`{}` belongs to {kind} {id}, and this user has no such id: `/etc/sub{file}` says which ones it \
         has",
        path.display()
    )]
    Owner {
        /// The entry's path within the layer.
        path: PathBuf,
        /// `user` or `group`.
        kind: &'static str,
        /// The id.
        id: u32,
        /// `uid` or `gid`.
        file: &'static str,
    },
    /// An entry has a name no file can have: more than 4096 bytes.
    #[error("`{}…` is longer than a path can be", String::from_utf8_lossy(&path[..path.len().min(64)]))]
    PathTooLong {
        /// The name.
        path: Vec<u8>,
    },
    /// A whiteout deletes no name that a file can have (`.wh.`, `.wh..`, `.wh...`).
    #[error("`{}` is not a whiteout of anything", path.display())]
    InvalidWhiteout {
        /// The whiteout's path.
        path: PathBuf,
    },
    /// An entry is of a type layers do not have.
    #[error("`{}` is of the unknown type `{}`", path.display(), type_flag.escape_ascii())]
    UnknownType {
        /// The entry's path.
        path: PathBuf,
        /// The type byte of its header.
        type_flag: u8,
    },
    /// The content was shorter or longer than the entry said.
    #[error("`{}` does not have the {size} bytes it should have", path.display())]
    Size {
        /// The entry's path.
        path: PathBuf,
        /// How long it should have been.
        size: u64,
    },
    /// A hard link names a file that is neither in this layer nor below it.
    #[error("`{}` links to `{}`, which does not exist", path.display(), target.display())]
    DanglingLink {
        /// The link.
        path: PathBuf,
        /// What it links to.
        target: PathBuf,
    },
    /// The upper directory was written with overlayfs's `redirect_dir` or `metacopy`, so its files
    /// are not all its own.
    #[error("`{}` is redirected to another layer by `{attribute}`", path.display())]
    Redirected {
        /// The redirected directory or file.
        path: PathBuf,
        /// The attribute that says so.
        attribute: &'static str,
    },
    /// The archive is malformed.
    #[error("malformed archive")]
    Archive(#[source] ArchiveError),
    /// The stream could not be read or decompressed.
    #[error("failed to read the archive")]
    Read(#[source] io::Error),
    /// The tar could not be written.
    #[error("failed to write the archive")]
    Write(#[source] io::Error),
    /// The file system has no room for it.
    #[error("the archive does not fit")]
    Room(#[source] io::Error),
    /// The archive is larger than it may be.
    #[error("the archive has more than {limit} {what}")]
    Limit {
        /// What there is too much of: `bytes`, `entries`.
        what: &'static str,
        /// The most there may be.
        limit: u64,
    },
    /// The archive expands so much more than ordinary files do that it is taken for a bomb.
    #[error("the archive expands more than {limit} to 1")]
    Ratio {
        /// The most it may expand.
        limit: u64,
    },
    /// The bytes are not those that were asked for.
    #[error("the {what} has the digest {actual} instead of {expected}")]
    Digest {
        /// `layer` or `uncompressed layer`.
        what: &'static str,
        /// The digest asked for.
        expected: oci::Digest,
        /// The digest of the bytes.
        actual: oci::Digest,
    },
}

impl From<ArchiveError> for LayerError {
    fn from(error: ArchiveError) -> Self {
        match error {
            ArchiveError::Read(source) => Self::Read(source),
            error => Self::Archive(error),
        }
    }
}

impl LayerError {
    /// For `map_err` on a system call about `path`.
    fn at(action: &'static str, path: &[u8]) -> impl FnOnce(rustix::io::Errno) -> Self {
        let path = name::to_path(path);
        move |errno| Self::Entry { action, path, source: errno.into() }
    }
}
