//! Overlay mounts that are attached nowhere: a descriptor is all there is of them.
//!
//! Layers are given by descriptor, never in an option string: a string that does not fit is cut
//! silently by the old interface, and the rest of a cut path is another directory.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, OpenTreeFlags, fsconfig_create, fsconfig_set_fd,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};

use crate::host::Host;
use crate::layer_directories::Seen;
use crate::sys::{self, Change};

/// Layers one mount takes. The kernel's own limit is 500; a caller that has more flattens some first.
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
    let lowers = &topmost_of_each(lowers)[..];
    match (lowers, writable) {
        ([], None) => return Err(OverlayError::NoLayers),
        (_, _) if lowers.len() > MAX_LAYERS => {
            return Err(OverlayError::TooManyLayers { count: lowers.len() });
        }
        ([only], None) => {
            return clone_directory(only, attributes | MountAttrFlags::MOUNT_ATTR_RDONLY);
        }
        // Over nothing, what is written is all there is.
        ([], Some((upper, _))) => return clone_directory(upper, attributes),
        _ => {}
    }
    // Without the host's paths if the kernel can, and without one call for each layer if it cannot.
    let hidden = host.layer_directories.open(lowers, writable).map(Directories::from);
    if let Some(Ok(mounted)) = hidden.map(|hidden| new_mount(host, &hidden, attributes)) {
        return Ok(mounted);
    }
    match new_mount(host, &Directories::open(lowers, writable)?, attributes) {
        Err(OverlayError::Mount { source, .. }) if lacks_new_options(&source) => {
            legacy::mount(host, lowers, writable, attributes)
        }
        other => other,
    }
}

impl Host {
    /// Whether overlay mounts work with directories in `dir`; tried, and cleaned up.
    pub fn supports_overlay(&self, dir: &Path) -> Result<(), OverlayError> {
        let base = dir.join(format!(".overlay-probe-{}", std::process::id()));
        let names = ["lower", "upper", "work"].map(|name| base.join(name));
        let made = names.iter().try_for_each(std::fs::create_dir_all);
        let result = made
            .map_err(|source| OverlayError::Layer { path: base.clone(), source })
            .and_then(|()| {
                let [lower, upper, work] = &names;
                let attributes = MountAttrFlags::empty();
                mount(self, std::slice::from_ref(lower), Some((upper, work)), attributes)
            });
        // The directory is ours alone and empty but for what the kernel puts in `work`.
        let removed = std::fs::remove_dir_all(&base);
        result.map(drop)?;
        removed.map_err(|source| OverlayError::Layer { path: base, source })
    }
}

/// The kernel takes a directory only once. Two layers with the same changes are one directory, and
/// what the upper one says about a path goes before what the lower one says about it.
fn topmost_of_each(lowers: &[PathBuf]) -> Vec<&Path> {
    let mut seen = HashSet::new();
    let lowers = lowers.iter().map(PathBuf::as_path);
    let mut kept: Vec<&Path> = lowers.rev().filter(|layer| seen.insert(*layer)).collect();
    kept.reverse();
    kept
}

/// The directories of one mount, open.
struct Directories {
    lowers: Vec<Arc<OwnedFd>>,
    writable: Option<(OwnedFd, OwnedFd)>,
    /// The mount they are on, if it is attached nowhere: closed, it could not be used any more.
    _top: Option<Arc<OwnedFd>>,
}

impl Directories {
    fn open(lowers: &[&Path], writable: Option<(&Path, &Path)>) -> Result<Self, OverlayError> {
        let open = |path: &&Path| open_layer(path).map(Arc::new);
        let lowers = lowers.iter().map(open).collect::<Result<_, _>>()?;
        let writable = match writable {
            None => None,
            Some((upper, work)) => Some((open_layer(upper)?, open_layer(work)?)),
        };
        Ok(Self { lowers, writable, _top: None })
    }
}

impl From<Seen> for Directories {
    fn from(Seen { lowers, writable, top }: Seen) -> Self {
        Self { lowers, writable, _top: Some(top) }
    }
}

/// Before Linux 6.5 layers cannot be added one by one.
fn lacks_new_options(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINVAL | libc::ENOSYS))
}

fn new_mount(
    host: &Host,
    directories: &Directories,
    attributes: MountAttrFlags,
) -> Result<OwnedFd, OverlayError> {
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
        .map_err(|errno| OverlayError::Mount { detail: String::new(), source: errno.into() })?;
    configure(context.as_fd(), host, directories)
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

/// The kernel refuses an overlay of one directory; the directory itself is the same tree.
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
    sys::mount_setattr(mount.as_fd(), false, Change::Propagate(attributes, libc::MS_PRIVATE))
        .map_err(failed)?;
    Ok(mount)
}

/// The upper directory has to be a plain tree of changes that can be read without the mount: no
/// renames kept as references, no metadata without its data, no index.
const OPTIONS: [(&str, &str); 4] =
    [("metacopy", "off"), ("redirect_dir", "nofollow"), ("index", "off"), ("xino", "auto")];

fn configure(
    context: BorrowedFd<'_>,
    host: &Host,
    directories: &Directories,
) -> rustix::io::Result<()> {
    fsconfig_set_string(context, "source", "overlay")?;
    for (key, value) in OPTIONS {
        fsconfig_set_string(context, key, value)?;
    }
    if host.userxattr() {
        fsconfig_set_flag(context, "userxattr")?;
    }
    // Each one is added beneath those before.
    for lower in directories.lowers.iter().rev() {
        set_directory(context, "lowerdir+", lower.as_fd())?;
    }
    if let Some((upper, work)) = &directories.writable {
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

/// The mount call of kernels before 6.5: one page of options for everything.
mod legacy {
    use std::os::fd::AsRawFd;

    use rustix::mount::{MountFlags, MountPropagationFlags, mount_change};

    use super::*;
    use crate::sys::Unshare;

    /// What fits into the page that the kernel copies; it cuts off the rest without a word.
    const MAX_DATA: usize = 4000;

    /// Mounts in a namespace that lasts as long as a thread, and keeps a copy that is attached nowhere.
    pub(super) fn mount(
        host: &Host,
        lowers: &[&Path],
        writable: Option<(&Path, &Path)>,
        attributes: MountAttrFlags,
    ) -> Result<OwnedFd, OverlayError> {
        let refused = |source: io::Error| OverlayError::Mount { detail: String::new(), source };
        let mount = || {
            enter_namespace().map_err(refused)?;
            // Opened here, since layers have to be of the namespace that mounts them.
            let directories = Directories::open(lowers, writable)?;
            let data = options(host, &directories);
            if data.len() > MAX_DATA {
                return Err(OverlayError::TooManyLayers { count: lowers.len() });
            }
            mount_on(&directories.lowers[0], &data, attributes).map_err(refused)
        };
        std::thread::scope(|scope| scope.spawn(mount).join())
            .unwrap_or_else(|_| Err(refused(io::Error::other("the thread ended early"))))
    }

    /// Directories are named by their descriptors' numbers, so that every name is short.
    fn enter_namespace() -> io::Result<()> {
        sys::unshare(Unshare::Mounts)?;
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)?;
        Ok(rustix::process::chdir("/proc/self/fd")?)
    }

    fn mount_on(place: &OwnedFd, data: &str, attributes: MountAttrFlags) -> io::Result<OwnedFd> {
        let place = place.as_raw_fd().to_string();
        let data = std::ffi::CString::new(data)?;
        rustix::mount::mount("overlay", &*place, "overlay", MountFlags::empty(), &*data)?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let mounted = open_tree(CWD, std::fs::read_link(&place)?, flags)?;
        sys::mount_setattr(mounted.as_fd(), false, Change::Set(attributes))?;
        Ok(mounted)
    }

    fn options(host: &Host, directories: &Directories) -> String {
        let number = |fd: &OwnedFd| fd.as_raw_fd().to_string();
        let lowers = directories.lowers.iter().rev();
        let lowers: Vec<String> = lowers.map(|lower| number(lower)).collect();
        let mut options: Vec<String> =
            OPTIONS.iter().map(|(key, value)| format!("{key}={value}")).collect();
        if host.userxattr() {
            options.push("userxattr".to_owned());
        }
        options.push(format!("lowerdir={}", lowers.join(":")));
        if let Some((upper, work)) = &directories.writable {
            options.push(format!("upperdir={},workdir={},volatile", number(upper), number(work)));
        }
        options.join(",")
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn privileged_the_old_call_gives_the_same_tree() {
            if !rustix::process::geteuid().is_root() {
                let _ = io::Write::write_all(&mut io::stderr(), b"skipped: needs root to mount\n");
                return;
            }
            let dir = tempfile::tempdir().unwrap();
            let paths: Vec<PathBuf> = (0..150).map(|n| dir.path().join(n.to_string())).collect();
            for (number, path) in paths.iter().enumerate() {
                std::fs::create_dir(path).unwrap();
                std::fs::write(path.join("top"), number.to_string()).unwrap();
                std::fs::write(path.join(format!("only-{number}")), "").unwrap();
            }
            let lowers: Vec<&Path> = paths[..148].iter().map(PathBuf::as_path).collect();
            let writable = (&*paths[148], &*paths[149]);
            std::fs::remove_file(paths[148].join("top")).unwrap();
            std::fs::remove_file(paths[149].join("top")).unwrap();
            std::fs::remove_file(paths[149].join("only-149")).unwrap();
            let host = Host::probe();
            let mounts = || std::fs::read_to_string("/proc/self/mountinfo").unwrap();
            let before = mounts();
            let tree = mount(&host, &lowers, Some(writable), MountAttrFlags::empty()).unwrap();
            assert_eq!(mounts(), before, "it is attached nowhere");
            let top = openat(&tree, "top", OFlags::RDONLY, Mode::empty()).unwrap();
            assert_eq!(std::io::read_to_string(std::fs::File::from(top)).unwrap(), "147");
            assert!(openat(&tree, "only-0", OFlags::PATH, Mode::empty()).is_ok());
            let flags = OFlags::WRONLY | OFlags::CREATE;
            openat(&tree, "new", flags, Mode::from_raw_mode(0o644)).unwrap();
            assert!(paths[148].join("new").exists());
        }
    }
}
