//! A part of a tree as a tar: a file, or a directory with all that is in it.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, Stat, fstat, openat};
use rustix::io::Errno;

use super::beneath::{DIRECTORY, open_in_root};
use super::{
    Content, DiffOptions, Entry, EntryKind, Flavor, LayerError, LayerSink, LeftOut, TarSink, diff,
    name, read,
};

/// Something in a tree.
#[derive(Debug)]
pub struct Subtree {
    path: Vec<u8>,
    /// Leads to it, without being open for reading.
    found: OwnedFd,
    stat: Stat,
}

/// Opens the directory at `path` in the tree `root`, as a process with that root would; nothing if nothing is there.
///
/// # Errors
/// [`LayerError`] if something else is there.
pub fn open_directory(root: BorrowedFd<'_>, path: &[u8]) -> Result<Option<OwnedFd>, LayerError> {
    match open_in_root(root, relative(path), DIRECTORY - OFlags::NOFOLLOW) {
        Err(Errno::NOENT) => Ok(None),
        opened => opened.map(Some).map_err(LayerError::at("open the directory", path)),
    }
}

impl Subtree {
    /// What is at `path` in the tree `root`; nothing if nothing is. Links on the way lead where they would in
    /// a process with that root, and so does one at the end with `follow`.
    ///
    /// # Errors
    /// [`LayerError`] if it cannot be looked at.
    pub fn find(
        root: BorrowedFd<'_>,
        path: &[u8],
        follow: bool,
    ) -> Result<Option<Self>, LayerError> {
        let last = if follow { OFlags::empty() } else { OFlags::NOFOLLOW };
        let found = match open_in_root(root, relative(path), OFlags::PATH | OFlags::CLOEXEC | last)
        {
            Err(Errno::NOENT) => return Ok(None),
            found => found.map_err(LayerError::at("open", path))?,
        };
        let stat = fstat(&found).map_err(LayerError::at("stat", path))?;
        Ok(Some(Self { path: path.to_vec(), found, stat }))
    }

    /// Whether it is a directory.
    pub fn is_directory(&self) -> bool {
        FileType::from_raw_mode(self.stat.st_mode).is_dir()
    }

    /// Writes it to `out` as a tar in which it is called `called`; of a directory with an empty name only what is in
    /// it. Gives back what tars cannot have.
    ///
    /// # Errors
    /// [`LayerError`] if it cannot be read, or written.
    pub fn write(&self, called: &[u8], out: &mut dyn Write) -> Result<Vec<LeftOut>, LayerError> {
        let mut sink = TarSink::new(out).with_exact_times();
        let at = |action| LayerError::at(action, &self.path);
        let kind = read::kind(self.found.as_fd(), b"", &self.stat).map_err(at("read"))?;
        let mut left_out = Vec::new();
        match kind {
            Some(EntryKind::Directory) => left_out = self.directory(called, &mut sink)?,
            // No tar can hold a socket.
            None => return Err(at("read")(Errno::NXIO)),
            Some(kind) => self.entry(called, kind, &mut sink)?,
        }
        sink.finish()?;
        Ok(left_out)
    }

    fn directory(
        &self,
        called: &[u8],
        sink: &mut dyn LayerSink,
    ) -> Result<Vec<LeftOut>, LayerError> {
        let directory = openat(&self.found, ".", DIRECTORY, Mode::empty());
        let directory = directory.map_err(LayerError::at("open", &self.path))?;
        if !called.is_empty() {
            let entry = read::from_stat(called.to_vec(), EntryKind::Directory, &self.stat);
            sink.entry(&entry, Content::None)?;
        }
        let options = DiffOptions { flavor: Flavor::Plain, lower: None, all_xattrs: false };
        diff(directory, &options, &mut Below { prefix: called, sink })
    }

    fn entry(
        &self,
        called: &[u8],
        kind: EntryKind,
        sink: &mut dyn LayerSink,
    ) -> Result<(), LayerError> {
        let is_file = matches!(kind, EntryKind::File { .. });
        let entry = read::from_stat(called.to_vec(), kind, &self.stat);
        if !is_file {
            return sink.entry(&entry, Content::None);
        }
        let path = read::in_proc(self.found.as_fd(), b"");
        let path = path.strip_suffix(b"/").unwrap_or(&path);
        let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = File::from(file.map_err(LayerError::at("open", &self.path))?);
        sink.entry(&entry, Content::File(&file))
    }
}

/// Entries, put below a directory.
struct Below<'a> {
    prefix: &'a [u8],
    sink: &'a mut dyn LayerSink,
}

impl LayerSink for Below<'_> {
    fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), LayerError> {
        if self.prefix.is_empty() {
            return self.sink.entry(entry, content);
        }
        let mut entry = entry.clone();
        entry.path = name::join(self.prefix, &entry.path);
        if let EntryKind::Hardlink { target } = &mut entry.kind {
            *target = name::join(self.prefix, target);
        }
        self.sink.entry(&entry, content)
    }
}

/// Without slashes in front, which lead nowhere else from the root.
fn relative(path: &[u8]) -> &[u8] {
    let start = path.iter().position(|byte| *byte != b'/').unwrap_or(path.len());
    &path[start..]
}
