//! Overlay mounts that are attached nowhere: a descriptor is all there is of them.
//!
//! Layers are given by descriptor, never in an option string: a string that does not fit is cut
//! silently by the old interface, and the rest of a cut path is another directory.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};

use crate::host::Host;

/// Layers one mount takes. The kernel's own limit is 500; whoever has more flattens some first.
pub const MAX_LAYERS: usize = 400;

/// Why layers do not mount.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// Nothing to mount.
    #[error("no layers given")]
    NoLayers,
    /// More than [`MAX_LAYERS`].
    #[error("{count} layers are more than the {MAX_LAYERS} that can be mounted")]
    TooManyLayers {
        /// How many there are.
        count: usize,
    },
    /// A layer does not open.
    #[error("failed to open the layer `{}`", path.display())]
    Layer {
        /// Its directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The kernel refuses the mount.
    #[error("the kernel refuses the overlay mount{detail}")]
    Mount {
        /// The kernel's own words, or empty.
        detail: String,
        /// The error it gave.
        source: io::Error,
    },
}

/// Merges `lowers` (the bottom one first) into one read-only tree and gives back its root, attached
/// nowhere: it is gone when the descriptor is closed.
///
/// A single layer is shown as it is, so a whiteout in it shows as the device it is stored as.
pub fn open_overlay(host: &Host, lowers: &[PathBuf]) -> Result<OwnedFd, OverlayError> {
    mount(host, lowers, None, MountAttrFlags::MOUNT_ATTR_NODEV)
}

/// The same with an upper directory that takes the writes.
pub(crate) fn mount(
    host: &Host,
    lowers: &[PathBuf],
    writable: Option<(&Path, &Path)>,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, OverlayError> {
    match (lowers, writable) {
        ([], None) => return Err(OverlayError::NoLayers),
        (_, _) if lowers.len() > MAX_LAYERS => {
            return Err(OverlayError::TooManyLayers { count: lowers.len() });
        }
        ([only], None) => return clone_directory(only, attributes),
        _ => {}
    }
    let lowers = lowers.iter().map(|path| open_layer(path)).collect::<Result<Vec<_>, _>>()?;
    let writable = match writable {
        None => None,
        Some((upper, work)) => Some((open_layer(upper)?, open_layer(work)?)),
    };
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| OverlayError::Mount { detail: String::new(), source: errno.into() })?;
    configure(context.as_fd(), host, &lowers, writable.as_ref())
        .and_then(|()| fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes))
        .map_err(|errno| OverlayError::Mount {
            detail: kernel_message(context.as_fd()),
            source: errno.into(),
        })
}

fn open_layer(path: &Path) -> Result<OwnedFd, OverlayError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty())
        .map_err(|errno| OverlayError::Layer { path: path.to_owned(), source: errno.into() })
}

/// The kernel refuses an overlay of one read-only layer; the layer itself is the same tree.
fn clone_directory(path: &Path, attributes: MountAttrFlags) -> Result<OwnedFd, OverlayError> {
    let failed = |source: io::Error| OverlayError::Mount { detail: String::new(), source };
    let directory = open_layer(path)?;
    let mount = open_tree(
        &directory,
        "",
        OpenTreeFlags::OPEN_TREE_CLONE
            | OpenTreeFlags::OPEN_TREE_CLOEXEC
            | OpenTreeFlags::AT_EMPTY_PATH,
    )
    .map_err(|errno| failed(errno.into()))?;
    let attributes = attributes | MountAttrFlags::MOUNT_ATTR_RDONLY;
    crate::sys::mount_setattr(mount.as_fd(), false, attributes.bits().into(), libc::MS_PRIVATE)
        .map_err(failed)?;
    Ok(mount)
}

fn configure(
    context: BorrowedFd<'_>,
    host: &Host,
    lowers: &[OwnedFd],
    writable: Option<&(OwnedFd, OwnedFd)>,
) -> rustix::io::Result<()> {
    // The upper directory has to be a plain tree of changes that can be read without the mount: no
    // renames kept as references, no metadata without its data, no index.
    fsconfig_set_string(context, "metacopy", "off")?;
    fsconfig_set_string(context, "redirect_dir", "nofollow")?;
    fsconfig_set_string(context, "index", "off")?;
    fsconfig_set_string(context, "xino", "auto")?;
    if host.userxattr() {
        fsconfig_set_flag(context, "userxattr")?;
    }
    // Each one is added beneath those before.
    for lower in lowers.iter().rev() {
        set_directory(context, "lowerdir+", lower.as_fd())?;
    }
    if let Some((upper, work)) = writable {
        set_directory(context, "upperdir", upper.as_fd())?;
        set_directory(context, "workdir", work.as_fd())?;
        fsconfig_set_flag(context, "volatile")?;
    }
    fsconfig_create(context)
}

/// By descriptor, or before Linux 6.13 by the descriptor's name.
fn set_directory(
    context: BorrowedFd<'_>,
    key: &str,
    directory: BorrowedFd<'_>,
) -> rustix::io::Result<()> {
    match fsconfig_set_fd(context, key, directory) {
        Err(Errno::INVAL) => {
            use std::os::fd::AsRawFd;
            let name = format!("/proc/self/fd/{}", directory.as_raw_fd());
            fsconfig_set_string(context, key, &*name)
        }
        other => other,
    }
}

/// What the kernel wrote about the last failure, as `: text`.
fn kernel_message(context: BorrowedFd<'_>) -> String {
    let mut text = String::new();
    let mut line = [0; 512];
    while let Ok(count) = rustix::io::read(context, &mut line) {
        // Each line starts with its kind, such as `e `.
        let message = String::from_utf8_lossy(line.get(2..count).unwrap_or_default());
        text = format!(": {}", message.trim());
    }
    text
}
