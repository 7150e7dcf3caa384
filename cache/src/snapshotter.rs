//! How a stack of layers becomes one tree on this machine: by overlayfs, or by copying.

use std::io;
use std::path::Path;

use rustix::fs::XattrFlags;

use crate::error::StoreError;
use crate::store::Store;

/// How layers are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Snapshotter {
    /// Mounted over each other.
    Overlay(OverlayFlavor),
    /// Copied into each other ([`copy_tree`](crate::copy_tree())): slow, and works anywhere.
    Copy,
}

/// Where overlayfs keeps its marks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OverlayFlavor {
    /// In `trusted.overlay.*`: needs `CAP_SYS_ADMIN` in the first user namespace.
    Trusted,
    /// In `user.overlay.*`, with the mount option `userxattr`.
    User,
}

impl Snapshotter {
    fn name(self) -> &'static str {
        match self {
            Self::Overlay(OverlayFlavor::Trusted) => "overlay",
            Self::Overlay(OverlayFlavor::User) => "overlay-user",
            Self::Copy => "copy",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Overlay(OverlayFlavor::Trusted), Self::Overlay(OverlayFlavor::User), Self::Copy]
            .into_iter()
            .find(|snapshotter| snapshotter.name() == name)
    }
}

impl Store {
    /// The snapshotter for this store, kernel and user. The first time `mounts` is asked, in an
    /// empty directory of the store, whether an overlay of a flavour really mounts; the answer
    /// is remembered.
    pub fn snapshotter(
        &self,
        mounts: &dyn Fn(&Path, OverlayFlavor) -> bool,
    ) -> Result<Snapshotter, StoreError> {
        if let Some(known) = self.known_snapshotter() {
            return Ok(known);
        }
        let found = self.probe(mounts)?;
        self.put_setting(&setting_name(), found.name());
        Ok(found)
    }

    /// What [`Self::snapshotter`] has found before.
    pub fn known_snapshotter(&self) -> Option<Snapshotter> {
        self.setting(&setting_name()).as_deref().and_then(Snapshotter::from_name)
    }

    fn probe(
        &self,
        mounts: &dyn Fn(&Path, OverlayFlavor) -> bool,
    ) -> Result<Snapshotter, StoreError> {
        for flavor in [OverlayFlavor::Trusted, OverlayFlavor::User] {
            let directory = self.temporary();
            let failed = |error| StoreError::io("probe", &directory, error);
            std::fs::create_dir(&directory).map_err(failed)?;
            let fits = is_fit_for_upper(&directory, flavor).map_err(failed);
            let works = fits? && mounts(&directory, flavor);
            self.inner.removals.now(&directory);
            if works {
                return Ok(Snapshotter::Overlay(flavor));
            }
        }
        Ok(Snapshotter::Copy)
    }
}

/// The answer's name holds everything that it depends on.
fn setting_name() -> String {
    let system = rustix::system::uname();
    let user = rustix::process::geteuid();
    // Inside a user namespace the same number is another user.
    let namespace = std::fs::read_link("/proc/self/ns/user").unwrap_or_default();
    let is_first = namespace.as_os_str() == "user:[4026531837]";
    let who = if is_first { format!("{user}") } else { format!("{user} in a namespace") };
    format!("snapshotter {} {who}", system.release().to_string_lossy())
}

/// Whether a file system can hold an overlay's upper directory as far as can be told without
/// mounting: it keeps the marks, and it tells file types when it lists a directory.
fn is_fit_for_upper(directory: &Path, flavor: OverlayFlavor) -> io::Result<bool> {
    let file = directory.join("probe");
    std::fs::create_dir(&file)?;
    let mark = match flavor {
        OverlayFlavor::Trusted => "trusted.overlay.opaque",
        OverlayFlavor::User => "user.overlay.opaque",
    };
    let marked = rustix::fs::setxattr(&file, mark, b"y", XattrFlags::empty()).is_ok();
    let listed = rustix::fs::Dir::read_from(std::fs::File::open(directory)?)?;
    let mut types = listed.filter_map(Result::ok).map(|entry| entry.file_type());
    let tells_types = types.all(|file_type| file_type != rustix::fs::FileType::Unknown);
    std::fs::remove_dir(&file)?;
    Ok(marked && tells_types)
}
