//! gzip in parallel, as pigz does it.
//!
//! The stream is cut into blocks of one size. Each is compressed by itself, with the 32 KiB before
//! it as its dictionary, to whole bytes; laid end to end the blocks are one deflate stream and one
//! gzip member. Each block has a compressor of its own: one that was reset would give other bytes
//! than a new one, and the bytes must not depend on which thread compressed what before. Blocks of
//! what is compressed or encrypted already, which images are full of, are stored.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel};
use std::time::Duration;

use crc32fast::Hasher;
use flate2::{Compress, FlushCompress, Status};

use super::incompressible::is_incompressible;
use crate::layer::content::read_up_to;

/// Bytes in a block. Part of the format: another size gives other bytes.
const BLOCK: usize = 128 * 1024;

/// How far back deflate can refer.
const WINDOW: usize = 32 * 1024;

/// No name, no time, unknown system: nothing that could differ.
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// A block on its way through a compressor.
struct Block {
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
    let most = 2 * rayon::current_num_threads() + 2;
    let mut waiting: VecDeque<Receiver<Block>> = VecDeque::new();
    let mut crc = Hasher::new();
    let mut write_next = |waiting: &mut VecDeque<Receiver<Block>>| -> io::Result<()> {
        let Some(receiver) = waiting.pop_front() else { return Ok(()) };
        let block = wait(&receiver)?;
        crc.combine(&block.crc);
        writer.write_all(&block.bytes)
    };

    let mut size: u32 = 0;
    let mut dictionary = Vec::new();
    let mut block = read_block(reader)?;
    loop {
        // The last block, which may be empty, ends the stream: look ahead for it.
        let next = if block.len() == BLOCK { read_block(reader)? } else { Vec::new() };
        let is_last = block.len() < BLOCK || next.is_empty();
        size = size.wrapping_add(u32::try_from(block.len()).expect("a block is small"));
        let next_dictionary = block[block.len().saturating_sub(WINDOW)..].to_vec();
        if waiting.len() >= most {
            write_next(&mut waiting)?;
        }
        let (sender, receiver) = sync_channel(1);
        waiting.push_back(receiver);
        rayon::spawn(move || {
            // When writing failed, nobody waits for the block any more.
            let _ = sender.send(compress_block(&block, &dictionary, level, is_last));
        });
        if is_last {
            break;
        }
        (block, dictionary) = (next, next_dictionary);
    }
    while !waiting.is_empty() {
        write_next(&mut waiting)?;
    }
    writer.write_all(&crc.finalize().to_le_bytes())?;
    writer.write_all(&size.to_le_bytes())
}

fn read_block(reader: &mut dyn Read) -> io::Result<Vec<u8>> {
    let mut block = vec![0; BLOCK];
    let length = read_up_to(reader, &mut block)?;
    block.truncate(length);
    Ok(block)
}

fn compress_block(block: &[u8], dictionary: &[u8], level: u32, is_last: bool) -> Block {
    let mut crc = Hasher::new();
    crc.update(block);
    let bytes = match !is_last && is_incompressible(dictionary, block) {
        true => store(block),
        false => deflate(block, dictionary, level, is_last),
    };
    Block { bytes, crc }
}

/// The block as it is, behind the headers that deflate asks for.
fn store(block: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(block.len() + 64);
    for part in block.chunks(u16::MAX.into()) {
        let length = u16::try_from(part.len()).expect("parts are that short");
        // Not the last block, stored, and the rest of the byte.
        bytes.push(0);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&(!length).to_le_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

fn deflate(block: &[u8], dictionary: &[u8], level: u32, is_last: bool) -> Vec<u8> {
    let mut compress = Compress::new(flate2::Compression::new(level), false);
    if !dictionary.is_empty() {
        compress.set_dictionary(dictionary).expect("a new compressor takes a dictionary");
    }
    // What does not compress grows by five bytes in sixteen thousand, and the end by a few more.
    let mut bytes = Vec::with_capacity(block.len() + block.len() / 16 + 1024);
    let flush = if is_last { FlushCompress::Finish } else { FlushCompress::Sync };
    let status = compress
        .compress_vec(block, &mut bytes, flush)
        .expect("compressing to memory does not fail");
    // One call with room for all: what several calls write depends on where they are cut.
    assert_eq!(compress.total_in(), block.len() as u64, "the whole block was taken");
    assert!(bytes.len() < bytes.capacity(), "there was room for the whole block");
    assert_eq!(status == Status::StreamEnd, is_last, "only the last block ends the stream");
    bytes
}

/// Waits for a block. On a thread of rayon's that must not keep the blocks' own tasks from
/// running, so it does some of them meanwhile.
fn wait(receiver: &Receiver<Block>) -> io::Result<Block> {
    let lost = || io::Error::other("a compressing thread panicked");
    if rayon::current_thread_index().is_none() {
        return receiver.recv().map_err(|_| lost());
    }
    loop {
        match receiver.try_recv() {
            Ok(block) => return Ok(block),
            Err(TryRecvError::Disconnected) => return Err(lost()),
            Err(TryRecvError::Empty) => {}
        }
        if rayon::yield_now() != Some(rayon::Yield::Executed) {
            match receiver.recv_timeout(Duration::from_millis(1)) {
                Ok(block) => return Ok(block),
                Err(RecvTimeoutError::Disconnected) => return Err(lost()),
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
