//! A stream that keeps what passes, as long as it is told to.

use std::io::{self, BufRead, Read};

/// What is read goes into `bytes`, while `is_on`.
pub(super) struct Recorder<R> {
    inner: R,
    pub(super) bytes: Vec<u8>,
    pub(super) is_on: bool,
}

impl<R: BufRead> Recorder<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, bytes: Vec::new(), is_on: true }
    }

    /// What has passed since the last time.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

impl<R: BufRead> BufRead for Recorder<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.inner.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        if self.is_on && length > 0 {
            // What is consumed was looked at: it is in the buffer, and this reads nothing.
            let bytes = self.inner.fill_buf().expect("the buffer is filled");
            self.bytes.extend_from_slice(&bytes[..length]);
        }
        self.inner.consume(length);
    }
}

impl<R: BufRead> Read for Recorder<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}
