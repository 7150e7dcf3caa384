//! Walking a tree: one directory read and one `statx` a name, level by level, the directories of a
//! level in parallel. A walk holds as many descriptors as there are threads, however deep the tree.

use std::collections::BTreeMap;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, OnceLock};

use rayon::prelude::*;
use rustix::fs::{FileType, RawDir};
use rustix::io::Errno;

use super::filter::State;
use super::read::{FileContent, file_xattrs, read_xattrs};
use super::{Filter, Kind, Stat, TreeError, View, path};

/// Extended attributes by full name.
pub type Xattrs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Place of a node in its tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The root.
    pub const ROOT: Self = Self(0);
}

/// A scanned tree: every name below (and with) one source.
pub struct Tree {
    /// Where the root is in the view.
    source: Vec<u8>,
    /// Parents before children, the children of one directory side by side in the order of bytes.
    nodes: Vec<Node>,
    /// All files that are taken in have a digest.
    pub(super) hashed: Mutex<bool>,
}

/// One scanned name.
pub struct Node {
    /// Its name; empty for the root.
    pub name: Box<[u8]>,
    /// Its metadata, with the owner that counts (root for a context).
    pub stat: Stat,
    /// It is taken in for itself, not only because of what is below it.
    pub included: bool,
    /// It or something below it is taken in.
    pub shown: bool,
    /// It is in the tree: not hidden by the ignore file, or something below it is not.
    exists: bool,
    parent: NodeId,
    children: Range<u32>,
    extra: Option<Box<Extra>>,
    pub(super) content: OnceLock<FileContent>,
}

/// What few nodes have.
#[derive(Default)]
struct Extra {
    link: Vec<u8>,
    xattrs: Xattrs,
}

impl Node {
    /// Target of a symbolic link.
    pub fn link(&self) -> &[u8] {
        self.extra.as_ref().map_or(&[], |extra| &extra.link)
    }

    /// Extended attributes, without those that belong to the machine rather than to the file. A
    /// file of a context has them only after it was hashed.
    pub fn xattrs(&self) -> Option<&Xattrs> {
        match self.content.get().and_then(|content| content.xattrs.as_deref()) {
            Some(xattrs) => Some(xattrs),
            None => self.extra.as_ref().map(|extra| &extra.xattrs).filter(|x| !x.is_empty()),
        }
    }

    /// blake3 of a regular file's content, once it was hashed.
    pub fn digest(&self) -> Option<&[u8; 32]> {
        self.content.get().map(|content| &content.digest)
    }
}

impl Tree {
    /// The node at `id`.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    /// What is directly in the directory at `id` and taken in, in the order of bytes.
    pub fn children(&self, id: NodeId) -> impl Iterator<Item = NodeId> {
        self.node(id).children.clone().map(NodeId).filter(|child| self.node(*child).shown)
    }

    /// All nodes that are taken in, parents before children.
    pub fn shown(&self) -> impl Iterator<Item = NodeId> {
        (0..self.nodes.len() as u32).map(NodeId).filter(|id| self.node(*id).shown)
    }

    /// Where the root is in the view.
    pub(super) fn source(&self) -> &[u8] {
        &self.source
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(super) fn id(index: usize) -> NodeId {
        NodeId(index as u32)
    }

    /// Writes where `id` is in the view to `buffer`.
    pub fn path(&self, id: NodeId, buffer: &mut Vec<u8>) {
        buffer.clear();
        buffer.extend_from_slice(&self.source);
        self.push_names(id, buffer);
    }

    /// Where `id` is below the root of this tree.
    pub fn relative(&self, id: NodeId) -> Vec<u8> {
        let mut path = Vec::new();
        self.push_names(id, &mut path);
        path
    }

    fn push_names(&self, id: NodeId, buffer: &mut Vec<u8>) {
        let mut chain = Vec::new();
        let mut at = id;
        while at != NodeId::ROOT {
            chain.push(at);
            at = self.node(at).parent;
        }
        for id in chain.into_iter().rev() {
            path::push(buffer, &self.node(id).name);
        }
    }
}

/// One walk.
pub(super) struct Scan<'a> {
    pub view: &'a View,
    /// Include and exclude patterns of the copy, relative to the source.
    pub copy: Option<&'a Filter>,
    /// Extended attributes are read while walking. A context's files get theirs when they are
    /// hashed, so that an unchanged file costs one call.
    pub xattrs: bool,
}

/// A directory whose names are still to be read.
struct Pending {
    node: NodeId,
    path: Vec<u8>,
    /// Length of the source's path in `path`, with the slash.
    prefix: usize,
    ignored: Option<State>,
    copy: Option<State>,
    /// The ignore file hides the directory itself.
    hidden: bool,
}

/// A directory just read.
struct Listing {
    children: Vec<Child>,
    /// Extended attributes of the directory itself.
    xattrs: Xattrs,
}

/// A name just read.
struct Child {
    node: Node,
    descend: Option<Box<Pending>>,
}

/// What the patterns say of a name.
struct Verdict {
    ignored: Option<State>,
    copy: Option<State>,
    /// The ignore file hides it.
    hidden: bool,
    /// The copy takes it in.
    included: bool,
}

impl View {
    /// What is at `path` (which leads through no link), without what is in it if it is a directory.
    pub fn single(&self, path: &[u8]) -> Result<Tree, TreeError> {
        let (mut root, _) = Scan { view: self, copy: None, xattrs: true }.root(path)?;
        root.shown = true;
        Ok(Tree { source: path.to_vec(), nodes: vec![root], hashed: Mutex::default() })
    }
}

impl Scan<'_> {
    /// Walks the tree at `source`, which leads through no link.
    pub(super) fn run(&self, source: &[u8]) -> Result<Tree, TreeError> {
        let (root, pending) = self.root(source)?;
        let mut nodes = vec![root];
        let mut level: Vec<Pending> = pending.into_iter().collect();
        while !level.is_empty() {
            // One directory is read sooner than another thread wakes up.
            let listings: Vec<_> = match level.as_slice() {
                [only] => vec![self.list(only)],
                _ => level.par_iter().map(|dir| self.list(dir)).collect(),
            };
            let mut next = Vec::new();
            let found = listings.iter().flatten().map(|listing| listing.children.len());
            nodes.reserve_exact(found.sum());
            for (dir, listing) in level.iter().zip(listings) {
                let first = nodes.len();
                let listing = listing?;
                if !listing.xattrs.is_empty() {
                    let xattrs = listing.xattrs;
                    nodes[dir.node.0 as usize].extra =
                        Some(Box::new(Extra { link: Vec::new(), xattrs }));
                }
                for child in listing.children {
                    next.extend(child.descend.map(|mut pending| {
                        pending.node = Tree::id(nodes.len());
                        *pending
                    }));
                    nodes.push(child.node);
                }
                nodes[dir.node.0 as usize].children = first as u32..nodes.len() as u32;
            }
            level = next;
        }
        mark(&mut nodes);
        Ok(Tree { source: source.to_vec(), nodes, hashed: Mutex::default() })
    }

    fn root(&self, source: &[u8]) -> Result<(Node, Option<Pending>), TreeError> {
        let Some(root) = self.view.root() else { return Ok((empty_root(), None)) };
        let fail = |errno| TreeError::file("lstat", source, errno);
        let fd = self.view.open(source, rustix::fs::OFlags::PATH).map_err(fail)?;
        let stat = Stat::of(&fd).map_err(fail)?;
        let (parent, name) = path::split(source).unwrap_or((b"", b"."));
        let parent = match parent {
            b"" => rustix::io::fcntl_dupfd_cloexec(root, 0),
            _ => self.view.open_dir(parent),
        };
        let name = std::ffi::CString::new(name).expect("a name from the kernel has no NUL");
        let mut stat = stat;
        let extra = self.extra(parent.map_err(fail)?.as_fd(), &name, &mut stat, source)?;
        let hidden = self.view.ignored().is_some_and(|f| !source.is_empty() && f.hides(source));
        let mut node = self.node(Box::default(), stat, NodeId::ROOT, extra);
        node.exists = !hidden;
        node.included = true;
        let pending = (stat.kind == Kind::Directory).then(|| Pending {
            node: NodeId::ROOT,
            path: source.to_vec(),
            prefix: if source.is_empty() { 0 } else { source.len() + 1 },
            ignored: self.view.ignored().map(|filter| filter.enter_path(source)),
            copy: self.copy.map(Filter::start),
            hidden,
        });
        Ok((node, pending))
    }

    fn node(
        &self,
        name: Box<[u8]>,
        mut stat: Stat,
        parent: NodeId,
        extra: Option<Box<Extra>>,
    ) -> Node {
        if self.view.is_context() {
            (stat.uid, stat.gid) = (0, 0);
        }
        Node {
            name,
            stat,
            included: true,
            shown: false,
            exists: true,
            parent,
            children: 0..0,
            extra,
            content: OnceLock::new(),
        }
    }

    /// Reads the names in `dir`, in the order of bytes.
    fn list(&self, dir: &Pending) -> Result<Listing, TreeError> {
        let fd = self
            .view
            .open_dir(&dir.path)
            .map_err(|errno| TreeError::file("open", &dir.path, errno))?;
        let mut children = Vec::new();
        let mut buffer = [MaybeUninit::<u8>::uninit(); 32 * 1024];
        let mut entries = RawDir::new(&fd, &mut buffer);
        let mut path = dir.path.clone();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| TreeError::file("readdirent", &dir.path, errno))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            path.truncate(dir.path.len());
            path::push(&mut path, name.to_bytes());
            children.extend(self.child(dir, fd.as_fd(), name, entry.file_type(), &path)?);
        }
        children.sort_unstable_by(|a, b| a.node.name.cmp(&b.node.name));
        // Layers' were read with the directory's name, since they may say whose it is.
        let xattrs = match self.xattrs {
            true => Xattrs::new(),
            false => {
                file_xattrs(&fd).map_err(|errno| TreeError::file("listxattr", &dir.path, errno))?
            }
        };
        Ok(Listing { children, xattrs })
    }

    /// What a name stands for, if it is taken in or something below it may be.
    fn child(
        &self,
        dir: &Pending,
        fd: BorrowedFd<'_>,
        name: &CStr,
        kind: FileType,
        path: &[u8],
    ) -> Result<Option<Child>, TreeError> {
        let may_be_directory = matches!(kind, FileType::Directory | FileType::Unknown);
        let Some(verdict) = self.verdict(dir, path, may_be_directory) else { return Ok(None) };
        let mut stat = match Stat::at(fd, name) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(None),
            Err(errno) => return Err(TreeError::file("lstat", path, errno)),
        };
        let is_directory = stat.kind == Kind::Directory;
        // A device 0:0 deletes names in a layer; it is not a file that one could hold.
        let is_left_out = self.view.leaves_out(&stat) || verdict.hidden && !is_directory;
        if is_left_out {
            return Ok(None);
        }
        let extra = self.extra(fd, name, &mut stat, path)?;
        let mut node = self.node(name.to_bytes().into(), stat, dir.node, extra);
        node.included = verdict.included;
        node.exists = !verdict.hidden;
        let descend = is_directory.then(|| {
            Box::new(Pending {
                node: NodeId::ROOT,
                path: path.to_vec(),
                prefix: dir.prefix,
                ignored: verdict.ignored,
                copy: verdict.copy,
                hidden: verdict.hidden,
            })
        });
        Ok(Some(Child { node, descend }))
    }

    /// What the patterns say of `path`, a name in `dir`; `None` when neither it nor anything below
    /// it can be taken in.
    fn verdict(&self, dir: &Pending, path: &[u8], may_be_directory: bool) -> Option<Verdict> {
        let enter = |filter: Option<&Filter>, parent: Option<&State>, path: &[u8]| {
            let (filter, parent) = (filter?, parent?);
            let state = filter.enter(path, parent);
            let below = may_be_directory && !state.taken() && filter.may_take_below(path, &state);
            Some((state, below))
        };
        let from_source = &path[dir.prefix..];
        let ignored = enter(self.view.ignored(), dir.ignored.as_ref(), path);
        let copy = enter(self.copy, dir.copy.as_ref(), from_source);
        let taken = |part: &Option<(State, bool)>| part.as_ref().is_none_or(|(s, _)| s.taken());
        let below = |part: &Option<(State, bool)>| part.as_ref().is_some_and(|(_, below)| *below);
        let (hidden, included) = (!taken(&ignored), taken(&copy));
        if hidden && !below(&ignored) {
            return None;
        }
        // In a directory that only exists because of what is in it, every name counts.
        let counts = dir.hidden || hidden;
        if !included && !counts && !below(&copy) {
            return None;
        }
        let state = |part: Option<(State, bool)>| part.map(|(state, _)| state);
        Some(Verdict { ignored: state(ignored), copy: state(copy), hidden, included })
    }

    /// The target of a link, and extended attributes where they are wanted now; they may say whose
    /// the file is.
    fn extra(
        &self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        stat: &mut Stat,
        path: &[u8],
    ) -> Result<Option<Box<Extra>>, TreeError> {
        if stat.kind == Kind::Symlink {
            let link = rustix::fs::readlinkat(dir, name, Vec::new())
                .map_err(|errno| TreeError::file("readlink", path, errno))?
                .into_bytes();
            return Ok(Some(Box::new(Extra { link, xattrs: Xattrs::new() })));
        }
        if !self.xattrs {
            return Ok(None);
        }
        let (xattrs, owner) =
            read_xattrs(dir, name).map_err(|errno| TreeError::file("listxattr", path, errno))?;
        if !self.view.is_context() {
            (stat.uid, stat.gid) = owner.unwrap_or((stat.uid, stat.gid));
        }
        Ok((!xattrs.is_empty()).then(|| Box::new(Extra { link: Vec::new(), xattrs })))
    }
}

/// What a view without layers has: an empty directory.
fn empty_root() -> Node {
    let stat = Stat {
        kind: Kind::Directory,
        mode: 0o755,
        uid: 0,
        gid: 0,
        nlink: 2,
        size: 0,
        mtime: cache::layer::Time::EPOCH,
        ctime: cache::layer::Time::EPOCH,
        dev: 0,
        ino: 0,
        rdev: (0, 0),
    };
    Node {
        name: Box::default(),
        stat,
        included: true,
        shown: true,
        exists: true,
        parent: NodeId::ROOT,
        children: 0..0,
        extra: None,
        content: OnceLock::new(),
    }
}

/// Carries what is taken in from children to parents.
fn mark(nodes: &mut [Node]) {
    for index in (0..nodes.len()).rev() {
        let node = &nodes[index];
        let children = node.children.start as usize..node.children.end as usize;
        let below = &nodes[children];
        let exists = node.exists || below.iter().any(|child| child.exists);
        let shown = exists && (node.included || below.iter().any(|child| child.shown));
        let node = &mut nodes[index];
        (node.exists, node.shown) = (exists, shown);
        node.included &= exists;
    }
}
