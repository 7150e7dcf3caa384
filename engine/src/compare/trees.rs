//! Two scanned trees, name by name.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;

use super::content::{self, Scanned};
use super::{AttributeChange, Became, Change, Difference};
use crate::tree::{Kind, Node, NodeId, Selector, Stat, Tree, TreeError, View, Xattrs, path};

/// One of the trees.
struct Half<'a> {
    view: &'a View,
    tree: Arc<Tree>,
}

/// The same path in both trees.
type Pair = (NodeId, NodeId);

/// What differs from `from` to `to`, in the order of paths. Files of trees in `one_store` that have number,
/// size and times in common are one file.
pub(super) fn compare(from: &View, to: &View, one_store: bool) -> Result<Vec<Change>, TreeError> {
    let (from, to) = (Half::scan(from)?, Half::scan(to)?);
    let found = Found::between(&from.tree, &to.tree);
    let differing = differing(&from, &to, &found.both, one_store)?;
    let mut changes = BTreeMap::new();
    for pair in &found.both {
        let (old, new) = (from.tree.node(pair.0), to.tree.node(pair.1));
        let differences = differences(old, new, differing.contains(&pair.1));
        if !differences.is_empty() {
            // What is below a directory that stays one has lines of its own.
            let goes = new.stat.kind != Kind::Directory;
            let below = || if goes { from.bytes_below(pair.0) } else { 0 };
            let sizes = (bytes(old, below), bytes(new, || 0));
            let became = Became::Changed { kind: new.stat.kind, sizes, differences };
            changes.insert(to.tree.relative(pair.1), became);
        }
    }
    for id in &found.added {
        let node = to.tree.node(*id);
        let became = Became::Added { kind: node.stat.kind, size: bytes(node, || 0) };
        changes.insert(to.tree.relative(*id), became);
    }
    for id in &found.removed {
        let node = from.tree.node(*id);
        let size = bytes(node, || from.bytes_below(*id));
        changes.insert(from.tree.relative(*id), Became::Removed { kind: node.stat.kind, size });
    }
    add_parents(&mut changes);
    Ok(changes.into_iter().map(|(path, became)| Change { path, became }).collect())
}

impl<'a> Half<'a> {
    fn scan(view: &'a View) -> Result<Self, TreeError> {
        let selection = view.select(&Selector::of_bind("/"))?;
        let root = selection.roots.first().expect("the root is there");
        Ok(Self { view, tree: root.tree.clone() })
    }

    /// The bytes of all files below the directory `id`.
    fn bytes_below(&self, id: NodeId) -> u64 {
        let mut directories = vec![id];
        let mut sum = 0;
        while let Some(id) = directories.pop() {
            for child in self.tree.children(id) {
                sum += bytes(self.tree.node(child), || {
                    directories.push(child);
                    0
                });
            }
        }
        sum
    }

    fn scanned(&self, id: NodeId) -> Scanned<'_> {
        Scanned { view: self.view, tree: &self.tree, id }
    }
}

/// The bytes of a file; of a directory what `below` says.
fn bytes(node: &Node, below: impl FnOnce() -> u64) -> u64 {
    match node.stat.kind {
        Kind::File => node.stat.size,
        Kind::Directory => below(),
        _ => 0,
    }
}

/// Which names are where.
#[derive(Default)]
struct Found {
    both: Vec<Pair>,
    added: Vec<NodeId>,
    /// Without what is below.
    removed: Vec<NodeId>,
}

impl Found {
    fn between(from: &Tree, to: &Tree) -> Self {
        let mut found = Self::default();
        let mut pairs = vec![(NodeId::ROOT, NodeId::ROOT)];
        while let Some(pair) = pairs.pop() {
            found.both.push(pair);
            let is_directory = |node: &Node| node.stat.kind == Kind::Directory;
            match (is_directory(from.node(pair.0)), is_directory(to.node(pair.1))) {
                (true, true) => found.below(from, to, pair, &mut pairs),
                (false, true) => found.add_below(to, pair.1),
                (_, false) => {}
            }
        }
        found
    }

    /// The names of two directories, each of which is in order.
    fn below(&mut self, from: &Tree, to: &Tree, pair: Pair, pairs: &mut Vec<Pair>) {
        let mut old = from.children(pair.0).peekable();
        let mut new = to.children(pair.1).peekable();
        loop {
            let order = match (old.peek(), new.peek()) {
                (Some(one), Some(other)) => from.node(*one).name.cmp(&to.node(*other).name),
                (Some(_), None) => std::cmp::Ordering::Less,
                (None, Some(_)) => std::cmp::Ordering::Greater,
                (None, None) => return,
            };
            match order {
                std::cmp::Ordering::Less => self.removed.extend(old.next()),
                std::cmp::Ordering::Equal => pairs.extend(old.next().zip(new.next())),
                std::cmp::Ordering::Greater => {
                    let id = new.next().expect("just seen");
                    self.added.push(id);
                    self.add_below(to, id);
                }
            }
        }
    }

    fn add_below(&mut self, to: &Tree, id: NodeId) {
        let mut directories = vec![id];
        while let Some(id) = directories.pop() {
            self.added.extend(to.children(id));
            directories.extend(to.children(id));
        }
    }
}

/// Those of the files of the same size, by their number in `to`, that hold something else.
fn differing(
    from: &Half<'_>,
    to: &Half<'_>,
    both: &[Pair],
    one_store: bool,
) -> Result<HashSet<NodeId>, TreeError> {
    let is_doubtful = |pair: &&Pair| {
        let (old, new) = (&from.tree.node(pair.0).stat, &to.tree.node(pair.1).stat);
        let is_file = (old.kind, new.kind) == (Kind::File, Kind::File);
        is_file && old.size == new.size && !(one_store && is_one_file(old, new))
    };
    let doubtful: Vec<&Pair> = both.iter().filter(is_doubtful).collect();
    let compared = doubtful.par_iter().map(|pair| {
        let same = content::is_same(from.scanned(pair.0), to.scanned(pair.1))?;
        Ok((!same).then_some(pair.1))
    });
    let compared: Result<Vec<_>, TreeError> = compared.collect();
    Ok(compared?.into_iter().flatten().collect())
}

/// Each overlay has a device number of its own; the rest is that of the file below.
fn is_one_file(old: &Stat, new: &Stat) -> bool {
    (old.ino, old.size, old.mtime, old.ctime) == (new.ino, new.size, new.mtime, new.ctime)
}

fn differences(old: &Node, new: &Node, has_other_content: bool) -> Vec<Difference> {
    let (was, is) = (&old.stat, &new.stat);
    let mut differences = Vec::new();
    if was.kind == is.kind {
        let is_device = matches!(is.kind, Kind::CharDevice | Kind::BlockDevice);
        if is.kind == Kind::File && was.size != is.size {
            differences.push(Difference::Size(was.size, is.size));
        } else if has_other_content {
            differences.push(Difference::Content);
        } else if old.link() != new.link() {
            differences.push(Difference::Target(old.link().to_vec(), new.link().to_vec()));
        } else if is_device && was.rdev != is.rdev {
            differences.push(Difference::Device(was.rdev, is.rdev));
        }
    } else {
        differences.push(Difference::Kind(was.kind, is.kind));
    }
    // What the mode of a link says nobody asks, and file systems differ in it.
    if was.mode != is.mode && is.kind != Kind::Symlink && was.kind != Kind::Symlink {
        differences.push(Difference::Mode(was.mode, is.mode));
    }
    let (owner, now) = ((was.uid, was.gid), (is.uid, is.gid));
    if owner != now {
        differences.push(Difference::Owner(owner, now));
    }
    attributes(old.xattrs(), new.xattrs(), &mut differences);
    differences
}

fn attributes(old: Option<&Xattrs>, new: Option<&Xattrs>, differences: &mut Vec<Difference>) {
    let none = Xattrs::new();
    let (old, new) = (old.unwrap_or(&none), new.unwrap_or(&none));
    let changed = |name: &Vec<u8>| match (old.get(name), new.get(name)) {
        (None, _) => Some(AttributeChange::Added),
        (_, None) => Some(AttributeChange::Removed),
        (was, is) => (was != is).then_some(AttributeChange::Changed),
    };
    let names: std::collections::BTreeSet<&Vec<u8>> = old.keys().chain(new.keys()).collect();
    let found = names.into_iter().filter_map(|name| Some((name, changed(name)?)));
    differences.extend(found.map(|(name, change)| Difference::Attribute(name.clone(), change)));
}

/// As Docker does it, a directory in which something has changed has changed, too; the root is not listed.
fn add_parents(changes: &mut BTreeMap<Vec<u8>, Became>) {
    let paths: Vec<Vec<u8>> = changes.keys().cloned().collect();
    for mut at in paths {
        while let Some((parent, _)) = path::split(&at).filter(|(parent, _)| !parent.is_empty()) {
            let parent = parent.to_vec();
            if changes.contains_key(&parent) {
                break;
            }
            let became =
                Became::Changed { kind: Kind::Directory, sizes: (0, 0), differences: Vec::new() };
            changes.insert(parent.clone(), became);
            at = parent;
        }
    }
}
