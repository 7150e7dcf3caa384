//! Which rows a prune takes, and which then lead nowhere.

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashSet};
use std::path::Path;
use std::time::Duration;

use oci::{DiffId, Digest};

use super::everything::{self, Everything, form_diff_id};
use super::filter::PruneFilter;
use super::units::{Unit, What};
use super::verdict::{Judged, Verdict, Why, WhyNot};
use crate::blob::size_of_row;
use crate::clock::now;
use crate::database::{KeyedRow, Kind, Row, Write};
use crate::image_blobs;
use crate::layer_id::LayerId;
use crate::layer_row::LayerRow;
use crate::lease::Holds;
use crate::memo::Memo;
use crate::origin::parse_origin;
use crate::record::Record;
use crate::slot::Slot;
use crate::trash::{self, Epoch};
use crate::usage::Sizes;

/// A blob without a row may be another program's, about to be tagged: it stays this long.
const FOREIGN_GRACE: Duration = Duration::from_secs(3600);

/// What a choice goes by.
pub(super) struct Choice<'a> {
    pub(super) filter: &'a PruneFilter,
    pub(super) sizes: &'a Sizes,
    /// What sessions say that they hold.
    pub(super) held: &'a [Holds],
    /// Bytes that are free on the disk.
    pub(super) free: u64,
}

impl Choice<'_> {
    pub(super) fn is_held(&self, name: &str) -> bool {
        self.held.iter().any(|holds| holds.contains(name))
    }
}

/// What goes.
#[derive(Debug, Default)]
pub(super) struct Selection {
    rows: Vec<(Kind, KeyedRow)>,
    pub(super) slots: Vec<Slot>,
    /// What becomes of each part of the cache.
    pub(super) judged: Vec<Judged>,
}

/// What was chosen, before what then leads nowhere.
#[derive(Debug, Default)]
struct Gone {
    layers: HashSet<LayerId>,
    /// Tars that a layer's tree gives back.
    tars: HashSet<Digest>,
    slots: BTreeSet<usize>,
}

impl Gone {
    fn take(&mut self, what: &What) {
        match what {
            What::Tar(digest) => drop(self.tars.insert(digest.clone())),
            What::Layer(id) => drop(self.layers.insert(id.clone())),
            What::Slot(number) => drop(self.slots.insert(*number)),
        }
    }
}

impl Selection {
    /// Chooses. With the blobs of `images` unknown, no blob goes.
    pub(super) fn make(
        root: &Path,
        write: &Write<'_>,
        images: Option<HashSet<Digest>>,
        choice: &Choice<'_>,
    ) -> rusqlite::Result<Self> {
        let everything = Everything::read(root, write, images)?;
        let (gone, mut units) = everything.choose(choice);
        let slots = choice.sizes.slots();
        let chosen_slots = gone.slots.iter().map(|n| slots[*n].0.clone()).collect();
        let mut selection = everything.closure(write, gone, choice)?;
        let taken: HashSet<&[u8]> = selection.rows.iter().map(|(_, row)| &*row.0).collect();
        for (unit, verdict) in &mut units {
            if matches!(verdict, Verdict::Stays(_)) && taken.contains(unit.key()) {
                *verdict = Verdict::Goes(Why::Unneeded);
            }
        }
        let judged = units.into_iter().map(|(unit, verdict)| Judged { item: unit.item, verdict });
        (selection.slots, selection.judged) = (chosen_slots, judged.collect());
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

    /// Bytes that everything chosen has, as far as rows know them.
    pub(super) fn bytes(&self, sizes: &Sizes) -> u64 {
        let of_row = |(kind, (_, row)): &(Kind, KeyedRow)| match kind {
            Kind::Blob => size_of_row(row).unwrap_or(0),
            Kind::Layer => LayerRow::parse(row)
                .and_then(|row| Some(sizes.tree(row.own_directory()?)))
                .unwrap_or(0),
            _ => 0,
        };
        let is_chosen = |slot: &Slot| self.slots.iter().any(|chosen| chosen.path == slot.path);
        let slots = sizes.slots().iter().filter(|(slot, _)| is_chosen(slot));
        self.rows.iter().map(of_row).sum::<u64>() + slots.map(|(_, bytes)| bytes).sum::<u64>()
    }

    fn count(&self, kind: Kind) -> u64 {
        self.rows.iter().filter(|(found, _)| *found == kind).count() as u64
    }

    fn take(&mut self, kind: Kind, row: &KeyedRow) {
        self.rows.push((kind, row.clone()));
    }
}

impl Everything<'_> {
    /// The units that the filter takes, and all of them with what becomes of each.
    fn choose(&self, choice: &Choice<'_>) -> (Gone, Vec<(Unit, Verdict)>) {
        let filter = choice.filter;
        let mut units = self.units(choice.sizes, choice.held);
        let used: u64 = units.iter().map(|unit| unit.item.bytes).sum();
        let limit = filter.space.limit(used, choice.free);
        // What costs nothing first, then the longest unused; of one stack, the topmost.
        units.sort_by_key(|unit| (!unit.is_tar(), unit.item.used, Reverse(unit.depth)));
        let mut gone = Gone::default();
        let mut left = used;
        let judge = |unit: Unit| {
            let verdict = match (filter.spares(&unit.item), limit) {
                (Some(why), _) => Verdict::Stays(why),
                (None, Some(limit)) if left <= limit => Verdict::Stays(WhyNot::WithinLimit(limit)),
                (None, _) if unit.is_tar() => Verdict::Goes(Why::GivenBack),
                (None, Some(limit)) => Verdict::Goes(Why::OverLimit(left - limit)),
                (None, None) => Verdict::Goes(Why::Chosen),
            };
            if verdict.is_chosen() {
                left -= unit.item.bytes;
                gone.take(&unit.what);
            }
            (unit, verdict)
        };
        let judged = units.into_iter().map(judge).collect();
        (gone, judged)
    }

    /// With what is `gone`, everything that leads nowhere any more.
    fn closure(
        &self,
        write: &Write<'_>,
        mut gone: Gone,
        choice: &Choice<'_>,
    ) -> rusqlite::Result<Selection> {
        let before = choice.filter.facts_before();
        let mut selection = Selection::default();
        for (id, over) in self.deltas() {
            if gone.layers.contains(over) || !self.ids.contains(over) {
                gone.layers.insert(id);
            }
        }
        let references = self.take_references(before, &mut selection);
        let records = self.take_records(write, before, &gone.layers, &mut selection)?;
        let memos = self.take_memos(before, &gone.layers, &mut selection);
        let needed =
            self.needed_layers(&records, &memos, references.as_ref(), &gone.layers, choice);
        for keyed in &self.unreadable {
            selection.take(Kind::Layer, keyed);
            gone.layers.insert(LayerId::from_key(&keyed.0));
        }
        let mut diff_ids: HashSet<&DiffId> = HashSet::new();
        for (keyed, row) in &self.layers {
            let id = LayerId::from_key(&keyed.0);
            match needed.contains(&id) {
                true => diff_ids.extend(&row.diff_id),
                false => {
                    selection.take(Kind::Layer, keyed);
                    gone.layers.insert(id);
                }
            }
        }
        for keyed in write.scan(Kind::DiffId, &[])? {
            let layer = LayerId::from_key(&keyed.1.value);
            if gone.layers.contains(&layer) || !self.ids.contains(&layer) {
                selection.take(Kind::DiffId, &keyed);
            }
        }
        let mut blobs: HashSet<Digest> = references.iter().flatten().cloned().collect();
        for (keyed, descriptor) in &self.forms {
            let is_kept = form_diff_id(&keyed.0)
                .is_some_and(|id| diff_ids.contains(&id) || choice.is_held(id.0.as_str()));
            match descriptor.as_ref().filter(|form| is_kept && !gone.tars.contains(&form.digest)) {
                Some(descriptor) => drop(blobs.insert(descriptor.digest.clone())),
                None => selection.take(Kind::Form, keyed),
            }
        }
        // What a manifest needs that cannot be read now stays.
        if references.is_some() {
            self.take_blobs(&blobs, choice, &mut selection);
            self.take_origins(&blobs, &mut selection);
        }
        Ok(selection)
    }

    /// Takes what registries said too long ago. Gives all blobs that the others lead to; `None` when a
    /// manifest cannot be read.
    fn take_references(&self, before: i64, selection: &mut Selection) -> Option<HashSet<Digest>> {
        let mut blobs = Some(HashSet::new());
        for (keyed, remembered) in &self.references {
            match remembered {
                Some(remembered) if keyed.1.used >= before => {
                    let found = image_blobs::reachable(self.root, &remembered.descriptor);
                    blobs =
                        blobs.zip(found.ok()).map(|(mut blobs, found): (HashSet<Digest>, _)| {
                            blobs.extend(found);
                            blobs
                        });
                }
                _ => selection.take(Kind::Reference, keyed),
            }
        }
        blobs
    }

    /// Takes the records that need a layer that is gone, and what leads to them. Gives the others.
    fn take_records(
        &self,
        write: &Write<'_>,
        before: i64,
        gone: &HashSet<LayerId>,
        selection: &mut Selection,
    ) -> rusqlite::Result<Vec<&Record>> {
        let mut records = Vec::new();
        let mut keys: HashSet<&[u8]> = HashSet::new();
        for (keyed, record) in &self.records {
            match record {
                Some(record)
                    if self.keeps(record.outputs.iter().flatten(), &keyed.1, gone, before) =>
                {
                    keys.insert(&keyed.0);
                    records.push(record);
                }
                _ => selection.take(Kind::Record, keyed),
            }
        }
        for alias in write.scan(Kind::Alias, &[])? {
            if !keys.contains(alias.1.value.as_slice()) {
                selection.take(Kind::Alias, &alias);
            }
        }
        Ok(records)
    }

    /// Takes the memos that need a layer that is gone. Gives the others.
    fn take_memos(
        &self,
        before: i64,
        gone: &HashSet<LayerId>,
        selection: &mut Selection,
    ) -> Vec<&Memo> {
        let mut memos = Vec::new();
        for (keyed, memo) in &self.memos {
            match memo {
                Some(memo) if self.keeps(memo.layers.iter(), &keyed.1, gone, before) => {
                    memos.push(memo);
                }
                _ => selection.take(Kind::Memo, keyed),
            }
        }
        memos
    }

    /// Whether the record or memo in `row` stays: all its `layers` do, or, without any, it was used
    /// lately.
    fn keeps<'a>(
        &self,
        layers: impl Iterator<Item = &'a LayerId>,
        row: &Row,
        gone: &HashSet<LayerId>,
        before: i64,
    ) -> bool {
        let mut layers = layers.peekable();
        if layers.peek().is_none() {
            return row.used >= before;
        }
        layers.all(|layer| self.ids.contains(layer) && !gone.contains(layer))
    }

    /// The layers that something still leads to: a record, a memo, an image, a reference, a session, or a
    /// layer that lies over them.
    fn needed_layers(
        &self,
        records: &[&Record],
        memos: &[&Memo],
        references: Option<&HashSet<Digest>>,
        gone: &HashSet<LayerId>,
        choice: &Choice<'_>,
    ) -> HashSet<LayerId> {
        let of_records = records.iter().flat_map(|record| record.outputs.iter().flatten());
        let of_memos = memos.iter().flat_map(|memo| &memo.layers);
        let mut needed: HashSet<LayerId> = of_records.chain(of_memos).cloned().collect();
        for ((key, _), row) in &self.layers {
            let id = LayerId::from_key(key);
            let forms = row.diff_id.iter().flat_map(|diff_id| self.forms_of(diff_id));
            let mut blobs = forms.map(|form| &form.digest);
            let is_led_to = choice.is_held(id.as_str())
                || row.diff_id.is_some() && (self.in_images.is_none() || references.is_none())
                || blobs.any(|blob| {
                    self.is_in_image(blob) || references.is_some_and(|known| known.contains(blob))
                });
            if is_led_to && !gone.contains(&id) {
                needed.insert(id);
            }
        }
        let over = self.deltas().filter(|(id, _)| needed.contains(id));
        let over: Vec<LayerId> = over.map(|(_, over)| over.clone()).collect();
        needed.extend(over);
        needed
    }

    /// Takes what is known of blobs that nothing leads to.
    fn take_origins(&self, needed: &HashSet<Digest>, selection: &mut Selection) {
        for keyed in &self.origins {
            if !parse_origin(keyed).is_some_and(|(blob, _)| needed.contains(&blob)) {
                selection.take(Kind::Origin, keyed);
            }
        }
    }

    /// Takes the blobs that nothing needs.
    fn take_blobs(&self, needed: &HashSet<Digest>, choice: &Choice<'_>, selection: &mut Selection) {
        let is_needed = |digest: &Digest| {
            self.is_in_image(digest) || needed.contains(digest) || choice.is_held(digest.as_str())
        };
        let mut with_row = HashSet::new();
        for keyed in &self.blobs {
            let digest = everything::digest(&keyed.0);
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
