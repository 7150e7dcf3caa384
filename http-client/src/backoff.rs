//! When to try again.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use crate::deadline::Deadline;
use crate::limits::Limits;
use crate::retry::{Failure, Retry};

/// Progress in bytes that resets the failures: a download whose connection breaks every megabyte ends.
const PROGRESS: u64 = 1 << 20;

/// Counts the failures of one operation and decides how long to wait before the next attempt.
#[derive(Debug)]
pub struct Backoff<'a> {
    limits: &'a Limits,
    deadline: Deadline,
    /// Attempts to connect.
    connects: u32,
    failures: u32,
    progress: u64,
}

impl<'a> Backoff<'a> {
    /// Nothing has failed yet. There is no further attempt after the deadline.
    pub fn new(limits: &'a Limits, deadline: Deadline) -> Self {
        Self { limits, deadline, connects: 3, failures: 0, progress: 0 }
    }

    /// Does not connect a second time: there is another host to try.
    pub fn without_reconnecting(self) -> Self {
        Self { connects: 1, ..self }
    }

    /// Notes that `bytes` more have arrived.
    pub fn progressed(&mut self, bytes: u64) {
        self.progress += bytes;
        if self.progress >= PROGRESS {
            self.progress = 0;
            self.failures = 0;
        }
    }

    /// Waits before the next attempt.
    ///
    /// # Errors
    /// The failure itself if there is no further attempt.
    pub async fn wait<E: Failure>(&mut self, failure: E) -> Result<(), E> {
        let Some(delay) = self.pause(&failure) else { return Err(failure) };
        tokio::time::sleep(delay).await;
        Ok(())
    }

    /// How long to wait before the next attempt; `None` if there is no further attempt.
    pub(crate) fn pause(&mut self, failure: &impl Failure) -> Option<Duration> {
        self.next_delay(failure.retry()).filter(|delay| !self.deadline.is_over_after(*delay))
    }

    /// The delay before the next attempt; `None` if there is no further attempt.
    fn next_delay(&mut self, retry: Retry) -> Option<Duration> {
        self.failures += 1;
        let asked = match retry {
            Retry::Later(asked) => asked,
            _ => Duration::ZERO,
        };
        let gives_up = self.failures >= self.attempts(retry) || asked > self.limits.longest_delay;
        (!gives_up).then(|| self.delay().max(asked))
    }

    fn attempts(&self, retry: Retry) -> u32 {
        let most = match retry {
            Retry::Never => 1,
            Retry::Once => 2,
            Retry::Reconnect => self.connects,
            Retry::Later(_) => u32::MAX,
        };
        most.min(self.limits.attempts)
    }

    /// Doubles with each failure; half of it is random, so that clients spread out.
    fn delay(&self) -> Duration {
        let step = self.limits.first_delay * (1 << self.failures.min(10)) / 2;
        let random = RandomState::new().hash_one(self.failures) % 1000;
        let delay = step / 2 + step.mul_f64(random as f64 / 2000.0);
        delay.min(self.limits.longest_delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> Limits {
        Limits {
            attempts: 5,
            first_delay: Duration::from_millis(100),
            longest_delay: Duration::from_secs(1),
            ..Limits::default()
        }
    }

    fn backoff(limits: &Limits) -> Backoff<'_> {
        Backoff::new(limits, Deadline::after(Duration::from_secs(60)))
    }

    /// How many attempts there are when all fail in the same way.
    fn attempts(mut backoff: Backoff<'_>, retry: Retry) -> u32 {
        (1..).find(|_| backoff.next_delay(retry).is_none()).unwrap()
    }

    #[test]
    fn each_failure_has_its_number_of_attempts() {
        let limits = limits();
        let second = Duration::from_secs(1);
        for (retry, expected) in [
            (Retry::Never, 1),
            (Retry::Once, 2),
            (Retry::Reconnect, 3),
            (Retry::Later(Duration::ZERO), 5),
            (Retry::Later(second), 5),
            (Retry::Later(second + Duration::from_millis(1)), 1),
        ] {
            assert_eq!(attempts(backoff(&limits), retry), expected, "{retry:?}");
        }
        let other = backoff(&limits).without_reconnecting();
        assert_eq!(attempts(other, Retry::Reconnect), 1);
        let single = Limits { attempts: 1, ..limits };
        assert_eq!(attempts(backoff(&single), Retry::Once), 1);
    }

    #[test]
    fn delays_double_up_to_the_longest() {
        let limits = Limits { attempts: 100, ..limits() };
        let mut backoff = backoff(&limits);
        for most in [100, 200, 400, 800, 1000, 1000, 1000] {
            let delay = backoff.next_delay(Retry::Later(Duration::ZERO)).unwrap().as_millis();
            assert!((most / 2..=most).contains(&delay), "{delay} of {most}");
        }
        let asked = Duration::from_millis(1000);
        assert_eq!(backoff.next_delay(Retry::Later(asked)), Some(asked));
    }

    #[test]
    fn progress_makes_up_for_failures() {
        let limits = limits();
        let mut backoff = backoff(&limits);
        for _ in 0..20 {
            assert!(backoff.next_delay(Retry::Later(Duration::ZERO)).is_some());
            backoff.progressed(PROGRESS / 2);
        }
        assert_eq!(attempts(backoff, Retry::Later(Duration::ZERO)), 5);
    }

    #[tokio::test]
    async fn nothing_is_tried_again_after_the_deadline() {
        struct Broken;
        impl Failure for Broken {
            fn retry(&self) -> Retry {
                Retry::Later(Duration::ZERO)
            }
        }
        let limits = limits();
        let mut backoff = Backoff::new(&limits, Deadline::after(Duration::from_millis(10)));
        assert!(backoff.wait(Broken).await.is_err());
    }
}
