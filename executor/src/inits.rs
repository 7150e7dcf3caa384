//! Starting sandboxes' inits, always one ahead of need.
//!
//! Each is started by a thread that lives as long as it does: the kernel sends the signal that ends
//! an init when the thread that started it ends, not when the process does. The thread also sits in
//! the control group of its sandboxes, one after the other: what it starts is born there, while
//! moving a running process makes the kernel wait for tens of milliseconds.

use std::collections::VecDeque;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fstat, memfd_create, openat, stat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsmount, fsopen,
};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

use crate::cgroup::{Group, Hierarchies};
use crate::control::Channel;
use crate::init::file_system;
use crate::sys;

/// The name by which a program knows that it is to be an init.
pub(crate) const INIT_NAME: &CStr = c"mybuild-init";

/// How long an init waits for work before it is let go: it holds on to the host's mounts as they
/// were when it was started.
const IDLE: Duration = Duration::from_secs(3);

/// Gives out inits.
#[derive(Debug)]
pub(crate) struct Inits {
    hierarchies: Hierarchies,
    /// Those that start nothing for anybody now; the first one is the next to be used.
    idle: Mutex<VecDeque<Starter>>,
}

/// A thread that starts one init at a time.
#[derive(Debug)]
struct Starter {
    requests: Option<Sender<Request>>,
    /// Gives back its control group, which can be removed only when the thread is no longer in it.
    thread: Option<JoinHandle<Option<Group>>>,
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
    /// A group for it alone, where its starter's does not do.
    group: Mutex<Option<Group>>,
    ended: OnceLock<()>,
}

/// An init that belongs to somebody. Dropping it ends it, and everything in its sandbox.
#[derive(Debug)]
pub(crate) struct Init {
    // Ended before its starter is put back.
    started: Started,
    _starter: Borrowed,
}

/// A starter that is in use; it goes back when its init is gone.
#[derive(Debug)]
struct Borrowed {
    starter: Option<Starter>,
    inits: Arc<Inits>,
}

impl Inits {
    /// With one thread, which starts nothing yet.
    pub(crate) fn new(hierarchies: Hierarchies) -> io::Result<Self> {
        let first = Starter::new(&hierarchies)?;
        Ok(Self { hierarchies, idle: Mutex::new(VecDeque::from([first])) })
    }

    /// An init of the caller's own; the next one is started meanwhile.
    pub(crate) fn take(self: &Arc<Self>) -> io::Result<Init> {
        let first = self.idle().pop_front();
        let starter = first.map_or_else(|| Starter::new(&self.hierarchies), Ok)?;
        let (reply, answer) = sync_channel(1);
        starter.request(Request::Take(reply))?;
        let borrowed = Borrowed { starter: Some(starter), inits: Arc::clone(self) };
        self.prepare()?;
        let started = answer.recv().map_err(|_| thread_is_gone())??;
        Ok(Init { started, _starter: borrowed })
    }

    /// Starts one ahead of need.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        let mut idle = self.idle();
        if idle.is_empty() {
            idle.push_front(Starter::new(&self.hierarchies)?);
        }
        idle.front().map_or(Ok(()), |next| next.request(Request::Prepare))
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<Starter>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(starter) = self.starter.take() {
            self.inits.idle().push_back(starter);
        }
    }
}

impl Starter {
    fn new(hierarchies: &Hierarchies) -> io::Result<Self> {
        let (requests, inbox) = channel();
        let hierarchies = hierarchies.clone();
        let thread = std::thread::Builder::new()
            .name("sandbox-starter".to_owned())
            .spawn(move || serve(&inbox, &hierarchies))?;
        Ok(Self { requests: Some(requests), thread: Some(thread) })
    }

    fn request(&self, request: Request) -> io::Result<()> {
        let requests = self.requests.as_ref().ok_or_else(thread_is_gone)?;
        requests.send(request).map_err(|_| thread_is_gone())
    }
}

impl Drop for Starter {
    fn drop(&mut self) {
        // The thread ends when nobody can ask it for anything any more.
        self.requests.take();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, its init is gone all the same.
            drop(thread.join());
        }
    }
}

fn thread_is_gone() -> io::Error {
    io::Error::other("the thread that starts sandboxes is gone")
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

    /// Hands over the group that it has been moved to.
    pub(crate) fn set_group(&self, group: Group) {
        *self.started.group() = Some(group);
    }

    /// Removes such a group when it has ended; tells whether a member was killed for want of memory.
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

/// The life of a starting thread.
fn serve(inbox: &Receiver<Request>, hierarchies: &Hierarchies) -> Option<Group> {
    let mut group = None;
    let mut spare: Option<Started> = None;
    loop {
        let request = match &spare {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) => inbox.recv_timeout(IDLE),
        };
        let mut start = || start(group.get_or_insert_with(|| hierarchies.group_of_thread()));
        match request {
            Ok(Request::Take(reply)) => {
                let started = spare.take().map_or_else(start, Ok);
                // Whoever no longer waits does not need it, and dropping it ends it.
                let _ = reply.send(started);
            }
            Ok(Request::Prepare) => {
                if spare.is_none() {
                    spare = start().ok();
                }
            }
            Err(RecvTimeoutError::Timeout) => spare = None,
            Err(RecvTimeoutError::Disconnected) => {
                drop(spare);
                return group;
            }
        }
    }
}

fn start(group: &Group) -> io::Result<Started> {
    let null = openat(CWD, "/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    let (channel, theirs) = Channel::pair()?;
    let number = CString::new(theirs.as_fd().as_raw_fd().to_string()).expect("digits only");
    let (pid, pidfd) = sys::start_init(
        own_program()?.as_fd(),
        &[INIT_NAME, &number],
        null.as_fd(),
        theirs.as_fd(),
        group.unified(),
    )?;
    Ok(Started { pid, pidfd, channel, group: Mutex::default(), ended: OnceLock::new() })
}

/// This program as nobody can change it: what the sandbox sees as its first process's program is not
/// the file on the host.
fn own_program() -> io::Result<&'static OwnedFd> {
    static PROGRAM: Mutex<Option<&'static OwnedFd>> = Mutex::new(None);
    let mut program = PROGRAM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = *program {
        return Ok(program);
    }
    let shown = own_program_read_only().map_or_else(copy_own_program, Ok)?;
    let kept: &'static OwnedFd = Box::leak(Box::new(shown));
    *program = Some(kept);
    Ok(kept)
}

/// Through an overlay that has no place for writes: another file with the same pages, for which
/// nothing is copied. `None` where the kernel makes no such mount of the program's directory.
fn own_program_read_only() -> Option<OwnedFd> {
    let path = std::fs::read_link("/proc/self/exe").ok()?;
    let directory = open_directory(path.parent()?)?;
    // One layer alone is none for the kernel.
    let empty = file_system("tmpfs", &[], &[], MountAttrFlags::MOUNT_ATTR_RDONLY).ok()?;
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    fsconfig_set_fd(&context, "lowerdir+", &directory).ok()?;
    fsconfig_set_fd(&context, "lowerdir+", &empty).ok()?;
    fsconfig_create(&context).ok()?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let shown = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let program = openat(&shown, path.file_name()?, flags, Mode::empty()).ok()?;
    let (own, seen) = (stat("/proc/self/exe").ok()?, fstat(&program).ok()?);
    let identity = |of: &rustix::fs::Stat| {
        (of.st_size, of.st_mode, of.st_mtime, of.st_mtime_nsec, of.st_ctime, of.st_ctime_nsec)
    };
    (identity(&own) == identity(&seen)).then_some(program)
}

fn open_directory(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).ok()
}

/// In sealed memory.
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
