//! Writing a layer as a directory tree.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fchmod, fstat, futimens, linkat, makedev,
    mkdirat, mknodat, openat, renameat_with, statat, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::beneath::{self, Beneath, DIRECTORY, Leaving};
use super::content::{Copier, CopyError, Holes};
use super::name::{self, to_path};
use super::remove::remove;
use super::{Content, Entry, EntryKind, Flavor, LayerError, LayerSink, LeftOut, Time};

mod context;
mod ids;
mod metadata;
mod options;
mod replaced;

pub use options::DirectoryOptions;

use context::{Context, Owner};
use replaced::Replaced;

/// What is known when a [`DirectorySink`] has taken the last entry.
#[derive(Debug, Default)]
pub struct Finished {
    /// What was left out.
    pub warnings: Vec<LeftOut>,
    /// Directories the layer has files in, but no entry for; see [`super::adopt`].
    pub implied: BTreeSet<Vec<u8>>,
    /// Hard links whose target is not in this layer, as path and target; see [`super::adopt`].
    pub dangling: Vec<(Vec<u8>, Vec<u8>)>,
    /// The layer hides everything below it. Overlayfs has no mark for that on the root: the
    /// caller that stacks the layers leaves out those below.
    pub opaque_root: bool,
}

/// Writes entries below a directory. Nothing is ever written through a link that stands in an
/// entry's place, nor outside of the directory.
pub struct DirectorySink {
    beneath: Beneath,
    context: Context,
    copier: Copier,
    replaced: Option<Replaced>,
    links: Vec<(Vec<u8>, Vec<u8>)>,
    root_time: Option<Time>,
    opaque_root: bool,
}

impl DirectorySink {
    /// Starts writing below `root`.
    pub fn new(root: OwnedFd, options: DirectoryOptions) -> Result<Self, LayerError> {
        let beneath = Beneath::new(root).map_err(LayerError::at("open", b"/"))?;
        let owner = Owner::current(options.ignore_owner);
        let holes = match options.flavor {
            Flavor::Plain => Holes::Kept,
            _ => Holes::Filled,
        };
        Ok(Self {
            beneath,
            context: Context {
                options,
                owner,
                implied: BTreeSet::new(),
                warnings: Vec::new(),
                more_warnings: 0,
            },
            copier: Copier::new(holes),
            replaced: None,
            links: Vec::new(),
            root_time: None,
            opaque_root: false,
        })
    }

    /// From here on whiteouts in a [`Flavor::Plain`] tree spare what came through this sink: they
    /// speak of the layers below only, in whatever order they come.
    pub(super) fn spare_own_entries(&mut self) {
        if self.context.options.flavor == Flavor::Plain {
            self.replaced = Some(Replaced::default());
        }
    }

    /// Notes something that was left out.
    pub(super) fn warn(&mut self, warning: LeftOut) {
        self.context.warn(warning);
    }

    /// Sets the times of the directories, makes the hard links that came before their targets.
    pub fn finish(mut self) -> Result<Finished, LayerError> {
        let mut dangling = Vec::new();
        for (path, target) in std::mem::take(&mut self.links) {
            let (parent, name) = name::split(&path);
            self.beneath.enter(parent, &mut self.context)?;
            match self.link(name, &target) {
                // A later entry took the name.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(Errno::NOENT | Errno::NOTDIR) => dangling.push((path, target)),
                Err(errno) => return Err(LayerError::at("link", &path)(errno)),
            }
        }
        if let (Flavor::Plain, Some((path, target))) =
            (self.context.options.flavor, dangling.first())
        {
            return Err(LayerError::DanglingLink { path: to_path(path), target: to_path(target) });
        }
        self.beneath.leave_all()?;
        if let Some(time) = self.root_time {
            futimens(self.beneath.root(), &beneath::timestamps(time))
                .map_err(LayerError::at("set the time of", b"/"))?;
        }
        let Context { implied, mut warnings, more_warnings, .. } = self.context;
        if more_warnings > 0 {
            warnings.push(LeftOut::More(more_warnings));
        }
        Ok(Finished { warnings, implied, dangling, opaque_root: self.opaque_root })
    }

    fn directory(&mut self, entry: &Entry, name: &[u8]) -> Result<(), Errno> {
        let (directory, opaque) = self.make_directory(name)?;
        let context = &mut self.context;
        context.implied.remove(&name::join(self.beneath.path(), name));
        context.own(directory.as_fd(), entry)?;
        // Until it is left, the owner must be able to write into it.
        let mode = Mode::from(entry.mode);
        fchmod(&directory, mode | Mode::RWXU)?;
        if opaque {
            context.set_opaque(directory.as_fd())?;
        }
        context.set_xattrs(directory.as_fd(), entry)?;
        let late = (!mode.contains(Mode::RWXU)).then_some(mode);
        let gid = fstat(&directory)?.st_gid;
        self.beneath.push(
            name,
            directory,
            gid,
            Leaving { mtime: entry.mtime, mode: late, touched: true },
        );
        Ok(())
    }

    /// The directory `name`, new or already there, and whether it took the place of a whiteout.
    fn make_directory(&mut self, name: &[u8]) -> Result<(OwnedFd, bool), Errno> {
        self.beneath.touch();
        let current = self.beneath.current();
        let mut opaque = false;
        // Nobody but the owner before it has its own mode and owner.
        match mkdirat(current, name, Mode::RWXU) {
            Err(Errno::EXIST) => {
                let stat = statat(current, name, AtFlags::SYMLINK_NOFOLLOW)?;
                if FileType::from_raw_mode(stat.st_mode).is_dir() {
                    let directory = openat(current, name, DIRECTORY, Mode::empty())?;
                    metadata::forget(directory.as_fd())?;
                    return Ok((directory, false));
                }
                opaque = self.context.options.flavor.is_whiteout(&stat);
                unlinkat(current, name, AtFlags::empty())?;
                mkdirat(current, name, Mode::RWXU)?;
            }
            made => made?,
        }
        Ok((openat(current, name, DIRECTORY, Mode::empty())?, opaque))
    }

    fn file(
        &mut self,
        entry: &Entry,
        name: &[u8],
        size: u64,
        content: Content<'_>,
    ) -> Result<(), CopyError> {
        if let Content::Move { directory, path } = &content {
            let keep = RenameFlags::NOREPLACE;
            let moved =
                self.place(name, |current| renameat_with(directory, *path, current, name, keep));
            // Else it is on another file system, or on one that cannot tell: it is copied.
            if moved.is_ok() {
                return Ok(());
            }
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let mode = self.context.first_mode(entry);
        let file = self.place(name, |current| openat(current, name, flags, mode))?;
        let file = File::from(file);
        self.copier.copy(content, size, &file)?;
        let gives_group = self.beneath.gives_group(self.context.owner.gid);
        self.context.set_file_metadata(file.as_fd(), entry, gives_group)?;
        Ok(())
    }

    /// Makes something that cannot be opened: a link, a device, a pipe.
    fn node(
        &mut self,
        entry: &Entry,
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> Result<(), Errno>,
    ) -> Result<(), Errno> {
        self.place(name, make)?;
        let gives_group = self.beneath.gives_group(self.context.owner.gid);
        self.context.set_node_metadata(self.beneath.current(), name, entry, gives_group)
    }

    fn device(&mut self, entry: &Entry, name: &[u8], number: (u32, u32)) -> Result<(), Errno> {
        let file_type = match entry.kind {
            EntryKind::BlockDevice { .. } => FileType::BlockDevice,
            EntryKind::CharDevice { .. } if number == (0, 0) => {
                self.warn(LeftOut::WhiteoutDevice(to_path(&entry.path)));
                return Ok(());
            }
            _ => FileType::CharacterDevice,
        };
        let mode = Mode::from(entry.mode & 0o777);
        let number = makedev(number.0, number.1);
        match self.node(entry, name, |current| mknodat(current, name, file_type, mode, number)) {
            Err(Errno::PERM) => {
                self.warn(LeftOut::Device(to_path(&entry.path)));
                Ok(())
            }
            made => made,
        }
    }

    fn hard_link(&mut self, entry: &Entry, name: &[u8], target: &[u8]) -> Result<(), LayerError> {
        let target = name::clean(target)?;
        let result = match self.link(name, &target) {
            Err(Errno::EXIST) if self.is_same(name, &target) => Ok(()),
            Err(Errno::EXIST) => self.displace(name).and_then(|()| self.link(name, &target)),
            result => result,
        };
        match result {
            Err(Errno::NOENT | Errno::NOTDIR) => {
                // The target may come later or be in a layer below; what is here goes in any case.
                self.displace(name).map_err(LayerError::at("replace", &entry.path))?;
                self.links.push((entry.path.clone(), target));
                Ok(())
            }
            result => result.map_err(LayerError::at("link", &entry.path)),
        }
    }

    /// Links `name` in the current directory to the file at `target`.
    fn link(&mut self, name: &[u8], target: &[u8]) -> Result<(), Errno> {
        let (parent, leaf) = name::split(target);
        let directory = self.open_parent(parent)?;
        let stat = statat(&directory, leaf, AtFlags::SYMLINK_NOFOLLOW)?;
        if self.context.options.flavor.is_whiteout(&stat) {
            return Err(Errno::NOENT);
        }
        self.beneath.touch();
        linkat(&directory, leaf, self.beneath.current(), name, AtFlags::empty())
    }

    fn open_parent(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        beneath::open_in_root(self.beneath.root(), path, flags)
    }

    /// Whether `name` is already what linking it to `target` would make it.
    fn is_same(&self, name: &[u8], target: &[u8]) -> bool {
        let (parent, leaf) = name::split(target);
        let identity = |directory: BorrowedFd<'_>, name: &[u8]| {
            let stat = statat(directory, name, AtFlags::SYMLINK_NOFOLLOW)?;
            Ok((stat.st_dev, stat.st_ino))
        };
        let there = self.open_parent(parent).and_then(|there| identity(there.as_fd(), leaf));
        let here: Result<_, Errno> = identity(self.beneath.current(), name);
        matches!((here, there), (Ok(here), Ok(there)) if here == there)
    }

    fn whiteout(&mut self, name: &[u8]) -> Result<(), Errno> {
        if self.context.options.flavor == Flavor::Plain {
            let Some(replaced) = &self.replaced else { return self.displace(name) };
            self.beneath.touch();
            return replaced.delete(self.beneath.current(), self.beneath.path(), name);
        }
        self.beneath.touch();
        let current = self.beneath.current();
        let file_type = self.context.options.flavor.whiteout_type();
        match mknodat(current, name, file_type, Mode::empty(), 0) {
            // The layer's own entry hides the one below; a directory must be told to.
            Err(Errno::EXIST) => match openat(current, name, DIRECTORY, Mode::empty()) {
                Ok(directory) => self.context.set_opaque(directory.as_fd()),
                Err(Errno::NOTDIR | Errno::LOOP) => Ok(()),
                Err(errno) => Err(errno),
            },
            made => made,
        }
    }

    /// Makes the current directory opaque.
    fn opaque(&mut self) -> Result<(), Errno> {
        let is_root = self.beneath.path().is_empty();
        match (self.context.options.flavor, &self.replaced) {
            (Flavor::Plain, Some(replaced)) => {
                self.beneath.touch();
                return replaced.empty(self.beneath.current(), self.beneath.path());
            }
            (Flavor::Plain, None) => {
                self.beneath.touch();
                return Replaced::default().empty(self.beneath.current(), b"");
            }
            _ if is_root => self.opaque_root = true,
            _ => self.context.set_opaque(self.beneath.current())?,
        }
        Ok(())
    }

    /// Makes something in the current directory, taking away what has its name.
    fn place<T>(
        &mut self,
        name: &[u8],
        make: impl Fn(BorrowedFd<'_>) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        self.beneath.touch();
        match make(self.beneath.current()) {
            Err(Errno::EXIST) => {
                self.displace(name)?;
                make(self.beneath.current())
            }
            made => made,
        }
    }

    fn displace(&mut self, name: &[u8]) -> Result<(), Errno> {
        self.beneath.touch();
        remove(self.beneath.current(), name)
    }

    fn root(&mut self, entry: &Entry) -> Result<(), Errno> {
        let root = self.beneath.root();
        metadata::forget(root)?;
        self.context.own(root, entry)?;
        fchmod(root, Mode::from(entry.mode))?;
        self.context.set_xattrs(root, entry)?;
        self.root_time = Some(entry.mtime);
        Ok(())
    }
}

impl LayerSink for DirectorySink {
    fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), LayerError> {
        self.put(entry, content).map_err(|error| ids::explained(entry, error))
    }
}

impl DirectorySink {
    fn put(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), LayerError> {
        let path = name::clean(&entry.path)?;
        let at = |action| LayerError::at(action, &path);
        if path.is_empty() {
            return match entry.kind {
                EntryKind::Directory => self.root(entry).map_err(at("set the metadata of")),
                EntryKind::Opaque => self.leave_and_empty(&path),
                _ => Err(at("replace")(Errno::ISDIR)),
            };
        }
        if entry.kind == EntryKind::Opaque {
            return self.leave_and_empty(&path);
        }
        let (parent, name) = name::split(&path);
        self.beneath.enter(parent, &mut self.context)?;
        match &entry.kind {
            EntryKind::File { size } => {
                self.file(entry, name, *size, content).map_err(|error| match error {
                    CopyError::Size => LayerError::Size { path: to_path(&path), size: *size },
                    CopyError::Read(source) => {
                        let action = "read the content of";
                        LayerError::Entry { action, path: to_path(&path), source }
                    }
                    CopyError::Write(source) => {
                        LayerError::Entry { action: "write", path: to_path(&path), source }
                    }
                })?;
            }
            EntryKind::Directory => {
                self.directory(entry, name).map_err(at("make the directory"))?;
            }
            EntryKind::Symlink { target } => self
                .node(entry, name, |current| symlinkat(&target[..], current, name))
                .map_err(at("make the link"))?,
            EntryKind::Hardlink { target } => self.hard_link(entry, name, target)?,
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                self.device(entry, name, (*major, *minor)).map_err(at("make the device"))?;
            }
            EntryKind::Fifo => {
                let mode = Mode::from(entry.mode & 0o777);
                self.node(entry, name, |current| mknodat(current, name, FileType::Fifo, mode, 0))
                    .map_err(at("make the pipe"))?;
            }
            EntryKind::Whiteout => return self.whiteout(name).map_err(at("delete")),
            EntryKind::Opaque => unreachable!("opaque directories are handled above"),
        }
        if let Some(replaced) = &mut self.replaced {
            let parent = match entry.kind {
                EntryKind::Directory => name::split(self.beneath.path()).0,
                _ => self.beneath.path(),
            };
            replaced.note(name::join(parent, name));
        }
        Ok(())
    }

    fn leave_and_empty(&mut self, path: &[u8]) -> Result<(), LayerError> {
        self.beneath.enter(path, &mut self.context)?;
        self.opaque().map_err(LayerError::at("empty", path))
    }
}
