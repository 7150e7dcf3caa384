//! Putting content into a new file, by the cheapest way there is.

use std::fs::File;
use std::io::{self, BufRead, ErrorKind, Read, Write};
use std::ops::Range;
use std::os::fd::AsFd;

use rustix::fs::{Mode, OFlags, SeekFrom, copy_file_range, ftruncate, ioctl_ficlone, openat, seek};
use rustix::io::Errno;

use super::Content;

/// Files up to this size are read and written; larger ones the kernel copies.
const SMALL: u64 = 128 * 1024;

/// Copies contents, remembering what the file system cannot do.
pub(super) struct Copier {
    buffer: Vec<u8>,
    can_clone: bool,
    can_copy: bool,
    holes: Holes,
}

/// What becomes of the holes of a large file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holes {
    /// Zeros, as they are in a layer's archive: a tree is the same wherever it comes from.
    Filled,
    /// Holes.
    Kept,
}

/// Why content could not be copied.
#[derive(Debug)]
pub(super) enum CopyError {
    /// The source ended early or went on.
    Size,
    /// The source could not be read.
    Read(io::Error),
    /// Writing failed.
    Write(io::Error),
}

impl From<io::Error> for CopyError {
    fn from(error: io::Error) -> Self {
        Self::Write(error)
    }
}

impl From<Errno> for CopyError {
    fn from(errno: Errno) -> Self {
        Self::Write(errno.into())
    }
}

impl Copier {
    pub(super) fn new(holes: Holes) -> Self {
        Self { buffer: Vec::new(), can_clone: true, can_copy: true, holes }
    }

    /// Writes exactly `size` bytes of `content` to the empty file `to`.
    pub(super) fn copy(
        &mut self,
        content: Content<'_>,
        size: u64,
        to: &File,
    ) -> Result<(), CopyError> {
        match content {
            Content::None if size == 0 => Ok(()),
            Content::None => Err(CopyError::Size),
            Content::Bytes(bytes) if bytes.len() as u64 == size => Ok((&*to).write_all(bytes)?),
            Content::Bytes(_) => Err(CopyError::Size),
            Content::Reader(reader) => drain(reader, size, |bytes| (&*to).write_all(bytes)),
            Content::File(from) => self.copy_file(from, size, to),
            Content::Move { directory, path } => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let from = openat(directory, path, flags, Mode::empty())
                    .map_err(|errno| CopyError::Read(errno.into()))?;
                self.copy_file(&File::from(from), size, to)
            }
        }
    }

    fn copy_file(&mut self, from: &File, size: u64, to: &File) -> Result<(), CopyError> {
        if size <= SMALL {
            return self.copy_small(from, size, to);
        }
        if self.can_clone {
            match ioctl_ficlone(to, from) {
                Ok(()) => return check_length(to, size),
                Err(_) => self.can_clone = false,
            }
        }
        if self.holes == Holes::Kept && has_holes(from)? {
            self.copy_extents(from, size, to)?;
        } else {
            self.copy_range(from, 0..size, to)?;
        }
        check_length(from, size)
    }

    /// Copies what is data and leaves out what is not.
    fn copy_extents(&mut self, from: &File, size: u64, to: &File) -> Result<(), CopyError> {
        // The position is the caller's.
        let position = seek(from, SeekFrom::Current(0)).map_err(read_error)?;
        let mut at = 0;
        while at < size {
            let data = match seek(from, SeekFrom::Data(at)) {
                // A hole up to the end.
                Err(Errno::NXIO) => break,
                data => data.map_err(read_error)?,
            };
            let hole = seek(from, SeekFrom::Hole(data)).map_err(read_error)?;
            self.copy_range(from, data.min(size)..hole.min(size), to)?;
            at = hole;
        }
        ftruncate(to, size)?;
        seek(from, SeekFrom::Start(position)).map_err(read_error)?;
        Ok(())
    }

    fn copy_range(&mut self, from: &File, range: Range<u64>, to: &File) -> Result<(), CopyError> {
        let Range { start: mut done, end } = range;
        while self.can_copy && done < end {
            let length = usize::try_from((end - done).min(1 << 30)).expect("a GiB fits");
            // Explicit offsets leave the caller's file position alone.
            let (mut at, mut to_at) = (done, done);
            match copy_file_range(from, Some(&mut at), to, Some(&mut to_at), length) {
                Ok(0) => return Err(CopyError::Size),
                Ok(copied) => done += copied as u64,
                Err(Errno::INTR) => {}
                Err(Errno::NOSPC | Errno::DQUOT | Errno::FBIG) if done > 0 => {
                    return Err(Errno::NOSPC.into());
                }
                Err(_) => self.can_copy = false,
            }
        }
        self.copy_rest(from, done, end, to)
    }

    /// One read and one write for the most common kind of file. Asks for one byte more than
    /// expected, so that a file that has grown is noticed.
    fn copy_small(&mut self, from: &File, size: u64, to: &File) -> Result<(), CopyError> {
        use std::os::unix::fs::FileExt;
        if size == 0 {
            return Ok(());
        }
        let size = usize::try_from(size).expect("small files fit");
        self.buffer.resize(SMALL as usize + 1, 0);
        let mut length = 0;
        while length < size {
            match from.read_at(&mut self.buffer[length..=size], length as u64) {
                Ok(0) => break,
                Ok(read) => length += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(CopyError::Read(error)),
            }
        }
        if length != size {
            return Err(CopyError::Size);
        }
        Ok((&*to).write_all(&self.buffer[..size])?)
    }

    fn copy_rest(
        &mut self,
        from: &File,
        mut done: u64,
        end: u64,
        to: &File,
    ) -> Result<(), CopyError> {
        use std::os::unix::fs::FileExt;
        self.buffer.resize(SMALL as usize + 1, 0);
        while done < end {
            let length = self.buffer.len().min(usize::try_from(end - done).unwrap_or(usize::MAX));
            match from.read_at(&mut self.buffer[..length], done) {
                Ok(0) => return Err(CopyError::Size),
                Ok(read) => {
                    to.write_all_at(&self.buffer[..read], done)?;
                    done += read as u64;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(CopyError::Read(error)),
            }
        }
        Ok(())
    }
}

/// Hands exactly `size` bytes of `reader` to `write`, straight from the reader's own buffer.
pub(super) fn drain(
    reader: &mut dyn BufRead,
    size: u64,
    mut write: impl FnMut(&[u8]) -> io::Result<()>,
) -> Result<(), CopyError> {
    let mut left = size;
    loop {
        let bytes = match reader.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            bytes => bytes.map_err(CopyError::Read)?,
        };
        if bytes.is_empty() != (left == 0) {
            return Err(CopyError::Size);
        }
        if bytes.is_empty() {
            return Ok(());
        }
        let length = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        write(&bytes[..length])?;
        reader.consume(length);
        left -= length as u64;
    }
}

fn read_error(errno: Errno) -> CopyError {
    CopyError::Read(errno.into())
}

/// Whether the file takes less room than its length. A file system that compresses says so, too.
fn has_holes(file: &File) -> Result<bool, CopyError> {
    let stat = rustix::fs::fstat(file).map_err(read_error)?;
    // In units of 512 bytes, whatever the file system's own.
    Ok(stat.st_blocks.saturating_mul(512) < stat.st_size)
}

fn check_length(file: &File, size: u64) -> Result<(), CopyError> {
    let length = rustix::fs::fstat(file.as_fd())?.st_size;
    if u64::try_from(length) == Ok(size) { Ok(()) } else { Err(CopyError::Size) }
}

/// Reads into `buffer` until it is full or `reader` ends, whatever signals come in between; gives the
/// number of bytes.
pub fn read_up_to(reader: &mut (impl Read + ?Sized), buffer: &mut [u8]) -> io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match reader.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
