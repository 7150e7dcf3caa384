//! What a prune takes or leaves, each with its size and its last use.

use std::collections::{BTreeSet, HashMap};

use oci::{Digest, media_type};

use super::everything::Everything;
use crate::bucket::Bucket;
use crate::layer_id::LayerId;
use crate::layer_row::LayerRow;
use crate::lease::Holds;
use crate::memo;
use crate::origin::parse_origin;
use crate::usage::Sizes;

/// One thing that may go by itself.
pub(super) struct Unit {
    pub(super) what: What,
    pub(super) item: CacheItem,
    /// How many layers it stands on.
    pub(super) depth: usize,
}

pub(super) enum What {
    /// The plain tar of a layer whose tree gives it back.
    Tar(Digest),
    /// A layer: its tree, and its blobs that no image has.
    Layer(LayerId),
    /// A cache mount or a mirror, by its number.
    Slot(usize),
}

impl Unit {
    pub(super) fn is_tar(&self) -> bool {
        matches!(self.what, What::Tar(_))
    }

    /// The key of the row that is it; nothing for what has none.
    pub(super) fn key(&self) -> &[u8] {
        match &self.what {
            What::Tar(digest) => digest.as_str().as_bytes(),
            What::Layer(id) => id.as_str().as_bytes(),
            What::Slot(_) => &[],
        }
    }
}

/// A part of the cache, as users see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheItem {
    /// The layer's id, or the directory of the cache mount or repository.
    pub id: String,
    /// What it is.
    pub kind: ItemKind,
    /// The step that made the layer, where it was pulled from, what an internal one is, the mount's id,
    /// or the repository's address.
    pub description: String,
    /// Ids of the layers that it lies on.
    pub parents: Vec<String>,
    /// Room it takes on disk, in bytes, without what named images take in any case.
    pub bytes: u64,
    /// When it was last used, in seconds since 1970.
    pub used: i64,
    /// A named image has it, too.
    pub is_shared: bool,
    /// A session that runs says that it needs it.
    pub is_in_use: bool,
}

/// Kinds of parts of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// The result of a step, or a layer of an image that a build started from.
    Layer,
    /// A layer that was made beside the steps: another form of one, or the files of a context.
    Internal,
    /// The tar of such a layer, which its tree gives back.
    Tar,
    /// A cache mount.
    Mount,
    /// What was fetched of a git repository.
    Mirror,
    /// A directory received from a client.
    Received,
}

impl ItemKind {
    /// BuildKit's word for it; it has none for tars.
    pub fn word(self) -> &'static str {
        match self {
            Self::Layer => "regular",
            Self::Internal => "internal",
            Self::Tar => "tar",
            Self::Mount => "exec.cachemount",
            Self::Mirror => "source.git.checkout",
            Self::Received => "source.local",
        }
    }

    /// Whether it changes in place.
    pub fn is_mutable(self) -> bool {
        matches!(self, Self::Mount | Self::Mirror | Self::Received)
    }
}

impl Everything<'_> {
    /// Everything there is.
    pub(super) fn units(&self, sizes: &Sizes, held: &[Holds]) -> Vec<Unit> {
        let is_held = |name: &str| held.iter().any(|holds| holds.contains(name));
        let mut units = Vec::new();
        self.layer_units(sizes, &is_held, &mut units);
        let slots = sizes.slots().iter().enumerate();
        units.extend(slots.map(|(number, (slot, bytes))| {
            let item = CacheItem {
                id: slot.name(),
                kind: match slot.bucket {
                    Bucket::Mirrors => ItemKind::Mirror,
                    Bucket::Received => ItemKind::Received,
                    _ => ItemKind::Mount,
                },
                description: slot.id(),
                parents: Vec::new(),
                bytes: *bytes,
                used: slot.used,
                is_shared: false,
                is_in_use: slot.is_in_use(),
            };
            Unit { what: What::Slot(number), item, depth: 0 }
        }));
        units
    }

    fn layer_units(&self, sizes: &Sizes, is_held: &dyn Fn(&str) -> bool, units: &mut Vec<Unit>) {
        let facts = self.facts();
        let origins: HashMap<Digest, &str> = self.origins.iter().filter_map(parse_origin).collect();
        for ((key, row_of), row) in &self.layers {
            let id = LayerId::from_key(key);
            let of_layer = facts.get(&&id);
            let maker = of_layer.and_then(|facts| facts.maker);
            let pulled = || {
                let mut forms = row.diff_id.iter().flat_map(|diff_id| self.forms_of(diff_id));
                let origin = forms.find_map(|form| origins.get(&form.digest));
                origin.map_or_else(String::new, |origin| format!("pulled from {origin}"))
            };
            let item = CacheItem {
                id: id.as_str().to_owned(),
                kind: maker.map_or(ItemKind::Layer, Maker::kind),
                description: maker.map_or_else(pulled, |maker| maker.name().to_owned()),
                parents: of_layer.map_or_else(Vec::new, Facts::parents),
                bytes: 0,
                used: of_layer.map_or(row_of.used, |facts| facts.used.max(row_of.used)),
                is_shared: false,
                is_in_use: is_held(id.as_str()),
            };
            let is_own = |digest: &Digest| !self.is_in_image(digest);
            let tar = self.tar_of(row).filter(|tar| is_own(tar) && !is_held(tar.as_str()));
            if let Some(tar) = &tar {
                let (kind, bytes) = (ItemKind::Tar, self.blob_size(tar));
                let item = CacheItem { kind, bytes, is_in_use: false, ..item.clone() };
                units.push(Unit { what: What::Tar(tar.clone()), item, depth: 0 });
            }
            let forms = row.diff_id.iter().flat_map(|diff_id| self.forms_of(diff_id));
            let blobs: BTreeSet<&Digest> = forms.map(|form| &form.digest).collect();
            let tree = row.own_directory().map_or(0, |directory| sizes.tree(directory));
            let own =
                blobs.iter().filter(|digest| is_own(digest) && Some(**digest) != tar.as_ref());
            let bytes = tree + own.map(|digest| self.blob_size(digest)).sum::<u64>();
            let is_shared = blobs.iter().any(|digest| self.is_in_image(digest));
            let depth = of_layer.map_or(0, |facts| facts.depth);
            let item = CacheItem { bytes, is_shared, ..item };
            units.push(Unit { what: What::Layer(id), item, depth });
        }
    }

    /// The plain tar of a layer whose tree is there and gives it back.
    fn tar_of(&self, row: &LayerRow) -> Option<Digest> {
        let diff_id = row.diff_id.as_ref().filter(|_| row.gives_tar)?;
        let is_plain = |form: &&oci::Descriptor| {
            form.media_type == media_type::LAYER && form.digest == diff_id.0
        };
        let tar = self.forms_of(diff_id).find(is_plain)?;
        let tree = Bucket::Layers.path(self.root).join(row.own_directory()?.as_str()).join("fs");
        tree.is_dir().then(|| tar.digest.clone())
    }

    /// What records and memos say of the layers, and layers of those that they lie over.
    fn facts(&self) -> HashMap<&LayerId, Facts<'_>> {
        let mut facts: HashMap<&LayerId, Facts<'_>> = HashMap::new();
        for (keyed, memo) in &self.memos {
            for layer in memo.iter().flat_map(|memo| &memo.layers) {
                let known = facts.entry(layer).or_default();
                known.used = keyed.1.used.max(known.used);
                known.maker = Some(Maker::Builder(memo::domain(keyed)));
            }
        }
        for ((_, row), record) in &self.records {
            let Some(record) = record else { continue };
            for stack in &record.outputs {
                for (depth, layer) in stack.iter().enumerate() {
                    let known = facts.entry(layer).or_default();
                    known.parents.extend(depth.checked_sub(1).map(|below| &stack[below]));
                    known.used = row.used.max(known.used);
                    known.depth = depth.max(known.depth);
                    if depth + 1 == stack.len() && !record.name.is_empty() {
                        known.maker = Some(Maker::Step(&record.name));
                    }
                }
            }
        }
        for ((key, row), layer) in &self.layers {
            let Some(over) = layer.over() else { continue };
            let own = facts.get(&&LayerId::from_key(key)).map_or(0, |facts| facts.used);
            let known = facts.entry(over).or_default();
            known.used = known.used.max(own).max(row.used);
        }
        facts
    }
}

#[derive(Default)]
struct Facts<'a> {
    /// When it was last used, by a record, a memo or by a layer that lies over it.
    used: i64,
    /// How many layers it stands on in the results that have it.
    depth: usize,
    /// The layers just below it there.
    parents: BTreeSet<&'a LayerId>,
    /// What is known of who made it.
    maker: Option<Maker<'a>>,
}

impl Facts<'_> {
    fn parents(&self) -> Vec<String> {
        self.parents.iter().map(|id| id.as_str().to_owned()).collect()
    }
}

/// Who made a layer.
#[derive(Clone, Copy)]
enum Maker<'a> {
    /// A step.
    Step(&'a str),
    /// The builder itself, as what the domain of its memo says.
    Builder(&'a str),
}

impl<'a> Maker<'a> {
    fn kind(self) -> ItemKind {
        match self {
            Self::Step(_) => ItemKind::Layer,
            Self::Builder(_) => ItemKind::Internal,
        }
    }

    fn name(self) -> &'a str {
        match self {
            Self::Step(name) | Self::Builder(name) => name,
        }
    }
}
