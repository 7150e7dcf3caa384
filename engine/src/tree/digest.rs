//! Digests of what a step takes in, for cache keys.
//!
//! Format version 1, over [`llb::encode`]'s elements. A selection is the list of its sources; each is
//! the name it has at the destination and its tree. A tree is written parents first and siblings in
//! the order of bytes: every name with the digest of what it is, and for a directory the number of
//! names in it. Modification times, absolute paths and the order in which a directory lists its
//! names are not written, nor are owners and modes that the step replaces.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use llb::encode::Encoder;
use oci::Digest;
use rayon::prelude::*;

use super::{Kind, Node, NodeId, Root, Selection, Selector, Tree, TreeError, View};

/// So many names are digested sooner by one thread than others wake up.
const FEW: usize = 1024;
/// Of more directories beside each other no digests are kept.
const DIRECTORIES: usize = 64;

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

/// What an op copies, digested.
#[derive(Clone)]
pub(crate) struct Copied {
    pub(crate) digest: Digest,
    /// Its files, where they are those of one directory, and the name of that as far as it counts.
    directory: Option<(Vec<u8>, Arc<Tree>)>,
    matters: Matters,
}

impl Copied {
    /// What is known by its digest alone.
    #[cfg(test)]
    pub(crate) fn whole(digest: Digest) -> Self {
        let matters = Matters { owner: true, mode: true, root: true, name: true };
        Self { digest, directory: None, matters }
    }

    /// The same in parts: the directories directly in the one that is copied, by name, and under an empty
    /// name everything else. Two copies have the same parts if they have the same digest, and only then.
    pub(crate) fn parts(&self) -> Vec<(Vec<u8>, Digest)> {
        let directory = self.directory.as_ref();
        let parts = directory.and_then(|(name, tree)| directories(name, tree, self.matters));
        parts.unwrap_or_else(|| vec![(Vec::new(), self.digest.clone())])
    }
}

/// Digests what `op` copies from `view`.
pub(crate) fn content_digest(view: &View, op: &llb::CopyOp) -> Result<Copied, TreeError> {
    let matters = Matters {
        owner: op.owner.is_none(),
        mode: op.mode.is_none() || op.mode_symbolic.is_some(),
        root: !op.dir_copy_contents,
        name: true,
    };
    let selection = hashed(view, &Selector::of_copy(op))?;
    let digest = of_selection(&selection, matters);
    let directory = match &selection.roots[..] {
        [root] if is_directory(&root.tree) => {
            Some((name_that_counts(root, matters).to_vec(), root.tree.clone()))
        }
        _ => None,
    };
    Ok(Copied { digest, directory, matters })
}

/// Digest of what a bind mount of `source` shows of `view`.
pub fn bind_digest(view: &View, source: &str) -> Result<Digest, TreeError> {
    let matters = Matters { owner: true, mode: true, root: true, name: false };
    let selection = hashed(view, &Selector::of_bind(source))?;
    Ok(of_selection(&selection, matters))
}

fn hashed(view: &View, selector: &Selector) -> Result<Arc<Selection>, TreeError> {
    let selection = view.select(selector)?;
    for root in &selection.roots {
        view.hash(&root.tree)?;
    }
    Ok(selection)
}

/// Digest of `selection`, whose files are hashed.
pub(crate) fn of_selection(selection: &Selection, matters: Matters) -> Digest {
    let mut encoder = Encoder::new("files-1");
    encoder.number(selection.roots.len() as u64);
    for root in &selection.roots {
        encoder.bytes(name_that_counts(root, matters));
        encode(&root.tree, matters, &mut encoder);
    }
    encoder.finish()
}

fn is_directory(tree: &Tree) -> bool {
    tree.node(NodeId::ROOT).stat.kind == Kind::Directory
}

/// A directory's name counts where the directory itself is copied.
fn name_that_counts(root: &Root, matters: Matters) -> &[u8] {
    let counts = matters.name && (!is_directory(&root.tree) || matters.root);
    if counts { &root.name } else { b"" }
}

fn encode(tree: &Tree, matters: Matters, encoder: &mut Encoder) {
    let names = names(tree);
    for (name, digest) in names.iter().zip(entries(tree, &names, matters)) {
        if name.id != NodeId::ROOT {
            encoder.bytes(&tree.node(name.id).name);
        }
        encoder.bytes(&digest);
        if let Some(children) = name.children {
            encoder.number(children);
        }
    }
}

/// Digests of the directories directly in that of `tree`, see [`Copied::parts`]; `None` if they are too
/// many.
fn directories(name: &[u8], tree: &Tree, matters: Matters) -> Option<Vec<(Vec<u8>, Digest)>> {
    let names = names(tree);
    let top: HashSet<NodeId> = tree.children(NodeId::ROOT).collect();
    let is_directory = |id: &&NodeId| tree.node(**id).stat.kind == Kind::Directory;
    if top.iter().filter(is_directory).count() > DIRECTORIES {
        return None;
    }
    let (mut rest, mut parts) = (Encoder::new("files-rest"), Vec::new());
    rest.bytes(name);
    let mut directory: Option<(Vec<u8>, Encoder)> = None;
    for (name, digest) in names.iter().zip(entries(tree, &names, matters)) {
        let own = &tree.node(name.id).name;
        if top.contains(&name.id) {
            parts.extend(directory.take());
            let encoder = name.children.map(|_| Encoder::new("files-directory"));
            directory = encoder.map(|encoder| (own.to_vec(), encoder));
        }
        let encoder = directory.as_mut().map_or(&mut rest, |(_, encoder)| encoder);
        encoder.bytes(own).bytes(&digest);
        if let Some(children) = name.children.filter(|_| name.id != NodeId::ROOT) {
            encoder.number(children);
        }
    }
    parts.extend(directory);
    parts.insert(0, (Vec::new(), rest));
    Some(parts.into_iter().map(|(name, encoder)| (name, encoder.finish())).collect())
}

/// The digest of each of `names`.
fn entries(tree: &Tree, names: &[Name], matters: Matters) -> Vec<[u8; 32]> {
    let digest = |buffer: &mut Vec<u8>, name: &Name| entry(tree, name, matters, buffer);
    match names.len() {
        ..FEW => {
            let mut buffer = Vec::new();
            names.iter().map(|name| digest(&mut buffer, name)).collect()
        }
        _ => names.par_iter().with_min_len(FEW).map_init(Vec::new, digest).collect(),
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Names of the parts that a copy of all of `context` has, each with its digest.
    fn parts(context: &Path) -> HashMap<String, Digest> {
        let view = crate::tree::view_of_context(context, Vec::new(), None).unwrap();
        let copy = llb::CopyOp {
            src: "/".to_owned(),
            dest: "/".to_owned(),
            dest_has_dot: false,
            owner: None,
            mode: None,
            mode_symbolic: None,
            follow_symlink: false,
            dir_copy_contents: true,
            attempt_unpack: false,
            create_dest_path: true,
            allow_wildcard: false,
            allow_empty_wildcard: false,
            timestamp: None,
            include_patterns: Vec::new(),
            exclude_patterns: Vec::new(),
            always_replace_existing: false,
            parents: false,
            display_src: ".".to_owned(),
        };
        let parts = content_digest(&view, &copy).unwrap().parts().into_iter();
        parts.map(|(name, digest)| (String::from_utf8(name).unwrap(), digest)).collect()
    }

    #[test]
    fn what_changes_in_a_directory_is_in_that_directorys_part() {
        type Change = fn(&Path);
        let changes: [(Change, &str); 9] = [
            (|_| {}, "same"),
            (|c| fs::write(c.join("top"), "new").unwrap(), "rest"),
            (|c| fs::write(c.join("new"), "").unwrap(), "rest"),
            (|c| fs::write(c.join("a/file"), "new").unwrap(), "a"),
            (|c| fs::write(c.join("a/deep/file"), "new").unwrap(), "a"),
            (|c| fs::rename(c.join("a/deep"), c.join("a/other")).unwrap(), "a"),
            (|c| fs::remove_dir_all(c.join("b")).unwrap(), "b"),
            (|c| fs::create_dir(c.join("c")).unwrap(), "c"),
            (|c| fs::rename(c.join("a/deep"), c.join("b/deep")).unwrap(), "a b"),
        ];
        for (number, (change, expected)) in changes.into_iter().enumerate() {
            let context = tempfile::tempdir().unwrap();
            let context = context.path();
            for file in ["top", "a/file", "a/deep/file", "b/file"] {
                let path = context.join(file);
                fs::create_dir_all(path.parent().unwrap()).unwrap();
                fs::write(path, file).unwrap();
            }
            let before = parts(context);
            change(context);
            let after = parts(context);
            let mut names: Vec<&str> = (before.keys().chain(after.keys()))
                .filter(|name| before.get(*name) != after.get(*name))
                .map(|name| if name.is_empty() { "rest" } else { name.as_str() })
                .collect();
            names.sort_unstable();
            names.dedup();
            let names = if names.is_empty() { "same".to_owned() } else { names.join(" ") };
            assert_eq!(names, expected, "change {number}");
        }
    }

    #[test]
    fn of_many_directories_there_is_one_digest() {
        let context = tempfile::tempdir().unwrap();
        for (count, expected) in [(DIRECTORIES, DIRECTORIES + 1), (DIRECTORIES + 1, 1)] {
            for number in 0..count {
                fs::create_dir_all(context.path().join(number.to_string())).unwrap();
            }
            assert_eq!(parts(context.path()).len(), expected);
        }
    }
}
