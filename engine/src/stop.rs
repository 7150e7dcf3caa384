//! Long work that a cancelled build does not wait for.

use std::io::{self, Read, Write};

use tokio_util::sync::CancellationToken;

/// Passes bytes on until the build is cancelled; then whoever reads or writes them fails.
pub(crate) struct Stoppable<T> {
    inner: T,
    stop: CancellationToken,
}

impl<T> Stoppable<T> {
    pub(crate) fn new(inner: T, stop: &CancellationToken) -> Self {
        Self { inner, stop: stop.clone() }
    }

    fn go_on(&self) -> io::Result<()> {
        // Not `Interrupted`, which is tried again.
        if self.stop.is_cancelled() { Err(io::Error::other("canceled")) } else { Ok(()) }
    }
}

impl<T: Write> Write for Stoppable<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.go_on()?;
        self.inner.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.go_on()?;
        self.inner.flush()
    }
}

impl<T: Read> Read for Stoppable<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.go_on()?;
        self.inner.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
