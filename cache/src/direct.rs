//! Writing large files past the page cache.
//!
//! A commit waits for the disk in any case, so the bytes may as well go there at once. On the way
//! through the page cache they would be copied once more, push out what others have there, and be
//! written while somebody waits.

use std::fs::File;
use std::io::{self, ErrorKind, Write};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

/// What is written at once; smaller files go through the page cache.
const BLOCK: usize = 1 << 20;
/// To what addresses in memory and places in the file must be aligned, whatever the disk.
const ALIGNMENT: usize = 4096;
/// Bytes after which the disk may start, where there is no way past the page cache.
const WRITEBACK: u64 = 16 << 20;

/// A new file that is written from its start to its end.
#[derive(Debug)]
pub(crate) struct DirectFile {
    file: File,
    /// Bytes that are not written yet, from `start` on.
    buffer: Vec<u8>,
    /// Where the buffer is aligned.
    start: usize,
    way: Way,
    written: u64,
    /// How much of it is on its way to the disk.
    sent: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// Nothing was written yet.
    Unknown,
    Direct,
    Cached,
}

impl DirectFile {
    pub(crate) fn new(file: File) -> Self {
        Self { file, buffer: Vec::new(), start: 0, way: Way::Unknown, written: 0, sent: 0 }
    }

    /// Goes through the page cache after all: somebody is about to read the file.
    pub(crate) fn cached(self) -> Self {
        Self { way: Way::Cached, ..self }
    }

    /// How many bytes are in the file.
    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Writes what is left.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.set_direct(false);
        self.flush_buffer(Self::write_bytes)
    }

    /// Makes room for a block that is aligned in memory.
    fn allocate(&mut self) {
        self.buffer = Vec::with_capacity(BLOCK + ALIGNMENT);
        self.start = self.buffer.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        self.buffer.resize(self.start, 0);
    }

    /// Has what is buffered written, and an empty buffer afterwards.
    fn flush_buffer(
        &mut self,
        write: impl FnOnce(&mut Self, &[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut buffer = std::mem::take(&mut self.buffer);
        let written = write(self, &buffer[self.start..]);
        buffer.truncate(self.start);
        self.buffer = buffer;
        written
    }

    /// Writes a block, which is aligned in memory unless the page cache is used.
    fn write_block(&mut self, block: &[u8]) -> io::Result<()> {
        if self.way == Way::Unknown {
            self.set_direct(true);
        }
        self.write_bytes(block)?;
        if self.way == Way::Cached && self.written - self.sent >= WRITEBACK {
            crate::sys::start_writeback(&self.file, self.sent, self.written - self.sent);
            self.sent = self.written;
        }
        Ok(())
    }

    fn write_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.file.write(&bytes[done..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                // What is left of a block is not aligned any more.
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A file system may take the flag and refuse the write.
                Err(error) if self.way == Way::Direct && is_refusal(&error) => {
                    self.set_direct(false);
                }
                Err(error) => return Err(error),
            }
        }
        self.written += bytes.len() as u64;
        Ok(())
    }

    /// Where the flag cannot be set, the file is written as any other.
    fn set_direct(&mut self, direct: bool) {
        if !direct && self.way != Way::Direct {
            return;
        }
        let flags = fcntl_getfl(&self.file);
        let set = flags.and_then(|flags| {
            let others = flags - OFlags::DIRECT;
            fcntl_setfl(&self.file, if direct { others | OFlags::DIRECT } else { others })
        });
        self.way = if direct && set.is_ok() { Way::Direct } else { Way::Cached };
    }
}

fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported)
}

impl Write for DirectFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // Large buffers mostly are aligned: allocators give whole pages.
        if let Some(block) = bytes.get(..BLOCK)
            && self.buffer.len() == self.start
            && (self.way == Way::Cached || bytes.as_ptr().align_offset(ALIGNMENT) == 0)
        {
            self.write_block(block)?;
            return Ok(BLOCK);
        }
        if self.buffer.capacity() == 0 {
            self.allocate();
        }
        let room = self.start + BLOCK - self.buffer.len();
        let count = bytes.len().min(room);
        self.buffer.extend_from_slice(&bytes[..count]);
        if count == room {
            self.flush_buffer(Self::write_block)?;
        }
        Ok(count)
    }

    /// The last block is written by [`DirectFile::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_any_length_are_written_whole() {
        let bytes: Vec<u8> = (0..3 * BLOCK + 17).map(|n| (n % 251) as u8).collect();
        // As many bytes at a time as allocators align and as they do not, and blocks and more.
        let pieces = [70_001, BLOCK, 2 * BLOCK + ALIGNMENT];
        for directory in [std::env::temp_dir(), "/dev/shm".into()] {
            let Ok(directory) = tempfile::tempdir_in(directory) else { continue };
            for length in [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 4096, bytes.len()] {
                for piece in pieces {
                    for cached in [false, true] {
                        let path = directory.path().join(format!("{length}-{piece}-{cached}"));
                        let file = DirectFile::new(File::create(&path).unwrap());
                        let mut file = if cached { file.cached() } else { file };
                        for piece in bytes[..length].chunks(piece) {
                            file.write_all(piece).unwrap();
                        }
                        file.finish().unwrap();
                        assert!(std::fs::read(&path).unwrap() == bytes[..length], "{path:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn aligned_blocks_are_not_copied() {
        let memory = vec![7; 2 * BLOCK + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let mut file = DirectFile::new(File::create(&path).unwrap());
        file.write_all(&memory[start..start + 2 * BLOCK]).unwrap();
        assert_eq!(file.buffer.capacity(), 0);
        file.finish().unwrap();
        assert!(std::fs::read(&path).unwrap() == memory[..2 * BLOCK]);
    }
}
