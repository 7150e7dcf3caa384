//! What happens in a build, as messages: kept for those who ask late, and followed by those who are there.

mod convert;

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant, SystemTime};

use engine::{Event, Progress};
use futures_util::Stream;
use tokio::sync::watch;

use crate::wire::control::StatusResponse;
use convert::Vertexes;
use convert::vertex_digest;

/// So many bytes of messages are kept: whoever reads slower than a build writes misses the oldest.
const KEPT_MAX: usize = 16 << 20;
/// News of one transfer are told this often.
const PERIOD: Duration = Duration::from_millis(100);

/// The messages of one build.
#[derive(Debug)]
pub(crate) struct StatusLog {
    inner: Mutex<Inner>,
    changed: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Inner {
    vertexes: Vertexes,
    /// Messages and their sizes.
    kept: VecDeque<(Arc<StatusResponse>, usize)>,
    bytes: usize,
    /// How many were dropped before those.
    dropped: usize,
    is_ended: bool,
}

impl StatusLog {
    pub(crate) fn new() -> Self {
        Self { inner: Mutex::default(), changed: watch::Sender::new(()) }
    }

    /// Nothing more happens.
    pub(crate) fn end(&self) {
        self.inner.lock().expect("no panic while held").is_ended = true;
        self.changed.send_replace(());
    }

    /// Whether nothing more happens.
    pub(crate) fn is_ended(&self) -> bool {
        self.inner.lock().expect("no panic while held").is_ended
    }

    /// All messages, from the first that is kept until the build ends.
    pub(crate) fn follow(self: Arc<Self>) -> impl Stream<Item = Arc<StatusResponse>> + Send {
        let changed = self.changed.subscribe();
        futures_util::stream::unfold((self, changed, 0), async |(log, mut changed, at)| {
            loop {
                changed.mark_unchanged();
                match log.next(at) {
                    Next::Message(message, at) => return Some((message, (log, changed, at))),
                    Next::End => return None,
                    // The sender is in the log: it does not go away.
                    Next::Wait => drop(changed.changed().await),
                }
            }
        })
    }

    fn next(&self, at: usize) -> Next {
        let inner = self.inner.lock().expect("no panic while held");
        let at = at.max(inner.dropped);
        match inner.kept.get(at - inner.dropped) {
            Some((message, _)) => Next::Message(message.clone(), at + 1),
            None if inner.is_ended => Next::End,
            None => Next::Wait,
        }
    }
}

enum Next {
    Message(Arc<StatusResponse>, usize),
    Wait,
    End,
}

impl Inner {
    fn push(&mut self, message: StatusResponse) {
        use prost::Message as _;
        let size = message.encoded_len();
        self.bytes += size;
        self.kept.push_back((Arc::new(message), size));
        while self.bytes > KEPT_MAX && self.kept.len() > 1 {
            let (_, size) = self.kept.pop_front().expect("there are several");
            self.bytes -= size;
            self.dropped += 1;
        }
    }
}

impl Progress for StatusLog {
    fn event(&self, event: Event) {
        let mut inner = self.inner.lock().expect("no panic while held");
        let message = inner.vertexes.message(event, SystemTime::now(), Instant::now());
        if let Some(message) = message {
            inner.push(message);
            drop(inner);
            self.changed.send_replace(());
        }
    }

    fn shows_changes(&self) -> bool {
        false
    }
}

/// A step of the daemon's own, beside those of the engine.
pub(crate) struct OwnStep {
    log: Arc<StatusLog>,
    digest: String,
    name: String,
    started: SystemTime,
    told: Mutex<Option<Instant>>,
}

impl OwnStep {
    /// It starts now.
    pub(crate) fn start(log: &Arc<StatusLog>, name: &str) -> Self {
        let started = SystemTime::now();
        let (digest, name) = (vertex_digest(name), name.to_owned());
        let step = Self { log: log.clone(), digest, name, started, told: Mutex::default() };
        step.tell(None, "");
        step
    }

    /// So much of `item` has come.
    pub(crate) fn moved(&self, item: &str, bytes: u64, is_done: bool) {
        let now = Instant::now();
        let mut told = self.told.lock().expect("no panic while held");
        if !is_done && told.is_some_and(|told| now.duration_since(told) < PERIOD) {
            return;
        }
        *told = Some(now);
        let status = convert::transfer(&self.digest, item, self.started, bytes, is_done);
        self.push(StatusResponse { statuses: vec![status], ..StatusResponse::default() });
    }

    /// It is over; `error` says why, where it has failed.
    pub(crate) fn end(&self, error: Option<&str>) {
        self.tell(Some(SystemTime::now()), error.unwrap_or_default());
    }

    fn tell(&self, completed: Option<SystemTime>, error: &str) {
        let vertex = convert::own_vertex(&self.digest, &self.name, self.started, completed, error);
        self.push(StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() });
    }

    fn push(&self, message: StatusResponse) {
        self.log.inner.lock().expect("no panic while held").push(message);
        self.log.changed.send_replace(());
    }
}
