//! The life of the zygote: see [`crate::zygote`].

use std::io;
use std::os::fd::AsFd;

use rustix::fs::Mode;
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};

use crate::control::{Channel, Fork, Forked};
use crate::sys;

/// Forks as it is told to; ends when nobody can tell it any more.
pub(crate) fn main(channel: Channel) -> ! {
    match prepare().and_then(|()| serve(&channel)) {
        Ok(Some(own)) => {
            // The other is the zygote's.
            drop(channel);
            super::main(own)
        }
        Ok(None) => sys::exit_now(0),
        Err(_) => sys::exit_now(1),
    }
}

fn prepare() -> io::Result<()> {
    // A parent that is gone already shows as the end of the channel.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // What the caller has set for itself is neither for sandboxes nor for what is made in layers.
    rustix::process::umask(Mode::from_raw_mode(0o022));
    sys::usual_personality()?;
    // What this process holds is not for any command, even though both are root.
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Answers until the channel ends; in the init, gives back the init's own channel.
fn serve(channel: &Channel) -> io::Result<Option<Channel>> {
    while let Some((Fork, fds)) = channel.receive()? {
        let mut fds = fds.into_iter();
        let Some(own) = fds.next() else { continue };
        let group = fds.next();
        let (answer, pidfd): (Forked, _) = match sys::fork_sibling(group.as_ref().map(AsFd::as_fd))
        {
            Ok(None) => return Ok(Some(Channel::from_fd(own))),
            Ok(Some((pid, pidfd))) => (Ok(pid.as_raw_nonzero().get()), Some(pidfd)),
            Err(error) => (Err(error.raw_os_error().unwrap_or(libc::EIO)), None),
        };
        let along: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
        channel.send(&answer, &along)?;
    }
    Ok(None)
}
