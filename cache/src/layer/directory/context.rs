//! What a sink knows wherever it stands.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;

use rustix::fs::{AtFlags, Mode, XattrFlags, fchmod, fsetxattr, statat, unlinkat};
use rustix::io::Errno;
use rustix::process::{getegid, geteuid};

use super::options::DirectoryOptions;
use crate::layer::beneath::{Missing, Obstacle};
use crate::layer::left_out::LeftOut;
use crate::layer::{Entry, EntryKind, Time};

/// More warnings than this are counted, not kept.
const WARNINGS_MAX: usize = 1000;

/// What does not depend on where the sink stands.
pub(super) struct Context {
    pub(super) options: DirectoryOptions,
    pub(super) owner: Owner,
    pub(super) implied: BTreeSet<Vec<u8>>,
    pub(super) warnings: Vec<LeftOut>,
    pub(super) more_warnings: usize,
}

impl Context {
    pub(super) fn warn(&mut self, warning: LeftOut) {
        if self.warnings.len() < WARNINGS_MAX {
            self.warnings.push(warning);
        } else {
            self.more_warnings += 1;
        }
    }

    pub(super) fn set_opaque(&self, directory: BorrowedFd<'_>) -> Result<(), Errno> {
        match self.options.flavor.opaque_attribute() {
            Some(key) => fsetxattr(directory, key, b"y", XattrFlags::empty()),
            None => Ok(()),
        }
    }
}

impl Missing for Context {
    fn obstacle(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<Obstacle, Errno> {
        let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if !self.options.flavor.is_whiteout(&stat) {
            return Ok(Obstacle::InTheWay);
        }
        unlinkat(parent, name, AtFlags::empty())?;
        Ok(Obstacle::Whiteout)
    }

    fn made(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &[u8],
        over_whiteout: bool,
    ) -> Result<Time, Errno> {
        let found = if over_whiteout { None } else { self.options.lower.directory(path)? };
        let entry = found.unwrap_or_else(|| Entry::new(path, EntryKind::Directory, 0o755));
        self.own(directory, &entry)?;
        fchmod(directory, Mode::from(entry.mode))?;
        self.set_xattrs(directory, &entry)?;
        if over_whiteout {
            self.set_opaque(directory)?;
        }
        self.implied.insert(path.to_vec());
        Ok(entry.mtime)
    }
}

/// Who this process is, and what a new file of it gets by itself.
pub(super) struct Owner {
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Permission bits that new files do not get.
    pub(super) umask: u32,
    /// Owners that cannot be set are kept aside.
    pub(super) ignore: bool,
}

impl Owner {
    pub(super) fn current(ignore: bool) -> Self {
        Self { uid: geteuid().as_raw(), gid: getegid().as_raw(), umask: umask(), ignore }
    }
}

/// The umask, read without changing it, which would change it for all threads. If procfs does not
/// tell, every mode is set.
fn umask() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let umask = status.lines().find_map(|line| line.strip_prefix("Umask:"));
    umask.and_then(|digits| u32::from_str_radix(digits.trim(), 8).ok()).unwrap_or(0o777)
}
