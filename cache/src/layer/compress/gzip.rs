//! gzip in parallel, as pigz does it.
//!
//! The stream is cut into blocks of one size. Each is compressed by itself, with the 32 KiB before
//! it as its dictionary, to whole bytes; laid end to end the blocks are one deflate stream and one
//! gzip member. Each block has a compressor of its own: one that was reset would give other bytes
//! than a new one, and the bytes must not depend on which thread compressed what before. Parts of a
//! block that are compressed or encrypted already, which images are full of, are stored.

use std::io::{self, Read, Write};
use std::ops::Range;

use crc32fast::Hasher;
use flate2::{Compress, FlushCompress, Status};

use super::in_order::InOrder;
use super::incompressible::{Detector, WINDOW};
use crate::layer::content::read_up_to;

/// Bytes in a block. Part of the format: another size gives other bytes.
const BLOCK: usize = 128 * 1024;

/// Bytes that are stored or deflated together. Part of the format, too: large enough to tell the
/// one from the other, small enough for what stands between a tar's headers.
const PART: usize = 16 * 1024;

/// No name, no time, unknown system: nothing that could differ.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A block of the stream.
struct Block {
    /// Its bytes, from `start` on, and before them those that it may refer to.
    bytes: Vec<u8>,
    start: usize,
}

/// What became of a block.
struct CompressedBlock {
    bytes: Vec<u8>,
    crc: Hasher,
}

/// Compresses all of `reader` to `writer`.
pub(super) fn compress(
    reader: &mut dyn Read,
    writer: &mut dyn Write,
    level: u32,
) -> io::Result<()> {
    writer.write_all(&HEADER)?;
    let mut waiting = InOrder::new();
    let mut crc = Hasher::new();
    let mut write = |compressed: CompressedBlock| -> io::Result<()> {
        crc.combine(&compressed.crc);
        writer.write_all(&compressed.bytes)
    };

    let mut size: u32 = 0;
    let mut block = Block::read(reader, &[])?;
    loop {
        // The last block, which may be empty, ends the stream: look ahead for it.
        let next = match block.length() {
            BLOCK => Some(Block::read(reader, &block.bytes)?).filter(|next| next.length() > 0),
            _ => None,
        };
        let is_last = next.is_none();
        size = size.wrapping_add(u32::try_from(block.length()).expect("a block is small"));
        waiting.push(move || block.compress(level, is_last))?.map_or(Ok(()), &mut write)?;
        match next {
            Some(next) => block = next,
            None => break,
        }
    }
    while let Some(compressed) = waiting.next()? {
        write(compressed)?;
    }
    writer.write_all(&crc.finalize().to_le_bytes())?;
    writer.write_all(&size.to_le_bytes())
}

/// All of `bytes` as one gzip member.
pub(super) fn member(bytes: Vec<u8>, level: u32) -> Vec<u8> {
    let size = bytes.len() as u32;
    let compressed = Block { bytes, start: 0 }.compress(level, true);
    let mut member = HEADER.to_vec();
    member.extend_from_slice(&compressed.bytes);
    member.extend_from_slice(&compressed.crc.finalize().to_le_bytes());
    member.extend_from_slice(&size.to_le_bytes());
    member
}

impl Block {
    /// The next block of `reader`; empty at the end. `before` is what came before it.
    fn read(reader: &mut dyn Read, before: &[u8]) -> io::Result<Self> {
        let window = &before[before.len().saturating_sub(WINDOW)..];
        let start = window.len();
        let mut bytes = Vec::with_capacity(start + BLOCK);
        bytes.extend_from_slice(window);
        bytes.resize(start + BLOCK, 0);
        let length = read_up_to(reader, &mut bytes[start..])?;
        bytes.truncate(start + length);
        Ok(Self { bytes, start })
    }

    fn length(&self) -> usize {
        self.bytes.len() - self.start
    }

    fn compress(&self, level: u32, is_last: bool) -> CompressedBlock {
        let mut crc = Hasher::new();
        crc.update(&self.bytes[self.start..]);
        // What does not compress grows by five bytes in sixteen thousand, and the end by a few more.
        let mut bytes = Vec::with_capacity(self.length() + self.length() / 16 + 1024);
        for run in self.runs(is_last) {
            match run {
                Run::Stored(range) => store(&self.bytes[range], &mut bytes),
                Run::Deflated(range) => {
                    let ends = is_last && range.end == self.bytes.len();
                    deflate(&self.bytes, range, level, ends, &mut bytes);
                }
            }
        }
        CompressedBlock { bytes, crc }
    }

    /// The block in runs of parts that are treated alike. The stream's very end is always deflated:
    /// it is up to the compressor to say that it is the end.
    fn runs(&self, is_last: bool) -> Vec<Run> {
        let mut detector = Detector::new(&self.bytes);
        let mut runs = Vec::new();
        for start in (self.start..self.bytes.len().max(self.start + 1)).step_by(PART) {
            let range = start..self.bytes.len().min(start + PART);
            let ends = is_last && range.end == self.bytes.len();
            let is_stored = !ends && detector.is_incompressible(range.clone());
            match (runs.last_mut(), is_stored) {
                (Some(Run::Stored(run)), true) | (Some(Run::Deflated(run)), false) => {
                    run.end = range.end;
                }
                (_, true) => runs.push(Run::Stored(range)),
                (_, false) => runs.push(Run::Deflated(range)),
            }
        }
        runs
    }
}

/// A part of a block, and what is done with it.
enum Run {
    Stored(Range<usize>),
    Deflated(Range<usize>),
}

/// Appends `part` as it is, behind the headers that deflate asks for.
fn store(part: &[u8], out: &mut Vec<u8>) {
    for piece in part.chunks(u16::MAX.into()) {
        let length = u16::try_from(piece.len()).expect("pieces are that short");
        // Not the last block, stored, and the rest of the byte.
        out.push(0);
        out.extend_from_slice(&length.to_le_bytes());
        out.extend_from_slice(&(!length).to_le_bytes());
        out.extend_from_slice(piece);
    }
}

/// Appends the deflated `range` of `bytes`. `ends`: it is the end of the stream.
fn deflate(bytes: &[u8], range: Range<usize>, level: u32, ends: bool, out: &mut Vec<u8>) {
    let mut compress = Compress::new(flate2::Compression::new(level), false);
    let dictionary = &bytes[range.start.saturating_sub(WINDOW)..range.start];
    if !dictionary.is_empty() {
        compress.set_dictionary(dictionary).expect("a new compressor takes a dictionary");
    }
    let length = range.len();
    out.reserve(length + length / 16 + 1024);
    let flush = if ends { FlushCompress::Finish } else { FlushCompress::Sync };
    let status = compress
        .compress_vec(&bytes[range], out, flush)
        .expect("compressing to memory does not fail");
    // One call with room for all: what several calls write depends on where they are cut.
    assert_eq!(compress.total_in(), length as u64, "all of it was taken");
    assert!(out.len() < out.capacity(), "there was room for all");
    assert_eq!(status == Status::StreamEnd, ends, "only the end ends the stream");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_does_not_spoil_what_follows() {
        let mut state = 1_u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (state >> 56) as u8
        };
        let mut bytes = vec![0; 512];
        bytes.extend(std::iter::repeat_with(&mut noise).take(BLOCK - 512));
        let block = Block { bytes, start: 0 };
        for is_last in [false, true] {
            let runs = block.runs(is_last);
            let [Run::Deflated(header), Run::Stored(content), rest @ ..] = &runs[..] else {
                panic!("{} runs", runs.len());
            };
            assert_eq!((header.clone(), content.start), (0..PART, PART));
            assert_eq!(rest.len(), usize::from(is_last), "the end is deflated");
        }
    }
}
