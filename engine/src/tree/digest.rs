//! Digests of what a step takes in, for cache keys.
//!
//! Format version 1, over [`llb::encode`]'s elements. A selection is the list of its sources; each is
//! the name it has at the destination and its tree. A tree is written parents first and siblings in
//! the order of bytes: every name with the digest of what it is, and for a directory the number of
//! names in it. Modification times, absolute paths and the order in which a directory lists its
//! names are not written, nor are owners and modes that the step replaces.

use std::collections::HashMap;

use llb::encode::Encoder;
use oci::Digest;
use rayon::prelude::*;

use super::{Kind, Node, NodeId, Selection, Selector, Tree, TreeError, View};

/// So many names are digested sooner by one thread than others wake up.
const FEW: usize = 1024;

/// Which metadata reaches the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matters {
    pub owner: bool,
    pub mode: bool,
    /// The sources' own metadata, where they are directories.
    pub root: bool,
    /// The names of the sources.
    pub name: bool,
}

/// Digest of what `op` copies from `view`.
pub fn content_digest(view: &View, op: &llb::CopyOp) -> Result<Digest, TreeError> {
    let matters = Matters {
        owner: op.owner.is_none(),
        mode: op.mode.is_none() || op.mode_symbolic.is_some(),
        root: !op.dir_copy_contents,
        name: true,
    };
    digest(view, &Selector::of_copy(op), matters)
}

/// Digest of what a bind mount of `source` shows of `view`.
pub fn bind_digest(view: &View, source: &str) -> Result<Digest, TreeError> {
    let matters = Matters { owner: true, mode: true, root: true, name: false };
    digest(view, &Selector::of_bind(source), matters)
}

fn digest(view: &View, selector: &Selector, matters: Matters) -> Result<Digest, TreeError> {
    let selection = view.select(selector)?;
    for root in &selection.roots {
        view.hash(&root.tree)?;
    }
    Ok(of_selection(&selection, matters))
}

/// Digest of `selection`, whose files are hashed.
pub(crate) fn of_selection(selection: &Selection, matters: Matters) -> Digest {
    let mut encoder = Encoder::new("files-1");
    encoder.number(selection.roots.len() as u64);
    for root in &selection.roots {
        let is_directory = root.tree.node(NodeId::ROOT).stat.kind == Kind::Directory;
        // A directory's name counts where the directory itself is copied.
        let named = matters.name && (!is_directory || matters.root);
        encoder.bytes(if named { &root.name } else { b"" });
        encode(&root.tree, matters, &mut encoder);
    }
    encoder.finish()
}

fn encode(tree: &Tree, matters: Matters, encoder: &mut Encoder) {
    let names = names(tree);
    let digest = |buffer: &mut Vec<u8>, name: &Name| entry(tree, name, matters, buffer);
    let digests: Vec<[u8; 32]> = match names.len() {
        ..FEW => {
            let mut buffer = Vec::new();
            names.iter().map(|name| digest(&mut buffer, name)).collect()
        }
        _ => names.par_iter().with_min_len(FEW).map_init(Vec::new, digest).collect(),
    };
    for (name, digest) in names.iter().zip(digests) {
        if name.id != NodeId::ROOT {
            encoder.bytes(&tree.node(name.id).name);
        }
        encoder.bytes(&digest);
        if let Some(children) = name.children {
            encoder.number(children);
        }
    }
}

/// A name in the order of the walk.
struct Name {
    id: NodeId,
    /// Of a directory, how many names are in it.
    children: Option<u64>,
    /// How many names ago the first one of the same file was.
    since_first: u64,
}

/// Without recursion: trees can be deep.
fn names(tree: &Tree) -> Vec<Name> {
    let mut names: Vec<Name> = Vec::with_capacity(tree.nodes().len());
    let mut links: HashMap<(u64, u64), u64> = HashMap::new();
    let mut todo = vec![NodeId::ROOT];
    while let Some(id) = todo.pop() {
        let stat = &tree.node(id).stat;
        let position = names.len() as u64;
        let mut name = Name { id, children: None, since_first: 0 };
        match stat.kind {
            Kind::File if stat.nlink > 1 => {
                let first = links.entry((stat.dev, stat.ino)).or_insert(position);
                name.since_first = position - *first;
            }
            Kind::Directory => {
                let before = todo.len();
                todo.extend(tree.children(id));
                name.children = Some((todo.len() - before) as u64);
                todo[before..].reverse();
            }
            _ => {}
        }
        names.push(name);
    }
    names
}

/// Digest of what `name` stands for.
fn entry(tree: &Tree, name: &Name, matters: Matters, buffer: &mut Vec<u8>) -> [u8; 32] {
    buffer.clear();
    let mut fields = Fields(buffer);
    let node = tree.node(name.id);
    let stat = &node.stat;
    fields.number(match stat.kind {
        Kind::Directory => 1,
        Kind::File => 2,
        Kind::Symlink => 3,
        Kind::Fifo => 4,
        Kind::CharDevice => 5,
        Kind::BlockDevice => 6,
        Kind::Socket => 7,
    });
    if name.id != NodeId::ROOT || stat.kind != Kind::Directory || matters.root {
        metadata(&mut fields, node, matters);
    }
    match stat.kind {
        Kind::File => {
            fields.bytes(node.digest().expect("the files of the selection are hashed"));
            fields.number(name.since_first);
        }
        Kind::Symlink => fields.bytes(node.link()),
        Kind::CharDevice | Kind::BlockDevice => {
            fields.number(stat.rdev.0.into());
            fields.number(stat.rdev.1.into());
        }
        Kind::Directory | Kind::Fifo | Kind::Socket => {}
    }
    blake3::hash(buffer).into()
}

fn metadata(fields: &mut Fields<'_>, node: &Node, matters: Matters) {
    fields.number(u64::from(node.included));
    if matters.mode && node.stat.kind != Kind::Symlink {
        fields.number(node.stat.mode.into());
    }
    if matters.owner {
        fields.number(node.stat.uid.into());
        fields.number(node.stat.gid.into());
    }
    fields.number(node.xattrs().map_or(0, |xattrs| xattrs.len() as u64));
    for (name, value) in node.xattrs().into_iter().flatten() {
        fields.bytes(name);
        fields.bytes(value);
    }
}

/// Writes elements that cannot run into each other.
struct Fields<'b>(&'b mut Vec<u8>);

impl Fields<'_> {
    fn number(&mut self, number: u64) {
        self.0.extend_from_slice(&number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }
}
