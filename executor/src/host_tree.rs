//! A file or directory of the host as a mount, with all that is mounted beneath it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::mount::{MountAttrFlags, OpenTreeFlags, open_tree};

use crate::process::Propagation;
use crate::sys::{self, Change};

/// The tree at `source` once more, as mounts attached nowhere.
pub(crate) fn clone(
    source: BorrowedFd<'_>,
    propagation: Propagation,
    attributes: MountAttrFlags,
) -> io::Result<OwnedFd> {
    check(source, propagation)?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH
        | OpenTreeFlags::AT_RECURSIVE;
    let mounted = open_tree(source, "", flags)?;
    let propagation = match propagation {
        Propagation::Private => libc::MS_PRIVATE,
        Propagation::Slave => libc::MS_SLAVE,
        // A clone of a shared mount is its peer as it is.
        Propagation::Shared => 0,
    };
    sys::mount_setattr(mounted.as_fd(), true, Change::Propagate(attributes, propagation))?;
    Ok(mounted)
}

/// What to call it in a message.
pub(crate) fn name(source: BorrowedFd<'_>) -> String {
    let path = fs::read_link(format!("/proc/self/fd/{}", source.as_raw_fd()));
    path.map_or_else(|_| "a descriptor".to_owned(), |path| path.display().to_string())
}

/// The kernel takes a wish that the source's mount cannot fulfil without a word.
fn check(source: BorrowedFd<'_>, propagation: Propagation) -> io::Result<()> {
    let wanted: &[&str] = match propagation {
        Propagation::Private => return Ok(()),
        Propagation::Slave => &["shared:", "master:"],
        Propagation::Shared => &["shared:"],
    };
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{}", source.as_raw_fd()))?;
    let id = info.lines().find_map(|line| line.strip_prefix("mnt_id:")).unwrap_or_default().trim();
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    match peers(&mounts, id).any(|field| wanted.iter().any(|wanted| field.starts_with(wanted))) {
        true => Ok(()),
        false => Err(io::Error::other(match propagation {
            Propagation::Shared => "its mount is not shared",
            _ => "its mount is neither shared nor a slave",
        })),
    }
}

/// The optional fields of a mount: whom it shares events with.
fn peers<'a>(mounts: &'a str, id: &str) -> impl Iterator<Item = &'a str> {
    let line = mounts.lines().find(|line| line.split(' ').next() == Some(id));
    line.unwrap_or_default().split(' ').skip(6).take_while(|field| *field != "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mounts_peers_stand_before_the_dash() {
        let mounts = "29 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n\
                      30 29 0:5 / /dev rw master:2 propagate_from:1 - devtmpfs shared: rw\n\
                      31 29 0:6 / /private rw - tmpfs shared:3 rw\n";
        for (id, wanted) in [
            ("29", &["shared:1"][..]),
            ("30", &["master:2", "propagate_from:1"]),
            ("31", &[]),
            ("3", &[]),
        ] {
            assert_eq!(peers(mounts, id).collect::<Vec<_>>(), wanted, "{id}");
        }
    }
}
