//! The layer that a file operation makes, before anything is written: an ordered map of paths over
//! the tree below.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use cache::layer::Time;

use super::FileOpError;
use super::copy::From;
use crate::tree::{Kind, Lookup, NodeId, Tree, TreeError, View, Xattrs, path, resolve};

/// A path in the order in which layers are walked: parents before children, siblings by bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PlanPath(pub Box<[u8]>);

impl PartialOrd for PlanPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PlanPath {
    /// By bytes, but a slash comes before every other byte.
    fn cmp(&self, other: &Self) -> Ordering {
        compare(&self.0, &other.0)
    }
}

impl PlanPath {
    /// Whether it comes before `path` in this order.
    pub(super) fn is_before(&self, path: &[u8]) -> bool {
        compare(&self.0, path) == Ordering::Less
    }
}

fn compare(a: &[u8], b: &[u8]) -> Ordering {
    match mismatch(a, b) {
        None => a.len().cmp(&b.len()),
        Some(at) => match (a[at], b[at]) {
            (b'/', _) => Ordering::Less,
            (_, b'/') => Ordering::Greater,
            (a, b) => a.cmp(&b),
        },
    }
}

/// Where `a` and `b` differ first, within the shorter. Neighbours in a tree share most of their
/// paths, so words are compared before bytes.
fn mismatch(a: &[u8], b: &[u8]) -> Option<usize> {
    let (words, _) = a.as_chunks::<8>();
    let (others, _) = b.as_chunks::<8>();
    let start = 8 * words.iter().zip(others).take_while(|(a, b)| a == b).count();
    let at = a[start..].iter().zip(&b[start..]).position(|(a, b)| a != b);
    at.map(|at| start + at)
}

/// Metadata of a planned name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Attributes {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: Time,
    pub xattrs: Option<Arc<Xattrs>>,
}

/// What the layer will have at a path.
#[derive(Clone)]
pub(super) enum Planned<'a> {
    Directory(Directory),
    /// Shared between the names of a file with several.
    File(Arc<PlannedFile<'a>>),
    Symlink {
        attributes: Attributes,
        target: Vec<u8>,
    },
    Device {
        attributes: Attributes,
        kind: Kind,
        major: u32,
        minor: u32,
    },
    Fifo {
        attributes: Attributes,
    },
    /// The tree below has something here which the layer removes.
    Whiteout,
}

#[derive(Clone)]
pub(super) struct Directory {
    pub attributes: Attributes,
    /// Names in the directory at the same path below show through.
    pub merged: bool,
    /// The tree below has a directory here that must not show through.
    pub hides: bool,
    /// It stands here only because something below it is in the layer; its metadata is the lower
    /// tree's.
    pub unchanged: bool,
}

pub(super) struct PlannedFile<'a> {
    pub attributes: Attributes,
    pub size: u64,
    pub source: Source<'a>,
    /// blake3 of the content, where it is known.
    pub digest: Option<[u8; 32]>,
}

/// Where a file's content comes from.
pub(super) enum Source<'a> {
    /// A scanned file of an input.
    Tree {
        from: From<'a>,
        tree: Arc<Tree>,
        node: NodeId,
    },
    Bytes(Vec<u8>),
}

impl Planned<'_> {
    pub(super) fn kind(&self) -> Option<Kind> {
        Some(match self {
            Self::Directory(_) => Kind::Directory,
            Self::File(_) => Kind::File,
            Self::Symlink { .. } => Kind::Symlink,
            Self::Device { kind, .. } => *kind,
            Self::Fifo { .. } => Kind::Fifo,
            Self::Whiteout => return None,
        })
    }

    pub(super) fn attributes(&self) -> Option<&Attributes> {
        Some(match self {
            Self::Directory(directory) => &directory.attributes,
            Self::File(file) => &file.attributes,
            Self::Symlink { attributes, .. }
            | Self::Device { attributes, .. }
            | Self::Fifo { attributes } => attributes,
            Self::Whiteout => return None,
        })
    }
}

/// A layer in the making.
#[derive(Clone)]
pub struct Plan<'a> {
    /// The tree below; `None` is empty.
    pub(super) lower: Option<&'a View>,
    pub(super) entries: BTreeMap<PlanPath, Planned<'a>>,
    /// What was left out on the way, and why.
    pub(super) warnings: Vec<String>,
}

impl<'a> Plan<'a> {
    pub(super) fn new(lower: Option<&'a View>) -> Self {
        Self { lower, entries: BTreeMap::new(), warnings: Vec::new() }
    }

    /// Follows `text` in the tree as it will be.
    pub(super) fn resolve(&self, text: &[u8]) -> Result<Vec<u8>, FileOpError> {
        Ok(resolve(self, text, true)?.path)
    }

    /// What will be at `path`, which leads through no link.
    pub(super) fn kind(&self, path: &[u8]) -> Result<Option<Kind>, FileOpError> {
        Ok(self.lookup(path)?.map(|(kind, _)| kind))
    }

    pub(super) fn get(&self, path: &[u8]) -> Option<&Planned<'a>> {
        self.entries.get(&PlanPath(path.into()))
    }

    pub(super) fn insert(&mut self, path: &[u8], planned: Planned<'a>) {
        self.entries.insert(PlanPath(path.into()), planned);
    }

    /// Whether what the lower tree has at `path` shows through, if it has anything there.
    pub(super) fn shows_lower(&self, path: &[u8]) -> bool {
        if self.lower.is_none() {
            return false;
        }
        let mut at = path;
        while let Some((parent, _)) = path::split(at) {
            match self.get(parent) {
                Some(Planned::Directory(directory)) => return directory.merged,
                Some(_) => return false,
                None => at = parent,
            }
        }
        true
    }

    /// What the lower tree has at `path`, whether it shows through or not.
    pub(super) fn lower_kind(&self, path: &[u8]) -> Result<Option<Kind>, FileOpError> {
        let Some(lower) = self.lower else { return Ok(None) };
        Ok(lower.lstat(path)?.map(|(stat, _)| stat.kind))
    }

    /// Makes the directories above `path`, and `path` itself when it is one, part of the layer: an
    /// upper directory holds every directory that leads to what it holds. They exist already.
    pub(super) fn bring_up(&mut self, dir: &[u8]) -> Result<(), FileOpError> {
        let mut at = dir;
        let mut missing = Vec::new();
        while !at.is_empty() && self.get(at).is_none() {
            missing.push(at.to_vec());
            at = path::split(at).expect("not the root").0;
        }
        for place in missing.into_iter().rev() {
            let attributes = self.lower_attributes(&place)?;
            let directory = Directory { attributes, merged: true, hides: false, unchanged: true };
            self.insert(&place, Planned::Directory(directory));
        }
        Ok(())
    }

    /// Metadata of what the lower tree has at `path`.
    pub(super) fn lower_attributes(&self, path: &[u8]) -> Result<Attributes, FileOpError> {
        let lower = self.lower.expect("what is not planned is in the lower tree");
        let tree = lower.single(path)?;
        let node = tree.node(NodeId::ROOT);
        Ok(Attributes {
            mode: node.stat.mode.into(),
            uid: node.stat.uid,
            gid: node.stat.gid,
            mtime: node.stat.mtime,
            xattrs: node.xattrs().cloned().map(Arc::new),
        })
    }

    /// Puts a new directory at `path`, where nothing shows.
    pub(super) fn make_directory(
        &mut self,
        path: &[u8],
        attributes: Attributes,
    ) -> Result<(), FileOpError> {
        let parent = path::split(path).map_or(&b""[..], |(parent, _)| parent);
        self.bring_up(parent)?;
        // A deletion stood here: what it deleted must stay hidden below a new directory, too.
        let hides = matches!(self.get(path), Some(Planned::Whiteout))
            && self.lower_kind(path)? == Some(Kind::Directory);
        let directory = Directory { attributes, merged: false, hides, unchanged: false };
        self.insert(path, Planned::Directory(directory));
        Ok(())
    }

    /// Puts anything but a directory at `path`, in place of whatever is there (no directory).
    pub(super) fn put(&mut self, path: &[u8], planned: Planned<'a>) -> Result<(), FileOpError> {
        let parent = path::split(path).map_or(&b""[..], |(parent, _)| parent);
        self.bring_up(parent)?;
        self.insert(path, planned);
        Ok(())
    }

    /// The planned directory at `path`, which is one, for changing its metadata.
    pub(super) fn directory(&mut self, path: &[u8]) -> Result<&mut Directory, FileOpError> {
        if path.is_empty() && self.get(path).is_none() {
            self.insert_root()?;
        }
        self.bring_up(path)?;
        match self.entries.get_mut(&PlanPath(path.into())) {
            Some(Planned::Directory(directory)) => {
                directory.unchanged = false;
                Ok(directory)
            }
            _ => unreachable!("the caller has seen a directory at this path"),
        }
    }

    /// A directory of the tree below that gets new names changes its time, as it would on a disk:
    /// to that of the newest among them, so that the result does not depend on the clock.
    pub(super) fn date_changed_directories(&mut self) {
        let mut newest: BTreeMap<Vec<u8>, Time> = BTreeMap::new();
        for (key, planned) in &self.entries {
            let Some((parent, _)) = path::split(&key.0) else { continue };
            let carried = matches!(planned, Planned::Directory(directory) if directory.unchanged);
            if let Some(attributes) = planned.attributes().filter(|_| !carried) {
                let time = newest.entry(parent.to_vec()).or_insert(attributes.mtime);
                *time = attributes.mtime.max(*time);
            }
        }
        for (path, time) in newest {
            if let Some(Planned::Directory(directory)) =
                self.entries.get_mut(&PlanPath(path.into()))
                && directory.unchanged
            {
                directory.attributes.mtime = time;
            }
        }
    }

    fn insert_root(&mut self) -> Result<(), FileOpError> {
        let attributes = match self.lower {
            Some(_) => self.lower_attributes(b"")?,
            None => Attributes { mode: 0o755, uid: 0, gid: 0, mtime: Time::EPOCH, xattrs: None },
        };
        let merged = self.lower.is_some();
        let root = Directory { attributes, merged, hides: false, unchanged: false };
        self.insert(b"", Planned::Directory(root));
        Ok(())
    }

    /// The paths that `pattern` matches.
    pub(super) fn matching(&self, pattern: &[u8]) -> Result<Vec<Vec<u8>>, FileOpError> {
        Ok(crate::tree::matching(self, pattern, false)?)
    }

    /// Removes `path` and everything below it.
    pub(super) fn remove(&mut self, path: &[u8]) -> Result<(), FileOpError> {
        let shows = self.shows_lower(path);
        let below: Vec<PlanPath> = self
            .entries
            .range((Bound::Included(PlanPath(path.into())), Bound::Unbounded))
            .map(|(key, _)| key)
            .take_while(|key| is_below(&key.0, path))
            .cloned()
            .collect();
        for key in below {
            self.entries.remove(&key);
        }
        if shows && self.lower_kind(path)?.is_some() {
            self.put(path, Planned::Whiteout)?;
        }
        Ok(())
    }
}

/// Whether `path` is `dir` or below it.
fn is_below(path: &[u8], dir: &[u8]) -> bool {
    match path.strip_prefix(dir) {
        Some(rest) => dir.is_empty() || rest.is_empty() || rest[0] == b'/',
        None => false,
    }
}

impl Lookup for Plan<'_> {
    fn lookup(&self, path: &[u8]) -> Result<Option<(Kind, Vec<u8>)>, TreeError> {
        if path.is_empty() {
            return Ok(Some((Kind::Directory, Vec::new())));
        }
        match self.get(path) {
            Some(Planned::Symlink { target, .. }) => Ok(Some((Kind::Symlink, target.clone()))),
            Some(planned) => Ok(planned.kind().map(|kind| (kind, Vec::new()))),
            None => match self.lower {
                Some(lower) if self.shows_lower(path) => lower.lookup(path),
                _ => Ok(None),
            },
        }
    }

    fn names(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        let below = join_marker(dir);
        let mut names = match self.lower {
            Some(lower) if self.shows_lower(&below) => match lower.lookup(dir)? {
                Some((Kind::Directory, _)) => lower.names(dir)?,
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        for (name, planned) in self.planned_in(dir) {
            match planned {
                Planned::Whiteout => names.retain(|known| known != name),
                _ => names.push(name.to_vec()),
            }
        }
        names.sort_unstable();
        names.dedup();
        Ok(names)
    }
}

/// Some path in `dir`, to ask what shows there.
fn join_marker(dir: &[u8]) -> Vec<u8> {
    path::join(dir, b"x")
}

impl Plan<'_> {
    /// What is planned directly in `dir`.
    fn planned_in(&self, dir: &[u8]) -> impl Iterator<Item = (&[u8], &Planned<'_>)> {
        let from = Bound::Excluded(PlanPath(dir.into()));
        self.entries
            .range((from, Bound::Unbounded))
            .take_while(move |(key, _)| is_below(&key.0, dir))
            .filter_map(move |(key, planned)| {
                let (parent, name) = path::split(&key.0)?;
                (parent == dir).then_some((name, planned))
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_ordered_as_a_tree_is_walked() {
        let mut paths: Vec<_> = ["b", "a.b", "a/b", "a", "a-", "a/b/c", "a/b-", "ab", ""]
            .map(|path| PlanPath(path.as_bytes().into()))
            .into();
        paths.sort();
        let sorted: Vec<_> = paths.iter().map(|p| str::from_utf8(&p.0).unwrap()).collect();
        assert_eq!(sorted, ["", "a", "a/b", "a/b/c", "a/b-", "a-", "a.b", "ab", "b"]);
        let long = "directory/of/some/depth";
        for at in 0..long.len() {
            let mut other = long.as_bytes().to_vec();
            assert_eq!(mismatch(long.as_bytes(), &other[..at]), None);
            other[at] ^= 1;
            assert_eq!(mismatch(long.as_bytes(), &other), Some(at));
        }
    }
}
