//! Digests of what a step takes in, for cache keys.
//!
//! Format version 1, over [`llb::encode`]'s elements. A selection is the list of its sources; each is
//! the name it has at the destination and its tree. A tree is written parents first and siblings in
//! the order of bytes: every name with the digest of what it is, and for a directory the number of
//! names in it. Modification times, absolute paths and the order in which a directory lists its
//! names are not written, nor are owners and modes that the step replaces.

use std::collections::HashMap;

use llb::encode::Encoder;

use super::{Kind, Node, NodeId, Selection, Selector, Tree, TreeError, View, path};

/// More files than a person reads; the digest covers them all.
const MAX_INPUTS: usize = 20_000;

/// The digest of what a step takes in, and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentDigest {
    /// Equal for equal content.
    pub digest: oci::Digest,
    /// One for each name, in the order of the walk.
    pub inputs: Vec<InputEntry>,
    /// Names left out of `inputs` because there are too many.
    pub omitted: usize,
}

impl ContentDigest {
    /// The digest as text.
    pub fn as_str(&self) -> &str {
        self.digest.as_str()
    }
}

/// One name that a step takes in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputEntry {
    /// Absolute path in the tree it comes from.
    pub path: String,
    /// Digest of kind, mode, owner, attributes and content.
    pub digest: [u8; 32],
}

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
pub fn content_digest(view: &View, op: &llb::CopyOp) -> Result<ContentDigest, TreeError> {
    let matters = Matters {
        owner: op.owner.is_none(),
        mode: op.mode.is_none() || op.mode_symbolic.is_some(),
        root: !op.dir_copy_contents,
        name: true,
    };
    digest(view, &Selector::of_copy(op), matters)
}

/// Digest of what a bind mount of `source` shows of `view`.
pub fn bind_digest(view: &View, source: &str) -> Result<ContentDigest, TreeError> {
    let matters = Matters { owner: true, mode: true, root: true, name: false };
    digest(view, &Selector::of_bind(source), matters)
}

fn digest(view: &View, selector: &Selector, matters: Matters) -> Result<ContentDigest, TreeError> {
    let selection = view.select(selector)?;
    for root in &selection.roots {
        view.hash(&root.tree)?;
    }
    Ok(of_selection(&selection, matters))
}

/// Digest of `selection`, whose files are hashed.
pub(crate) fn of_selection(selection: &Selection, matters: Matters) -> ContentDigest {
    let mut encoder = Encoder::new("files-1");
    let mut inputs = Vec::new();
    let mut total = 0;
    encoder.number(selection.roots.len() as u64);
    for root in &selection.roots {
        let is_directory = root.tree.node(NodeId::ROOT).stat.kind == Kind::Directory;
        // A directory's name counts where the directory itself is copied.
        let named = matters.name && (!is_directory || matters.root);
        encoder.bytes(if named { &root.name } else { b"" });
        let mut walk = Walk {
            tree: &root.tree,
            matters,
            links: HashMap::new(),
            encoder: &mut encoder,
            inputs: &mut inputs,
            total: &mut total,
        };
        walk.run();
    }
    let omitted = total - inputs.len();
    ContentDigest { digest: encoder.finish(), inputs, omitted }
}

struct Walk<'a> {
    tree: &'a Tree,
    matters: Matters,
    /// Files with several names, and where their first was.
    links: HashMap<(u64, u64), u64>,
    encoder: &'a mut Encoder,
    inputs: &'a mut Vec<InputEntry>,
    total: &'a mut usize,
}

impl Walk<'_> {
    /// Without recursion: trees can be deep.
    fn run(&mut self) {
        let mut todo = vec![NodeId::ROOT];
        let mut path = Vec::new();
        let mut position = 0;
        while let Some(id) = todo.pop() {
            let node = self.tree.node(id);
            if id != NodeId::ROOT {
                self.encoder.bytes(&node.name);
            }
            let digest = self.entry(id, node, position);
            self.encoder.bytes(&digest);
            if *self.total < MAX_INPUTS {
                self.tree.path(id, &mut path);
                self.inputs.push(InputEntry { path: path::show(&path), digest });
            }
            *self.total += 1;
            position += 1;
            if node.stat.kind == Kind::Directory {
                let before = todo.len();
                todo.extend(self.tree.children(id));
                self.encoder.number((todo.len() - before) as u64);
                todo[before..].reverse();
            }
        }
    }

    /// Digest of what `node` is.
    fn entry(&mut self, id: NodeId, node: &Node, position: u64) -> [u8; 32] {
        let mut fields = Fields(blake3::Hasher::new());
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
        let metadata = id != NodeId::ROOT || stat.kind != Kind::Directory || self.matters.root;
        if metadata {
            self.metadata(&mut fields, node);
        }
        match stat.kind {
            Kind::File => {
                fields.bytes(node.digest().expect("the files of the selection are hashed"));
                fields.number(match stat.nlink {
                    0 | 1 => 0,
                    _ => position - *self.links.entry((stat.dev, stat.ino)).or_insert(position),
                });
            }
            Kind::Symlink => fields.bytes(node.link()),
            Kind::CharDevice | Kind::BlockDevice => {
                fields.number(stat.rdev.0.into());
                fields.number(stat.rdev.1.into());
            }
            Kind::Directory | Kind::Fifo | Kind::Socket => {}
        }
        fields.0.finalize().into()
    }

    fn metadata(&self, fields: &mut Fields, node: &Node) {
        fields.number(u64::from(node.included));
        if self.matters.mode && node.stat.kind != Kind::Symlink {
            fields.number(node.stat.mode.into());
        }
        if self.matters.owner {
            fields.number(node.stat.uid.into());
            fields.number(node.stat.gid.into());
        }
        fields.number(node.xattrs().map_or(0, |xattrs| xattrs.len() as u64));
        for (name, value) in node.xattrs().into_iter().flatten() {
            fields.bytes(name);
            fields.bytes(value);
        }
    }
}

/// Writes elements that cannot run into each other.
struct Fields(blake3::Hasher);

impl Fields {
    fn number(&mut self, number: u64) {
        self.0.update(&number.to_be_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.update(bytes);
    }
}
