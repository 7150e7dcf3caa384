//! Sandboxes' inits, always one ahead of need.
//!
//! All come from one zygote group: a control group and a zygote in it. What the zygote forks is born in the group,
//! while moving a process makes the kernel wait for milliseconds. One thread makes the zygote group. It lives
//! as long as that does: it is the parent of all that comes from there.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::cgroup::{Group, Hierarchies};
use crate::control::Channel;
use crate::process::Exhausted;
use crate::zygote::{Child, Zygote};

/// How long an init waits for work before it is let go: it holds on to the host's mounts as they
/// were when it was started.
const IDLE: Duration = Duration::from_secs(3);

/// Gives out inits.
#[derive(Debug)]
pub(crate) struct InitPool {
    zygote_group: Arc<Shared>,
    /// Asks the thread that makes the zygote group.
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

/// The zygote group, once something was to be started.
#[derive(Debug, Default)]
struct Shared(Mutex<Option<ZygoteGroup>>);

enum Request {
    /// The zygote group is needed, and somebody waits for it.
    Make(SyncSender<io::Result<()>>),
    /// It will be needed, and an init that waits in it.
    Prepare,
}

/// Where inits come from.
#[derive(Debug)]
struct ZygoteGroup {
    /// An init that was asked for ahead of need: since when, and our end of its channel.
    asked: Option<(Instant, Channel)>,
    // Ended before its group is removed.
    zygote: Zygote,
    group: Group,
    in_use: u64,
    /// As many in use at once has the group room for.
    room: u64,
}

/// A process of its own, waiting for orders.
#[derive(Debug)]
struct Started {
    process: Child,
    channel: Channel,
    /// A group for it alone, where its zygote group's does not do.
    group: Mutex<Option<Group>>,
}

/// An init that belongs to somebody. Dropping it ends it, and everything in its sandbox.
#[derive(Debug)]
pub(crate) struct Init {
    // Ended before it no longer counts.
    started: Started,
    in_use: Use,
    /// How many forks of its group were refused before.
    refused_forks: u64,
}

/// That an init is in use.
#[derive(Debug)]
struct Use(Arc<InitPool>);

impl InitPool {
    /// With one thread, which starts nothing yet.
    pub(crate) fn new(hierarchies: Hierarchies) -> io::Result<Self> {
        let (requests, inbox) = channel();
        let zygote_group = Arc::<Shared>::default();
        let made = Arc::clone(&zygote_group);
        let thread = std::thread::Builder::new()
            .name("sandbox-starter".to_owned())
            .spawn(move || serve(&inbox, &hierarchies, &made))?;
        Ok(Self { zygote_group, requests: Some(requests), thread: Some(thread) })
    }

    /// An init of the caller's own.
    pub(crate) fn take(self: &Arc<Self>) -> io::Result<Init> {
        if self.zygote_group.get().is_none() {
            let (reply, answer) = sync_channel(1);
            self.request(Request::Make(reply))?;
            answer.recv().map_err(|_| thread_is_gone())??;
        }
        let mut zygote_group = self.zygote_group.get();
        let Some(there) = &mut *zygote_group else { return Err(thread_is_gone()) };
        match there.take() {
            Ok(started) => {
                there.admit();
                let refused_forks = there.group.refused_forks();
                Ok(Init { started, in_use: Use(Arc::clone(self)), refused_forks })
            }
            Err(error) => {
                // The next caller gets a new one.
                *zygote_group = None;
                Err(error)
            }
        }
    }

    /// Starts one ahead of need.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match &mut *self.zygote_group.get() {
            Some(zygote_group) => zygote_group.ask(),
            None => self.request(Request::Prepare),
        }
    }

    fn request(&self, request: Request) -> io::Result<()> {
        let requests = self.requests.as_ref().ok_or_else(thread_is_gone)?;
        requests.send(request).map_err(|_| thread_is_gone())
    }
}

impl Drop for InitPool {
    fn drop(&mut self) {
        // The thread ends when nobody can ask it for anything any more, and the zygote group with it.
        self.requests.take();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, its processes are gone all the same.
            drop(thread.join());
        }
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        if let Some(zygote_group) = &mut *self.0.zygote_group.get() {
            zygote_group.in_use = zygote_group.in_use.saturating_sub(1);
        }
    }
}

fn thread_is_gone() -> io::Error {
    io::Error::other("the thread that starts sandboxes is gone")
}

impl Shared {
    fn get(&self) -> MutexGuard<'_, Option<ZygoteGroup>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the zygote group unless it is there.
    fn make(&self, hierarchies: &Hierarchies) -> io::Result<()> {
        let mut zygote_group = self.get();
        if zygote_group.is_none() {
            *zygote_group = Some(ZygoteGroup::new(hierarchies)?);
        }
        Ok(())
    }

    /// Lets go of an init that has waited for too long.
    fn let_go(&self) {
        if let Some(zygote_group) = &mut *self.get()
            && zygote_group.asked.as_ref().is_some_and(|(since, _)| since.elapsed() >= IDLE)
        {
            // Dropping it ends it.
            let _ = zygote_group.take();
        }
    }
}

impl ZygoteGroup {
    fn new(hierarchies: &Hierarchies) -> io::Result<Self> {
        let zygote = Zygote::start()?;
        // It is moved while it initialises itself: the kernel takes longer than it does.
        let group = hierarchies.group_of_zygote(zygote.pid()).map_err(io::Error::other)?;
        Ok(Self { asked: None, zygote, group, in_use: 0, room: 1 })
    }

    /// Asks for an init unless there is one already; does not wait for it.
    fn ask(&mut self) -> io::Result<()> {
        if self.asked.is_none() {
            let channel = self.zygote.ask(self.group.unified())?;
            self.asked = Some((Instant::now(), channel));
        }
        Ok(())
    }

    fn take(&mut self) -> io::Result<Started> {
        self.ask()?;
        let (_, channel) = self.asked.take().expect("it was asked for");
        Ok(Started { process: self.zygote.answer()?, channel, group: Mutex::default() })
    }

    /// Counts one more in use, and makes room for it.
    fn admit(&mut self) {
        self.in_use += 1;
        if self.in_use > self.room {
            self.room = self.in_use;
            self.group.make_room(self.room);
        }
    }

    /// Ends what is in it without waiting; gives back an init that nobody has taken.
    fn kill(&mut self) -> Option<Started> {
        let waiting = self.asked.is_some().then(|| self.take().ok()).flatten();
        waiting.iter().for_each(Started::kill);
        self.zygote.kill();
        waiting
    }
}

impl Init {
    pub(crate) fn pid(&self) -> Pid {
        self.started.process.pid()
    }

    pub(crate) fn pidfd(&self) -> &OwnedFd {
        self.started.process.pidfd()
    }

    pub(crate) fn channel(&self) -> &Channel {
        &self.started.channel
    }

    /// Hands over the group that it has been moved to.
    pub(crate) fn set_group(&self, group: Group) {
        *self.started.group() = Some(group);
    }

    /// Removes such a group when it has ended; tells which limit its sandbox has run into.
    pub(crate) fn remove_group(&self) -> Option<Exhausted> {
        match self.started.group().take() {
            Some(own) => own.exhausted(0),
            None => self.in_use.0.zygote_group.get().as_ref()?.group.exhausted(self.refused_forks),
        }
    }

    /// Ends it and everything in its sandbox, without waiting.
    pub(crate) fn kill(&self) {
        self.started.kill();
    }

    /// Waits until it has ended and everything in its sandbox with it.
    pub(crate) fn wait(&self) {
        self.started.process.wait();
    }
}

impl Started {
    fn group(&self) -> MutexGuard<'_, Option<Group>> {
        self.group.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kill(&self) {
        if !self.process.has_ended() {
            if let Some(group) = &*self.group() {
                group.kill();
            }
            self.process.kill();
        }
    }
}

/// The life of the thread that makes the zygote group.
fn serve(inbox: &Receiver<Request>, hierarchies: &Hierarchies, zygote_group: &Shared) {
    let mut made = false;
    loop {
        let request = match made {
            false => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            true => inbox.recv_timeout(IDLE),
        };
        made = true;
        match request {
            Ok(Request::Make(reply)) => {
                // A caller that no longer waits does not need it.
                let _ = reply.send(zygote_group.make(hierarchies));
            }
            Ok(Request::Prepare) => {
                // A failure shows when the init is needed.
                let _ = zygote_group.make(hierarchies);
                let _ = zygote_group.get().as_mut().map(ZygoteGroup::ask);
            }
            Err(RecvTimeoutError::Timeout) => zygote_group.let_go(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    let last = zygote_group.get().take();
    if let Some(mut last) = last {
        // Both are told before the first is waited for.
        let waiting = last.kill();
        drop(waiting);
    }
}
