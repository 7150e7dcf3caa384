//! The requested bytes within an answer.

use std::ops::Range;

use reqwest::StatusCode;
use tokio_util::bytes::Bytes;

use crate::error::Error;
use crate::range::{check_encoding, check_part};
use crate::response::Response;

/// The requested bytes within those that are received.
pub(crate) struct Window {
    /// Bytes to skip.
    skip: u64,
    /// Offset of the next wanted byte in the resource.
    at: u64,
    end: u64,
    size: u64,
}

/// What to do when an answer is the whole resource instead of a part.
#[derive(Clone, Copy)]
pub(crate) enum Surplus {
    /// Take what follows the range, too.
    Take,
    /// Stop where the range ends.
    Leave,
}

impl Window {
    /// The bytes of `range` in an answer. A server that knows no ranges sends the whole resource,
    /// of which the start is skipped.
    pub(crate) fn onto(
        response: &Response,
        range: Range<u64>,
        size: u64,
        surplus: Surplus,
    ) -> Result<Self, Error> {
        check_encoding(response.headers())?;
        if response.status() == StatusCode::PARTIAL_CONTENT {
            check_part(response.headers(), &range, size)?;
            return Ok(Self { skip: 0, at: range.start, end: range.end, size });
        }
        if let Some(actual) = response.content_length().filter(|length| *length != size) {
            return Err(Error::SizeMismatch { expected: size, actual });
        }
        let end = match surplus {
            Surplus::Take => size,
            Surplus::Leave => range.end,
        };
        Ok(Self { skip: range.start, at: range.start, end, size })
    }

    /// Offset of the next wanted byte.
    pub(crate) fn at(&self) -> u64 {
        self.at
    }

    /// Whether the rest of the answer can be ignored. At the end of the resource it cannot: there must
    /// be no more bytes.
    pub(crate) fn is_full(&self) -> bool {
        self.at == self.end && self.end < self.size
    }

    /// The wanted part of the next bytes.
    pub(crate) fn cut(&mut self, mut chunk: Bytes) -> Result<Bytes, Error> {
        let skipped = self.skip.min(chunk.len() as u64);
        self.skip -= skipped;
        let mut wanted = chunk.split_off(skipped as usize);
        let left = self.end - self.at;
        if wanted.len() as u64 > left {
            if self.end == self.size {
                let actual = self.at + wanted.len() as u64;
                return Err(Error::SizeMismatch { expected: self.size, actual });
            }
            wanted.truncate(left as usize);
        }
        self.at += wanted.len() as u64;
        Ok(wanted)
    }

    /// Checks that the answer was not too short.
    pub(crate) fn finish(&self) -> Result<(), Error> {
        if self.at < self.end {
            return Err(Error::SizeMismatch { expected: self.size, actual: self.at });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cuts chunks of the lengths in `chunks`, and says what is left of each.
    fn cut(mut window: Window, chunks: &[usize]) -> (Vec<usize>, Result<u64, u64>) {
        let mut left = Vec::new();
        for length in chunks {
            match window.cut(vec![0; *length].into()) {
                Ok(wanted) => left.push(wanted.len()),
                Err(Error::SizeMismatch { expected: 100, actual }) => return (left, Err(actual)),
                Err(error) => panic!("{error}"),
            }
        }
        let end = window.finish().map(|()| window.at()).map_err(|_| window.at());
        (left, end)
    }

    #[test]
    fn bytes_are_cut_to_the_range() {
        let window =
            |skip, range: Range<u64>| Window { skip, at: range.start, end: range.end, size: 100 };
        for (window, chunks, left, end) in [
            (window(0, 0..100), &[60, 40][..], &[60, 40][..], Ok(100)),
            (window(0, 0..100), &[60, 0, 41], &[60, 0], Err(101)),
            (window(0, 0..100), &[60], &[60], Err(60)),
            (window(0, 20..50), &[10, 30, 10], &[10, 20, 0], Ok(50)),
            (window(20, 20..50), &[10, 20, 70], &[0, 10, 20], Ok(50)),
            (window(20, 20..100), &[100], &[80], Ok(100)),
            (window(20, 20..100), &[101], &[], Err(101)),
        ] {
            assert_eq!(cut(window, chunks), (left.to_vec(), end), "{chunks:?}");
        }
    }
}
