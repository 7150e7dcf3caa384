//! What a layer changes of the one that the same operation made last time.

use rayon::prelude::*;

use super::emit::{Item, is_in};
use super::manifest::Fingerprint;
use super::plan::{Attributes, Directory, PlanPath, Planned};
use super::{Manifest, Previous};

/// One in so many names may have changed, else the layer is written as a whole: what lies over
/// another tree keeps it from being removed, and costs a directory more to look into.
const SHARE: usize = 8;
/// Names that one thread compares before it looks for more.
const CHUNK: usize = 512;

/// The most that a layer may hold that is written whole, however little has changed: a step sees a
/// whole tree as it would in an empty store, but that two trees lie over each other shows in the
/// directories that both have.
#[derive(Debug, Clone, Copy)]
pub struct Small {
    /// Names.
    pub names: usize,
    /// Bytes in files.
    pub bytes: u64,
}

impl Small {
    /// What is written in a fraction of the time that it takes to start a step.
    pub const USUAL: Self = Self { names: 1024, bytes: 16 << 20 };

    fn holds(self, items: &[Item<'_, '_>]) -> bool {
        let bytes: u64 = items.iter().filter_map(|item| Some(item.file()?.size)).sum();
        items.len() <= self.names && bytes <= self.bytes
    }
}

/// Those of `items`, whose fingerprints are given, that are to lie over the `previous` layer, and the
/// directories that lead to them; nothing where the layer is better written whole.
pub(super) fn little<'p, 'a>(
    previous: &Previous<'_>,
    items: &[Item<'p, 'a>],
    fingerprints: &[Option<Fingerprint>],
) -> Option<Vec<Item<'p, 'a>>> {
    if !previous.manifest.is_whole()
        || previous.small.holds(items)
        || !items.iter().all(is_addition)
    {
        return None;
    }
    let unchanged = compare(previous.manifest, items, fingerprints)?;
    let changed = unchanged.iter().filter(|unchanged| !**unchanged).count();
    (changed * SHARE <= items.len()).then(|| with_parents(items, &unchanged))
}

/// Whether the layer `before` has the same, one an item; nothing if it has names that this one lacks.
fn compare(
    before: &Manifest,
    items: &[Item<'_, '_>],
    fingerprints: &[Option<Fingerprint>],
) -> Option<Vec<bool>> {
    let mut others = before.names().iter().peekable();
    let mut unchanged = Vec::with_capacity(items.len());
    for (item, fingerprint) in items.iter().zip(fingerprints) {
        if others.peek().is_some_and(|(path, _)| path.is_before(item.path)) {
            return None;
        }
        let other = others.next_if(|(path, _)| *path.0 == *item.path);
        unchanged.push(other.is_some_and(|(_, other)| Some(other) == fingerprint.as_ref()));
    }
    others.next().is_none().then_some(unchanged)
}

/// Whether a name can lie over another tree with no mark of overlayfs's, and alone.
fn is_addition(item: &Item<'_, '_>) -> bool {
    let marks = match item.planned {
        Planned::Whiteout => true,
        Planned::Directory(directory) => directory.hides,
        _ => false,
    };
    !marks && item.first.is_none()
}

/// The `items` that changed, and the directories that lead to them.
fn with_parents<'p, 'a>(items: &[Item<'p, 'a>], unchanged: &[bool]) -> Vec<Item<'p, 'a>> {
    let mut changed: Vec<Item<'p, 'a>> = Vec::new();
    // Directories on the way to the current name that are not among them yet.
    let mut above: Vec<Item<'p, 'a>> = Vec::new();
    for (item, unchanged) in items.iter().zip(unchanged) {
        while above.last().is_some_and(|directory| !is_in(item.path, directory.path)) {
            above.pop();
        }
        if !unchanged {
            changed.append(&mut above);
            changed.push(*item);
        } else if matches!(item.planned, Planned::Directory(_)) {
            above.push(*item);
        }
    }
    changed
}

/// The manifest of a layer with these names, of which nothing was `left_out`.
pub(super) fn manifest(
    items: &[Item<'_, '_>],
    fingerprints: &[Option<Fingerprint>],
    left_out: bool,
) -> Manifest {
    let known = |(item, fingerprint): (&Item<'_, '_>, &Option<Fingerprint>)| {
        Some((PlanPath(item.path.into()), (*fingerprint)?))
    };
    let names: Vec<_> = items.iter().zip(fingerprints).filter_map(known).collect();
    let is_whole = !left_out && names.len() == items.len() && items.iter().all(is_addition);
    Manifest::new(names, is_whole)
}

/// The fingerprint of each of `items`; none where the content is not known.
pub(super) fn fingerprints(items: &[Item<'_, '_>]) -> Vec<Option<Fingerprint>> {
    items.par_iter().with_min_len(CHUNK).map_init(Vec::new, fingerprint).collect()
}

fn fingerprint(buffer: &mut Vec<u8>, item: &Item<'_, '_>) -> Option<Fingerprint> {
    buffer.clear();
    match item.planned {
        Planned::Whiteout => return None,
        Planned::Directory(Directory { merged, hides, .. }) => {
            buffer.extend([b'd', u8::from(*merged), u8::from(*hides)]);
        }
        Planned::File(file) => {
            buffer.push(b'f');
            buffer.extend(file.digest.as_ref()?);
            put_bytes(buffer, item.first.unwrap_or_default());
        }
        Planned::Symlink { target, .. } => {
            buffer.push(b'l');
            put_bytes(buffer, target);
        }
        Planned::Device { kind, major, minor, .. } => {
            buffer.extend([b'n', *kind as u8]);
            buffer.extend(major.to_be_bytes());
            buffer.extend(minor.to_be_bytes());
        }
        Planned::Fifo { .. } => buffer.push(b'p'),
    }
    put_attributes(buffer, item.planned.attributes()?);
    Some(blake3::hash(buffer).into())
}

fn put_attributes(buffer: &mut Vec<u8>, attributes: &Attributes) {
    for number in [attributes.mode, attributes.uid, attributes.gid, attributes.mtime.nanoseconds] {
        buffer.extend(number.to_be_bytes());
    }
    buffer.extend(attributes.mtime.seconds.to_be_bytes());
    for (name, value) in attributes.xattrs.iter().flat_map(|xattrs| xattrs.iter()) {
        put_bytes(buffer, name);
        put_bytes(buffer, value);
    }
}

fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend((bytes.len() as u64).to_be_bytes());
    buffer.extend_from_slice(bytes);
}
