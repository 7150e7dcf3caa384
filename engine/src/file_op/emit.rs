//! A plan becomes a layer: entries in the order in which layers are walked, into a directory or a
//! sink.
//!
//! What is left out is what a comparison of the layer with the tree below would leave out, so that a
//! layer written straight into its tar has the digest that its directory would have had.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use cache::layer::{Content, Entry, EntryKind, LayerSink, LeftOut, read_up_to};

use super::copy::From;
use super::directory::into_directory;
use super::plan::{Attributes, Plan, PlanPath, Planned, PlannedFile, Source};
use super::{Applied, FileOpError, Target, Written};
use crate::tree::{Kind, Lookup, NodeId, Tree, View, Xattrs, path};

/// The one attribute that BuildKit keeps in a layer's tar.
const CAPABILITY: &[u8] = b"security.capability";

/// See [`Job::is_stopped`](super::Job::is_stopped).
pub(super) type IsStopped<'a> = &'a (dyn Fn() -> bool + Sync);

impl Plan<'_> {
    /// Writes the layer to `target`.
    pub fn write(
        &self,
        target: Target<'_>,
        is_stopped: IsStopped<'_>,
    ) -> Result<Applied, FileOpError> {
        match target {
            Target::Directory { path, options, previous } => {
                into_directory(self, path, options, previous, is_stopped)
            }
            Target::Sink(sink) => into_sink(self, sink, None),
            Target::Again { sink, written } => into_sink(self, sink, Some(written)),
        }
    }
}

/// A name to be written.
#[derive(Clone, Copy)]
pub(super) struct Item<'p, 'a> {
    pub path: &'p [u8],
    pub planned: &'p Planned<'a>,
    /// The tree below has the same here.
    pub same: bool,
    /// An earlier name of the same file.
    pub first: Option<&'p [u8]>,
}

impl<'p, 'a> Item<'p, 'a> {
    /// The file whose content is to be written under this name.
    pub(super) fn file(&self) -> Option<&'p PlannedFile<'a>> {
        match self.planned {
            Planned::File(file) if self.first.is_none() => Some(file),
            _ => None,
        }
    }
}

/// What is to be written, in order, and what is left out because no layer can hold it.
pub(super) fn items<'p, 'a>(
    plan: &'p Plan<'a>,
) -> Result<(Vec<Item<'p, 'a>>, Vec<String>), FileOpError> {
    let mut items = Vec::with_capacity(plan.entries.len());
    let mut warnings = plan.warnings.clone();
    let mut first_names: HashMap<*const PlannedFile<'a>, &'p [u8]> = HashMap::new();
    let mut below = Below { plan, directories: HashMap::new() };
    for (PlanPath(path), planned) in &plan.entries {
        if is_reserved(path) {
            warnings.push(LeftOut::ReservedName(path::show(path).into()).to_string());
            continue;
        }
        let same = below.same(path, planned)?;
        // A file that is there already needs no second copy in the layer.
        if same && !matches!(planned, Planned::Directory(_)) {
            continue;
        }
        let mut first = None;
        if let Planned::File(file) = planned
            && Arc::strong_count(file) > 1
        {
            first = first_names.get(&Arc::as_ptr(file)).copied();
            first_names.entry(Arc::as_ptr(file)).or_insert(path);
        }
        items.push(Item { path, planned, same, first });
    }
    Ok((items, warnings))
}

/// In a layer, a name that starts so deletes another.
fn is_reserved(path: &[u8]) -> bool {
    path::components(path).any(|name| name.starts_with(b".wh."))
}

/// Comparison with the tree below.
struct Below<'p, 'a> {
    plan: &'p Plan<'a>,
    /// Whether the tree below has a directory at a path.
    directories: HashMap<Vec<u8>, bool>,
}

impl Below<'_, '_> {
    fn has_directory(&mut self, path: &[u8]) -> Result<bool, FileOpError> {
        if path.is_empty() {
            return Ok(self.plan.lower.is_some());
        }
        if let Some(known) = self.directories.get(path) {
            return Ok(*known);
        }
        let parent = path::split(path).map_or(&b""[..], |(parent, _)| parent).to_vec();
        let found = self.has_directory_in(&parent, path)?;
        self.directories.insert(path.to_vec(), found);
        Ok(found)
    }

    fn has_directory_in(&mut self, parent: &[u8], path: &[u8]) -> Result<bool, FileOpError> {
        Ok(self.has_directory(parent)? && self.plan.lower_kind(path)? == Some(Kind::Directory))
    }

    /// Whether the tree below has the same at `path`. A directory's time says nothing.
    fn same(&mut self, path: &[u8], planned: &Planned<'_>) -> Result<bool, FileOpError> {
        let (Some(lower), Some(attributes)) = (self.plan.lower, planned.attributes()) else {
            return Ok(false);
        };
        if let Planned::Directory(directory) = planned
            && directory.unchanged
        {
            return Ok(true);
        }
        let parent = path::split(path).map_or(&b""[..], |(parent, _)| parent);
        if !self.has_directory(parent)? {
            return Ok(false);
        }
        let Some((stat, link)) = lower.lstat(path)? else { return Ok(false) };
        let is_directory = stat.kind == Kind::Directory;
        if planned.kind() != Some(stat.kind) || attributes.mode != u32::from(stat.mode) {
            return Ok(false);
        }
        if !is_directory && attributes.mtime != stat.mtime {
            return Ok(false);
        }
        let old = self.plan.lower_attributes(path)?;
        if (old.uid, old.gid) != (attributes.uid, attributes.gid)
            || (matches!(stat.kind, Kind::File | Kind::Directory)
                && capability(&old) != capability(attributes))
        {
            return Ok(false);
        }
        match planned {
            Planned::File(file) if file.size != stat.size => Ok(false),
            Planned::File(file) if stat.size > 0 => same_content(lower, path, file),
            Planned::Symlink { target, .. } => Ok(*target == link),
            Planned::Device { major, minor, .. } => Ok((*major, *minor) == stat.rdev),
            _ => Ok(true),
        }
    }
}

fn capability(attributes: &Attributes) -> Option<&Vec<u8>> {
    attributes.xattrs.as_ref()?.get(CAPABILITY)
}

fn same_content(lower: &View, path: &[u8], file: &PlannedFile<'_>) -> Result<bool, FileOpError> {
    let tree = lower.single(path)?;
    let below = lower.open_node(&tree, crate::tree::NodeId::ROOT)?;
    let compared = match &file.source {
        Source::Bytes(bytes) => equal(&mut bytes.as_slice(), &mut &below.file),
        Source::Tree { from, tree, node } => {
            let view = from.view().expect("a scanned file has a tree");
            equal(&mut &view.open_node(tree, *node)?.file, &mut &below.file)
        }
    };
    compared.map_err(|source| FileOpError::Open { path: path::show(path).into(), source })
}

fn equal(a: &mut dyn io::Read, b: &mut dyn io::Read) -> io::Result<bool> {
    let (mut here, mut there) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        let (n, m) = (read_up_to(a, &mut here)?, read_up_to(b, &mut there)?);
        if n != m || here[..n] != there[..m] {
            return Ok(false);
        }
        if n == 0 {
            return Ok(true);
        }
    }
}

/// Writes to a sink what a comparison of the directory with the tree below would give.
fn into_sink(
    plan: &Plan<'_>,
    sink: &mut dyn LayerSink,
    mut written: Option<Written>,
) -> Result<Applied, FileOpError> {
    let completed = with_deletions(plan)?;
    let (items, warnings) = items(completed.as_ref().unwrap_or(plan))?;
    let mut applied = Applied { warnings, ..Applied::default() };
    // Directories that are the same below are written only when something in them is.
    let mut pending: Vec<&Item<'_, '_>> = Vec::new();
    for item in &items {
        if item.path.is_empty() {
            continue;
        }
        while pending.last().is_some_and(|dir| !is_in(item.path, dir.path)) {
            pending.pop();
        }
        match item.planned {
            Planned::Directory(_) if item.same => {
                pending.push(item);
                continue;
            }
            Planned::Whiteout if plan.lower_kind(item.path)?.is_none() => continue,
            _ => {}
        }
        for directory in pending.drain(..) {
            sink.entry(&bare(directory), Content::None)?;
        }
        let entry = bare(item);
        match (&mut written, item.file()) {
            (Some(written), Some(file)) => written.give(&entry, file.digest.as_ref(), sink)?,
            _ => write(item, &entry, sink)?,
        }
        applied.count(item);
    }
    Ok(applied)
}

pub(super) fn is_in(path: &[u8], dir: &[u8]) -> bool {
    path.len() > dir.len() && path.starts_with(dir) && path[dir.len()] == b'/'
}

/// The plan with a deletion for each name that a directory hides, where there is one: a tar of
/// BuildKit's has no opaque directories.
fn with_deletions<'a>(plan: &Plan<'a>) -> Result<Option<Plan<'a>>, FileOpError> {
    let hiding: Vec<Vec<u8>> = plan
        .entries
        .iter()
        .filter(|(_, planned)| matches!(planned, Planned::Directory(d) if d.hides))
        .map(|(path, _)| path.0.to_vec())
        .collect();
    let Some(lower) = plan.lower.filter(|_| !hiding.is_empty()) else { return Ok(None) };
    let mut plan = plan.clone();
    for dir in hiding {
        let mut todo = vec![dir];
        while let Some(dir) = todo.pop() {
            for name in lower.names(&dir)? {
                let place = path::join(&dir, &name);
                let Some((kind, _)) = lower.lookup(&place)? else { continue };
                match plan.get(&place) {
                    None => plan.insert(&place, Planned::Whiteout),
                    Some(Planned::Directory(_)) if kind == Kind::Directory => todo.push(place),
                    Some(_) => {}
                }
            }
        }
    }
    Ok(Some(plan))
}

/// The entry of `item` as a layer's tar has it.
fn bare(item: &Item<'_, '_>) -> Entry {
    let mut entry = entry(item);
    let keeps = matches!(entry.kind, EntryKind::File { .. } | EntryKind::Directory);
    entry.xattrs.retain(|name, _| keeps && name == CAPABILITY);
    entry
}

/// The entry of `item` as a layer's directory has it.
pub(super) fn entry(item: &Item<'_, '_>) -> Entry {
    let kind = match item.planned {
        Planned::Directory(_) => EntryKind::Directory,
        Planned::File(file) => match item.first {
            Some(target) => EntryKind::Hardlink { target: target.to_vec() },
            None => EntryKind::File { size: file.size },
        },
        Planned::Symlink { target, .. } => EntryKind::Symlink { target: target.clone() },
        Planned::Device { kind: Kind::BlockDevice, major, minor, .. } => {
            EntryKind::BlockDevice { major: *major, minor: *minor }
        }
        Planned::Device { major, minor, .. } => {
            EntryKind::CharDevice { major: *major, minor: *minor }
        }
        Planned::Fifo { .. } => EntryKind::Fifo,
        Planned::Whiteout => EntryKind::Whiteout,
    };
    let mut entry = Entry::new(item.path, kind, 0);
    if let Some(attributes) = item.planned.attributes() {
        entry.mode = attributes.mode;
        (entry.uid, entry.gid) = (attributes.uid, attributes.gid);
        entry.mtime = attributes.mtime;
        entry.xattrs = attributes.xattrs.as_deref().cloned().unwrap_or_else(Xattrs::new);
    }
    entry
}

/// Gives one entry and its content to `sink`.
pub(super) fn write(
    item: &Item<'_, '_>,
    entry: &Entry,
    sink: &mut dyn LayerSink,
) -> Result<(), FileOpError> {
    let Some(file) = item.file() else {
        return Ok(sink.entry(entry, Content::None)?);
    };
    match &file.source {
        Source::Bytes(bytes) => sink.entry(entry, Content::Bytes(bytes))?,
        Source::Tree { from, tree, node } => {
            let view = from.view().expect("a scanned file has a tree");
            if let From::Archive(_) = from
                && let Some(directory) = view.descriptor().filter(|_| may_move(file, tree, *node))
            {
                let mut place = Vec::new();
                tree.path(*node, &mut place);
                let path = Path::new(OsStr::from_bytes(&place));
                return Ok(sink.entry(entry, Content::Move { directory, path })?);
            }
            let opened = view.open_node(tree, *node)?;
            let written = sink.entry(entry, Content::File(&opened.file));
            // A file that changed is more often the reason than the disk.
            opened.verify()?;
            written?;
        }
    }
    Ok(())
}

/// Whether a file that was extracted for this plan can move on as it is. One with several names is
/// copied: those that stay behind would show.
fn may_move(file: &PlannedFile<'_>, tree: &Tree, node: NodeId) -> bool {
    tree.node(node).stat.nlink == 1 && file.attributes == as_scanned(tree, node)
}

fn as_scanned(tree: &Tree, node: NodeId) -> Attributes {
    let node = tree.node(node);
    Attributes {
        mode: node.stat.mode.into(),
        uid: node.stat.uid,
        gid: node.stat.gid,
        mtime: node.stat.mtime,
        xattrs: node.xattrs().cloned().map(Arc::new),
    }
}
