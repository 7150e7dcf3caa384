//! Following a path inside a tree: links are followed with the tree's root as `/`, and `..` stops
//! there.

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::path;
use super::{Kind, Stat, TreeError, View};

/// Links followed before a path counts as endless (the number containerd uses).
const MAX_LINKS: usize = 255;

/// A tree whose names can be looked up one at a time.
pub trait Lookup {
    /// What is at `path`, which leads through no link: its kind, and the target of a link.
    fn lookup(&self, path: &[u8]) -> Result<Option<(Kind, Vec<u8>)>, TreeError>;

    /// The names in the directory at `dir`, in the order of bytes. Some may be hidden: look them up.
    fn names(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>, TreeError>;
}

/// A path without links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// Where it is, relative to the root.
    pub path: Vec<u8>,
    /// What it is; `None` when there is nothing.
    pub kind: Option<Kind>,
}

/// Follows `text` in `tree`. The last name is followed, too, when `follow` is set. What does not
/// exist resolves to itself, so that it can be made.
pub fn resolve(tree: &impl Lookup, text: &[u8], follow: bool) -> Result<Resolved, TreeError> {
    let mut todo: Vec<Vec<u8>> = components_reversed(&path::clean(text));
    let mut done = Vec::new();
    let mut kind = Some(Kind::Directory);
    let mut links = 0;
    while let Some(name) = todo.pop() {
        match name.as_slice() {
            b"" | b"." => continue,
            b".." => {
                path::pop(&mut done);
                kind = tree.lookup(&done)?.map(|(kind, _)| kind);
                continue;
            }
            _ => {}
        }
        path::push(&mut done, &name);
        match kind {
            Some(Kind::Directory) | None => {}
            Some(_) => return Err(TreeError::file("lstat", &done, Errno::NOTDIR)),
        }
        // Below what does not exist nothing does.
        let found = if kind.is_none() { None } else { tree.lookup(&done)? };
        match found {
            Some((Kind::Symlink, target)) if follow || !todo.is_empty() => {
                links += 1;
                if links > MAX_LINKS {
                    return Err(TreeError::file("lstat", &path::clean(text), Errno::LOOP));
                }
                path::pop(&mut done);
                if target.first() == Some(&b'/') {
                    done.clear();
                }
                kind = Some(Kind::Directory);
                todo.extend(target.split(|b| *b == b'/').rev().map(<[u8]>::to_vec));
            }
            found => kind = found.map(|(kind, _)| kind),
        }
    }
    Ok(Resolved { path: done, kind })
}

fn components_reversed(path: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<_> = path::components(path).map(<[u8]>::to_vec).collect();
    names.reverse();
    names
}

impl Lookup for View {
    fn lookup(&self, path: &[u8]) -> Result<Option<(Kind, Vec<u8>)>, TreeError> {
        let Some((stat, link)) = self.lstat(path)? else { return Ok(None) };
        Ok(Some((stat.kind, link)))
    }

    fn names(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        self.list_names(dir)
    }
}

impl View {
    /// The metadata of what is at `path` (which leads through no link), and a link's target. What
    /// the ignore file hides does not exist.
    pub fn lstat(&self, path: &[u8]) -> Result<Option<(Stat, Vec<u8>)>, TreeError> {
        let fd = match self.open(path, OFlags::PATH) {
            Ok(fd) => fd,
            // A name below a file or a link is not a name in this tree.
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(TreeError::file("lstat", path, errno)),
        };
        let stat = Stat::of(&fd).map_err(|errno| TreeError::file("lstat", path, errno))?;
        if self.leaves_out(&stat) {
            return Ok(None);
        }
        if !self.shows(path, stat.kind)? {
            return Ok(None);
        }
        let link = match stat.kind {
            Kind::Symlink => rustix::fs::readlinkat(&fd, c"", Vec::new())
                .map_err(|errno| TreeError::file("readlink", path, errno))?
                .into_bytes(),
            _ => Vec::new(),
        };
        Ok(Some((stat, link)))
    }

    /// Whether the ignore file leaves `path` in the context. A hidden directory is there when
    /// something in it is not hidden.
    fn shows(&self, path: &[u8], kind: Kind) -> Result<bool, TreeError> {
        let Some(ignored) = self.ignored() else { return Ok(true) };
        if path.is_empty() || !ignored.hides(path) {
            return Ok(true);
        }
        if kind != Kind::Directory || !ignored.has_exceptions() {
            return Ok(false);
        }
        let scanned = super::scan::Scan { view: self, copy: None, xattrs: false };
        Ok(scanned.run(path)?.node(super::NodeId::ROOT).shown)
    }

    /// Follows `text` in this tree; see [`resolve`].
    pub fn resolve(&self, text: &[u8], follow: bool) -> Result<Resolved, TreeError> {
        resolve(self, text, follow)
    }
}
