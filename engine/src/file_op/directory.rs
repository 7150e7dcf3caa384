//! A plan becomes a directory: the tree that later steps mount.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use cache::layer::{
    Content, DirectoryOptions, DirectorySink, Entry, EntryKind, LayerError, LayerSink,
};
use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};

use super::change::{self, Comparison};
use super::emit::{IsStopped, Item, entry, items, write};
use super::plan::{Attributes, Directory, Plan, PlanPath, Planned};
use super::{Applied, FileOpError, Previous};

/// Entries that one thread writes before it looks for more.
const CHUNK: usize = 512;

/// Writes the layer to the directory `target`; as what it changes of the previous layer, where that
/// may be and is little.
pub(super) fn into_directory(
    plan: &Plan<'_>,
    target: &Path,
    options: &(dyn Fn() -> DirectoryOptions + Sync),
    previous: Option<Previous<'_>>,
    is_stopped: IsStopped<'_>,
) -> Result<Applied, FileOpError> {
    let (items, warnings) = items(plan)?;
    let fingerprints = change::fingerprints(&items);
    let compare = |previous: &Previous<'_>| {
        let comparison = Comparison::new(previous.manifest, &items, &fingerprints);
        let may_lie_over = previous.may_lie_below && previous.manifest.is_whole();
        let is_change = may_lie_over && comparison.is_small_addition(&items);
        (comparison, is_change)
    };
    let writing = Writing { plan, root: open(target)?, options, is_stopped };
    let mut applied = match previous.as_ref().map(compare) {
        Some((comparison, true)) => {
            let changed = change::changed(items, &comparison);
            Applied { is_change: true, ..writing.all(&changed, None)? }
        }
        compared => {
            // A previous layer that is gone is no error, only slower.
            let opened = previous.and_then(|previous| open(previous.path).ok());
            let reuse = opened.zip(compared).map(|(directory, (comparison, _))| Reuse {
                directory,
                unchanged: comparison.unchanged,
            });
            let written = writing.all(&items, reuse.as_ref())?;
            let left_out = !written.warnings.is_empty();
            let manifest = change::manifest(&items, &fingerprints, left_out);
            Applied { manifest, ..written }
        }
    };
    applied.warnings.splice(0..0, warnings);
    Ok(applied)
}

/// The layer that unchanged files are linked from.
struct Reuse {
    directory: OwnedFd,
    /// One an item.
    unchanged: Vec<bool>,
}

/// A directory in the making.
struct Writing<'w, 'a> {
    plan: &'w Plan<'a>,
    root: OwnedFd,
    options: &'w (dyn Fn() -> DirectoryOptions + Sync),
    is_stopped: IsStopped<'w>,
}

/// What one thread wrote.
struct Part {
    applied: Applied,
    /// Directories that others write into, too: their times are still to be set.
    shared: BTreeSet<Vec<u8>>,
}

type Directories<'i, 'p, 'a> = BTreeMap<&'p [u8], &'i Item<'p, 'a>>;

impl Writing<'_, '_> {
    /// Writes `items`, several threads at a time. Every thread has its own sink, which also gets the
    /// directories that lead to its entries; what depends on all of them comes last.
    fn all(&self, items: &[Item<'_, '_>], reuse: Option<&Reuse>) -> Result<Applied, FileOpError> {
        let directories: Directories<'_, '_, '_> = items
            .iter()
            .filter(|item| matches!(item.planned, Planned::Directory(_)))
            .map(|item| (item.path, item))
            .collect();
        let parts: Vec<Part> = items
            .par_chunks(CHUNK)
            .enumerate()
            .map(|(number, chunk)| self.part(chunk, number * CHUNK, &directories, reuse))
            .collect::<Result<_, _>>()?;
        let mut applied = Applied::default();
        let mut shared = BTreeSet::new();
        for part in parts {
            applied.bytes += part.applied.bytes;
            applied.files += part.applied.files;
            applied.linked += part.applied.linked;
            applied.warnings.extend(part.applied.warnings);
            shared.extend(part.shared);
        }
        self.finish(items, &shared, &directories, &mut applied)?;
        Ok(applied)
    }

    /// Writes the items of `chunk`, the first of which is number `first`.
    fn part(
        &self,
        chunk: &[Item<'_, '_>],
        first: usize,
        directories: &Directories<'_, '_, '_>,
        reuse: Option<&Reuse>,
    ) -> Result<Part, FileOpError> {
        let mut sink = self.sink()?;
        let mut part = Part { applied: Applied::default(), shared: BTreeSet::new() };
        // Whatever leads to the first and to the last entry may have entries in other parts.
        for item in [chunk.first(), chunk.last()].into_iter().flatten() {
            for directory in leading_to(item.path) {
                part.shared.insert(directory.to_vec());
            }
            part.shared.insert(item.path.to_vec());
        }
        for directory in chunk.first().map_or(Vec::new(), |item| leading_to(item.path)) {
            if let Some(item) = directories.get(directory) {
                sink.entry(&entry(item), Content::None)?;
            }
        }
        for (item, number) in chunk.iter().zip(first..) {
            // Links wait for the files that they name, which another thread may write.
            if item.path.is_empty() || item.first.is_some() {
                continue;
            }
            if (self.is_stopped)() {
                return Err(FileOpError::Stopped);
            }
            let entry = entry(item);
            part.applied.count(item);
            match reuse.filter(|reuse| item.file().is_some() && reuse.unchanged[number]) {
                Some(reuse) if link(&entry, &reuse.directory, &mut sink) => {
                    part.applied.linked += 1;
                }
                _ => write(item, &entry, &mut sink)?,
            }
            if let Planned::Directory(Directory { hides: true, .. }) = item.planned {
                sink.entry(&Entry::new(item.path, EntryKind::Opaque, 0), Content::None)?;
            }
        }
        let finished = sink.finish()?;
        part.applied.warnings = finished.warnings.iter().map(ToString::to_string).collect();
        Ok(part)
    }

    /// Hard links, then the times of directories that several threads wrote into, and the root.
    fn finish(
        &self,
        items: &[Item<'_, '_>],
        shared: &BTreeSet<Vec<u8>>,
        directories: &Directories<'_, '_, '_>,
        applied: &mut Applied,
    ) -> Result<(), FileOpError> {
        let mut last: BTreeMap<PlanPath, &Item<'_, '_>> = BTreeMap::new();
        let mut add = |item| {
            let item: &Item<'_, '_> = item;
            last.insert(PlanPath(item.path.into()), item);
        };
        for item in items.iter().filter(|item| item.first.is_some()) {
            add(item);
            let above = leading_to(item.path);
            above.iter().filter_map(|dir| directories.get(dir)).for_each(|dir| add(dir));
        }
        shared.iter().filter_map(|dir| directories.get(dir.as_slice())).for_each(|dir| add(dir));
        let mut sink = self.sink()?;
        if let Some(attributes) = root_attributes(self.plan)? {
            let mut root = Entry::new(b"", EntryKind::Directory, attributes.mode);
            (root.uid, root.gid, root.mtime) = (attributes.uid, attributes.gid, attributes.mtime);
            root.xattrs = attributes.xattrs.as_deref().cloned().unwrap_or_default();
            sink.entry(&root, Content::None)?;
        }
        for item in last.into_values() {
            sink.entry(&entry(item), Content::None)?;
        }
        let finished = sink.finish()?;
        applied.warnings.extend(finished.warnings.iter().map(ToString::to_string));
        Ok(())
    }

    fn sink(&self) -> Result<DirectorySink, FileOpError> {
        let root = self.root.try_clone().map_err(|source| LayerError::Entry {
            action: "open",
            path: "/".into(),
            source,
        })?;
        Ok(DirectorySink::new(root, (self.options)())?)
    }
}

/// The directories above `path`, from the top, without the root.
fn leading_to(path: &[u8]) -> Vec<&[u8]> {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    slashes.map(|(at, _)| &path[..at]).collect()
}

/// Links the file of `entry` from the previous layer. A link that fails is no error: the file may be
/// gone, have too many names, or be on another file system.
fn link(entry: &Entry, previous: &OwnedFd, sink: &mut dyn LayerSink) -> bool {
    use std::os::unix::ffi::OsStrExt;
    let path = Path::new(std::ffi::OsStr::from_bytes(&entry.path));
    sink.entry(entry, Content::Link { directory: previous.as_fd(), path }).is_ok()
}

/// An upper directory's own root is what the merged root will be.
fn root_attributes(plan: &Plan<'_>) -> Result<Option<Attributes>, FileOpError> {
    match plan.get(b"").and_then(Planned::attributes) {
        Some(attributes) => Ok(Some(attributes.clone())),
        None if plan.lower.is_some_and(|lower| lower.descriptor().is_some()) => {
            Ok(Some(plan.lower_attributes(b"")?))
        }
        None => Ok(None),
    }
}

fn open(path: &Path) -> Result<OwnedFd, FileOpError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .map_err(|errno| FileOpError::Open { path: path.into(), source: errno.into() })
}
