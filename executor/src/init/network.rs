//! What a container may do in a network of its own: Docker's kernel parameters.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, openat};
use rustix::io::Errno;

use crate::error::Failure;
use crate::job::{Job, JobIdentities};

/// Every port can be listened on without privileges: none of them is the host's.
const PORTS: (&str, &str) = ("sys/net/ipv4/ip_unprivileged_port_start", "0");
/// Every group may send echo requests.
const PING: (&str, &str) = ("sys/net/ipv4/ping_group_range", "0 2147483647");

/// Sets them, by the `/proc` of a process that is in the network already.
pub(super) fn open(job: &Job, proc: &OwnedFd) -> Result<(), Failure> {
    set(proc, PORTS)?;
    // In a user namespace the kernel takes only groups that exist there; Docker leaves it alone, too.
    if job.identities == JobIdentities::Host {
        set(proc, PING)?;
    }
    Ok(())
}

/// A kernel without the parameter has nothing to be opened.
fn set(proc: &OwnedFd, (name, value): (&str, &str)) -> Result<(), Failure> {
    let written = match openat(proc, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error.into()),
        Ok(file) => File::from(file).write_all(value.as_bytes()),
    };
    written.map_err(|error: io::Error| Failure::setup(&format!("set `/proc/{name}`"))(error))
}
