//! Work that goes on beside a session, and that the session's end has to know of.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::mutex::lock;

/// Counts the pieces of work that have begun and not ended. Clones count together.
#[derive(Debug, Clone, Default)]
pub(crate) struct Background(Arc<Count>);

#[derive(Debug, Default)]
struct Count {
    running: Mutex<usize>,
    one_ended: Condvar,
}

/// A piece of work; it has ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Work(Background);

impl Background {
    /// Begins a piece of work, which takes the result along to where it is done.
    pub(crate) fn begin(&self) -> Work {
        *self.running() += 1;
        Work(self.clone())
    }

    /// Waits until nothing goes on, for so long at most; whether that is so.
    pub(crate) fn wait(&self, patience: Duration) -> bool {
        let is_busy = |running: &mut usize| *running > 0;
        let waited = self.0.one_ended.wait_timeout_while(self.running(), patience, is_busy);
        *waited.unwrap_or_else(PoisonError::into_inner).0 == 0
    }

    /// Whether nothing goes on.
    pub(crate) fn is_idle(&self) -> bool {
        *self.running() == 0
    }

    fn running(&self) -> MutexGuard<'_, usize> {
        lock(&self.0.running)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        *self.0.running() -= 1;
        self.0.0.one_ended.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_waited_for_only_so_long() {
        let background = Background::default();
        assert!(background.wait(Duration::ZERO));
        let work = background.begin();
        assert!(!background.wait(Duration::from_millis(1)));
        std::thread::spawn(move || drop(work));
        assert!(background.wait(Duration::from_secs(60)));
    }
}
