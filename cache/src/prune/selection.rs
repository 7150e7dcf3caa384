//! Which rows a prune takes, and which then lead nowhere.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::time::Duration;

use oci::{Descriptor, DiffId, Digest};
use rayon::prelude::*;

use super::{PruneFilter, ago};
use crate::blob::blob_path;
use crate::bucket::Bucket;
use crate::database::{KeyedRow, Kind, Row, Write};
use crate::mount::Slot;
use crate::record::{Record, RememberedReference};
use crate::snapshot::{LayerId, LayerRow, parse_form};
use crate::store::{Store, StoreError, now};
use crate::trash::{self, Epoch};
use crate::usage::size_of;

/// A blob without a row may be another program's, about to be tagged: it stays this long.
const FOREIGN_GRACE: Duration = Duration::from_secs(3600);

/// The filter, with its durations made times.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cutoff {
    /// What was last used before this goes, in seconds since 1970.
    pub(super) before: i64,
    keep_bytes: Option<u64>,
}

impl Cutoff {
    pub(super) fn of(filter: &PruneFilter) -> Self {
        let before = match (filter.unused_for, filter.all) {
            (Some(unused_for), _) => ago(unused_for),
            (None, true) => i64::MAX,
            (None, false) => i64::MIN,
        };
        Self { before, keep_bytes: filter.keep_bytes }
    }
}

/// Sizes of trees in bytes, by name of their directory or path.
#[derive(Debug, Default)]
pub(super) struct Sizes {
    layers: HashMap<String, u64>,
    mounts: HashMap<std::path::PathBuf, u64>,
}

/// Measures what a limit by size has to know; without one there is nothing to measure.
pub(super) fn sizes(store: &Store, filter: &PruneFilter) -> Result<Sizes, StoreError> {
    if filter.keep_bytes.is_none() {
        return Ok(Sizes::default());
    }
    let layers = store.bucket(Bucket::Layers);
    let names = std::fs::read_dir(&layers)
        .map_err(|error| StoreError::io("list", &layers, error))?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let names: Vec<String> = names.collect();
    let measured = names.into_par_iter().map(|name| {
        let size = size_of(&layers.join(&name));
        (name, size)
    });
    let layers = measured.collect();
    let mounts = super::list_mounts(store.root())?;
    let mounts = mounts.into_iter().map(|slot| (slot.path.clone(), size_of(&slot.path))).collect();
    Ok(Sizes { layers, mounts })
}

/// What goes.
#[derive(Debug, Default)]
pub(super) struct Selection {
    rows: Vec<(Kind, KeyedRow)>,
    pub(super) mounts: Vec<Slot>,
}

/// Everything that a choice is made among.
struct Everything<'a> {
    root: &'a Path,
    records: Vec<(KeyedRow, Option<Record>)>,
    layers: Vec<(KeyedRow, LayerRow)>,
    forms: Vec<(KeyedRow, Option<Descriptor>)>,
    references: Vec<(KeyedRow, Option<RememberedReference>)>,
    blobs: Vec<KeyedRow>,
    /// Blobs of images; `None` when the index or a manifest cannot be read.
    in_images: Option<HashSet<Digest>>,
}

impl Selection {
    /// Chooses. With `images` unknown, no blob goes.
    pub(super) fn make(
        root: &Path,
        write: &Write<'_>,
        images: Option<&[Descriptor]>,
        sizes: &Sizes,
        mounts: &[Slot],
        cutoff: &Cutoff,
    ) -> rusqlite::Result<Self> {
        let everything = Everything::read(root, write, images)?;
        let used = everything.layers_used();
        let mut gone = everything.old_layers(&used, cutoff);
        let mut old_mounts: BTreeSet<usize> =
            (0..mounts.len()).filter(|n| mounts[*n].used < cutoff.before).collect();
        if let Some(keep) = cutoff.keep_bytes {
            everything.take_oldest(keep, &used, sizes, mounts, &mut gone, &mut old_mounts);
        }
        let mut selection = everything.closure(write, gone, cutoff)?;
        selection.mounts = old_mounts.into_iter().map(|n| mounts[n].clone()).collect();
        Ok(selection)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Moves everything chosen into the trash.
    pub(super) fn discard(&self, write: &Write<'_>, epoch: Epoch) -> rusqlite::Result<()> {
        for (kind, (key, row)) in &self.rows {
            trash::discard(write, epoch, *kind, key, row)?;
        }
        Ok(())
    }

    pub(super) fn steps(&self) -> u64 {
        self.count(Kind::Record)
    }

    pub(super) fn layers(&self) -> u64 {
        self.count(Kind::Layer)
    }

    pub(super) fn blobs(&self) -> u64 {
        self.count(Kind::Blob)
    }

    fn count(&self, kind: Kind) -> u64 {
        self.rows.iter().filter(|(found, _)| *found == kind).count() as u64
    }

    fn take(&mut self, kind: Kind, row: &KeyedRow) {
        self.rows.push((kind, row.clone()));
    }
}

impl<'a> Everything<'a> {
    fn read(
        root: &'a Path,
        write: &Write<'_>,
        images: Option<&[Descriptor]>,
    ) -> rusqlite::Result<Self> {
        fn parsed<T>(rows: Vec<KeyedRow>, parse: impl Fn(&Row) -> T) -> Vec<(KeyedRow, T)> {
            let with = |keyed: KeyedRow| {
                let parsed = parse(&keyed.1);
                (keyed, parsed)
            };
            rows.into_iter().map(with).collect()
        }
        let of_images = |images: &[Descriptor]| -> Option<HashSet<Digest>> {
            let mut blobs = HashSet::new();
            for image in images {
                blobs.extend(trash::reachable(root, image).ok()?);
            }
            Some(blobs)
        };
        Ok(Self {
            root,
            records: parsed(write.scan(Kind::Record, &[])?, Record::parse),
            layers: parsed(write.scan(Kind::Layer, &[])?, |row| {
                LayerRow::parse(row).unwrap_or_default()
            }),
            forms: parsed(write.scan(Kind::Form, &[])?, parse_form),
            references: parsed(write.scan(Kind::Reference, &[])?, RememberedReference::parse),
            blobs: write.scan(Kind::Blob, &[])?,
            in_images: images.and_then(of_images),
        })
    }

    /// When each layer was last used, itself, by a record or by a layer that lies over it.
    fn layers_used(&self) -> HashMap<LayerId, i64> {
        let own = self.layers.iter().map(|((key, row), _)| (LayerId::from_key(key), row.used));
        let mut used: HashMap<LayerId, i64> = own.collect();
        for ((_, row), record) in &self.records {
            for layer in record.iter().flat_map(|record| record.outputs.iter().flatten()) {
                if let Some(used) = used.get_mut(layer) {
                    *used = row.used.max(*used);
                }
            }
        }
        for (id, over) in self.deltas() {
            let last = used[&id];
            if let Some(used) = used.get_mut(over) {
                *used = last.max(*used);
            }
        }
        used
    }

    /// The layers that lie over others, and these.
    fn deltas(&self) -> impl Iterator<Item = (LayerId, &LayerId)> {
        let rows = self.layers.iter();
        rows.filter_map(|((key, _), row)| Some((LayerId::from_key(key), row.over()?)))
    }

    fn old_layers(&self, used: &HashMap<LayerId, i64>, cutoff: &Cutoff) -> HashSet<LayerId> {
        let old = used.iter().filter(|(_, used)| **used < cutoff.before);
        old.map(|(layer, _)| layer.clone()).collect()
    }

    /// Takes layers and mounts, the longest unused first, until at most `keep` bytes are left.
    fn take_oldest(
        &self,
        keep: u64,
        used: &HashMap<LayerId, i64>,
        sizes: &Sizes,
        mounts: &[Slot],
        gone: &mut HashSet<LayerId>,
        old_mounts: &mut BTreeSet<usize>,
    ) {
        enum Unit {
            Layer(LayerId),
            Mount(usize),
        }
        let mut units: Vec<(i64, u64, Unit)> = Vec::new();
        for ((key, _), row) in &self.layers {
            let id = LayerId::from_key(key);
            if !gone.contains(&id) {
                units.push((used[&id], self.layer_size(row, sizes), Unit::Layer(id)));
            }
        }
        for (n, slot) in mounts.iter().enumerate().filter(|(n, _)| !old_mounts.contains(n)) {
            let size = sizes.mounts.get(&slot.path).copied().unwrap_or(0);
            units.push((slot.used, size, Unit::Mount(n)));
        }
        units.sort_by_key(|(used, ..)| *used);
        let mut total: u64 = units.iter().map(|(_, size, _)| size).sum();
        for (_, size, unit) in units {
            if total <= keep {
                break;
            }
            total -= size;
            match unit {
                Unit::Layer(id) => drop(gone.insert(id)),
                Unit::Mount(n) => drop(old_mounts.insert(n)),
            }
        }
    }

    /// What removing a layer frees: its tree, and its blobs that no image needs.
    fn layer_size(&self, row: &LayerRow, sizes: &Sizes) -> u64 {
        let tree = row.own_directory().and_then(|name| sizes.layers.get(name.as_str()));
        let blobs: u64 = self
            .forms
            .iter()
            .filter(|((key, _), _)| row.diff_id.is_some() && form_diff_id(key) == row.diff_id)
            .filter_map(|(_, descriptor)| descriptor.as_ref())
            .filter(|descriptor| !self.is_in_image(&descriptor.digest))
            .filter_map(|descriptor| blob_path(self.root, &descriptor.digest).metadata().ok())
            .map(|found| found.len())
            .sum();
        tree.copied().unwrap_or(0) + blobs
    }

    fn is_in_image(&self, digest: &Digest) -> bool {
        self.in_images.as_ref().is_none_or(|blobs| blobs.contains(digest))
    }

    /// With the layers `gone`, everything that leads nowhere any more.
    fn closure(
        &self,
        write: &Write<'_>,
        mut gone: HashSet<LayerId>,
        cutoff: &Cutoff,
    ) -> rusqlite::Result<Selection> {
        let mut selection = Selection::default();
        let ids: HashSet<LayerId> =
            self.layers.iter().map(|((key, _), _)| LayerId::from_key(key)).collect();
        for (id, over) in self.deltas() {
            if gone.contains(over) || !ids.contains(over) {
                gone.insert(id);
            }
        }

        let mut kept_records = Vec::new();
        let mut kept_keys: HashSet<&[u8]> = HashSet::new();
        for (keyed, record) in &self.records {
            match record {
                Some(record) if keeps_record(record, &keyed.1, &ids, &gone, cutoff) => {
                    kept_keys.insert(&keyed.0);
                    kept_records.push(record);
                }
                _ => selection.take(Kind::Record, keyed),
            }
        }
        for alias in write.scan(Kind::Alias, &[])? {
            if !kept_keys.contains(alias.1.value.as_slice()) {
                selection.take(Kind::Alias, &alias);
            }
        }

        let mut needed: HashSet<&LayerId> =
            kept_records.iter().flat_map(|record| record.outputs.iter().flatten()).collect();
        for ((key, _), row) in &self.layers {
            let id = LayerId::from_key(key);
            let is_kept = !gone.contains(&id) && (row.diff_id.is_some() || needed.contains(&id));
            needed.extend(row.over().filter(|_| is_kept));
        }
        let mut kept_diff_ids: BTreeMap<&DiffId, LayerId> = BTreeMap::new();
        for (keyed, row) in &self.layers {
            let id = LayerId::from_key(&keyed.0);
            // Without a diff id nobody but a record can lead to a layer.
            if row.diff_id.is_none() && !needed.contains(&id) {
                gone.insert(id.clone());
            }
            match &row.diff_id {
                _ if gone.contains(&id) => selection.take(Kind::Layer, keyed),
                Some(diff_id) => drop(kept_diff_ids.insert(diff_id, id)),
                None => {}
            }
        }
        for keyed in write.scan(Kind::DiffId, &[])? {
            if gone.contains(&LayerId::from_key(&keyed.1.value)) {
                selection.take(Kind::DiffId, &keyed);
            }
        }
        let mut needed_blobs: HashSet<Digest> = HashSet::new();
        for (keyed, descriptor) in &self.forms {
            let is_kept = form_diff_id(&keyed.0).is_some_and(|id| kept_diff_ids.contains_key(&id));
            match descriptor {
                Some(descriptor) if is_kept => drop(needed_blobs.insert(descriptor.digest.clone())),
                _ => selection.take(Kind::Form, keyed),
            }
        }
        let mut is_known = true;
        for (keyed, remembered) in &self.references {
            match remembered {
                Some(remembered) if keyed.1.used >= cutoff.before => {
                    let reachable = trash::reachable(self.root, &remembered.descriptor);
                    is_known &= reachable.is_ok();
                    needed_blobs.extend(reachable.into_iter().flatten());
                }
                _ => selection.take(Kind::Reference, keyed),
            }
        }
        needed_blobs.extend(kept_records.iter().flat_map(|record| record.blobs.iter().cloned()));
        // What a manifest needs that cannot be read now stays.
        if is_known {
            self.take_blobs(&needed_blobs, &mut selection);
        }
        Ok(selection)
    }

    /// Takes the blobs that nothing needs.
    fn take_blobs(&self, needed: &HashSet<Digest>, selection: &mut Selection) {
        let is_needed = |digest: &Digest| self.is_in_image(digest) || needed.contains(digest);
        let mut with_row = HashSet::new();
        for keyed in &self.blobs {
            let digest = std::str::from_utf8(&keyed.0).ok().and_then(|text| text.parse().ok());
            if digest.as_ref().is_none_or(|digest| !is_needed(digest)) {
                selection.take(Kind::Blob, keyed);
            }
            with_row.extend(digest);
        }
        for (digest, size) in foreign_blobs(self.root) {
            if !with_row.contains(&digest) && !is_needed(&digest) {
                let row = Row { value: size.to_le_bytes().to_vec(), used: now() };
                selection.take(Kind::Blob, &(digest.as_str().as_bytes().to_vec(), row));
            }
        }
    }
}

fn keeps_record(
    record: &Record,
    row: &Row,
    ids: &HashSet<LayerId>,
    gone: &HashSet<LayerId>,
    cutoff: &Cutoff,
) -> bool {
    let mut layers = record.outputs.iter().flatten().peekable();
    if layers.peek().is_none() {
        return row.used >= cutoff.before;
    }
    layers.all(|layer| ids.contains(layer) && !gone.contains(layer))
}

fn form_diff_id(key: &[u8]) -> Option<DiffId> {
    std::str::from_utf8(key).ok()?.split_once(' ')?.0.parse().ok()
}

/// Blobs on disk that are old enough not to be another program's work in progress.
fn foreign_blobs(root: &Path) -> Vec<(Digest, u64)> {
    let old = |found: &std::fs::Metadata| {
        found
            .modified()
            .ok()
            .and_then(|at| at.elapsed().ok())
            .is_some_and(|age| age > FOREIGN_GRACE)
    };
    let mut blobs = Vec::new();
    for algorithm in ["sha256", "sha512"] {
        let Ok(entries) = std::fs::read_dir(root.join("blobs").join(algorithm)) else { continue };
        for entry in entries.filter_map(Result::ok) {
            let name = entry.file_name();
            let digest = format!("{algorithm}:{}", name.to_string_lossy()).parse();
            if let (Ok(digest), Ok(found)) = (digest, entry.metadata())
                && old(&found)
            {
                blobs.push((digest, found.len()));
            }
        }
    }
    blobs
}
