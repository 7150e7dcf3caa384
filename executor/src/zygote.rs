//! The zygote: a process of this program that does nothing but fork.
//!
//! A new process of a large program costs milliseconds: it is mapped, relocated and initialised page
//! by page. The zygote goes through that once; the inits that are forked from it start where it stands,
//! with its pages. It never learns of a job, so nothing of one job is in the memory of another.
//!
//! What it forks becomes a child of its own parent, the thread that started it: that is there to wait
//! for them, and its end kills them all.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::control::{Channel, Fork, Forked};
use crate::program::{INIT_NAME, own_program};
use crate::sys;

/// A process of ours. Dropping it ends it.
#[derive(Debug)]
pub(crate) struct Child {
    pid: Pid,
    pidfd: OwnedFd,
    ended: OnceLock<()>,
}

/// The zygote. Dropping it ends it; what it has forked stays.
#[derive(Debug)]
pub(crate) struct Zygote {
    process: Child,
    channel: Channel,
}

impl Zygote {
    /// It and all that come from it live no longer than the calling thread: the kernel sends the signal
    /// that ends them when the thread ends that is their parent.
    pub(crate) fn start() -> io::Result<Self> {
        let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let (channel, theirs) = Channel::pair()?;
        let number = CString::new(theirs.as_fd().as_raw_fd().to_string()).expect("digits only");
        let (pid, pidfd) = sys::start_program(
            own_program()?.as_fd(),
            &[INIT_NAME, &number],
            null.as_fd(),
            theirs.as_fd(),
        )?;
        Ok(Self { process: Child::new(pid, pidfd), channel })
    }

    pub(crate) fn pid(&self) -> Pid {
        self.process.pid
    }

    /// Asks for an init, to be born in the control group of version 2 open as `group`, and gives back
    /// our end of its channel at once. The answers come in the order of the questions.
    pub(crate) fn ask(&self, group: Option<BorrowedFd<'_>>) -> io::Result<Channel> {
        let (channel, theirs) = Channel::pair()?;
        let along: Vec<BorrowedFd<'_>> = std::iter::once(theirs.as_fd()).chain(group).collect();
        self.channel.send(&Fork, &along)?;
        Ok(channel)
    }

    /// Ends it, without waiting.
    pub(crate) fn kill(&self) {
        self.process.kill();
    }

    /// The init that was asked for.
    pub(crate) fn answer(&self) -> io::Result<Child> {
        let gone = || io::Error::other("the process that starts sandboxes is gone");
        let (forked, mut fds) = self.channel.receive::<Forked>()?.ok_or_else(gone)?;
        let pid = forked.map_err(io::Error::from_raw_os_error)?;
        let pid = Pid::from_raw(pid).ok_or_else(gone)?;
        Ok(Child::new(pid, fds.pop().ok_or_else(gone)?))
    }
}

impl Child {
    fn new(pid: Pid, pidfd: OwnedFd) -> Self {
        Self { pid, pidfd, ended: OnceLock::new() }
    }

    pub(crate) fn pid(&self) -> Pid {
        self.pid
    }

    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    /// Ends it, without waiting.
    pub(crate) fn kill(&self) {
        if !self.has_ended() {
            // It may have ended by itself.
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
    }

    /// Waits until it has ended.
    pub(crate) fn wait(&self) {
        self.ended.get_or_init(|| {
            let id = WaitId::PidFd(self.pidfd.as_fd());
            while let Err(Errno::INTR) = waitid(id.clone(), WaitIdOptions::EXITED) {}
        });
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
        self.wait();
    }
}
