//! How much more may be written.
//!
//! What comes from outside (a layer, an archive, a blob) is written as long as the file system has room for
//! it, less a reserve in which everything else can go on: the end of a build, other builds, prune. It is
//! looked at again and again, since others write there, too.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// What is left free: this part of the file system, and at most so much.
const RESERVE_PART: u64 = 64;
const RESERVE_BYTES: u64 = 256 << 20;
const RESERVE_INODES: u64 = 4096;
/// Of what is left, a writer takes this part between two looks: others look at the same time.
const TURN_PART: u64 = 8;
const TURN_BYTES: u64 = 64 << 20;
const TURN_INODES: u64 = 4096;
/// So little is never refused: it is manifests and the like.
const SMALL_BYTES: u64 = 1 << 20;
const SMALL_INODES: u64 = 16;
/// What is said about the store's room.
const IN_STORE: &str = "what the store has left (`mybuild prune` makes room there)";
/// What a file's last block takes more than its content.
const BLOCK: u64 = 4096;

/// Allowance on a file system for one thing that is written there.
#[derive(Debug, Clone, Default)]
pub struct Allowance {
    /// Where; nowhere in particular is without bounds.
    place: Option<PathBuf>,
    /// Whether that is where the store is.
    is_store: bool,
    /// How often the same is written before the first can go.
    copies: u64,
    taken: Amount,
    /// What may be taken before the next look.
    turn: Amount,
}

/// Bytes and inodes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Amount {
    bytes: u64,
    inodes: u64,
}

/// There is no room for what was to be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("it takes more than {room}, which is {place}")]
pub struct NoRoom {
    place: String,
    room: Most,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Most {
    Bytes(u64),
    Inodes(u64),
}

impl fmt::Display for Most {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Inodes(count) => write!(f, "{count} files"),
            Self::Bytes(bytes) if *bytes >= 1 << 30 => {
                write!(f, "{:.1} GiB", *bytes as f64 / f64::from(1 << 30))
            }
            Self::Bytes(bytes) => write!(f, "{} MiB", bytes >> 20),
        }
    }
}

impl From<NoRoom> for io::Error {
    fn from(error: NoRoom) -> Self {
        Self::new(io::ErrorKind::StorageFull, error)
    }
}

impl Allowance {
    /// Allowance on the file system of the directory `place`.
    pub fn at(place: &Path) -> Self {
        let turn = Amount { bytes: SMALL_BYTES, inodes: SMALL_INODES };
        Self { place: Some(place.to_owned()), copies: 1, turn, ..Self::default() }
    }

    /// The same where the store is.
    pub fn in_store(place: &Path) -> Self {
        Self { is_store: true, ..Self::at(place) }
    }

    /// For something that will be there so many times at once.
    #[must_use]
    pub fn for_copies(self, copies: u64) -> Self {
        Self { copies, ..self }
    }

    /// Takes room for a file of so many bytes, or something smaller than that.
    pub fn take_file(&mut self, bytes: u64) -> io::Result<()> {
        self.take(Amount { bytes: bytes.saturating_add(BLOCK), inodes: 1 })
    }

    /// Takes room for bytes that are written to an open file.
    pub fn take_bytes(&mut self, bytes: u64) -> io::Result<()> {
        self.take(Amount { bytes, inodes: 0 })
    }

    fn take(&mut self, wanted: Amount) -> io::Result<()> {
        let Some(place) = &self.place else { return Ok(()) };
        if !wanted.fits(self.turn) {
            let left = left(&rustix::fs::statvfs(place)?).part(self.copies);
            if !wanted.fits(left) {
                let room = match wanted.bytes > left.bytes {
                    true => Most::Bytes(self.taken.bytes.saturating_add(left.bytes)),
                    false => Most::Inodes(self.taken.inodes.saturating_add(left.inodes)),
                };
                let place = match self.is_store {
                    true => IN_STORE.to_owned(),
                    false => format!("what `{}` has left", place.display()),
                };
                return Err(NoRoom { place, room }.into());
            }
            self.turn = left.turn(wanted);
        }
        self.turn = self.turn.less(wanted);
        self.taken = self.taken.more(wanted);
        Ok(())
    }
}

impl Amount {
    fn fits(self, room: Self) -> bool {
        self.bytes <= room.bytes && self.inodes <= room.inodes
    }

    fn less(self, other: Self) -> Self {
        Self { bytes: self.bytes - other.bytes, inodes: self.inodes - other.inodes }
    }

    fn more(self, other: Self) -> Self {
        Self {
            bytes: self.bytes.saturating_add(other.bytes),
            inodes: self.inodes.saturating_add(other.inodes),
        }
    }

    fn part(self, of: u64) -> Self {
        Self { bytes: self.bytes / of, inodes: self.inodes / of }
    }

    /// How much of it may be taken before the next look, at least what is `wanted` now.
    fn turn(self, wanted: Self) -> Self {
        let part = self.part(TURN_PART);
        Self {
            bytes: part.bytes.min(TURN_BYTES).max(wanted.bytes),
            inodes: part.inodes.min(TURN_INODES).max(wanted.inodes),
        }
    }
}

/// What may be written to a file system, without the reserve.
fn left(found: &rustix::fs::StatVfs) -> Amount {
    let reserve = |total: u64, most: u64| (total / RESERVE_PART).min(most);
    let bytes = found.f_bavail.saturating_mul(found.f_frsize);
    let all_bytes = found.f_blocks.saturating_mul(found.f_frsize);
    Amount {
        bytes: bytes.saturating_sub(reserve(all_bytes, RESERVE_BYTES)),
        // Some file systems make inodes as they go along, and count none.
        inodes: match found.f_files {
            0 => u64::MAX,
            all => found.f_favail.saturating_sub(reserve(all, RESERVE_INODES)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_left() {
        let found = |bytes: u64, free: u64, inodes: u64, free_inodes: u64| rustix::fs::StatVfs {
            f_bsize: 4096,
            f_frsize: 4096,
            f_blocks: bytes / 4096,
            f_bfree: free / 4096,
            f_bavail: free / 4096,
            f_files: inodes,
            f_ffree: free_inodes,
            f_favail: free_inodes,
            f_fsid: 0,
            f_flag: rustix::fs::StatVfsMountFlags::empty(),
            f_namemax: 255,
        };
        const GIB: u64 = 1 << 30;
        for (found, expected) in [
            (found(64 << 20, 32 << 20, 6400, 200), (31 << 20, 100)),
            (found(1024 * GIB, GIB, 10_000_000, 5096), (GIB - RESERVE_BYTES, 1000)),
            (found(64 << 20, 1 << 19, 6400, 50), (0, 0)),
            (found(GIB, GIB / 2, 0, 0), (GIB / 2 - (16 << 20), u64::MAX)),
        ] {
            let left = left(&found);
            assert_eq!((left.bytes, left.inodes), expected);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_before_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let mut room = Allowance::at(directory.path());
        room.take_file(100 << 10).unwrap();
        let error = room.take_file(u64::MAX / 2).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
        let text = error.to_string();
        assert!(text.starts_with("it takes more than ") && text.contains("` has left"), "{text}");
        // Elsewhere nobody counts.
        Allowance::default().take_file(u64::MAX).unwrap();
    }
}
