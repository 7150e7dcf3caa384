//! What a process 1 of ours shows of itself.
//!
//! It shows nothing: neither its memory nor its descriptors can be looked at, not even by root. But
//! programs write to `/proc/1/fd/1` what is to be in the log, since for other builders process 1 is the
//! command. So that one directory shows the command's streams.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{Mode, mkdirat, symlinkat};
use rustix::process::Pid;

use super::mounts::{Builder, PLAIN, READ_ONLY, attach, bind};
use crate::error::Failure;

/// The command's number: it is the first that the init forks.
const COMMAND: i32 = 2;

/// Whether the command has the number that [`show_streams`] leads to.
pub(super) fn is_command(pid: Pid) -> bool {
    pid.as_raw_nonzero().get() == COMMAND
}

/// Covers `/proc/1/fd` with links to the command's.
pub(super) fn show_streams(builder: &Builder<'_>, proc: &OwnedFd) -> Result<(), Failure> {
    let name = "streams";
    let show = || {
        mkdirat(&builder.files, name, Mode::from_raw_mode(0o755))?;
        for stream in 0..3 {
            // Up from where it will be mounted.
            let target = format!("../../{COMMAND}/fd/{stream}");
            symlinkat(target, &builder.files, format!("{name}/{stream}"))?;
        }
        let shown = bind(builder.files.as_fd(), name, false, PLAIN | READ_ONLY)?;
        attach(shown.as_fd(), proc, "1/fd")
    };
    show().map_err(Failure::mount("/proc/1/fd"))
}
