//! The first process of every sandbox: it builds the file tree, starts the command, reaps what the
//! command leaves behind and ends with it. The command of a container may be process 1 of a process
//! namespace of its own below; then this one only watches over it.
//!
//! It is this very program, executed as nobody can change it ([`crate::run_init_if_asked`]) and forked
//! from there ([`crate::zygote`]), alone in its namespaces and with one thread. When the parent dies it
//! dies, and the kernel ends everything in its process namespace.

mod command;
mod dev;
mod emulation;
mod first;
mod helper;
mod masks;
mod mounts;
mod network;
mod place;
pub(crate) mod zygote;

pub(crate) use mounts::file_system;

use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, set_dumpable_behavior,
    set_parent_process_death_signal, wait,
};

use crate::control::{Channel, Order, Report};
use crate::error::Failure;
use crate::job;
use crate::process::{ExitStatus, FirstProcess};
use crate::sys::{self, Unshare};
use command::Started;

/// Ends when the parent says so or is gone.
pub(crate) fn main(channel: Channel) -> ! {
    match serve(&channel) {
        Ok(()) => sys::exit_now(0),
        Err(failure) => {
            // If the parent is gone there is no one to report to.
            let _ = channel.send(&Report::Failed(failure), &[]);
            sys::exit_now(1)
        }
    }
}

fn serve(channel: &Channel) -> Result<(), Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(Failure::setup("ask for the parent's death signal"))?;
    // What this process holds is not for the command, even though both are root.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)
        .map_err(Failure::setup("close the init to other processes"))?;
    mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE)
        .map_err(Failure::setup("make the sandbox's mounts private"))?;
    let mut fds = Vec::new();
    // A parent that died before the first line shows here, as the end of the channel.
    while let Some((order, received)) =
        channel.receive::<Order>().map_err(Failure::setup("read the sandbox's orders"))?
    {
        fds.extend(received);
        match order {
            Order::Descriptors => {}
            Order::Run => return run(channel, fds),
            Order::Help { args, says_ready } => {
                return helper::run(channel, &args, says_ready, fds);
            }
            Order::Emulate { rules } => return emulation::run(channel, &rules),
            Order::Mapped | Order::Signal(_) => {}
        }
    }
    Ok(())
}

fn run(channel: &Channel, mut fds: Vec<OwnedFd>) -> Result<(), Failure> {
    let description = fds.remove(0);
    let received = job::read(description).map_err(Failure::setup("read the sandbox's job"))?;
    let children = sys::child_signal().map_err(Failure::setup("watch for children"))?;
    let (mut tree, started) = match received.job.role.first() {
        FirstProcess::Init => {
            let tree = mounts::build(&received, &fds)?;
            let started = command::start(&received, |start| start.command(&tree, &fds))?;
            if !first::is_command(started.pid) {
                return Err(Failure::setup("start the command")(Errno::SRCH));
            }
            (Some(tree), started)
        }
        FirstProcess::Command => {
            sys::unshare(Unshare::Processes).map_err(Failure::setup("make a process namespace"))?;
            // `/proc` belongs to the process that mounts it: the command's process has to.
            let started = command::start(&received, |start| {
                // Not to be closed when the command does not start: by then everything may be.
                let tree = ManuallyDrop::new(mounts::build(&received, &fds)?);
                start.command(&tree, &fds)
            })?;
            (None, started)
        }
    };
    // The contents of secrets and every way to the host go before the command does anything.
    drop(received);
    drop(fds);
    let Started { pid: command, listener, terminal } = started;
    let along: Vec<_> = listener.iter().chain(&terminal).map(AsFd::as_fd).collect();
    channel
        .send(&Report::Started, &along)
        .map_err(Failure::setup("report the start of the command"))?;
    drop(along);
    drop(listener);
    drop(terminal);
    let Some(status) = watch(channel, &children, command)? else { return Ok(()) };
    end_everything();
    if let Some(tree) = &mut tree {
        tree.remove_places()?;
    }
    channel
        .send(&Report::Exited(status), &[])
        .map_err(Failure::setup("report the end of the command"))
}

/// Waits for the command, reaping and passing signals on; `None` when the parent is gone.
fn watch(
    channel: &Channel,
    children: &OwnedFd,
    command: Pid,
) -> Result<Option<ExitStatus>, Failure> {
    loop {
        if let Some(status) = reap(command)? {
            return Ok(Some(status));
        }
        let mut ready = [PollFd::new(channel, PollFlags::IN), PollFd::new(children, PollFlags::IN)];
        match poll(&mut ready, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::setup("wait for the command")(error)),
        }
        let (asked, signalled) = (!ready[0].revents().is_empty(), !ready[1].revents().is_empty());
        if signalled {
            // Several ends may be one signal, so only its presence counts.
            let _ = rustix::io::read(children, &mut [0_u8; 512]);
        }
        if asked {
            match channel.receive::<Order>().map_err(Failure::setup("read the sandbox's orders"))? {
                None => return Ok(None),
                Some((Order::Signal(number), _)) => {
                    if let Some(signal) = Signal::from_named_raw(number) {
                        // It may have ended already.
                        let _ = rustix::process::kill_process(command, signal);
                    }
                }
                Some(_) => {}
            }
        }
    }
}

/// Reaps whatever has ended; the status of `command` when it is among them.
fn reap(command: Pid) -> Result<Option<ExitStatus>, Failure> {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => return Ok(Some(exit_status(status))),
            Ok(Some(_)) => {}
            Ok(None) => return Ok(None),
            Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::setup("wait for the command")(error)),
        }
    }
}

fn exit_status(status: WaitStatus) -> ExitStatus {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => ExitStatus::Exited(code),
        (_, signal) => ExitStatus::Signaled(signal.unwrap_or(0)),
    }
}

/// Kills all that is left in the sandbox and waits until it is gone.
fn end_everything() {
    loop {
        sys::kill_all_others();
        match wait(WaitOptions::empty()) {
            Err(Errno::INTR) | Ok(_) => {}
            // No children are left, and in this namespace everything is our child.
            Err(_) => return,
        }
    }
}
