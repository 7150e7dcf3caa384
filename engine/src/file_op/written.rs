//! What a file operation has written before: its directories, and the tar of the layer that it made
//! last time.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::num::NonZeroU64;
use std::os::fd::{AsFd, OwnedFd};

use cache::layer::{Content, Entry, EntryKind, LayerError, LayerSink, TarFiles};
use rustix::fs::{Advice, OFlags, fadvise};
use rustix::io::Errno;

use super::plan::PlanPath;
use crate::tree::{open_beneath, path};

/// A file larger than this is read from the directory: for smaller ones opening costs more than
/// reading.
const SMALL: u64 = 128 << 10;

/// How much of the tar before is asked for ahead of its reader, in bytes, and how much at once: the kernel
/// takes no more than its own window from one call.
const AHEAD: u64 = 32 << 20;
const STEP: NonZeroU64 = NonZeroU64::new(128 << 10).expect("it is not zero");

/// Where to find the contents of a layer that was written as a directory.
pub struct Written {
    /// The topmost first.
    directories: Vec<OwnedFd>,
    before: Option<Before>,
    content: Vec<u8>,
}

/// The tar of the layer that the operation made last time. It was written past the page cache, so that
/// the disk has to read all of it: from the moment on that it is opened, and ahead of the reader.
pub struct TarBefore {
    file: File,
    position: u64,
    asked: u64,
}

impl TarBefore {
    /// Has the disk begin to read the tar `file`, which stands at its start.
    pub fn new(file: File) -> Self {
        let mut tar = Self { file, position: 0, asked: 0 };
        tar.ask();
        tar
    }

    fn ask(&mut self) {
        let end = self.position + AHEAD;
        // What is passed over need not be read.
        self.asked = self.asked.max(self.position);
        while self.asked < end {
            // Advice: reading reports what is wrong.
            let _ = fadvise(&self.file, self.asked, Some(STEP), Advice::WillNeed);
            self.asked += STEP.get();
        }
    }
}

impl Read for TarBefore {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.ask();
        let read = self.file.read(buffer)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for TarBefore {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.position = self.file.seek(to)?;
        Ok(self.position)
    }
}

/// The files of the tar before.
struct Before {
    files: TarFiles<TarBefore>,
    /// The current one; nothing before the first and after the last.
    at: Option<PlanPath>,
}

impl Written {
    /// Contents from the layer's `directories`, the topmost first, and those that did not change from
    /// the tar of the layer `before`, which is read once from its start to its end instead of being
    /// opened file by file.
    pub fn new(directories: Vec<OwnedFd>, before: Option<TarBefore>) -> Self {
        let before = before.map(|tar| {
            let mut before = Before { files: TarFiles::new(tar), at: None };
            before.advance();
            before
        });
        Self { directories, before, content: Vec::new() }
    }

    /// Gives the file `entry`, whose content has this `digest`, to `sink`.
    pub(super) fn give(
        &mut self,
        entry: &Entry,
        digest: Option<&[u8; 32]>,
        sink: &mut dyn LayerSink,
    ) -> Result<(), LayerError> {
        let EntryKind::File { size } = entry.kind else { unreachable!("the entry of a file") };
        if let (Some(before), Some(digest)) = (&mut self.before, digest)
            && before.find(&entry.path, size)
            && before.files.read(&mut self.content)
            && blake3::hash(&self.content).as_bytes() == digest
        {
            return sink.entry(entry, Content::Bytes(&self.content));
        }
        let file = self.open(&entry.path).map_err(|errno| LayerError::Entry {
            action: "open",
            path: path::show(&entry.path).into(),
            source: errno.into(),
        })?;
        sink.entry(entry, Content::File(&file))
    }

    /// Opens the file at `path` in the topmost directory that has it.
    fn open(&self, path: &[u8]) -> Result<File, Errno> {
        let mut opened = Err(Errno::NOENT);
        for directory in &self.directories {
            opened = open_beneath(directory.as_fd(), path, OFlags::RDONLY);
            if opened.as_ref().err() != Some(&Errno::NOENT) {
                break;
            }
        }
        opened.map(File::from)
    }
}

impl Before {
    fn advance(&mut self) {
        let more = self.files.advance();
        self.at = more.then(|| PlanPath(self.files.path().into()));
    }

    /// Goes on to `path`; whether it is there, small, and of this size. Asked in the order in which
    /// layers are walked, which is that of the tar.
    fn find(&mut self, path: &[u8], size: u64) -> bool {
        if size > SMALL {
            return false;
        }
        let wanted = PlanPath(path.into());
        while self.at.as_ref().is_some_and(|at| *at < wanted) {
            self.advance();
        }
        self.at.as_ref() == Some(&wanted) && self.files.size() == size
    }
}
