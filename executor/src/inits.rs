//! Sandboxes' inits, always one ahead of need.
//!
//! Each comes from a nest: a control group and a zygote in it, which forks one sandbox's init after the
//! other. What is forked is born in the group, while moving a process makes the kernel wait for
//! milliseconds. One thread makes the nests. It lives as long as they do: it is the parent of all that
//! comes from them.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::Pid;

use crate::cgroup::{Group, Hierarchies};
use crate::control::{Channel, Fork};
use crate::zygote::{Child, Zygote};

/// How long an init waits for work before it is let go: it holds on to the host's mounts as they
/// were when it was started.
const IDLE: Duration = Duration::from_secs(3);

/// Gives out inits.
#[derive(Debug)]
pub(crate) struct Inits {
    nests: Arc<Nests>,
    /// Asks the thread that makes nests.
    requests: Option<Sender<Request>>,
    thread: Option<JoinHandle<()>>,
}

/// Nests that nobody uses now; the first one is the next to be used.
#[derive(Debug, Default)]
struct Nests(Mutex<VecDeque<Nest>>);

enum Request {
    /// A nest for whoever waits for it.
    Make(SyncSender<io::Result<Nest>>),
    /// One for the next, with an init that waits in it.
    Prepare,
}

/// Where inits come from, one at a time.
#[derive(Debug)]
struct Nest {
    /// An init that was asked for ahead of need: since when, and our end of its channel.
    asked: Option<(Instant, Channel)>,
    // Ended before its group is removed.
    zygote: Zygote,
    group: Group,
}

/// A process of its own, waiting for orders.
#[derive(Debug)]
struct Started {
    process: Child,
    channel: Channel,
    /// A group for it alone, where its nest's does not do.
    group: Mutex<Option<Group>>,
}

/// An init that belongs to somebody. Dropping it ends it, and everything in its sandbox.
#[derive(Debug)]
pub(crate) struct Init {
    // Ended before its nest is put back.
    started: Started,
    _nest: Borrowed,
}

/// A nest that is in use; it goes back when its init is gone.
#[derive(Debug)]
struct Borrowed {
    nest: Option<Nest>,
    inits: Arc<Inits>,
}

impl Inits {
    /// With one thread, which starts nothing yet.
    pub(crate) fn new(hierarchies: Hierarchies) -> io::Result<Self> {
        let (requests, inbox) = channel();
        let nests = Arc::<Nests>::default();
        let kept = Arc::clone(&nests);
        let thread = std::thread::Builder::new()
            .name("sandbox-starter".to_owned())
            .spawn(move || serve(&inbox, &hierarchies, &kept))?;
        Ok(Self { nests, requests: Some(requests), thread: Some(thread) })
    }

    /// An init of the caller's own.
    pub(crate) fn take(self: &Arc<Self>) -> io::Result<Init> {
        let idle = self.nests.idle().pop_front();
        let mut nest = idle.map_or_else(|| self.make(), Ok)?;
        let started = nest.take()?;
        let nest = Borrowed { nest: Some(nest), inits: Arc::clone(self) };
        Ok(Init { started, _nest: nest })
    }

    /// Starts one ahead of need.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match self.nests.idle().front_mut() {
            Some(next) => next.ask(),
            None => self.request(Request::Prepare),
        }
    }

    fn make(&self) -> io::Result<Nest> {
        let (reply, answer) = sync_channel(1);
        self.request(Request::Make(reply))?;
        answer.recv().map_err(|_| thread_is_gone())?
    }

    fn request(&self, request: Request) -> io::Result<()> {
        let requests = self.requests.as_ref().ok_or_else(thread_is_gone)?;
        requests.send(request).map_err(|_| thread_is_gone())
    }
}

impl Drop for Inits {
    fn drop(&mut self) {
        // The thread ends when nobody can ask it for anything any more, and the nests with it.
        self.requests.take();
        if let Some(thread) = self.thread.take() {
            // It does not panic; if it did, its processes are gone all the same.
            drop(thread.join());
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(nest) = self.nest.take() {
            self.inits.nests.idle().push_back(nest);
        }
    }
}

fn thread_is_gone() -> io::Error {
    io::Error::other("the thread that starts sandboxes is gone")
}

impl Nests {
    fn idle(&self) -> MutexGuard<'_, VecDeque<Nest>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets go of inits that have waited for too long.
    fn let_go(&self) {
        let is_old = |since: &Instant| since.elapsed() >= IDLE;
        for nest in self.idle().iter_mut() {
            if nest.asked.as_ref().is_some_and(|(since, _)| is_old(since)) {
                // Dropping it ends it.
                let _ = nest.take();
            }
        }
    }
}

impl Nest {
    /// Asks for an init unless there is one already; does not wait for it.
    fn ask(&mut self) -> io::Result<()> {
        if self.asked.is_none() {
            let channel = self.zygote.ask(Fork::Init, self.group.unified())?;
            self.asked = Some((Instant::now(), channel));
        }
        Ok(())
    }

    fn take(&mut self) -> io::Result<Started> {
        self.ask()?;
        let (_, channel) = self.asked.take().expect("it was asked for");
        Ok(Started { process: self.zygote.answer()?, channel, group: Mutex::default() })
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

/// The life of the thread that makes nests.
fn serve(inbox: &Receiver<Request>, hierarchies: &Hierarchies, nests: &Nests) {
    let mut first: Option<Zygote> = None;
    loop {
        let request = match &first {
            None => inbox.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(_) => inbox.recv_timeout(IDLE),
        };
        match request {
            Ok(Request::Make(reply)) => {
                let prepared = nests.idle().pop_front();
                let nest = prepared.map_or_else(|| make(&mut first, hierarchies), Ok);
                // Whoever no longer waits does not need it, and dropping it ends it.
                let _ = reply.send(nest);
            }
            Ok(Request::Prepare) => {
                if nests.idle().is_empty()
                    && let Ok(mut nest) = make(&mut first, hierarchies)
                    && nest.ask().is_ok()
                {
                    nests.idle().push_front(nest);
                }
            }
            Err(RecvTimeoutError::Timeout) => nests.let_go(),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    // All are told before the first is waited for.
    let mut nests = std::mem::take(&mut *nests.idle());
    let waiting: Vec<Started> = nests.iter_mut().filter_map(Nest::kill).collect();
    // A member of the group of the nest that was made first.
    drop(first);
    drop(waiting);
}

/// Makes a nest; `first` is the zygote that all others come from.
fn make(first: &mut Option<Zygote>, hierarchies: &Hierarchies) -> io::Result<Nest> {
    let (zygote, group) = match first {
        Some(first) => {
            let zygote = first.fork()?;
            let group = hierarchies.group_of_zygote(zygote.pid());
            (zygote, group)
        }
        None => {
            let first = first.insert(Zygote::start()?);
            // It is moved while it initialises itself: the kernel takes longer than it does.
            let group = hierarchies.group_of_zygote(first.pid());
            (first.fork()?, group)
        }
    };
    Ok(Nest { asked: None, zygote, group })
}
