//! Checking a store, and mending it: damage is removed, so that it is a miss. There is nothing
//! to repair from; what is lost is built again.

use std::fmt;
use std::path::{Path, PathBuf};

use oci::layout::{INDEX, MARKER, MARKER_CONTENT};
use oci::{Descriptor, DiffId, Digest};
use rayon::prelude::*;

use crate::blob::{hash_file, size_of_row};
use crate::bucket::blob_path;
use crate::bucket::{Bucket, RECORDS};
use crate::check::Comparison;
use crate::container::Container;
use crate::database::{Kind, Row};
use crate::error::StoreError;
use crate::form::parse_form;
use crate::layer_id::LayerId;
use crate::layer_row::LayerRow;
use crate::memo::Memo;
use crate::record::Record;
use crate::store::Store;
use crate::{disk, image, image_blobs};

/// Whether the tree of a layer, every byte of it, is what the layer's digest says.
pub type HoldsTree<'a> = dyn Fn(&LayerId, &DiffId) -> TreeState + Sync + 'a;

/// What came of reading a tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TreeState {
    /// It is what its digest says.
    Good,
    /// It is something else, or cannot be read.
    Bad,
    /// There is nothing to compare it with.
    Unknown,
}

/// How a store is checked.
#[derive(Clone, Copy, Default)]
pub struct FsckOptions<'a> {
    /// How closely.
    pub depth: Depth<'a>,
    /// Remove what is damaged.
    pub repair: bool,
}

/// How closely a store is looked at.
#[derive(Clone, Copy, Default)]
pub enum Depth<'a> {
    /// Sizes of blobs, and what `stat` says of every file in a layer's tree.
    #[default]
    Quick,
    /// Every byte; trees are read by this.
    Full(&'a HoldsTree<'a>),
}

/// Kinds of damage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Damage {
    /// SQLite finds its file malformed.
    Database,
    /// A row's checksum does not match, or its value makes no sense.
    Row,
    /// A blob that a row vouches for is not there.
    BlobMissing,
    /// A blob has another size than when it was committed.
    BlobSize,
    /// A blob has other bytes than its digest says.
    BlobDigest,
    /// The tree of a layer is not there.
    LayerMissing,
    /// The tree of a layer was changed since it was made.
    LayerContent,
    /// A record or memo needs a layer or blob that is not there.
    RecordDangling,
    /// `oci-layout` is not what it should be, so that other programs take the store for something else.
    Layout,
    /// `index.json` is not an image index.
    Index,
    /// A tagged image lacks a blob.
    ImageIncomplete,
    /// What is kept of a container cannot be read, or a layer that it stands on is gone.
    Container,
    /// What was fetched of a git repository is not what it should be.
    Mirror,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of damage.
    pub damage: Damage,
    /// The file or directory, or the database for rows.
    pub path: PathBuf,
    /// What exactly: a digest, a layer's id, SQLite's words.
    pub detail: String,
}

impl Damage {
    /// A stable word for scripts.
    pub fn code(self) -> &'static str {
        match self {
            Self::Database => "database",
            Self::Row => "row",
            Self::BlobMissing => "blob-missing",
            Self::BlobSize => "blob-size",
            Self::BlobDigest => "blob-digest",
            Self::LayerMissing => "layer-missing",
            Self::LayerContent => "layer-content",
            Self::RecordDangling => "record-dangling",
            Self::Layout => "layout",
            Self::Index => "index",
            Self::ImageIncomplete => "image-incomplete",
            Self::Container => "container",
            Self::Mirror => "git-repository",
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} (`{}`)", self.damage.code(), self.detail, self.path.display())
    }
}

/// No `oci-layout` is longer.
const LAYOUT_MAX: u64 = 4096;

impl Store {
    /// Looks for damage in what is committed. Builds may go on meanwhile.
    pub fn fsck(&self, options: &FsckOptions<'_>) -> Result<Vec<Problem>, StoreError> {
        let mut problems = self.check_database(options)?;
        problems.extend(self.check_layout(options)?);
        problems.extend(self.check_blobs(options)?);
        problems.extend(self.check_layers(options)?);
        problems.extend(self.check_records(options)?);
        problems.extend(self.check_images());
        problems.extend(self.check_containers()?);
        Ok(problems)
    }

    fn check_database(&self, options: &FsckOptions<'_>) -> Result<Vec<Problem>, StoreError> {
        let complaints = self.inner.database.integrity();
        let complaints = complaints.unwrap_or_else(|error| vec![error.to_string()]);
        let mut problems: Vec<Problem> = complaints
            .into_iter()
            .map(|detail| self.row_problem(Damage::Database, detail))
            .collect();
        if !problems.is_empty() {
            if options.repair {
                self.inner.database.replace()?;
            }
            return Ok(problems);
        }
        for kind in Kind::ALL {
            for key in self.inner.database.damaged(kind)? {
                let detail = format!("{kind:?} {}", String::from_utf8_lossy(&key));
                problems.push(self.row_problem(Damage::Row, detail));
                if options.repair {
                    self.delete_row(kind, &key)?;
                }
            }
        }
        Ok(problems)
    }

    fn check_layout(&self, options: &FsckOptions<'_>) -> Result<Option<Problem>, StoreError> {
        let path = self.root().join(MARKER);
        // Other programs write it with other spaces.
        let meaning = |bytes: &[u8]| serde_json::from_slice::<serde_json::Value>(bytes).ok();
        let found = disk::read_capped(&path, LAYOUT_MAX);
        if found.is_ok_and(|found| meaning(&found) == meaning(MARKER_CONTENT)) {
            return Ok(None);
        }
        if options.repair {
            let failed = |error| StoreError::io("write", &path, error);
            disk::remove(&path).map_err(failed)?;
            disk::write_new(&path, MARKER_CONTENT).map_err(failed)?;
        }
        let detail = "it does not say what it should".to_owned();
        Ok(Some(Problem { damage: Damage::Layout, path, detail }))
    }

    fn check_blobs(&self, options: &FsckOptions<'_>) -> Result<Vec<Problem>, StoreError> {
        let rows = self.inner.database.scan(Kind::Blob, &[])?;
        let check = |(key, row): &(Vec<u8>, Row)| {
            let digest: Digest = std::str::from_utf8(key).ok()?.parse().ok()?;
            let path = blob_path(self.root(), &digest);
            let damage = blob_damage(&path, &digest, size_of_row(row), options.depth)?;
            Some((digest.clone(), Problem { damage, path, detail: digest.to_string() }))
        };
        let damaged: Vec<(Digest, Problem)> = rows.par_iter().filter_map(check).collect();
        if options.repair {
            for (digest, _) in &damaged {
                self.discard_blob(digest);
            }
        }
        Ok(damaged.into_iter().map(|(_, problem)| problem).collect())
    }

    fn check_layers(&self, options: &FsckOptions<'_>) -> Result<Vec<Problem>, StoreError> {
        let rows = self.inner.database.scan(Kind::Layer, &[])?;
        let check = |(key, row): &(Vec<u8>, Row)| {
            let id = LayerId::from_key(key);
            let row = LayerRow::parse(row)?;
            let path = |name: &LayerId| self.bucket(Bucket::Layers).join(name.as_str()).join("fs");
            let own = path(row.own_directory()?);
            let below = row.over().map(path);
            let damage = self.layer_damage(&id, &row, (below.as_deref(), &own), options.depth)?;
            let detail = format!("layer {id}");
            Some((id, Problem { damage, path: own, detail }))
        };
        let damaged: Vec<(LayerId, Problem)> = rows.par_iter().filter_map(check).collect();
        if options.repair {
            for (id, _) in &damaged {
                self.discard_tree(id);
            }
        }
        Ok(damaged.into_iter().map(|(_, problem)| problem).collect())
    }

    fn layer_damage(
        &self,
        id: &LayerId,
        row: &LayerRow,
        (below, own): (Option<&Path>, &Path),
        depth: Depth<'_>,
    ) -> Option<Damage> {
        let is_there = |path: &Path| path.symlink_metadata().is_ok_and(|found| found.is_dir());
        if !below.is_none_or(is_there) || !is_there(own) {
            return Some(Damage::LayerMissing);
        }
        let compared = self.compare(row, own);
        let read = match (depth, &row.diff_id) {
            (Depth::Full(holds), Some(diff_id)) => holds(id, diff_id),
            _ => TreeState::Unknown,
        };
        match (compared, read) {
            (_, TreeState::Bad) => Some(Damage::LayerContent),
            (Comparison::Same | Comparison::Unfinished, _) => None,
            // It is not used, and nothing is known to be wrong with it.
            (Comparison::Unknown, TreeState::Unknown) => None,
            // A copy of a store has other inodes and times, and the same content.
            (_, TreeState::Good) => {
                self.stamp_again(id, own);
                None
            }
            (Comparison::Changed, TreeState::Unknown) => Some(Damage::LayerContent),
        }
    }

    fn check_records(&self, options: &FsckOptions<'_>) -> Result<Vec<Problem>, StoreError> {
        let mut problems = Vec::new();
        self.inner.seen().clear();
        for (key, row) in self.inner.database.scan(Kind::Record, &[])? {
            let key_text = String::from_utf8_lossy(&key).into_owned();
            let record = Record::parse(&row);
            if record.as_ref().is_some_and(|record| self.record(&record.key).is_some()) {
                continue;
            }
            if !record.is_some_and(|record| self.has_forgotten(record.outputs.iter().flatten())) {
                problems.push(self.row_problem(Damage::RecordDangling, key_text));
            }
            if options.repair {
                self.delete_row(Kind::Record, &key)?;
            }
        }
        for (key, row) in self.inner.database.scan(Kind::Memo, &[])? {
            if self.whole_memo(&row).is_some() {
                continue;
            }
            if !Memo::parse(&row).is_some_and(|memo| self.has_forgotten(memo.layers.iter())) {
                let key = String::from_utf8_lossy(&key).into_owned();
                problems.push(self.row_problem(Damage::RecordDangling, key));
            }
            if options.repair {
                self.delete_row(Kind::Memo, &key)?;
            }
        }
        for (key, row) in self.inner.database.scan(Kind::Form, &[])? {
            if parse_form(&row).is_none() {
                let detail = String::from_utf8_lossy(&key).into_owned();
                problems.push(self.row_problem(Damage::Row, detail));
                if options.repair {
                    self.delete_row(Kind::Form, &key)?;
                }
            }
        }
        Ok(problems)
    }

    /// Whether one of a record's or memo's layers was found wanting before, and forgotten: that is mended
    /// already.
    fn has_forgotten<'a>(&self, mut layers: impl Iterator<Item = &'a LayerId>) -> bool {
        layers.any(|id| self.get(Kind::Layer, id.as_str().as_bytes()).is_none())
    }

    /// Nothing is removed here: a name that leads to an incomplete image is the user's to judge.
    fn check_images(&self) -> Vec<Problem> {
        let path = self.root().join(INDEX);
        let images = match image::roots(self.root()) {
            Ok(images) => images,
            Err(error) => {
                let detail = error.to_string();
                return vec![Problem { damage: Damage::Index, path, detail }];
            }
        };
        let missing = |image: &Descriptor| {
            let detail = match image_blobs::reachable(self.root(), image) {
                Ok(blobs) => {
                    let missing = blobs.into_iter().find(|digest| !self.has_blob(digest))?;
                    format!("image {} lacks {missing}", image.digest)
                }
                Err(error) => format!("image {}: {error}", image.digest),
            };
            Some(Problem { damage: Damage::ImageIncomplete, path: path.clone(), detail })
        };
        images.iter().filter_map(missing).collect()
    }

    /// Nothing is removed here either: what a container has written nobody can make again.
    fn check_containers(&self) -> Result<Vec<Problem>, StoreError> {
        let directories = self.container_directories()?;
        let problem = |path: &PathBuf| {
            let detail = match Container::read(path) {
                Err(error) => error.to_string(),
                Ok(container) => {
                    let mut layers = container.record.layers.iter();
                    let missing = layers.find(|id| self.layer(id).is_none())?;
                    format!("container `{}` lacks layer {missing}", container.record.name)
                }
            };
            Some(Problem { damage: Damage::Container, path: path.clone(), detail })
        };
        Ok(directories.iter().filter_map(problem).collect())
    }

    fn row_problem(&self, damage: Damage, detail: String) -> Problem {
        Problem { damage, path: self.root().join(RECORDS), detail }
    }

    fn delete_row(&self, kind: Kind, key: &[u8]) -> Result<(), StoreError> {
        self.inner.database.write(|write| Ok(write.delete(kind, key)?))
    }
}

fn blob_damage(
    path: &Path,
    digest: &Digest,
    size: Option<u64>,
    depth: Depth<'_>,
) -> Option<Damage> {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => found,
        _ => return Some(Damage::BlobMissing),
    };
    if Some(found.len()) != size {
        return Some(Damage::BlobSize);
    }
    if matches!(depth, Depth::Quick) {
        return None;
    }
    match hash_file(path, digest) {
        Ok((found, _)) if found == *digest => None,
        _ => Some(Damage::BlobDigest),
    }
}
