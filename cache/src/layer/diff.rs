//! What a layer changes: from a tree back to entries.
//!
//! What is written is what BuildKit writes: a directory that is below with the same owner, mode
//! and capability, and in which nothing changed, is left out, as is a file that overlayfs copied
//! up and nobody changed. An opaque directory becomes deletions of each name below it that is gone.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use oci::DiffId;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat};
use rustix::io::Errno;
use sha2::{Digest as _, Sha256};

use super::beneath::{DIRECTORY, open_path};
use super::compress::{Compression, encode};
use super::lower::{Found, Place};
use super::name::{self, Meaning, to_path};
use super::{
    Content, Entry, EntryKind, Flavor, LayerError, LayerSink, Lower, TarSink, Warning, pipe, read,
};

mod same;

/// Directories deeper than this are open only while they are read.
const OPEN_MAX: usize = 64;

/// How a tree is read as a layer.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// How the tree has whiteouts. A [`Flavor::Plain`] tree has none: what it lacks is deleted.
    pub flavor: Flavor,
    /// The layers below. Without them everything in the tree is written as it stands, opaque
    /// directories as such.
    pub lower: Option<Lower>,
    /// Write all extended attributes; else `security.capability` alone, as BuildKit does.
    pub all_xattrs: bool,
}

/// A tar that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenTar {
    /// Digest of its bytes.
    pub diff_id: DiffId,
    /// Its size in bytes.
    pub size: u64,
    /// How many entries it has.
    pub entries: u64,
    /// What could not be written.
    pub warnings: Vec<Warning>,
}

/// Gives the entries of the layer tree `upper` to `sink`, parents first, the names in a directory
/// in the order of their bytes, so that one tree always gives the same sequence. The first of
/// several names of one file is the file, the others are hard links to it.
pub fn diff(
    upper: impl AsFd,
    options: &DiffOptions,
    sink: &mut dyn LayerSink,
) -> Result<Vec<Warning>, LayerError> {
    let root = upper.as_fd();
    let mut walk = Walk {
        root,
        options,
        sink,
        levels: Vec::new(),
        links: HashMap::new(),
        warnings: Vec::new(),
    };
    walk.run()?;
    Ok(walk.warnings)
}

/// Gives what changed between two whole trees, as [`diff`] does for a layer.
pub fn diff_trees(
    lower: OwnedFd,
    merged: impl AsFd,
    sink: &mut dyn LayerSink,
) -> Result<Vec<Warning>, LayerError> {
    let flavor = Flavor::Plain;
    let lower = Some(Lower::new(vec![lower.into()], flavor));
    diff(merged, &DiffOptions { flavor, lower, all_xattrs: false }, sink)
}

/// A compressed copy of a tar that is made while the tar is written.
pub struct CompressedCopy<'a> {
    /// How it is compressed.
    pub compression: Compression,
    /// Where it is written to.
    pub out: &'a mut (dyn Write + Send),
}

/// Writes the layer tree `upper` to `out` as a tar.
pub fn write_tar(
    upper: impl AsFd,
    options: &DiffOptions,
    out: &mut (dyn Write + Send),
) -> Result<WrittenTar, LayerError> {
    let upper = upper.as_fd();
    let fill = |sink: &mut dyn LayerSink| diff(upper, options, sink);
    let (mut written, warnings) = write_entries(out, Vec::new(), fill)?;
    written.warnings = warnings;
    Ok(written)
}

/// Writes the entries that `fill` gives to `out` as a tar, and gives back what `fill` did. Making
/// entries, hashing, writing and each of the `copies` have a thread, so the slowest of them sets the
/// pace.
pub fn write_entries<T, E: From<LayerError>>(
    out: &mut (dyn Write + Send),
    copies: Vec<CompressedCopy<'_>>,
    fill: impl FnOnce(&mut dyn LayerSink) -> Result<T, E>,
) -> Result<(WrittenTar, T), E> {
    let (writer, mut readers) = pipe::pipe(2 + copies.len());
    let (to_hash, to_write) = readers.pop().zip(readers.pop()).expect("the pipe has two readers");
    std::thread::scope(|scope| {
        let hashed = scope.spawn(move || {
            let mut hash = Sha256::new();
            to_hash.for_each(|bytes| {
                hash.update(bytes);
                Ok(())
            })?;
            Ok::<_, io::Error>(hash.finalize())
        });
        let wrote = scope.spawn(move || {
            to_write.for_each(|bytes| out.write_all(bytes))?;
            out.flush()
        });
        let copied: Vec<_> = copies
            .into_iter()
            .zip(readers)
            .map(|(CompressedCopy { compression, out }, mut reader)| {
                scope.spawn(move || encode(&mut reader, out, compression))
            })
            .collect();
        let tar: Result<_, E> = (|| {
            let mut sink = TarSink::down(writer);
            let filled = fill(&mut sink)?;
            let entries = sink.entries();
            let (writer, size) = sink.finish()?;
            drop(writer);
            Ok((size, entries, filled))
        })();
        // When writing failed, whoever fills only knows that nobody listens any more.
        wrote.join().expect("the writer does not panic").map_err(LayerError::Write)?;
        for copy in copied {
            copy.join().expect("the compressor does not panic").map_err(LayerError::Write)?;
        }
        let hash = hashed.join().expect("the hasher does not panic").map_err(LayerError::Write)?;
        let (size, entries, filled) = tar?;
        let diff_id = DiffId(oci::Digest::from_sha256(hash.into()));
        Ok((WrittenTar { diff_id, size, entries, warnings: Vec::new() }, filled))
    })
}

/// A walk through a tree.
struct Walk<'a> {
    root: BorrowedFd<'a>,
    options: &'a DiffOptions,
    sink: &'a mut dyn LayerSink,
    levels: Vec<Level>,
    /// First path of each file with several names, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    warnings: Vec<Warning>,
}

/// One directory on the way from the root.
struct Level {
    path: Vec<u8>,
    directory: Option<OwnedFd>,
    names: std::vec::IntoIter<Name>,
    /// The parts that the layers below have in it.
    place: Place,
    /// Nothing of the layers below shows through: what is not here is deleted.
    complete: bool,
    /// The directory's own entry, while it is not known whether anything in it changed.
    pending: Option<Entry>,
}

/// A name in a directory.
struct Name {
    bytes: Vec<u8>,
    /// It is in the layers below alone.
    deleted: bool,
}

impl Walk<'_> {
    fn run(&mut self) -> Result<(), LayerError> {
        let root = openat(self.root, ".", DIRECTORY, Mode::empty())
            .map_err(LayerError::at("open", b"/"))?;
        let place = self.options.lower.as_ref().map(Lower::root).unwrap_or_default();
        let complete = self.options.flavor == Flavor::Plain;
        self.descend(Vec::new(), root, place, complete, None)?;
        while let Some(level) = self.levels.last_mut() {
            match level.names.next() {
                Some(name) => self.visit(&name)?,
                None => self.ascend()?,
            }
        }
        Ok(())
    }

    fn visit(&mut self, name: &Name) -> Result<(), LayerError> {
        let level = self.levels.last().expect("a name is in a directory");
        let path = name::join(&level.path, &name.bytes);
        if path.len() > name::PATH_MAX {
            return Err(LayerError::PathTooLong { path });
        }
        if name.deleted {
            return self.emit(&Entry::new(path, EntryKind::Whiteout, 0), Content::None);
        }
        if name::meaning(&path).ok() != Some(Meaning::Plain) {
            self.warnings.push(Warning::ReservedName(to_path(&path)));
            return Ok(());
        }
        let directory = self.directory();
        let stat = statat(directory, &name.bytes[..], AtFlags::SYMLINK_NOFOLLOW)
            .map_err(LayerError::at("stat", &path))?;
        let found = match &self.options.lower {
            Some(lower) if !level.place.is_empty() => {
                lower.look_up(&level.place, &path).map_err(LayerError::at("look up", &path))?
            }
            _ => None,
        };
        if self.options.flavor.is_whiteout(&stat) {
            return self.whiteout(path, found.is_some());
        }
        let kind =
            read::kind(directory, &name.bytes, &stat).map_err(LayerError::at("read", &path))?;
        match kind {
            // No archive has sockets.
            None => Ok(()),
            // Overlayfs's mark in a tree that has others, or none.
            Some(EntryKind::Whiteout) => {
                self.warnings.push(Warning::WhiteoutDevice(to_path(&path)));
                Ok(())
            }
            Some(EntryKind::Directory) => self.visit_directory(path, &name.bytes, &stat, found),
            Some(kind) => self.visit_file(path, &name.bytes, kind, &stat, found),
        }
    }

    fn whiteout(&mut self, path: Vec<u8>, is_below: bool) -> Result<(), LayerError> {
        if !is_below && self.options.lower.is_some() {
            return Ok(());
        }
        self.emit(&Entry::new(path, EntryKind::Whiteout, 0), Content::None)
    }

    fn visit_directory(
        &mut self,
        path: Vec<u8>,
        name: &[u8],
        stat: &Stat,
        found: Option<Found>,
    ) -> Result<(), LayerError> {
        let parent = self.levels.last().expect("a name is in a directory");
        let directory = openat(self.directory(), name, DIRECTORY, Mode::empty())
            .map_err(LayerError::at("open", &path))?;
        let mut entry = read::from_stat(path.clone(), EntryKind::Directory, stat);
        let form = self.read_attributes(&mut entry, directory.as_fd())?;
        let complete = parent.complete || form.opaque;
        let unchanged = match &found {
            Some(found) => {
                !found.place.is_empty() && self.is_same(&entry, stat, directory.as_fd(), found)?
            }
            None => false,
        };
        let pending = if unchanged {
            Some(entry)
        } else {
            self.emit(&entry, Content::None)?;
            None
        };
        if form.opaque && self.options.lower.is_none() {
            self.emit(&Entry::new(path.clone(), EntryKind::Opaque, 0), Content::None)?;
        }
        let place = found.map(|found| found.place).unwrap_or_default();
        self.descend(path, directory, place, complete, pending)
    }

    fn visit_file(
        &mut self,
        path: Vec<u8>,
        name: &[u8],
        kind: EntryKind,
        stat: &Stat,
        found: Option<Found>,
    ) -> Result<(), LayerError> {
        let mut entry = read::from_stat(path, kind, stat);
        let file = match entry.kind {
            EntryKind::File { .. } => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                let file = openat(self.directory(), name, flags, Mode::empty())
                    .map_err(LayerError::at("open", &entry.path))?;
                self.read_attributes(&mut entry, file.as_fd())?;
                Some(File::from(file))
            }
            _ => {
                self.read_node_attributes(&mut entry, name)?;
                None
            }
        };
        if let Some(found) = &found {
            let at = file.as_ref().map_or_else(|| self.directory(), |file| file.as_fd());
            if self.is_same(&entry, stat, at, found)? {
                return Ok(());
            }
        }
        if let Some(target) = self.first_name(&entry.path, stat) {
            entry.kind = EntryKind::Hardlink { target };
            return self.emit(&entry, Content::None);
        }
        let content = file.as_ref().map_or(Content::None, Content::File);
        self.emit(&entry, content)
    }

    /// The path under which this file was already written, if it was.
    fn first_name(&mut self, path: &[u8], stat: &Stat) -> Option<Vec<u8>> {
        if stat.st_nlink < 2 {
            return None;
        }
        match self.links.entry((stat.st_dev, stat.st_ino)) {
            std::collections::hash_map::Entry::Occupied(first) => Some(first.get().clone()),
            std::collections::hash_map::Entry::Vacant(first) => {
                first.insert(path.to_vec());
                None
            }
        }
    }

    /// Writes an entry, and before it the directories it is in that were not written yet.
    fn emit(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), LayerError> {
        for level in &mut self.levels {
            if let Some(directory) = level.pending.take() {
                self.sink.entry(&directory, Content::None)?;
            }
        }
        self.sink.entry(entry, content)
    }

    fn directory(&self) -> BorrowedFd<'_> {
        let level = self.levels.last().expect("the walk is in a directory");
        level.directory.as_ref().expect("the current directory is open").as_fd()
    }

    fn descend(
        &mut self,
        path: Vec<u8>,
        directory: OwnedFd,
        place: Place,
        complete: bool,
        pending: Option<Entry>,
    ) -> Result<(), LayerError> {
        let names = self
            .names(directory.as_fd(), &place, &path, complete)
            .map_err(LayerError::at("read the directory", &path))?
            .into_iter();
        if self.levels.len() > OPEN_MAX {
            self.levels.last_mut().expect("there are levels").directory = None;
        }
        let directory = Some(directory);
        self.levels.push(Level { path, directory, names, place, complete, pending });
        Ok(())
    }

    fn ascend(&mut self) -> Result<(), LayerError> {
        self.levels.pop();
        if let Some(level) = self.levels.last_mut()
            && level.directory.is_none()
        {
            let directory = open_path(self.root, &level.path, DIRECTORY)
                .map_err(LayerError::at("open", &level.path))?;
            level.directory = Some(directory);
        }
        Ok(())
    }

    /// The sorted names of a directory, with those that are deleted from the layers below.
    fn names(
        &self,
        directory: BorrowedFd<'_>,
        place: &Place,
        path: &[u8],
        complete: bool,
    ) -> Result<Vec<Name>, Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if !matches!(bytes, b"." | b"..") {
                names.push(Name { bytes: bytes.to_vec(), deleted: false });
            }
        }
        names.sort_unstable_by(|a, b| a.bytes.cmp(&b.bytes));
        if let Some(lower) = self.options.lower.as_ref().filter(|_| complete) {
            let mut deleted = Vec::new();
            for bytes in lower.names(place, path)? {
                let is_here = names.binary_search_by(|name| name.bytes.cmp(&bytes)).is_ok();
                if !is_here && lower.look_up(place, &name::join(path, &bytes))?.is_some() {
                    deleted.push(Name { bytes, deleted: true });
                }
            }
            names.append(&mut deleted);
            names.sort_unstable_by(|a, b| a.bytes.cmp(&b.bytes));
        }
        Ok(names)
    }
}

/// What the attributes of a directory say about the form of the tree.
#[derive(Default)]
struct Form {
    opaque: bool,
}

impl Walk<'_> {
    /// Reads the attributes of an open file or directory into `entry`.
    fn read_attributes(&self, entry: &mut Entry, file: BorrowedFd<'_>) -> Result<Form, LayerError> {
        let read = read::file_xattrs(file)
            .map_err(LayerError::at("read the attributes of", &entry.path))?;
        self.sort_attributes(entry, read)
    }

    fn read_node_attributes(&self, entry: &mut Entry, name: &[u8]) -> Result<(), LayerError> {
        // Only files have capabilities.
        if self.options.all_xattrs {
            let xattrs = read::read_xattrs(self.directory(), name)?;
            self.sort_attributes(entry, xattrs)?;
        }
        Ok(())
    }

    /// Tells attributes that are content from those that are form.
    fn sort_attributes(
        &self,
        entry: &mut Entry,
        mut xattrs: std::collections::BTreeMap<Vec<u8>, Vec<u8>>,
    ) -> Result<Form, LayerError> {
        let mut form = Form::default();
        if xattrs.is_empty() {
            return Ok(form);
        }
        if let Some(key) = self.options.flavor.opaque_attribute() {
            form.opaque = xattrs.get(key.as_bytes()).is_some_and(|value| value == b"y");
            for attribute in [
                "trusted.overlay.redirect",
                "trusted.overlay.metacopy",
                "user.overlay.redirect",
                "user.overlay.metacopy",
            ] {
                if xattrs.contains_key(attribute.as_bytes()) {
                    return Err(LayerError::Redirected { path: to_path(&entry.path), attribute });
                }
            }
        }
        if let Some(owner) = xattrs.remove(read::OWNER.as_bytes()) {
            (entry.uid, entry.gid) = read::parse_owner(&owner).unwrap_or((entry.uid, entry.gid));
        }
        xattrs.retain(|key, _| {
            !read::is_own(key) && (self.options.all_xattrs || key == same::CAPABILITY.as_bytes())
        });
        entry.xattrs = xattrs;
        Ok(form)
    }
}
