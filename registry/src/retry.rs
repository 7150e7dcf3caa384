//! When to try again, and when not.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::config::Limits;
use crate::deadline::Deadline;
use crate::endpoint::Endpoint;
use crate::error::Cause;

/// Progress that makes up for failures: a connection that breaks every megabyte still ends.
const PROGRESS: u64 = 1 << 20;

/// Counts failures of one operation and says how long to wait before the next attempt.
pub(crate) struct Backoff<'a> {
    limits: &'a Limits,
    is_mirror: bool,
    deadline: Deadline,
    failures: u32,
    progress: u64,
}

impl<'a> Backoff<'a> {
    pub(crate) fn new(endpoint: &'a Endpoint, deadline: Deadline) -> Self {
        Self {
            limits: endpoint.limits(),
            is_mirror: endpoint.is_mirror(),
            deadline,
            failures: 0,
            progress: 0,
        }
    }

    /// Notes that `bytes` more came over the wire.
    pub(crate) fn progressed(&mut self, bytes: u64) {
        self.progress += bytes;
        if self.progress >= PROGRESS {
            self.progress = 0;
            self.failures = 0;
        }
    }

    /// Waits before the next attempt, or gives the cause back when there is to be none.
    pub(crate) async fn wait(&mut self, cause: Cause) -> Result<(), Cause> {
        self.failures += 1;
        let asked = asked_delay(&cause);
        if self.failures >= self.attempts(&cause) || asked > self.limits.longest_delay {
            return Err(cause);
        }
        let delay = self.delay(&cause);
        if self.deadline.is_over_after(delay) {
            return Err(cause);
        }
        tokio::time::sleep(delay).await;
        Ok(())
    }

    fn attempts(&self, cause: &Cause) -> u32 {
        let all = self.limits.attempts;
        match cause {
            Cause::Status { status: 408 | 500 | 502 | 503 | 504, .. } => all,
            Cause::TooManyRequests { .. } | Cause::Transport(_) => all,
            // There is somebody else to ask.
            Cause::Connect(_) if self.is_mirror => 1,
            // A wrong name or a stopped server rarely mends itself while a user waits.
            Cause::Connect(_) => all.min(3),
            // Who says nothing for so long rarely does the next time, and each time costs as much.
            Cause::TimedOut { .. } => all.min(2),
            Cause::DigestMismatch { .. } | Cause::SizeMismatch { .. } => all.min(2),
            _ => 1,
        }
    }

    /// Doubles with each failure; half of it is random, so that clients spread out.
    fn delay(&self, cause: &Cause) -> Duration {
        let step = self.limits.first_delay * (1 << self.failures.min(10)) / 2;
        let random = RandomState::new().hash_one(self.failures) % 1000;
        let delay = step / 2 + step.mul_f64(random as f64 / 2000.0);
        delay.min(self.limits.longest_delay).max(asked_delay(cause))
    }
}

/// What the server asks to wait.
fn asked_delay(cause: &Cause) -> Duration {
    match cause {
        Cause::TooManyRequests { retry_after, .. } | Cause::Status { retry_after, .. } => {
            retry_after.unwrap_or_default()
        }
        _ => Duration::ZERO,
    }
}
