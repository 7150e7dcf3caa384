//! How fast a registry sends.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limits;
use crate::error::Cause;

/// Notices that bytes come too slowly. What their receiver takes to put them away does not count.
pub(crate) struct Pace<'a> {
    limits: &'a Limits,
    waited: Duration,
    bytes: u64,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Self {
        Self { limits, waited: Duration::ZERO, bytes: 0 }
    }

    /// Awaits something from the registry; `length` says how many bytes it is.
    pub(crate) async fn of<T>(
        &mut self,
        work: impl Future<Output = Result<T, Cause>>,
        length: impl Fn(&T) -> usize,
    ) -> Result<T, Cause> {
        let begin = Instant::now();
        let got = work.await;
        self.waited += begin.elapsed();
        let got = got?;
        self.bytes += length(&got) as u64;
        self.check().map(|()| got)
    }

    fn check(&mut self) -> Result<(), Cause> {
        if self.waited < self.limits.slow {
            return Ok(());
        }
        let (rate, minimum) =
            ((self.bytes as f64 / self.waited.as_secs_f64()) as u64, self.limits.minimum_rate);
        if rate < minimum {
            return Err(Cause::TooSlow { rate, minimum });
        }
        *self = Self::new(self.limits);
        Ok(())
    }
}
