//! A stream in pieces, each compressed by itself, so that it can be read from the start of any.

use std::io::{self, Write};

use oci::Digest;

use super::super::in_order::InOrder;

/// Compresses a piece to something that can be read by itself, the same bytes for the same piece.
pub(super) type Compress = fn(Vec<u8>, i32) -> io::Result<Vec<u8>>;

/// Pieces on their way to `out`.
pub(super) struct Frames<'a> {
    out: &'a mut dyn Write,
    compress: Compress,
    level: i32,
    waiting: InOrder<io::Result<Compressed>>,
    /// Where each frame of content is, in the order in which they were given.
    contents: Vec<Frame>,
    /// Bytes that were written.
    written: u64,
}

/// A frame that begins with content of a file.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    /// Where it begins.
    pub(super) start: u64,
    /// Where it ends.
    pub(super) end: u64,
    /// Of the content in it.
    pub(super) digest: Digest,
}

struct Compressed {
    bytes: Vec<u8>,
    /// Of its content, if it begins with some.
    digest: Option<Digest>,
}

impl<'a> Frames<'a> {
    pub(super) fn new(out: &'a mut dyn Write, compress: Compress, level: i32) -> Self {
        let (contents, written) = (Vec::new(), 0);
        Self { out, compress, level, waiting: InOrder::new(), contents, written }
    }

    /// Adds a piece, whose first `content` bytes are of a file.
    pub(super) fn push(&mut self, piece: Vec<u8>, content: usize) -> io::Result<()> {
        let (compress, level) = (self.compress, self.level);
        let work = move || {
            let digest = (content > 0).then(|| Digest::of(&piece[..content]));
            Ok(Compressed { bytes: compress(piece, level)?, digest })
        };
        match self.waiting.push(work)? {
            Some(done) => self.write(done?),
            None => Ok(()),
        }
    }

    /// Waits for all pieces; where those with content are, and how much was written.
    pub(super) fn finish(mut self) -> io::Result<(Vec<Frame>, u64)> {
        while let Some(done) = self.waiting.next()? {
            self.write(done?)?;
        }
        Ok((self.contents, self.written))
    }

    fn write(&mut self, done: Compressed) -> io::Result<()> {
        self.out.write_all(&done.bytes)?;
        let start = self.written;
        self.written += done.bytes.len() as u64;
        if let Some(digest) = done.digest {
            self.contents.push(Frame { start, end: self.written, digest });
        }
        Ok(())
    }
}
