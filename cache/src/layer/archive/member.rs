//! What an archive has of a member, and what can be wrong with one.

use std::collections::BTreeMap;
use std::io;

use crate::layer::Time;

/// The largest extension header: a long name, PAX records, a sparse file's map.
pub(super) const EXTENSION_MAX: u64 = 1 << 20;

/// What is wrong with an archive.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A header's checksum is another than its bytes'.
    #[error("a header has the wrong checksum")]
    Checksum,
    /// A field of a header or a PAX record holds no such value.
    #[error("invalid {0} in a header")]
    Field(&'static str),
    /// A PAX header is not made of records.
    #[error("malformed PAX header")]
    Pax,
    /// An extension header is too large.
    #[error("an extension header has more than {EXTENSION_MAX} bytes")]
    Extension,
    /// An extension header has no entry that it belongs to.
    #[error("an extension header without an entry")]
    Orphan,
    /// One block of zeros, which is not the end.
    #[error("a lone block of zeros")]
    LoneZeroBlock,
    /// The map of a sparse file makes no sense.
    #[error("invalid map of a sparse file")]
    SparseMap,
    /// The archive ends in the middle of an entry.
    #[error("unexpected end")]
    Truncated,
    /// The stream under the archive failed.
    #[error("read error")]
    Read(#[source] io::Error),
}

impl From<io::Error> for ArchiveError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::Truncated,
            _ => Self::Read(error),
        }
    }
}

/// One member of an archive, as it says of itself.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) type_flag: u8,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Bytes of its content; of a sparse file with its holes.
    pub(crate) size: u64,
    pub(crate) mtime: Time,
    pub(crate) device: (u32, u32),
    pub(crate) xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Where the bytes that the archive has belong.
    pub(crate) sparse: Option<Vec<Segment>>,
}

impl Member {
    /// Bytes that its file will have; anything but a file has none, whatever it says.
    pub(crate) fn content_size(&self) -> u64 {
        if matches!(self.type_flag, b'0' | b'7' | b'S') { self.size } else { 0 }
    }
}

/// A part of a sparse file that is not a hole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) offset: u64,
    pub(crate) length: u64,
}

/// A time as container tools take it: what the clock cannot be is the start of 1970.
pub(super) fn bound(seconds: i64, nanoseconds: u32) -> Time {
    const LAST: i64 = i64::MAX / 1_000_000_000;
    if (0..LAST).contains(&seconds) { Time { seconds, nanoseconds } } else { Time::EPOCH }
}

/// A user or group id. The largest number means "leave as it is" to the kernel.
pub(super) fn id(value: Option<i64>, what: &'static str) -> Result<u32, ArchiveError> {
    value
        .and_then(|value| u32::try_from(value).ok())
        .filter(|&id| id != u32::MAX)
        .ok_or(ArchiveError::Field(what))
}
