//! Which files a `COPY` or a bind mount takes in: BuildKit's rules for source paths.

use std::sync::Arc;

use rustix::fs::{OFlags, RawDir};
use rustix::io::Errno;

use super::scan::Scan;
use super::{Filter, Kind, Lookup, NodeId, Tree, TreeError, View, glob, path, resolve};

/// What a step names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Selector {
    /// Path, with wildcards when `wildcard`.
    pub source: String,
    /// The path holds wildcards.
    pub wildcard: bool,
    /// A symbolic link named by the path is followed.
    pub follow: bool,
    /// Only what matches, relative to the source.
    pub include: Vec<String>,
    /// All but what matches, relative to the source.
    pub exclude: Vec<String>,
    /// `include` came from `--parents`: a pattern without wildcards must match something.
    pub required: bool,
}

/// Everything a selector takes in.
pub struct Selection {
    /// One for each path that matches, in the order of BuildKit's walk.
    pub roots: Vec<Root>,
}

/// One source.
pub struct Root {
    /// The last name of the path as named (a link's own name); empty for the root of the tree and
    /// for a path that ends in `/.`.
    pub name: Vec<u8>,
    /// Its files. Shared, so that a plan may refer to them.
    pub tree: Arc<Tree>,
}

impl Selector {
    /// What `op` takes in.
    pub fn of_copy(op: &llb::CopyOp) -> Self {
        let mut selector = Self {
            source: op.src.clone(),
            wildcard: op.allow_wildcard,
            follow: op.follow_symlink,
            include: op.include_patterns.clone(),
            exclude: op.exclude_patterns.clone(),
            required: op.parents,
        };
        if op.parents && op.include_patterns.is_empty() {
            selector.split_at_pivot();
        }
        selector
    }

    /// What a bind mount of `source` shows.
    pub fn of_bind(source: &str) -> Self {
        Self {
            source: source.into(),
            wildcard: false,
            follow: true,
            include: Vec::new(),
            exclude: Vec::new(),
            required: false,
        }
    }

    /// `a/./b/c`: the files below `a` that match `b/c`.
    fn split_at_pivot(&mut self) {
        let (base, pattern) = self.source.split_once("/./").unwrap_or(("/", &self.source));
        let pattern = path::clean(pattern.as_bytes());
        let base = if base.is_empty() { "/".into() } else { base.into() };
        // The whole of the base needs no pattern.
        if !pattern.is_empty() {
            self.include = vec![String::from_utf8_lossy(&pattern).into_owned()];
        }
        self.source = base;
    }

    /// The path that must match something.
    fn required_path(&self) -> Option<Vec<u8>> {
        let [pattern] = self.include.as_slice() else { return None };
        let wild = |text: &str| glob::has_wildcard(text.as_bytes());
        if !self.required || wild(pattern) || wild(&self.source) {
            return None;
        }
        Some(path::clean(format!("{}/{pattern}", self.source).as_bytes()))
    }

    fn has_patterns(&self) -> bool {
        !self.include.is_empty() || !self.exclude.is_empty()
    }
}

/// Walks what `selector` names.
pub(super) fn scan(view: &View, selector: &Selector) -> Result<Selection, TreeError> {
    let filter = Filter::new(&selector.include, &selector.exclude)?;
    let walk = Scan { view, copy: filter.as_ref(), xattrs: !view.is_context() };
    let required = selector.required_path();
    let mut roots = Vec::new();
    for Source { name, path } in sources(view, selector)? {
        let found = view.resolve(&path, selector.follow)?;
        if found.kind.is_none() {
            return Err(missing(selector, &path, &found.path));
        }
        roots.push(Root { name, tree: Arc::new(walk.run(&found.path)?) });
    }
    if let Some(required) = required
        && !roots.iter().any(|root| holds(root, &selector.source, &required))
    {
        return Err(TreeError::NotFound { path: path::show(&required) });
    }
    Ok(Selection { roots })
}

/// BuildKit notices a missing path while it computes the key, but with patterns or wildcards only
/// while it copies.
fn missing(selector: &Selector, source: &[u8], resolved: &[u8]) -> TreeError {
    if let Some(required) = selector.required_path() {
        return TreeError::NotFound { path: path::show(&required) };
    }
    if selector.has_patterns() {
        return TreeError::file("lstat", resolved, Errno::NOENT);
    }
    TreeError::NotFound { path: path::show(&path::clean(source)) }
}

/// Whether something of `root` that is taken in is at or below `required`.
fn holds(root: &Root, source: &str, required: &[u8]) -> bool {
    let base = path::clean(source.as_bytes());
    root.tree.shown().filter(|id| *id != NodeId::ROOT).any(|id| {
        let mut place = base.clone();
        let relative = root.tree.relative(id);
        path::push(&mut place, &relative);
        root.tree.node(id).included && place.starts_with(required)
    })
}

/// A path that is named, and the name it has at the destination.
struct Source {
    name: Vec<u8>,
    path: Vec<u8>,
}

/// The paths that `selector` names.
fn sources(view: &View, selector: &Selector) -> Result<Vec<Source>, TreeError> {
    let source = selector.source.as_bytes();
    let clean = path::clean(source);
    if !selector.wildcard || !glob::has_wildcard(&clean) {
        let here = source.ends_with(b"/.") || clean.is_empty();
        let name = if here { b"" } else { path::split(&clean).map_or(&b""[..], |(_, name)| name) };
        return Ok(vec![Source { name: name.to_vec(), path: clean }]);
    }
    let matched = matching(view, &clean, selector.follow)?;
    let named = |path: Vec<u8>| {
        let name = path::split(&path).map_or(Vec::new(), |(_, name)| name.to_vec());
        Source { name, path }
    };
    Ok(matched.into_iter().map(named).collect())
}

/// The paths that match `pattern`. The part before the first wildcard follows links; below, a link
/// is a name like others.
pub fn matching(
    tree: &impl Lookup,
    pattern: &[u8],
    follow: bool,
) -> Result<Vec<Vec<u8>>, TreeError> {
    let names: Vec<&[u8]> = path::components(pattern).collect();
    let fixed = names.iter().take_while(|name| !glob::has_wildcard(name)).count();
    for name in &names[fixed..] {
        if glob::check(name).is_err() {
            return Err(TreeError::Pattern { pattern: path::show(pattern) });
        }
    }
    let base = resolve(tree, &names[..fixed].join(&b'/'), follow)?;
    if base.kind.is_none() {
        return Err(TreeError::file("lstat", &base.path, Errno::NOENT));
    }
    if base.kind != Some(Kind::Directory) && fixed < names.len() {
        return Err(TreeError::file("lstat", pattern, Errno::NOTDIR));
    }
    let mut found = Vec::new();
    descend(tree, &base.path, &names[fixed..], &mut found)?;
    Ok(found)
}

fn descend(
    tree: &impl Lookup,
    dir: &[u8],
    pattern: &[&[u8]],
    found: &mut Vec<Vec<u8>>,
) -> Result<(), TreeError> {
    let [first, rest @ ..] = pattern else { return Ok(()) };
    let bad = |_| TreeError::Pattern { pattern: String::from_utf8_lossy(first).into_owned() };
    for name in tree.names(dir)? {
        if !glob::matches(first, &name).map_err(bad)? {
            continue;
        }
        let place = path::join(dir, &name);
        let Some((kind, _)) = tree.lookup(&place)? else { continue };
        if rest.is_empty() {
            found.push(place);
        } else if kind == Kind::Directory {
            descend(tree, &place, rest, found)?;
        }
    }
    Ok(())
}

impl View {
    /// The names in the directory at `dir`, in the order of bytes, with those that rules hide.
    pub(super) fn list_names(&self, dir: &[u8]) -> Result<Vec<Vec<u8>>, TreeError> {
        if self.root().is_none() {
            return Ok(Vec::new());
        }
        let fail = |errno| TreeError::file("open", dir, errno);
        let fd = self.open(dir, OFlags::RDONLY | OFlags::DIRECTORY).map_err(fail)?;
        let mut buffer = Vec::with_capacity(32 * 1024);
        let mut entries = RawDir::new(&fd, buffer.spare_capacity_mut());
        let mut names = Vec::new();
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(|errno| TreeError::file("readdirent", dir, errno))?;
            let name = entry.file_name().to_bytes();
            if !matches!(name, b"." | b"..") {
                names.push(name.to_vec());
            }
        }
        names.sort_unstable();
        Ok(names)
    }
}
