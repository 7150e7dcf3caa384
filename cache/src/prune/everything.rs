//! Everything that a prune chooses among, and what leads to what.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use oci::{Descriptor, DiffId, Digest};

use crate::blob::size_of_row;
use crate::database::{KeyedRow, Kind, Row, Write};
use crate::form::parse_form;
use crate::layer_id::LayerId;
use crate::layer_row::LayerRow;
use crate::memo::Memo;
use crate::record::{Record, RememberedReference};

pub(super) struct Everything<'a> {
    pub(super) root: &'a Path,
    pub(super) records: Vec<(KeyedRow, Option<Record>)>,
    pub(super) memos: Vec<(KeyedRow, Option<Memo>)>,
    pub(super) layers: Vec<(KeyedRow, LayerRow)>,
    /// Rows of layers that say nothing, so that nobody can use those layers.
    pub(super) unreadable: Vec<KeyedRow>,
    pub(super) ids: HashSet<LayerId>,
    pub(super) forms: Vec<(KeyedRow, Option<Descriptor>)>,
    /// The numbers of each layer's forms.
    forms_of: HashMap<DiffId, Vec<usize>>,
    pub(super) references: Vec<(KeyedRow, Option<RememberedReference>)>,
    pub(super) origins: Vec<KeyedRow>,
    pub(super) blobs: Vec<KeyedRow>,
    blob_sizes: HashMap<Digest, u64>,
    /// Blobs of images; `None` when the index or a manifest cannot be read.
    pub(super) in_images: Option<HashSet<Digest>>,
}

impl<'a> Everything<'a> {
    pub(super) fn read(
        root: &'a Path,
        write: &Write<'_>,
        in_images: Option<HashSet<Digest>>,
    ) -> rusqlite::Result<Self> {
        let (mut layers, mut unreadable) = (Vec::new(), Vec::new());
        for keyed in write.scan(Kind::Layer, &[])? {
            match LayerRow::parse(&keyed.1) {
                Some(row) => layers.push((keyed, row)),
                None => unreadable.push(keyed),
            }
        }
        let forms = parsed(write.scan(Kind::Form, &[])?, parse_form);
        let mut forms_of: HashMap<DiffId, Vec<usize>> = HashMap::new();
        for (number, ((key, _), _)) in forms.iter().enumerate() {
            if let Some(diff_id) = form_diff_id(key) {
                forms_of.entry(diff_id).or_default().push(number);
            }
        }
        let blobs = write.scan(Kind::Blob, &[])?;
        let size = |(key, row): &KeyedRow| Some((digest(key)?, size_of_row(row)?));
        Ok(Self {
            root,
            records: parsed(write.scan(Kind::Record, &[])?, Record::parse),
            memos: parsed(write.scan(Kind::Memo, &[])?, Memo::parse),
            ids: layers.iter().map(|((key, _), _)| LayerId::from_key(key)).collect(),
            layers,
            unreadable,
            forms,
            forms_of,
            references: parsed(write.scan(Kind::Reference, &[])?, RememberedReference::parse),
            origins: write.scan(Kind::Origin, &[])?,
            blob_sizes: blobs.iter().filter_map(size).collect(),
            blobs,
            in_images,
        })
    }

    /// The blobs that a layer is, compressed or not.
    pub(super) fn forms_of(&self, diff_id: &DiffId) -> impl Iterator<Item = &Descriptor> {
        let numbers = self.forms_of.get(diff_id).into_iter().flatten();
        numbers.filter_map(|number| self.forms[*number].1.as_ref())
    }

    /// The layers that lie over others, and these.
    pub(super) fn deltas(&self) -> impl Iterator<Item = (LayerId, &LayerId)> {
        let rows = self.layers.iter();
        rows.filter_map(|((key, _), row)| Some((LayerId::from_key(key), row.over()?)))
    }

    /// Whether a named image has the blob; with the index unknown, it may have any.
    pub(super) fn is_in_image(&self, digest: &Digest) -> bool {
        self.in_images.as_ref().is_none_or(|blobs| blobs.contains(digest))
    }

    /// Bytes of a blob that is there.
    pub(super) fn blob_size(&self, digest: &Digest) -> u64 {
        self.blob_sizes.get(digest).copied().unwrap_or(0)
    }
}

fn parsed<T>(rows: Vec<KeyedRow>, parse: impl Fn(&Row) -> T) -> Vec<(KeyedRow, T)> {
    let with = |keyed: KeyedRow| {
        let parsed = parse(&keyed.1);
        (keyed, parsed)
    };
    rows.into_iter().map(with).collect()
}

/// Which layer a form's row is about.
pub(super) fn form_diff_id(key: &[u8]) -> Option<DiffId> {
    std::str::from_utf8(key).ok()?.split_once(' ')?.0.parse().ok()
}

/// Which blob a row is about.
pub(super) fn digest(key: &[u8]) -> Option<Digest> {
    std::str::from_utf8(key).ok()?.parse().ok()
}
