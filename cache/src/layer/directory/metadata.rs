//! Owner, mode, attributes and time of what was just made, with as few calls as will do.

use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, Mode, XattrFlags, chmodat, chownat, fchmod, fchown, fremovexattr, fsetxattr, futimens,
    lsetxattr, utimensat,
};
use rustix::io::Errno;
use rustix::process::{Gid, Uid};

use super::context::Context;
use crate::layer::left_out::LeftOut;
use crate::layer::name::to_path;
use crate::layer::{Entry, EntryKind, beneath, read};

/// Takes away what a directory has from an entry before, apart from the marks of the tree's form.
pub(super) fn forget(directory: BorrowedFd<'_>) -> Result<(), Errno> {
    let is_form = |key: &[u8]| read::is_own(key) && key != read::OWNER.as_bytes();
    for key in read::file_xattrs(directory)?.into_keys().filter(|key| !is_form(key)) {
        match fremovexattr(directory, &key[..]) {
            // What the system itself puts on every file, and does not let anybody take away.
            Err(Errno::NODATA | Errno::PERM | Errno::ACCESS) => {}
            removed => removed?,
        }
    }
    Ok(())
}

impl Context {
    /// Sets everything of a new regular file. `gives_group`: its directory gives it our group.
    pub(super) fn set_file_metadata(
        &mut self,
        file: BorrowedFd<'_>,
        entry: &Entry,
        gives_group: bool,
    ) -> Result<(), Errno> {
        if !self.owns_already(entry, gives_group) {
            self.own(file, entry)?;
        }
        self.set_xattrs(file, entry)?;
        // Changing the owner takes the set-id bits away, and so does writing: mode comes last.
        if self.needs_mode(entry) {
            fchmod(file, Mode::from(entry.mode))?;
        }
        futimens(file, &beneath::timestamps(entry.mtime))
    }

    /// Sets everything of something new that cannot be opened, `name` in `directory`.
    pub(super) fn set_node_metadata(
        &mut self,
        directory: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
        gives_group: bool,
    ) -> Result<(), Errno> {
        if !self.owns_already(entry, gives_group) {
            let (uid, gid) = ids(entry);
            match chownat(directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::PERM | Errno::INVAL) if self.owner.ignore => {
                    self.warn(LeftOut::Owner(to_path(&entry.path)));
                }
                result => result?,
            }
        }
        // Links have no mode. The call follows links, but this name is a node made a moment ago.
        if !matches!(entry.kind, EntryKind::Symlink { .. }) && self.needs_mode(entry) {
            chmodat(directory, name, Mode::from(entry.mode), AtFlags::empty())?;
        }
        if !entry.xattrs.is_empty() {
            let path = read::in_proc(directory, name);
            self.each_xattr(entry, |key, value| {
                lsetxattr(&path[..], key, value, XattrFlags::empty())
            })?;
        }
        let times = beneath::timestamps(entry.mtime);
        utimensat(directory, name, &times, AtFlags::SYMLINK_NOFOLLOW)
    }

    fn owns_already(&self, entry: &Entry, gives_group: bool) -> bool {
        gives_group && (entry.uid, entry.gid) == (self.owner.uid, self.owner.gid)
    }

    /// The mode a file is made with: its own, but attributes are only set by who may write.
    pub(super) fn first_mode(&self, entry: &Entry) -> Mode {
        let own = if self.owner.uid == 0 { 0 } else { 0o600 };
        Mode::from((entry.mode | own) & 0o777)
    }

    fn needs_mode(&self, entry: &Entry) -> bool {
        entry.mode & (0o7000 | self.owner.umask) != 0
            || self.first_mode(entry) != Mode::from(entry.mode)
    }

    /// Sets the owner of a file or directory, or keeps it aside.
    pub(super) fn own(&mut self, file: BorrowedFd<'_>, entry: &Entry) -> Result<(), Errno> {
        let (uid, gid) = ids(entry);
        match fchown(file, uid, gid) {
            Err(Errno::PERM | Errno::INVAL) if self.owner.ignore => {
                let owner = format!("{}:{}", entry.uid, entry.gid);
                match fsetxattr(file, read::OWNER, owner.as_bytes(), XattrFlags::empty()) {
                    Err(Errno::OPNOTSUPP) => {
                        self.warn(LeftOut::Owner(to_path(&entry.path)));
                        Ok(())
                    }
                    result => result,
                }
            }
            result => result,
        }
    }

    /// Sets the extended attributes of a file or directory.
    pub(super) fn set_xattrs(&mut self, file: BorrowedFd<'_>, entry: &Entry) -> Result<(), Errno> {
        self.each_xattr(entry, |key, value| fsetxattr(file, key, value, XattrFlags::empty()))
    }

    /// Calls `set` for each attribute but those that belong to the form of trees. What the file
    /// system or this process's rights do not allow is left out with a warning.
    fn each_xattr(
        &mut self,
        entry: &Entry,
        set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        for (key, value) in &entry.xattrs {
            if read::is_own(key) {
                continue;
            }
            match set(key, value) {
                Err(Errno::OPNOTSUPP | Errno::PERM) => self.warn(LeftOut::Attribute {
                    path: to_path(&entry.path),
                    attribute: String::from_utf8_lossy(key).into_owned(),
                }),
                result => result?,
            }
        }
        Ok(())
    }
}

/// Owner as the kernel's calls take it.
fn ids(entry: &Entry) -> (Option<Uid>, Option<Gid>) {
    (Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
}
