//! A directory that becomes what a client's is. Everything is done beneath descriptors of folders that were made
//! here: no link leads out.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStringExt as _;
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, Stat as Status, Timespec, Timestamps,
};
use rustix::fs::{fchmod, futimens, linkat, mkdirat, mkfifoat, open, openat, openat2};
use rustix::fs::{readlinkat, statat, symlinkat, unlinkat};
use rustix::io::Errno;

use super::ReceiveError;
use super::entry::{Entry, EntryError, Kind, parts};
use crate::wire::fsutil::Stat;

/// So many files may come at once; clients send four.
const OPEN_MAX: usize = 64;

/// A directory in the making.
#[derive(Debug)]
pub(crate) struct Tree {
    root: OwnedFd,
    /// The way to what came last.
    folders: Vec<Folder>,
    last: String,
    /// How many entries have come: the next one's number.
    count: u32,
    /// Files that were asked for.
    waiting: HashMap<u32, Waiting>,
    coming: HashMap<u32, (File, Waiting)>,
}

#[derive(Debug)]
struct Folder {
    name: String,
    file: OwnedFd,
    /// What is in it and was not sent.
    others: HashSet<OsString>,
    /// What it gets at its end; the root stays as it is.
    given: Option<Given>,
}

/// What a file gets when all of it is there.
#[derive(Debug, Clone, Copy)]
struct Given {
    mode: u32,
    modified: Timespec,
}

#[derive(Debug)]
struct Waiting {
    path: String,
    given: Given,
}

impl Tree {
    /// What is at `into` becomes it; it must be there.
    pub(crate) fn open(into: &Path) -> Result<Self, ReceiveError> {
        let failed = failed(".");
        let root = open(into, FOLDER, Mode::empty()).map_err(&failed)?;
        let folder = Folder::open(CWD, &into.to_string_lossy(), None).map_err(&failed)?;
        Ok(Self {
            root,
            folders: vec![folder],
            last: String::new(),
            count: 0,
            waiting: HashMap::new(),
            coming: HashMap::new(),
        })
    }

    /// Makes what `stat` says, or keeps what is that; says by which number its content is to be asked for, if it
    /// is.
    pub(crate) fn entry(&mut self, stat: &Stat) -> Result<Option<u32>, ReceiveError> {
        let number = self.count;
        self.count += 1;
        let entry = Entry::read(stat)?;
        self.go_to(&entry)?;
        let is_wanted = self.make(&entry).map_err(|error| match error {
            Making::System(errno) => failed(entry.path)(errno),
            Making::Entry(error) => error.into(),
        })?;
        if !is_wanted {
            return Ok(None);
        }
        let given = Given { mode: entry.mode, modified: entry.modified };
        self.waiting.insert(number, Waiting { path: entry.path.to_owned(), given });
        Ok(Some(number))
    }

    /// Takes bytes of the file `number`; none end it.
    pub(crate) fn data(&mut self, number: u32, data: &[u8]) -> Result<(), ReceiveError> {
        if let Some(waiting) = self.waiting.remove(&number) {
            if self.coming.len() == OPEN_MAX {
                return Err(ReceiveError::NotAsked);
            }
            let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let file = beneath(&self.root, &waiting.path, flags).map_err(failed(&waiting.path))?;
            self.coming.insert(number, (file.into(), waiting));
        }
        let (file, waiting) = self.coming.get_mut(&number).ok_or(ReceiveError::NotAsked)?;
        let path = waiting.path.clone();
        let failed = |source| ReceiveError::Write { path: path.clone(), source };
        if !data.is_empty() {
            return file.write_all(data).map_err(failed);
        }
        waiting.given.to(&*file).map_err(|errno| failed(errno.into()))?;
        self.coming.remove(&number);
        Ok(())
    }

    /// Nothing more comes: what was not sent goes.
    pub(crate) fn listed(&mut self) -> Result<(), ReceiveError> {
        while let Some(folder) = self.folders.pop() {
            folder.leave()?;
        }
        Ok(())
    }

    /// Whether nothing that was asked for is missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.waiting.is_empty() && self.coming.is_empty()
    }

    /// Leaves folders until the last is the one that `entry` is in.
    fn go_to(&mut self, entry: &Entry<'_>) -> Result<(), ReceiveError> {
        let path = || entry.path.to_owned();
        if !self.last.is_empty() && !self.last.split('/').lt(entry.parts.iter().copied()) {
            let last = self.last.clone();
            return Err(EntryError::Order { path: path(), last }.into());
        }
        let parents = &entry.parts[..entry.parts.len() - 1];
        let way = self.folders.iter().skip(1).zip(parents);
        let shared = way.take_while(|(folder, parent)| folder.name == **parent).count();
        while self.folders.len() > shared + 1 {
            self.folders.pop().expect("the root stays").leave()?;
        }
        if shared < parents.len() {
            return Err(EntryError::Parent(path()).into());
        }
        self.last = path();
        Ok(())
    }

    /// Makes what is not there as it is to be; says whether its content is wanted.
    fn make(&mut self, entry: &Entry<'_>) -> Result<bool, Making> {
        let parent = self.folders.last_mut().expect("the root stays");
        let name = *entry.parts.last().expect("a path has a name");
        let was_there = parent.others.remove(std::ffi::OsStr::new(name));
        let given = Given { mode: entry.mode, modified: entry.modified };
        let before = match was_there {
            true => Some(statat(&parent.file, name, AtFlags::SYMLINK_NOFOLLOW)?),
            false => None,
        };
        if let Kind::Directory = entry.kind {
            let is_kept = before.is_some_and(|status| is(&status, FileType::Directory));
            if !is_kept {
                parent.clear(name, was_there)?;
                mkdirat(&parent.file, name, Mode::RWXU)?;
            }
            let folder = Folder::open(&parent.file, name, Some(given))?;
            self.folders.push(folder);
            return Ok(false);
        }
        if before.is_some_and(|status| parent.keeps(name, &status, entry)) {
            return Ok(false);
        }
        parent.clear(name, was_there)?;
        match &entry.kind {
            Kind::Directory => unreachable!("it is made above"),
            Kind::File { size } => {
                let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
                let file = openat(&parent.file, name, flags, Mode::RUSR | Mode::WUSR)?;
                if *size == 0 {
                    given.to(&file)?;
                }
                return Ok(*size > 0);
            }
            Kind::Hardlink(target) => {
                let file = self.link_target(entry, target)?;
                let parent = self.folders.last().expect("the root stays");
                let (from, to) = (format!("/proc/self/fd/{}", fd(&file)), &parent.file);
                linkat(CWD, from.as_str(), to, name, AtFlags::SYMLINK_FOLLOW)?;
            }
            Kind::Symlink(target) => {
                symlinkat(target.as_str(), &parent.file, name)?;
                let times = given.times();
                rustix::fs::utimensat(&parent.file, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Kind::Pipe => {
                mkfifoat(&parent.file, name, Mode::from_raw_mode(entry.mode & 0o777))?;
                let times = given.times();
                rustix::fs::utimensat(&parent.file, name, &times, AtFlags::SYMLINK_NOFOLLOW)?;
            }
        }
        Ok(false)
    }

    /// The file that a hard link is another name of: one that came before.
    fn link_target(&self, entry: &Entry<'_>, target: &str) -> Result<OwnedFd, Making> {
        let wrong = || {
            let (path, target) = (entry.path.to_owned(), target.to_owned());
            Making::Entry(EntryError::Link { path, target })
        };
        let target_parts = parts(target).map_err(|_| wrong())?;
        if target_parts >= entry.parts {
            return Err(wrong());
        }
        let file = beneath(&self.root, target, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC);
        let file = file.map_err(|_| wrong())?;
        match is(&rustix::fs::fstat(&file)?, FileType::RegularFile) {
            true => Ok(file),
            false => Err(wrong()),
        }
    }
}

/// Why an entry was not made.
enum Making {
    System(Errno),
    Entry(EntryError),
}

impl From<Errno> for Making {
    fn from(errno: Errno) -> Self {
        Self::System(errno)
    }
}

const FOLDER: OFlags =
    OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Folder {
    fn open(
        parent: impl std::os::fd::AsFd,
        name: &str,
        given: Option<Given>,
    ) -> Result<Self, Errno> {
        let file = opened(&parent, name)?;
        let others = names(&file)?;
        Ok(Self { name: name.to_owned(), file, others, given })
    }

    /// Whether `name`, which has this status, is what `entry` says.
    fn keeps(&self, name: &str, status: &Status, entry: &Entry<'_>) -> bool {
        let Timespec { tv_sec, tv_nsec } = entry.modified;
        let is_as_old = (status.st_mtime, status.st_mtime_nsec as i64) == (tv_sec, tv_nsec);
        let has_mode = u32::from(status.st_mode) & 0o7777 == entry.mode;
        match &entry.kind {
            Kind::File { size } => {
                // Another name may have been given other bytes.
                let is_alone = status.st_nlink == 1;
                let is_as_long = u64::try_from(status.st_size).is_ok_and(|length| length == *size);
                is(status, FileType::RegularFile) && is_alone && is_as_long && has_mode && is_as_old
            }
            Kind::Symlink(target) => {
                is(status, FileType::Symlink)
                    && is_as_old
                    && readlinkat(&self.file, name, Vec::new())
                        .is_ok_and(|found| found.as_bytes() == target.as_bytes())
            }
            Kind::Directory | Kind::Hardlink(_) | Kind::Pipe => false,
        }
    }

    /// Removes what has the name.
    fn clear(&self, name: &str, is_there: bool) -> Result<(), Errno> {
        if is_there { remove(&self.file, name.as_ref()) } else { Ok(()) }
    }

    /// Removes what was not sent.
    fn leave(self) -> Result<(), ReceiveError> {
        let failed = failed(&self.name);
        for name in &self.others {
            remove(&self.file, name).map_err(&failed)?;
        }
        self.given.map_or(Ok(()), |given| given.to(&self.file)).map_err(&failed)
    }
}

impl Given {
    fn times(self) -> Timestamps {
        Timestamps { last_access: self.modified, last_modification: self.modified }
    }

    fn to(self, file: impl std::os::fd::AsFd) -> Result<(), Errno> {
        fchmod(&file, Mode::from_raw_mode(self.mode))?;
        futimens(&file, &self.times())
    }
}

fn failed(path: &str) -> impl Fn(Errno) -> ReceiveError {
    let path = path.to_owned();
    move |errno| ReceiveError::Write { path: path.clone(), source: errno.into() }
}

fn fd(file: &OwnedFd) -> i32 {
    use std::os::fd::AsRawFd as _;
    file.as_raw_fd()
}

fn is(status: &Status, kind: FileType) -> bool {
    FileType::from_raw_mode(status.st_mode) == kind
}

/// Opens a path whose folders are no links.
fn beneath(root: &OwnedFd, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), resolve)
}

/// Opens a folder, whose mode may keep its owner out.
fn opened(parent: impl std::os::fd::AsFd, name: &str) -> Result<OwnedFd, Errno> {
    let status = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(status.st_mode);
    if is(&status, FileType::Directory) && !mode.contains(Mode::RWXU) {
        rustix::fs::chmodat(&parent, name, mode | Mode::RWXU, AtFlags::empty())?;
    }
    openat(&parent, name, FOLDER, Mode::empty())
}

fn names(folder: &OwnedFd) -> Result<HashSet<OsString>, Errno> {
    let mut names = HashSet::new();
    for entry in Dir::read_from(folder)? {
        let name = entry?.file_name().to_bytes().to_vec();
        if !matches!(name.as_slice(), b"." | b"..") {
            names.insert(OsString::from_vec(name));
        }
    }
    Ok(names)
}

/// Removes what has the name, with what is in it.
fn remove(parent: &OwnedFd, name: &std::ffi::OsStr) -> Result<(), Errno> {
    match unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR) => {}
        ended => return ended,
    }
    let status = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    let mode = Mode::from_raw_mode(status.st_mode);
    if !mode.contains(Mode::RWXU) {
        rustix::fs::chmodat(parent, name, mode | Mode::RWXU, AtFlags::empty())?;
    }
    let folder = openat(parent, name, FOLDER, Mode::empty())?;
    for inner in names(&folder)? {
        remove(&folder, &inner)?;
    }
    unlinkat(parent, name, AtFlags::REMOVEDIR)
}
