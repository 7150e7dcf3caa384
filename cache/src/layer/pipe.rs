//! One stream of bytes for several threads: each chunk is written once and read by all.

use std::io::{self, BufRead, Read, Write};
use std::ops::Deref;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use crate::mutex::lock;

/// Size of a chunk in bytes: so large that threads wake each other seldom.
pub(super) const CHUNK: usize = 1 << 20;

/// How many chunks may wait for one reader: 4 MiB.
const DEPTH: usize = 4;

/// A pipe with so many ends to read from.
pub(super) fn pipe(readers: usize) -> (Writer, Vec<Reader>) {
    let end = |_| {
        let (sender, receiver) = sync_channel(DEPTH);
        (sender, Reader { receiver, chunk: None, position: 0 })
    };
    let (senders, readers) = (0..readers).map(end).unzip();
    (Writer { senders, pool: Arc::default() }, readers)
}

/// Buffers that were read and can be filled again.
type Pool = Mutex<Vec<Vec<u8>>>;

/// A chunk all readers share; the last one gives its buffer back.
struct Chunk {
    bytes: Vec<u8>,
    pool: Arc<Pool>,
}

impl Drop for Chunk {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        lock(&self.pool).push(bytes);
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// The end to write to. Readers see the end of the stream when it is dropped.
pub(super) struct Writer {
    senders: Vec<SyncSender<Result<Arc<Chunk>, io::Error>>>,
    pool: Arc<Pool>,
}

impl Writer {
    /// Sends all of `reader`, or its error, down the pipe.
    pub(super) fn fill_from(&mut self, reader: &mut dyn Read) {
        loop {
            let mut bytes = self.buffer();
            bytes.resize(CHUNK, 0);
            match super::content::read_up_to(reader, &mut bytes) {
                Ok(0) => return,
                Ok(length) => {
                    bytes.truncate(length);
                    if self.send(bytes).is_err() {
                        return;
                    }
                }
                Err(error) => return self.fail(&error),
            }
        }
    }

    fn buffer(&self) -> Vec<u8> {
        let pooled = lock(&self.pool).pop();
        pooled.unwrap_or_else(|| Vec::with_capacity(CHUNK))
    }

    /// Sends what is in `buffer`, which is another one afterwards.
    pub(super) fn give(&mut self, buffer: &mut Vec<u8>) -> io::Result<()> {
        let mut empty = self.buffer();
        empty.clear();
        self.send(std::mem::replace(buffer, empty))
    }

    /// Sends a chunk; fails when a reader has gone.
    fn send(&mut self, bytes: Vec<u8>) -> io::Result<()> {
        let chunk = Arc::new(Chunk { bytes, pool: Arc::clone(&self.pool) });
        for sender in &self.senders {
            let sent = sender.send(Ok(Arc::clone(&chunk)));
            sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        }
        Ok(())
    }

    fn fail(&mut self, error: &io::Error) {
        for sender in &self.senders {
            // An io::Error cannot be cloned. A reader that has gone needs to know nothing.
            let _ = sender.send(Err(copy_of(error)));
        }
    }
}

/// An error that says the same as `error`.
fn copy_of(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => io::Error::new(error.kind(), error.to_string()),
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = bytes.len().min(CHUNK);
        let mut buffer = self.buffer();
        buffer.clear();
        buffer.extend_from_slice(&bytes[..length]);
        self.send(buffer)?;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One end to read from.
pub(super) struct Reader {
    receiver: Receiver<Result<Arc<Chunk>, io::Error>>,
    chunk: Option<Arc<Chunk>>,
    position: usize,
}

impl Reader {
    /// Hands every chunk to `take` until the end or an error of either side.
    pub(super) fn for_each(self, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        for chunk in self.receiver {
            take(&chunk?)?;
        }
        Ok(())
    }
}

impl BufRead for Reader {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.chunk.as_ref().is_none_or(|chunk| self.position == chunk.len()) {
            self.position = 0;
            self.chunk = self.receiver.recv().ok().transpose()?;
        }
        Ok(self.chunk.as_ref().map_or(&[], |chunk| &chunk[self.position..]))
    }

    fn consume(&mut self, length: usize) {
        self.position += length;
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}
