//! How two file trees differ: those of images, layers and containers of the store, and directories.
//!
//! What is compared is what an image can hold: kind, mode, owner, content, target, device and extended
//! attributes. Times are not, nor is which names are one file. Read [`Change`], then `side` (what a word
//! names), then `trees`.

mod content;
mod side;
mod trees;

use std::path::PathBuf;
use std::sync::Arc;

use oci::Platform;
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::error::{BuildError, Fault};
use crate::progress::event::Silence;
use crate::progress::steps::Steps;
use crate::tree::{self, View};
use crate::workspace::Workspace;

use side::Layers;

pub use crate::tree::Kind;

/// A tree, as the user names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Side {
    /// A container that stays, an image, an image without its topmost layers (`app~2`), or a layer on what
    /// is below it.
    Stored(String),
    /// A directory of this machine.
    Directory(PathBuf),
}

/// What is to be compared.
#[derive(Debug, Clone)]
pub struct CompareRequest {
    /// From what.
    pub from: Side,
    /// To what; without it to `from`, from what is below its topmost layer: of a container, from its image.
    pub to: Option<Side>,
    /// The platform wanted; `None` for this machine's.
    pub platform: Option<Platform>,
}

/// A path that is not in both trees, or not the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// From the root, without a slash before it; empty for the root itself.
    pub path: Vec<u8>,
    /// What became of it.
    pub became: Became,
}

/// What became of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Became {
    /// It is new.
    Added {
        /// What it is.
        kind: Kind,
        /// Bytes of a regular file; 0 for others.
        size: u64,
    },
    /// It is another, or something in this directory is.
    Changed {
        /// What it is now.
        kind: Kind,
        /// Bytes before and now, of all that this line stands for.
        sizes: (u64, u64),
        /// In what it is another; nothing for a directory in which something is.
        differences: Vec<Difference>,
    },
    /// It is gone, with everything below it.
    Removed {
        /// What it was.
        kind: Kind,
        /// Bytes of the files at and below it.
        size: u64,
    },
}

/// In what a file is another: what it was, and what it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// What it is.
    Kind(Kind, Kind),
    /// Permission bits.
    Mode(u16, u16),
    /// User and group.
    Owner((u32, u32), (u32, u32)),
    /// Bytes.
    Size(u64, u64),
    /// What is in it, with the same number of bytes.
    Content,
    /// Where a symbolic link points.
    Target(Vec<u8>, Vec<u8>),
    /// Major and minor number of a device.
    Device((u32, u32), (u32, u32)),
    /// The extended attribute of this name.
    Attribute(Vec<u8>, AttributeChange),
}

/// What became of an extended attribute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttributeChange {
    /// It is new.
    Added,
    /// It has another value.
    Changed,
    /// It is gone.
    Removed,
}

impl Workspace {
    /// What is not the same in two trees, in the order of paths. Layers that were never unpacked are
    /// unpacked, and stay so.
    pub async fn compare(&self, request: CompareRequest) -> Result<Vec<Change>, BuildError> {
        let CompareRequest { from, to, platform } = request;
        let (from, to) = match to {
            Some(to) => (self.named(from, &platform).await?, self.named(to, &platform).await?),
            None => match self.named(from, &platform).await? {
                Named::Layers(top) => (Named::Layers(top.below()), Named::Layers(top)),
                Named::Directory(_) => {
                    return Err(BuildError::input("a directory alone has nothing to differ from")
                        .with_hint("name an image or another directory after it"));
                }
            },
        };
        // Files of the store that are one file need not be read.
        let one_store = matches!((&from, &to), (Named::Layers(_), Named::Layers(_)));
        let (from, to) = (self.view(from).await?, self.view(to).await?);
        blocking(move || trees::compare(&from, &to, one_store).map_err(failed)).await
    }

    async fn named(&self, side: Side, platform: &Option<Platform>) -> Result<Named, BuildError> {
        match side {
            Side::Directory(path) => Ok(Named::Directory(path)),
            Side::Stored(text) => {
                let (store, platform) = (self.store.clone(), platform.clone());
                blocking(move || Layers::named(&store, &text, platform.as_ref()))
                    .await
                    .map(Named::Layers)
            }
        }
    }

    async fn view(&self, named: Named) -> Result<View, BuildError> {
        match named {
            Named::Directory(path) => tree::view_of_layers(self.machine.host(), &[path]),
            Named::Layers(layers) => {
                let steps = Arc::new(Steps::new(Arc::new(Silence)));
                let cancel = CancellationToken::new();
                let rootfs = self.whole_rootfs(&layers.ids, &steps, &cancel).await?;
                let directories: Vec<PathBuf> =
                    rootfs.lowers().iter().cloned().chain(layers.upper).collect();
                tree::view_of_layers(self.machine.host(), &directories)
            }
        }
        .map_err(failed)
    }
}

/// A side, found.
enum Named {
    Layers(Layers),
    Directory(PathBuf),
}

fn failed(error: tree::TreeError) -> BuildError {
    BuildError::System(Fault::of(error))
}
