//! How long is waited.

use std::future::Future;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use crate::error::Cause;

/// When an operation has to be over, with all its attempts.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    at: Instant,
    allowed: Duration,
}

impl Deadline {
    /// It may take so long from now on.
    pub(crate) fn after(allowed: Duration) -> Self {
        Self { at: Instant::now() + allowed, allowed }
    }

    /// The same, or earlier.
    pub(crate) fn at_most(self, allowed: Duration) -> Self {
        let other = Self::after(allowed);
        if other.at < self.at { other } else { self }
    }

    /// Whether nothing is left of it after a pause.
    pub(crate) fn is_over_after(&self, pause: Duration) -> bool {
        Instant::now() + pause >= self.at
    }

    /// Awaits `what`, for which there is so much patience, and no longer than to the deadline.
    pub(crate) async fn wait<T>(
        &self,
        what: &'static str,
        patience: Duration,
        work: impl Future<Output = T>,
    ) -> Result<T, Cause> {
        let at = Instant::now().checked_add(patience).unwrap_or(self.at);
        timeout_at(at.min(self.at), work).await.map_err(|_| match at < self.at {
            true => Cause::TimedOut { what, patience },
            false => Cause::Deadline(self.allowed),
        })
    }
}
