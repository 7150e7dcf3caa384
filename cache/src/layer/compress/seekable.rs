//! Compressed tars in which each file can be found and read by itself.
//!
//! They are ordinary gzip and zstd streams of ordinary tars. Large files are cut into chunks of one size;
//! each chunk begins a member or frame of its own, and a table of contents at the end says where.

use std::io::{self, BufRead, Write};

use oci::{Digest, Hasher};

use super::super::archive::{Archive, ArchiveError, Member};
use frames::{Compress, Frames};
use recorder::Recorder;

pub(super) mod estargz;
mod frames;
mod recorder;
mod tar_split;
mod toc;
pub(super) mod zstd_chunked;

/// Bytes in a chunk of a file. Part of the format: another size gives other bytes.
const CHUNK: usize = 4 << 20;

/// Files that formats of this sort add to a tar: what a layer has of them says where things were in
/// another blob.
const ADDED: [&[u8]; 3] = [estargz::INDEX, estargz::LANDMARK, b".prefetch.landmark"];

/// What sees a tar pass.
trait Watch {
    /// Bytes that are no content: headers, padding, the end.
    fn between(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// A member whose content is passing next.
    fn member(&mut self, member: &Member) -> io::Result<()>;
    /// Content of it.
    fn content(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// One file of the tar, or what else it has.
struct Entry {
    member: Member,
    /// Of all its content, if there is any.
    digest: Option<Digest>,
    /// Which of the frames with content are its own.
    chunks: std::ops::Range<usize>,
}

/// Whether a frame goes on after the content that it begins with, up to the next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Ends {
    WithContent,
    WithTheNext,
}

/// A tar on its way into frames.
struct Packing<'a> {
    frames: Frames<'a>,
    ends: Ends,
    /// The frame in the making, and how much of it is content.
    piece: Vec<u8>,
    content: usize,
    entries: Vec<Entry>,
    /// Frames with content so far.
    chunks: usize,
}

impl<'a> Packing<'a> {
    fn new(out: &'a mut dyn Write, compress: Compress, level: i32, ends: Ends) -> Self {
        let frames = Frames::new(out, compress, level);
        Self { frames, ends, piece: Vec::new(), content: 0, entries: Vec::new(), chunks: 0 }
    }

    /// Takes all of a tar; `watch` sees its members pass. Where `is_whole` is not set, what marks
    /// the end is left out, as is what formats like this one have added.
    fn take(
        &mut self,
        tar: &mut dyn BufRead,
        is_whole: bool,
        watch: &mut dyn Watch,
    ) -> io::Result<()> {
        let mut archive = Archive::new(Recorder::new(tar));
        while let Some(member) = archive.next().map_err(invalid)? {
            let is_added = !is_whole && ADDED.contains(&member.path.as_slice());
            let before = archive.get_mut().take();
            if member.sparse.is_some() {
                return Err(io::Error::other("a sparse file cannot be found by itself"));
            }
            if is_added {
                archive.skip_content().map_err(invalid)?;
                drop(archive.get_mut().take());
                continue;
            }
            self.between(&before)?;
            watch.between(&before)?;
            watch.member(&member)?;
            archive.get_mut().is_on = false;
            self.member(member, &mut archive, watch)?;
            archive.get_mut().is_on = true;
            archive.skip_content().map_err(invalid)?;
            let padding = archive.get_mut().take();
            self.between(&padding)?;
            watch.between(&padding)?;
        }
        if is_whole { self.end(archive.into_inner(), watch) } else { Ok(()) }
    }

    /// Takes what marks the end of the tar, and whatever is behind it.
    fn end<R: BufRead>(&mut self, mut rest: Recorder<R>, watch: &mut dyn Watch) -> io::Result<()> {
        loop {
            let bytes = rest.take();
            self.between(&bytes)?;
            watch.between(&bytes)?;
            match rest.fill_buf()?.len() {
                0 => return Ok(()),
                more => rest.consume(more),
            }
        }
    }

    fn member<R: BufRead>(
        &mut self,
        member: Member,
        archive: &mut Archive<R>,
        watch: &mut dyn Watch,
    ) -> io::Result<()> {
        let first = self.chunks;
        let mut hash = Hasher::sha256();
        let mut content = archive.content();
        loop {
            let bytes = content.fill_buf()?;
            if bytes.is_empty() {
                break;
            }
            let length = bytes.len();
            hash.update(bytes);
            watch.content(bytes)?;
            self.content(bytes)?;
            content.consume(length);
        }
        self.end_content()?;
        let chunks = first..self.chunks;
        let digest = (!chunks.is_empty()).then(|| hash.finish());
        self.entries.push(Entry { member, digest, chunks });
        Ok(())
    }

    fn content(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let is_full = self.content == CHUNK;
            let is_behind = self.content < self.piece.len();
            if is_full || is_behind {
                self.flush()?;
            }
            if self.content == 0 {
                self.chunks += 1;
            }
            let length = bytes.len().min(CHUNK - self.content);
            self.piece.extend_from_slice(&bytes[..length]);
            self.content += length;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn end_content(&mut self) -> io::Result<()> {
        if self.ends == Ends::WithContent && self.content > 0 { self.flush() } else { Ok(()) }
    }

    fn between(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.piece.extend_from_slice(bytes);
        // Directories and links alone may make a long way to the next file.
        if self.piece.len() - self.content >= CHUNK { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        let content = std::mem::take(&mut self.content);
        match std::mem::take(&mut self.piece) {
            piece if piece.is_empty() => Ok(()),
            piece => self.frames.push(piece, content),
        }
    }

    /// What the tar has, where its frames are, and how much was written.
    fn finish(mut self) -> io::Result<(Vec<Entry>, Vec<frames::Frame>, u64)> {
        self.flush()?;
        let (frames, written) = self.frames.finish()?;
        Ok((self.entries, frames, written))
    }
}

fn invalid(error: ArchiveError) -> io::Error {
    match error {
        ArchiveError::Read(error) => error,
        error => io::Error::new(io::ErrorKind::InvalidData, error),
    }
}
