//! How the marks of a layer are written down in a tree.

use rustix::fs::{FileType, Stat};

/// How whiteouts and opaque directories are written down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavor {
    /// As overlayfs has them: devices and `trusted.overlay.opaque`, which needs root.
    Trusted,
    /// As overlayfs has them when mounted with `userxattr`: devices and `user.overlay.opaque`.
    User,
    /// As any file system can have them, for layers that are never mounted over each other: sockets,
    /// which no layer holds, and `user.mybuild.opaque`. Overlayfs, for one, lets nobody make its own
    /// marks in what it shows.
    Unmounted,
    /// Not at all: the directory holds the merged tree, in which they delete.
    Plain,
}

impl Flavor {
    /// The attribute of opaque directories.
    pub(super) fn opaque_attribute(self) -> Option<&'static str> {
        match self {
            Self::Trusted => Some("trusted.overlay.opaque"),
            Self::User => Some("user.overlay.opaque"),
            Self::Unmounted => Some("user.mybuild.opaque"),
            Self::Plain => None,
        }
    }

    /// Whether `stat` is that of a whiteout, which in a plain tree there is none of.
    pub(super) fn is_whiteout(self, stat: &Stat) -> bool {
        let file_type = FileType::from_raw_mode(stat.st_mode);
        match self {
            Self::Trusted | Self::User => file_type.is_char_device() && stat.st_rdev == 0,
            Self::Unmounted => file_type == FileType::Socket,
            Self::Plain => false,
        }
    }

    /// What a whiteout is made as.
    pub(super) fn whiteout_type(self) -> FileType {
        if self == Self::Unmounted { FileType::Socket } else { FileType::CharacterDevice }
    }
}
