//! Work on rayon's threads whose results come in the order in which it was given.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

/// Results that are waited for.
pub(super) struct InOrder<T> {
    waiting: VecDeque<Receiver<T>>,
    most: usize,
}

impl<T: Send + 'static> InOrder<T> {
    /// Keeps all of rayon's threads busy, and no more in memory than that takes.
    pub(super) fn new() -> Self {
        Self { waiting: VecDeque::new(), most: 2 * rayon::current_num_threads() + 2 }
    }

    /// Gives work. Where enough is under way the oldest result comes back first.
    pub(super) fn push(
        &mut self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> io::Result<Option<T>> {
        let oldest = if self.waiting.len() >= self.most { self.next()? } else { None };
        let (sender, receiver) = sync_channel(1);
        self.waiting.push_back(receiver);
        rayon::spawn(move || {
            // When writing failed, nobody waits for the result any more.
            let _ = sender.send(work());
        });
        Ok(oldest)
    }

    /// The oldest result, if there is one to wait for.
    pub(super) fn next(&mut self) -> io::Result<Option<T>> {
        self.waiting.pop_front().map(|receiver| wait(&receiver)).transpose()
    }
}

/// Waits for a result. On a thread of rayon's that must not keep the work itself from running, so it
/// does some of it meanwhile.
fn wait<T>(receiver: &Receiver<T>) -> io::Result<T> {
    let lost = || io::Error::other("a compressing thread panicked");
    if rayon::current_thread_index().is_none() {
        return receiver.recv().map_err(|_| lost());
    }
    loop {
        match receiver.try_recv() {
            Ok(result) => return Ok(result),
            Err(TryRecvError::Disconnected) => return Err(lost()),
            Err(TryRecvError::Empty) => {}
        }
        if rayon::yield_now() != Some(rayon::Yield::Executed) {
            match receiver.recv_timeout(Duration::from_millis(1)) {
                Ok(result) => return Ok(result),
                Err(RecvTimeoutError::Disconnected) => return Err(lost()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
