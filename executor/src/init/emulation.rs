//! A user namespace with a table of interpreters of its own: see [`crate::emulation`].

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, set_dumpable_behavior};

use super::mounts::{PLAIN, file_system};
use crate::control::{Channel, Order, Report};
use crate::error::Failure;
use crate::sys::{self, Unshare};

/// Makes the namespace, has the parent map its ids, registers `rules`, and hands it over.
pub(super) fn run(channel: &Channel, rules: &[String]) -> Result<(), Failure> {
    // The map is the parent's to write only then. There is nothing to see here.
    set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(Failure::setup("open a process to its parent"))?;
    sys::unshare(Unshare::UserAndMounts).map_err(Failure::setup("make a user namespace"))?;
    let report = |fds: &[_]| {
        let sent = channel.send(&Report::Started, fds);
        sent.map_err(Failure::setup("report a user namespace"))
    };
    report(&[])?;
    match channel.receive::<Order>() {
        Ok(Some((Order::Mapped, _))) => {}
        _ => return Err(Failure::setup("have the ids of a user namespace mapped")(Errno::PERM)),
    }
    let table = register(rules)?;
    let users = openat(CWD, "/proc/self/ns/user", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::setup("open a user namespace"))?;
    report(&[users.as_fd(), table.as_fd()])
}

/// The table with these rules, mounted nowhere.
fn register(rules: &[String]) -> Result<OwnedFd, Failure> {
    let table = file_system("binfmt_misc", &[], &[], PLAIN)
        .map_err(Failure::setup("make a table of interpreters"))?;
    for rule in rules {
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        openat(&table, "register", flags, Mode::empty())
            .and_then(|register| rustix::io::write(&register, rule.as_bytes()))
            .map_err(Failure::setup("register an emulator"))?;
    }
    Ok(table)
}
