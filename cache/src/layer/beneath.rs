//! A place in a directory tree that names from outside cannot lead out of.
//!
//! [`Beneath`] holds the open directories from the root to where the last entry went. It moves one
//! component at a time, each opened relative to the one before without following links, so the
//! kernel is never handed a `..` or a slash from an archive; links in the middle of a path are
//! expanded here, with the tree's root as `/`. Entries in canonical order cost no look-up of their
//! parents at all.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    Mode, OFlags, ResolveFlags, Timespec, Timestamps, fchmod, fstat, futimens, mkdirat, openat,
    openat2, readlinkat,
};
use rustix::io::Errno;

use super::{LayerError, Time, name};

/// Directories deeper than this stay open only while they are the current one.
const OPEN_MAX: usize = 64;

/// As many links in one path as the kernel follows.
const LINKS_MAX: usize = 40;

/// How a directory of the tree is opened.
pub(super) const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK);

/// The current directory and the way to it.
pub(super) struct Beneath {
    root: OwnedFd,
    root_gid: u32,
    frames: Vec<Frame>,
    /// Path of the last frame, free of links.
    path: Vec<u8>,
    /// The path that was asked for; differs from `path` when it led through links.
    asked: Vec<u8>,
}

/// One open directory on the way.
struct Frame {
    fd: Option<OwnedFd>,
    /// Length of its path in [`Beneath::path`].
    path_length: usize,
    /// Its own group, which some directories and file systems hand down to new files.
    gid: u32,
    leaving: Leaving,
}

/// What to set when a directory is left: writing into it changes its time.
pub(super) struct Leaving {
    pub(super) mtime: Time,
    /// Its mode, if with that one nothing could be written into it.
    pub(super) mode: Option<Mode>,
    /// There is anything to set.
    pub(super) touched: bool,
}

/// What is to be done about a component that is not a directory.
pub(super) enum Obstacle {
    /// It was a whiteout, which has been taken away.
    Whiteout,
    /// It is in the way: fail with `ENOTDIR`.
    InTheWay,
}

/// Decides about missing components and makes directories for them.
pub(super) trait Missing {
    /// Called for a component that is neither a directory nor a link.
    fn obstacle(&mut self, parent: BorrowedFd<'_>, name: &[u8]) -> Result<Obstacle, Errno>;

    /// Called after the directory at `path` was made, maybe in the place of a whiteout; sets all
    /// its metadata but the time, which it gives back.
    fn made(
        &mut self,
        directory: BorrowedFd<'_>,
        path: &[u8],
        over_whiteout: bool,
    ) -> Result<Time, Errno>;
}

impl Beneath {
    /// Starts at `root`.
    pub(super) fn new(root: OwnedFd) -> Result<Self, Errno> {
        let root_gid = fstat(&root)?.st_gid;
        Ok(Self { root, root_gid, frames: Vec::new(), path: Vec::new(), asked: Vec::new() })
    }

    /// The root of the tree.
    pub(super) fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Path of the current directory, free of links.
    pub(super) fn path(&self) -> &[u8] {
        &self.path
    }

    /// The current directory.
    pub(super) fn current(&self) -> BorrowedFd<'_> {
        match self.frames.last() {
            None => self.root.as_fd(),
            Some(frame) => frame.fd.as_ref().expect("the current directory is open").as_fd(),
        }
    }

    /// Whether a file made here by a process of group `gid` certainly gets that group: set-group-id
    /// directories and some file systems hand down the directory's own.
    pub(super) fn gives_group(&self, gid: u32) -> bool {
        self.frames.last().map_or(self.root_gid, |frame| frame.gid) == gid
    }

    /// Notes that something in the current directory is about to change.
    pub(super) fn touch(&mut self) {
        if let Some(frame) = self.frames.last_mut() {
            frame.leaving.touched = true;
        }
    }

    /// Goes to the directory at the clean path `path`, making what is missing.
    pub(super) fn enter(
        &mut self,
        path: &[u8],
        missing: &mut dyn Missing,
    ) -> Result<(), LayerError> {
        if path == self.asked {
            return Ok(());
        }
        let shared = if self.asked == self.path { shared_length(&self.path, path) } else { 0 };
        self.retreat(shared)?;
        self.walk(&path[shared..], missing)?;
        self.asked = path.to_vec();
        Ok(())
    }

    /// Walks `path` from the current directory, expanding links.
    fn walk(&mut self, path: &[u8], missing: &mut dyn Missing) -> Result<(), LayerError> {
        let mut todo: Vec<Vec<u8>> = name::components(path).rev().map(<[u8]>::to_vec).collect();
        let mut links = 0;
        while let Some(component) = todo.pop() {
            if component == b".." {
                let parent = name::split(&self.path).0.len();
                self.retreat(parent)?;
                continue;
            }
            match self.open(&component) {
                Ok(directory) => {
                    let stat =
                        fstat(&directory).map_err(|errno| self.error("stat", &component, errno))?;
                    let mtime = super::read::mtime(&stat);
                    let leaving = Leaving { mtime, mode: None, touched: false };
                    self.push(&component, directory, stat.st_gid, leaving);
                }
                Err(Errno::NOENT) => self.make(&component, missing, false)?,
                Err(Errno::NOTDIR | Errno::LOOP) => {
                    let Some(target) = self.read_link(&component)? else {
                        self.replace(&component, missing)?;
                        continue;
                    };
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(self.error("follow", &component, Errno::LOOP));
                    }
                    if target.starts_with(b"/") {
                        self.retreat(0)?;
                    }
                    todo.extend(name::components(&target).rev().map(<[u8]>::to_vec));
                }
                Err(errno) => return Err(self.error("open", &component, errno)),
            }
        }
        Ok(())
    }

    fn open(&self, component: &[u8]) -> Result<OwnedFd, Errno> {
        openat(self.current(), component, DIRECTORY, Mode::empty())
    }

    fn error(&self, action: &'static str, component: &[u8], errno: Errno) -> LayerError {
        LayerError::at(action, &name::join(&self.path, component))(errno)
    }

    /// The text of the link `component`, or nothing when it is not a link.
    fn read_link(&self, component: &[u8]) -> Result<Option<Vec<u8>>, LayerError> {
        match readlinkat(self.current(), component, Vec::new()) {
            Ok(target) => Ok(Some(target.into_bytes())),
            Err(Errno::INVAL) => Ok(None),
            Err(errno) => Err(self.error("read", component, errno)),
        }
    }

    /// Makes a directory in the place of something that is none.
    fn replace(&mut self, component: &[u8], missing: &mut dyn Missing) -> Result<(), LayerError> {
        match missing.obstacle(self.current(), component) {
            Ok(Obstacle::Whiteout) => self.make(component, missing, true),
            Ok(Obstacle::InTheWay) => {
                Err(self.error("make a directory of", component, Errno::NOTDIR))
            }
            Err(errno) => Err(self.error("replace", component, errno)),
        }
    }

    fn make(
        &mut self,
        component: &[u8],
        missing: &mut dyn Missing,
        over_whiteout: bool,
    ) -> Result<(), LayerError> {
        self.touch();
        let made = (|| {
            mkdirat(self.current(), component, Mode::from(0o755))?;
            let directory = self.open(component)?;
            let path = name::join(&self.path, component);
            let time = missing.made(directory.as_fd(), &path, over_whiteout)?;
            let gid = fstat(&directory)?.st_gid;
            Ok((directory, time, gid))
        })();
        let (directory, mtime, gid) =
            made.map_err(|errno| self.error("make the directory", component, errno))?;
        self.push(component, directory, gid, Leaving { mtime, mode: None, touched: true });
        Ok(())
    }

    /// Makes `directory`, just opened as `component` of the current one, the current one; `gid` is
    /// its group.
    pub(super) fn push(
        &mut self,
        component: &[u8],
        directory: OwnedFd,
        gid: u32,
        leaving: Leaving,
    ) {
        let straight = self.asked == self.path;
        if self.frames.len() > OPEN_MAX {
            self.frames.last_mut().expect("there are frames").fd = None;
        }
        self.path = name::join(&self.path, component);
        if straight {
            self.asked.clone_from(&self.path);
        } else {
            self.asked = name::join(&self.asked, component);
        }
        self.frames.push(Frame { fd: Some(directory), path_length: self.path.len(), gid, leaving });
    }

    /// Leaves directories until the current one's path is `length` bytes long.
    fn retreat(&mut self, length: usize) -> Result<(), LayerError> {
        while self.frames.last().is_some_and(|frame| frame.path_length > length) {
            let frame = self.frames.pop().expect("there is a frame");
            let result = frame.leave();
            let path = std::mem::take(&mut self.path);
            let parent = self.frames.last().map_or(0, |frame| frame.path_length);
            self.path.extend_from_slice(&path[..parent]);
            result.map_err(LayerError::at("set the time of", &path))?;
            self.reopen()?;
        }
        self.asked.clone_from(&self.path);
        Ok(())
    }

    /// Opens the current directory again if it was closed to save descriptors.
    fn reopen(&mut self) -> Result<(), LayerError> {
        let Some(frame) = self.frames.last_mut() else { return Ok(()) };
        if frame.fd.is_none() {
            let directory = open_path(self.root.as_fd(), &self.path, DIRECTORY)
                .map_err(LayerError::at("open", &self.path))?;
            frame.fd = Some(directory);
        }
        Ok(())
    }

    /// Leaves all directories, which sets their times.
    pub(super) fn leave_all(&mut self) -> Result<(), LayerError> {
        self.retreat(0)
    }
}

impl Frame {
    fn leave(self) -> Result<(), Errno> {
        let Some(directory) = self.fd.filter(|_| self.leaving.touched) else { return Ok(()) };
        if let Some(mode) = self.leaving.mode {
            fchmod(&directory, mode)?;
        }
        futimens(&directory, &timestamps(self.leaving.mtime))
    }
}

/// `time` as access and modification time.
pub(super) fn timestamps(time: Time) -> Timestamps {
    let time = Timespec { tv_sec: time.seconds, tv_nsec: time.nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// Opens a link-free path below `root` in one call.
pub(super) fn open_path(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    retry(|| openat2(root, path, flags, Mode::empty(), beneath))
}

/// Opens a path as a process with `root` as its root would.
pub(super) fn open_in_root(
    root: BorrowedFd<'_>,
    path: &[u8],
    flags: OFlags,
) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() { b"." } else { path };
    let in_root = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    retry(|| openat2(root, path, flags, Mode::empty(), in_root))
}

/// openat2 answers EAGAIN when somebody renames while it resolves.
fn retry(mut open: impl FnMut() -> Result<OwnedFd, Errno>) -> Result<OwnedFd, Errno> {
    loop {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            result => return result,
        }
    }
}

/// Length of the longest path that both `a` and `b` are, or are below.
fn shared_length(a: &[u8], b: &[u8]) -> usize {
    let same = a.iter().zip(b).take_while(|(x, y)| x == y).count();
    let ends = |path: &[u8]| path.len() == same || path[same] == b'/';
    if ends(a) && ends(b) {
        return same;
    }
    a[..same].iter().rposition(|&byte| byte == b'/').unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::shared_length;

    #[test]
    fn only_whole_components_are_shared() {
        for (a, b, shared) in [
            ("", "a", ""),
            ("a/b", "a/c", "a"),
            ("a/b", "a/b/c", "a/b"),
            ("ab", "a", ""),
            ("a/bc", "a/b", "a"),
        ] {
            assert_eq!(shared_length(a.as_bytes(), b.as_bytes()), shared.len(), "{a} {b}");
            assert_eq!(shared_length(b.as_bytes(), a.as_bytes()), shared.len(), "{b} {a}");
        }
    }
}
