//! Long work that a cancelled build does not wait for.

use std::io::{self, Read, Write};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// How long what a cancelled build gives up is waited for; one thing comes after the other.
const MOMENT: Duration = Duration::from_millis(20);

/// Awaits `work`; once the build is cancelled, for no longer than a moment. Nothing when that is over:
/// what is left then the store's next session clears up.
pub(crate) async fn in_time<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = T>,
) -> Option<T> {
    let over = async {
        cancel.cancelled().await;
        tokio::time::sleep(MOMENT).await;
    };
    tokio::select! {
        biased;
        done = work => Some(done),
        () = over => None,
    }
}

/// Says whether the build is cancelled.
pub(crate) trait Stop {
    fn is_stopped(&self) -> bool;
}

impl Stop for CancellationToken {
    fn is_stopped(&self) -> bool {
        self.is_cancelled()
    }
}

impl Stop for &(dyn Fn() -> bool + Sync) {
    fn is_stopped(&self) -> bool {
        self()
    }
}

/// Passes bytes on until the build is cancelled; then reading or writing them fails.
pub(crate) struct Stoppable<T, S = CancellationToken> {
    inner: T,
    stop: S,
}

impl<T, S: Stop + Clone> Stoppable<T, S> {
    pub(crate) fn new(inner: T, stop: &S) -> Self {
        Self { inner, stop: stop.clone() }
    }
}

/// Fails once the build is cancelled.
pub(crate) fn go_on(stop: &impl Stop) -> io::Result<()> {
    // Not `Interrupted`, which is tried again.
    if stop.is_stopped() { Err(io::Error::other("canceled")) } else { Ok(()) }
}

impl<T: Write, S: Stop> Write for Stoppable<T, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        go_on(&self.stop)?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        go_on(&self.stop)?;
        self.inner.flush()
    }
}

impl<T: Read, S: Stop> Read for Stoppable<T, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        go_on(&self.stop)?;
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_given_up_is_not_waited_for() {
        let cancel = CancellationToken::new();
        assert_eq!(in_time(&cancel, async { 1 }).await, Some(1));
        cancel.cancel();
        assert_eq!(in_time(&cancel, async { 2 }).await, Some(2), "it is done");
        assert_eq!(in_time(&cancel, std::future::pending::<()>()).await, None);
    }

    #[test]
    fn bytes_pass_until_the_build_is_cancelled() {
        let stop = CancellationToken::new();
        let mut out = Stoppable::new(Vec::new(), &stop);
        let mut from = Stoppable::new(&b"abc"[..], &stop);
        out.write_all(b"abc").unwrap();
        from.read_exact(&mut [0; 2]).unwrap();
        stop.cancel();
        assert!(out.write_all(b"d").is_err() && out.flush().is_err());
        assert!(from.read_exact(&mut [0; 1]).is_err());
        assert_eq!(out.inner, b"abc");
    }
}
