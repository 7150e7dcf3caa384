//! How long an operation may take.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::Error;
use crate::limits::Limits;

/// When an operation, with all its attempts, has to be done.
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    /// `allowed` from now.
    pub fn after(allowed: Duration) -> Self {
        Self { at: Instant::now() + allowed, allowed }
    }

    /// For a small document.
    pub fn for_request(limits: &Limits) -> Self {
        Self::after(limits.request)
    }

    /// For the transfer of `size` bytes: the time of a request, and that of the bytes at the minimum rate.
    pub fn for_transfer(limits: &Limits, size: u64) -> Self {
        Self::after(transfer_time(limits, size))
    }

    /// The earlier of this deadline and `allowed` from now.
    pub(crate) fn at_most(self, allowed: Duration) -> Self {
        let other = Self::after(allowed);
        if other.at < self.at { other } else { self }
    }

    /// Whether it has passed after a delay.
    pub(crate) fn is_over_after(&self, pause: Duration) -> bool {
        Instant::now() + pause >= self.at
    }

    /// Awaits `what`, for at most `patience` and no longer than until the deadline.
    pub(crate) async fn wait<T>(
        &self,
        what: &'static str,
        patience: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Error> {
        let at = Instant::now().checked_add(patience).unwrap_or(self.at);
        timeout_at(at.min(self.at), work).await.map_err(|_| match at < self.at {
            true => Error::TimedOut { what, patience },
            false => Error::Deadline(self.allowed),
        })
    }
}

fn transfer_time(limits: &Limits, size: u64) -> Duration {
    let transfer = Duration::from_secs(size / limits.minimum_rate.max(1));
    // A day's cap keeps sums in range, whatever size a server claims.
    limits.request + transfer.min(Duration::from_secs(86_400))
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    #[test]
    fn a_transfer_has_the_time_that_its_size_takes() {
        let request = Duration::from_secs(10);
        let seconds = |minimum_rate, size| {
            let limits = Limits { request, minimum_rate, ..Limits::default() };
            transfer_time(&limits, size).as_secs()
        };
        assert_eq!(seconds(100, 0), 10);
        assert_eq!(seconds(100, 1_000), 20);
        assert_eq!(seconds(0, 1_000), 1_010);
        assert_eq!(seconds(1, u64::MAX), 86_410);
    }

    #[tokio::test]
    async fn whatever_is_over_first_ends_the_wait() {
        let (soon, late) = (Duration::from_millis(1), Duration::from_secs(60));
        let wait = async |allowed, patience| {
            Deadline::after(allowed).wait("a test", patience, pending::<()>()).await
        };
        assert!(matches!(wait(late, soon).await, Err(Error::TimedOut { what: "a test", .. })));
        assert!(matches!(wait(soon, late).await, Err(Error::Deadline(d)) if d == soon));
        assert!(matches!(wait(soon, Duration::MAX).await, Err(Error::Deadline(_))));
        let done = Deadline::after(late).wait("a test", late, async { 1 }).await;
        assert_eq!(done.unwrap(), 1);
        assert!(Deadline::after(late).at_most(soon).is_over_after(soon));
        assert!(!Deadline::after(late).at_most(late * 2).is_over_after(soon));
    }
}
