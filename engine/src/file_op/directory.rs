//! A plan becomes a directory: the tree that later steps mount.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::OwnedFd;
use std::path::Path;

use cache::layer::{
    Content, DirectoryOptions, DirectorySink, Entry, EntryKind, LayerError, LayerSink,
};
use rayon::prelude::*;
use rustix::fs::{Mode, OFlags};

use super::change;
use super::emit::{IsStopped, Item, entry, items, write};
use super::plan::{Attributes, Directory, Plan, PlanPath, Planned};
use super::{Applied, FileOpError, Previous};

/// Entries that one thread writes before it looks for more.
const CHUNK: usize = 512;

/// Writes the layer to the directory `target`; as what it changes of the previous layer, where that
/// spares much.
pub(super) fn into_directory(
    plan: &Plan<'_>,
    target: &Path,
    options: &(dyn Fn() -> DirectoryOptions + Sync),
    previous: Option<Previous<'_>>,
    is_stopped: IsStopped<'_>,
) -> Result<Applied, FileOpError> {
    let (items, warnings) = items(plan)?;
    let fingerprints = change::fingerprints(&items);
    let writing = Writing { plan, root: open(target)?, options, is_stopped };
    let changed = previous.and_then(|previous| change::little(&previous, &items, &fingerprints));
    let mut applied = match changed {
        Some(changed) => Applied { is_change: true, ..writing.all(&changed)? },
        None => {
            let written = writing.all(&items)?;
            let left_out = !written.warnings.is_empty();
            let manifest = change::manifest(&items, &fingerprints, left_out);
            Applied { manifest, ..written }
        }
    };
    applied.warnings.splice(0..0, warnings);
    Ok(applied)
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
    fn all(&self, items: &[Item<'_, '_>]) -> Result<Applied, FileOpError> {
        let directories: Directories<'_, '_, '_> = items
            .iter()
            .filter(|item| matches!(item.planned, Planned::Directory(_)))
            .map(|item| (item.path, item))
            .collect();
        let parts: Vec<Part> = items
            .par_chunks(CHUNK)
            .map(|chunk| self.part(chunk, &directories))
            .collect::<Result<_, _>>()?;
        let mut applied = Applied::default();
        let mut shared = BTreeSet::new();
        for part in parts {
            applied.bytes += part.applied.bytes;
            applied.files += part.applied.files;
            applied.warnings.extend(part.applied.warnings);
            shared.extend(part.shared);
        }
        self.finish(items, &shared, &directories, &mut applied)?;
        Ok(applied)
    }

    /// Writes the items of `chunk`.
    fn part(
        &self,
        chunk: &[Item<'_, '_>],
        directories: &Directories<'_, '_, '_>,
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
        for item in chunk {
            // Links wait for the files that they name, which another thread may write.
            if item.path.is_empty() || item.first.is_some() {
                continue;
            }
            if (self.is_stopped)() {
                return Err(FileOpError::Stopped);
            }
            part.applied.count(item);
            write(item, &entry(item), &mut sink)?;
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
