//! Starting sandboxes' inits, one of them ahead of need.
//!
//! All are started by one thread, which lives as long as any of them: the kernel sends the signal
//! that ends an init when the thread that started it ends, not when the process does.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, memfd_create, openat};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::cgroup::{Group, Hierarchies};
use crate::control::Channel;
use crate::sys;

/// The name by which a program knows that it is to be an init.
pub(crate) const INIT_NAME: &CStr = c"mybuild-init";

/// How long an init waits for work before it is let go: it holds on to the host's mounts as they
/// were when it was started.
const IDLE: Duration = Duration::from_secs(3);

/// Gives out inits.
#[derive(Debug)]
pub(crate) struct Inits {
    requests: Mutex<Option<Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

enum Request {
    Take(SyncSender<io::Result<Started>>),
    Prepare,
}

/// A process of its own, waiting for orders.
#[derive(Debug)]
struct Started {
    pid: Pid,
    pidfd: OwnedFd,
    channel: Channel,
    group: Mutex<Option<Group>>,
    ended: OnceLock<()>,
}

/// An init that belongs to somebody. Dropping it ends it, and everything in its sandbox.
#[derive(Debug)]
pub(crate) struct Init {
    started: Started,
    // Keeps the thread that started it.
    _inits: Arc<Inits>,
}

impl Inits {
    pub(crate) fn new(hierarchies: Hierarchies) -> io::Result<Self> {
        let (requests, inbox) = channel();
        let thread = std::thread::Builder::new()
            .name("sandbox-starter".to_owned())
            .spawn(move || serve(&inbox, &hierarchies))?;
        Ok(Self { requests: Mutex::new(Some(requests)), thread: Mutex::new(Some(thread)) })
    }

    /// An init of the caller's own.
    pub(crate) fn take(self: &Arc<Self>) -> io::Result<Init> {
        let (reply, answer) = sync_channel(1);
        self.request(Request::Take(reply))?;
        let started = answer.recv().map_err(|_| thread_is_gone())??;
        Ok(Init { started, _inits: Arc::clone(self) })
    }

    /// Starts one ahead of need.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        self.request(Request::Prepare)
    }

    fn request(&self, request: Request) -> io::Result<()> {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        let sender = requests.as_ref().ok_or_else(thread_is_gone)?;
        sender.send(request).map_err(|_| thread_is_gone())
    }
}

fn thread_is_gone() -> io::Error {
    io::Error::other("the thread that starts sandboxes is gone")
}

impl Drop for Inits {
    fn drop(&mut self) {
        // The thread ends when nobody can ask it for anything any more.
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // It does not panic; if it did, its inits are gone all the same.
            let _ = thread.join();
        }
    }
}

impl Init {
    pub(crate) fn pid(&self) -> Pid {
        self.started.pid
    }

    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.started.pidfd
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.started.channel
    }

    /// Replaces the group it was started in.
    pub(crate) fn set_group(&self, group: Group) {
        *self.started.group() = Some(group);
    }

    /// Removes its group when it has ended; tells whether a member was killed for want of memory.
    pub(crate) fn remove_group(&self) -> bool {
        self.started.group().take().is_some_and(|group| group.out_of_memory())
    }

    /// Ends it and everything in its sandbox, without waiting.
    pub(crate) fn kill(&self) {
        self.started.kill();
    }

    /// Waits until it has ended and everything in its sandbox with it.
    pub(crate) fn wait(&self) {
        self.started.wait();
    }
}

impl Started {
    fn group(&self) -> MutexGuard<'_, Option<Group>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        if self.ended.get().is_none() {
            if let Some(group) = &*self.group() {
                group.kill();
            }
            // It may have ended by itself.
            let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
        }
    }

    fn wait(&self) {
        self.ended.get_or_init(|| {
            let id = WaitId::PidFd(self.pidfd.as_fd());
            while let Err(Errno::INTR) = waitid(id.clone(), WaitIdOptions::EXITED) {}
        });
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.kill();
        self.wait();
    }
}

/// The life of the starting thread.
fn serve(inbox: &Receiver<Request>, hierarchies: &Hierarchies) {
    let mut spare: Option<Started> = None;
    loop {
        let request = match &spare {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) => inbox.recv_timeout(IDLE),
        };
        match request {
            Ok(Request::Take(reply)) => {
                let started = match spare.take() {
                    Some(started) => Ok(started),
                    None => start(hierarchies),
                };
                // Whoever no longer waits does not need it, and dropping it ends it.
                let worked = started.is_ok();
                let _ = reply.send(started);
                if worked {
                    spare = start(hierarchies).ok();
                }
            }
            Ok(Request::Prepare) => {
                if spare.is_none() {
                    spare = start(hierarchies).ok();
                }
            }
            Err(RecvTimeoutError::Timeout) => spare = None,
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn start(hierarchies: &Hierarchies) -> io::Result<Started> {
    let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let (channel, theirs) = Channel::pair()?;
    let number = CString::new(theirs.as_fd().as_raw_fd().to_string()).expect("digits only");
    let (pid, pidfd) = sys::start_init(
        own_program()?.as_fd(),
        &[INIT_NAME, &number],
        null.as_fd(),
        theirs.as_fd(),
    )?;
    let group = hierarchies.default_group(pid);
    Ok(Started { pid, pidfd, channel, group: Mutex::new(Some(group)), ended: OnceLock::new() })
}

/// This program in sealed memory: what the sandbox sees as its first process's program is not the
/// file on the host, and cannot be changed.
fn own_program() -> io::Result<&'static OwnedFd> {
    static PROGRAM: Mutex<Option<&'static OwnedFd>> = Mutex::new(None);
    let mut program = PROGRAM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = *program {
        return Ok(program);
    }
    let copied: &'static OwnedFd = Box::leak(Box::new(copy_own_program()?));
    *program = Some(copied);
    Ok(copied)
}

fn copy_own_program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match memfd_create("mybuild-init", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every one is executable.
        Err(Errno::INVAL) => memfd_create("mybuild-init", flags)?,
        other => other?,
    };
    let mut memory = File::from(memory);
    let mut program = File::open("/proc/self/exe")?;
    io::copy(&mut program, &mut memory)?;
    fcntl_add_seals(
        &memory,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(memory.into())
}
