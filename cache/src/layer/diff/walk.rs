//! The way through a tree: its directories, and what is in them in batches.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::fs::{AtFlags, Dir, FileType, Mode, Stat, fstat, openat, statat};
use rustix::io::Errno;

use super::attributes::{Form, attributes};
use super::options::DiffOptions;
use super::same::is_same;
use crate::layer::beneath::{DIRECTORY, open_path};
use crate::layer::lower::{Found, Place};
use crate::layer::{Entry, EntryKind, Flavor, LayerError, Lower};
use crate::layer::{name, read};

/// Directories deeper than this are open only while they are read.
const OPEN_MAX: usize = 64;
/// Names to look at in one batch: enough for another thread to be worth its waking.
const BATCH: usize = 64;
/// Directories that one batch holds open.
const BATCH_DIRECTORIES: usize = 16;

/// What a walk comes by, in the order of the layer's entries.
pub(super) enum Step {
    /// A directory; what is in it follows.
    Enter(Box<Entered>),
    /// The end of a directory.
    Leave,
    /// A name that is not a directory.
    Look(Name),
    /// A name that is in the layers below alone.
    Deleted(Vec<u8>),
}

/// A directory.
pub(super) struct Entered {
    pub(super) entry: Entry,
    pub(super) stat: Stat,
    pub(super) form: Form,
    /// It is the same in the layers below.
    pub(super) unchanged: bool,
}

/// A name that is not a directory, and where to find it.
pub(super) struct Name {
    pub(super) path: Vec<u8>,
    pub(super) directory: Arc<OwnedFd>,
    /// The parts that the layers below have in its directory.
    pub(super) place: Arc<Place>,
    /// What it is, as far as its directory tells.
    pub(super) file_type: FileType,
}

/// A walk through a tree.
pub(super) struct Walk {
    root: OwnedFd,
    options: Arc<DiffOptions>,
    levels: Vec<Level>,
}

/// One directory on the way from the root.
struct Level {
    path: Vec<u8>,
    directory: Option<Arc<OwnedFd>>,
    names: std::vec::IntoIter<Listed>,
    place: Arc<Place>,
    /// Nothing of the layers below shows through: what is not here is deleted.
    complete: bool,
}

/// A name in a directory.
struct Listed {
    bytes: Vec<u8>,
    /// Nothing for one that is in the layers below alone.
    file_type: Option<FileType>,
}

impl Walk {
    /// Starts at `root`; gives back what it is, too.
    pub(super) fn new(
        root: BorrowedFd<'_>,
        options: Arc<DiffOptions>,
    ) -> Result<(Self, Stat), LayerError> {
        let open = |flags| openat(root, ".", DIRECTORY | flags, Mode::empty());
        let directory = read::quietly(open).map_err(LayerError::at("open", b"/"))?;
        let stat = fstat(&directory).map_err(LayerError::at("stat", b"/"))?;
        let root = root.try_clone_to_owned().map_err(|source| LayerError::Entry {
            action: "open",
            path: "/".into(),
            source,
        })?;
        let place = options.lower.as_ref().map(Lower::root).unwrap_or_default();
        let complete = options.flavor == Flavor::Plain;
        let mut walk = Self { root, options, levels: Vec::new() };
        walk.descend(Vec::new(), directory, place, complete)?;
        Ok((walk, stat))
    }

    /// The next steps; none at the end.
    pub(super) fn batch(&mut self) -> Result<Vec<Step>, LayerError> {
        let mut steps = Vec::with_capacity(BATCH + BATCH_DIRECTORIES);
        let (mut names, mut directories) = (0, 0);
        while names < BATCH && directories < BATCH_DIRECTORIES {
            let Some(level) = self.levels.last_mut() else { break };
            match level.names.next() {
                None => {
                    self.ascend()?;
                    directories += 1;
                    steps.push(Step::Leave);
                }
                Some(listed) => {
                    let step = self.visit(listed)?;
                    directories += usize::from(matches!(step, Step::Enter(_)));
                    names += 1;
                    steps.push(step);
                }
            }
        }
        Ok(steps)
    }

    fn visit(&mut self, listed: Listed) -> Result<Step, LayerError> {
        let level = self.levels.last().expect("a name is in a directory");
        let path = name::join(&level.path, &listed.bytes);
        if path.len() > name::PATH_MAX {
            return Err(LayerError::PathTooLong { path });
        }
        let directory = level.directory.as_ref().expect("the current directory is open").clone();
        let file_type = match listed.file_type {
            None => return Ok(Step::Deleted(path)),
            // Not every file system tells it with the name.
            Some(FileType::Unknown) => {
                let found = statat(&*directory, &listed.bytes[..], AtFlags::SYMLINK_NOFOLLOW);
                let found = found.map_err(LayerError::at("stat", &path))?;
                FileType::from_raw_mode(found.st_mode)
            }
            Some(file_type) => file_type,
        };
        if file_type.is_dir() && !name::is_reserved(&path) {
            return self.enter(path, &listed.bytes, &directory);
        }
        Ok(Step::Look(Name { path, directory, place: level.place.clone(), file_type }))
    }

    fn enter(&mut self, path: Vec<u8>, name: &[u8], parent: &OwnedFd) -> Result<Step, LayerError> {
        let level = self.levels.last().expect("a name is in a directory");
        let open = |flags| openat(parent, name, DIRECTORY | flags, Mode::empty());
        let directory = read::quietly(open).map_err(LayerError::at("open", &path))?;
        let stat = fstat(&directory).map_err(LayerError::at("stat", &path))?;
        let mut entry = read::from_stat(path.clone(), EntryKind::Directory, &stat);
        let form = attributes(&self.options, &mut entry, directory.as_fd())?;
        let complete = level.complete || form.opaque;
        let found = find(&self.options, &level.place, &path)?;
        let unchanged = match &found {
            Some(found) if !found.place.is_empty() => {
                is_same(&self.options, &entry, &stat, directory.as_fd(), found)?
            }
            _ => false,
        };
        let place = found.map(|found| found.place).unwrap_or_default();
        self.descend(path, directory, place, complete)?;
        Ok(Step::Enter(Box::new(Entered { entry, stat, form, unchanged })))
    }

    fn descend(
        &mut self,
        path: Vec<u8>,
        directory: OwnedFd,
        place: Place,
        complete: bool,
    ) -> Result<(), LayerError> {
        let names = self
            .names(directory.as_fd(), &place, &path, complete)
            .map_err(LayerError::at("read the directory", &path))?
            .into_iter();
        if self.levels.len() > OPEN_MAX {
            self.levels.last_mut().expect("there are levels").directory = None;
        }
        let (directory, place) = (Some(Arc::new(directory)), Arc::new(place));
        self.levels.push(Level { path, directory, names, place, complete });
        Ok(())
    }

    fn ascend(&mut self) -> Result<(), LayerError> {
        self.levels.pop();
        if let Some(level) = self.levels.last_mut()
            && level.directory.is_none()
        {
            let directory = open_path(self.root.as_fd(), &level.path, DIRECTORY)
                .map_err(LayerError::at("open", &level.path))?;
            level.directory = Some(Arc::new(directory));
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
    ) -> Result<Vec<Listed>, Errno> {
        let mut names = Vec::new();
        for entry in Dir::read_from(directory)? {
            let entry = entry?;
            let bytes = entry.file_name().to_bytes();
            if !matches!(bytes, b"." | b"..") {
                names.push(Listed { bytes: bytes.to_vec(), file_type: Some(entry.file_type()) });
            }
        }
        names.sort_unstable_by(|a, b| a.bytes.cmp(&b.bytes));
        if let Some(lower) = self.options.lower.as_ref().filter(|_| complete) {
            let mut deleted = Vec::new();
            for bytes in lower.names(place, path)? {
                let is_here = names.binary_search_by(|name| name.bytes.cmp(&bytes)).is_ok();
                if !is_here && lower.look_up(place, &name::join(path, &bytes))?.is_some() {
                    deleted.push(Listed { bytes, file_type: None });
                }
            }
            names.append(&mut deleted);
            names.sort_unstable_by(|a, b| a.bytes.cmp(&b.bytes));
        }
        Ok(names)
    }
}

/// What the layers below have under this path.
pub(super) fn find(
    options: &DiffOptions,
    place: &[usize],
    path: &[u8],
) -> Result<Option<Found>, LayerError> {
    match &options.lower {
        Some(lower) if !place.is_empty() => {
            lower.look_up(place, path).map_err(LayerError::at("look up", path))
        }
        _ => Ok(None),
    }
}
