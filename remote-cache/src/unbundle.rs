//! From bundles back to an archive.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;

use rayon::prelude::*;

use crate::index::{Chunk, Index};

/// Chunks that are decompressed at once.
const BATCH: usize = 16;

/// Reads an archive out of its bundles. A chunk with other bytes than its digest says is an error.
pub struct Unbundle {
    /// The bundles' files, in the index's order.
    files: Vec<File>,
    chunks: Vec<(usize, Chunk)>,
    /// Runs that are still to be read.
    runs: VecDeque<(u32, u32)>,
    batch: Vec<u8>,
    read: usize,
}

impl Unbundle {
    /// Reads what `index` says; `files` are its bundles, in its order.
    pub fn new(index: &Index, files: Vec<File>) -> Self {
        Self {
            files,
            chunks: index.chunks(),
            runs: index.stream.iter().copied().collect(),
            batch: Vec::new(),
            read: 0,
        }
    }

    /// Numbers of the chunks that come next; none at the end.
    fn next(&mut self) -> Vec<usize> {
        let mut numbers = Vec::with_capacity(BATCH);
        while numbers.len() < BATCH
            && let Some((first, count)) = self.runs.pop_front()
        {
            let taken = count.min(u32::try_from(BATCH - numbers.len()).expect("a small number"));
            numbers.extend((first..first + taken).map(|number| number as usize));
            if taken < count {
                self.runs.push_front((first + taken, count - taken));
            }
        }
        numbers
    }

    fn chunk(&self, number: usize) -> io::Result<Vec<u8>> {
        let (bundle, chunk) = &self.chunks[number];
        let mut frame = vec![0; chunk.stored as usize];
        self.files[*bundle].read_exact_at(&mut frame, chunk.offset)?;
        let plain = zstd::bulk::decompress(&frame, chunk.length as usize)?;
        match plain.len() == chunk.length as usize && blake3::hash(&plain) == chunk.hash {
            true => Ok(plain),
            false => Err(io::Error::other("a chunk has other content")),
        }
    }
}

impl Read for Unbundle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read == self.batch.len() {
            let numbers = self.next();
            let read = |number: &usize| self.chunk(*number);
            let batch: Vec<Vec<u8>> = numbers.par_iter().map(read).collect::<io::Result<_>>()?;
            (self.batch, self.read) = (batch.concat(), 0);
        }
        let length = buffer.len().min(self.batch.len() - self.read);
        buffer[..length].copy_from_slice(&self.batch[self.read..self.read + length]);
        self.read += length;
        Ok(length)
    }
}
