//! The life of a zygote: see [`crate::zygote`].

use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::process::{
    DumpableBehavior, Signal, set_dumpable_behavior, set_parent_process_death_signal,
};

use crate::control::{Channel, Fork, Forked};
use crate::sys;

/// What a fork leads to in the new process.
enum Born {
    Zygote(Channel),
    Init(Channel),
}

/// Forks as it is told to; ends when nobody can tell it any more.
pub(crate) fn main(channel: Channel) -> ! {
    let mut channel = channel;
    loop {
        match prepare().and_then(|()| serve(&channel)) {
            // The old channel is closed here: it is the parent's.
            Ok(Some(Born::Zygote(own))) => channel = own,
            Ok(Some(Born::Init(own))) => {
                drop(channel);
                super::main(own)
            }
            Ok(None) => sys::exit_now(0),
            Err(_) => sys::exit_now(1),
        }
    }
}

fn prepare() -> std::io::Result<()> {
    // A parent that is gone already shows as the end of the channel.
    set_parent_process_death_signal(Some(Signal::KILL))?;
    // What this process holds is not for any command, even though both are root.
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Answers until the channel ends, or comes back in the new process.
fn serve(channel: &Channel) -> std::io::Result<Option<Born>> {
    while let Some((what, mut fds)) = channel.receive::<Fork>()? {
        let group = (fds.len() > 1).then(|| fds.remove(1));
        let Some(own) = fds.pop().map(Channel::from_fd) else { continue };
        let forked = match what {
            Fork::Zygote => sys::fork_sibling(false, None),
            Fork::Init => sys::fork_sibling(true, group.as_ref().map(AsFd::as_fd)),
        };
        let (answer, pidfd): (Forked, _) = match forked {
            Ok(None) => {
                return Ok(Some(match what {
                    Fork::Zygote => Born::Zygote(own),
                    Fork::Init => Born::Init(own),
                }));
            }
            Ok(Some((pid, pidfd))) => (Ok(pid.as_raw_nonzero().get()), Some(pidfd)),
            Err(error) => (Err(error.raw_os_error().unwrap_or(Errno::IO.raw_os_error())), None),
        };
        let along: Vec<_> = pidfd.iter().map(AsFd::as_fd).collect();
        channel.send(&answer, &along)?;
    }
    Ok(None)
}
