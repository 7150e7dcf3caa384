//! What does not get into a tree or a tar.

use std::path::PathBuf;

/// Something of an entry that was left out, mostly because this process may not make it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeftOut {
    /// No right to make devices.
    #[error("left out the device `{}`: no permission to make devices", .0.display())]
    Device(PathBuf),
    /// A character device 0:0 in an archive, which a tree would take for a whiteout.
    #[error("left out `{}`: a device 0:0 would delete the file below", .0.display())]
    WhiteoutDevice(PathBuf),
    /// An extended attribute that the file system does not take.
    #[error("left out the attribute `{attribute}` of `{}`", path.display())]
    Attribute {
        /// The entry.
        path: PathBuf,
        /// The attribute's name.
        attribute: String,
    },
    /// The owner of a link or device, for which no attribute can stand in.
    #[error("left out the owner of `{}`: this user may not change owners", .0.display())]
    Owner(PathBuf),
    /// A file whose name in an archive would delete another.
    #[error("left out `{}`: in an image its name would delete another file", .0.display())]
    ReservedName(PathBuf),
    /// There were this many more warnings.
    #[error("{0} more of these warnings")]
    More(usize),
}
