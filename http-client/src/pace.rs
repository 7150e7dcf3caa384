//! The speed of a transfer.

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::Error;
use crate::limits::Limits;

/// Notices that a transfer is too slow. The time that the receiver takes does not count.
pub(crate) struct Pace<'a> {
    limits: &'a Limits,
    waited: Duration,
    bytes: u64,
}

impl<'a> Pace<'a> {
    pub(crate) fn new(limits: &'a Limits) -> Self {
        Self { limits, waited: Duration::ZERO, bytes: 0 }
    }

    /// Awaits something from the server, which is `length` bytes long.
    pub(crate) async fn of<T, E: From<Error>>(
        &mut self,
        work: impl Future<Output = Result<T, E>>,
        length: impl Fn(&T) -> usize,
    ) -> Result<T, E> {
        let begin = Instant::now();
        let got = work.await;
        self.waited += begin.elapsed();
        let got = got?;
        self.came(length(&got) as u64)?;
        Ok(got)
    }

    /// Counts received bytes, and checks the rate once enough time has passed.
    fn came(&mut self, bytes: u64) -> Result<(), Error> {
        self.bytes += bytes;
        if self.waited < self.limits.slow {
            return Ok(());
        }
        let rate = (self.bytes as f64 / self.waited.as_secs_f64()) as u64;
        let minimum = self.limits.minimum_rate;
        if rate < minimum {
            return Err(Error::TooSlow { rate, minimum });
        }
        *self = Self::new(self.limits);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_is_judged_once_it_has_been_slow_for_long() {
        let limits =
            Limits { slow: Duration::from_secs(10), minimum_rate: 100, ..Limits::default() };
        // Seconds waited and bytes that came, and the rate at which it is given up.
        for (pieces, expected) in [
            (&[(9, 0)][..], None),
            (&[(9, 0), (1, 999)], Some(99)),
            (&[(9, 0), (1, 1000)], None),
            (&[(10, 0)], Some(0)),
            // A quick start does not make up for what comes later.
            (&[(10, 1 << 30), (10, 10)], Some(1)),
            (&[(5, 500), (5, 500), (5, 500), (4, 0)], None),
        ] {
            let mut pace = Pace::new(&limits);
            let mut rate = None;
            for (seconds, bytes) in pieces {
                pace.waited += Duration::from_secs(*seconds);
                if let Err(Error::TooSlow { rate: found, minimum: 100 }) = pace.came(*bytes) {
                    rate = Some(found);
                }
            }
            assert_eq!(rate, expected, "{pieces:?}");
        }
    }
}
