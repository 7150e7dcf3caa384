//! How much room there is on the store's file system.

use std::fmt;
use std::io;
use std::path::Path;

/// Room on a file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// In bytes.
    pub bytes: Share,
    /// In files and directories; nothing where their number has no limit of its own.
    pub inodes: Option<Share>,
}

/// What is left of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// What the user of the store may still take.
    pub free: u64,
    /// What there is in all.
    pub total: u64,
}

impl Room {
    /// That of the file system that `path` is on.
    pub fn of(path: &Path) -> io::Result<Self> {
        let stat = rustix::fs::statvfs(path)?;
        let bytes = |blocks: u64| blocks.saturating_mul(stat.f_frsize);
        let inodes = Share { free: stat.f_favail, total: stat.f_files };
        Ok(Self {
            bytes: Share { free: bytes(stat.f_bavail), total: bytes(stat.f_blocks) },
            // Btrfs and others make them as they are needed, and say 0.
            inodes: (inodes.total > 0).then_some(inodes),
        })
    }
}

impl fmt::Display for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let megabytes = |bytes: u64| bytes.div_ceil(1_000_000);
        let Share { free, total } = self.bytes;
        write!(f, "{} of {} MB", free / 1_000_000, megabytes(total))?;
        match self.inodes {
            Some(Share { free, total }) => write!(f, " and {free} of {total} inodes"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_in_megabytes_and_inodes() {
        let bytes = Share { free: 1_999_999, total: 64_000_001 };
        for (inodes, expected) in [
            (None, "1 of 65 MB"),
            (Some(Share { free: 0, total: 1024 }), "1 of 65 MB and 0 of 1024 inodes"),
        ] {
            assert_eq!(Room { bytes, inodes }.to_string(), expected);
        }
    }
}
