//! Layers as the store knows them: a tree in overlay form, a tar's digest, blobs, or several of
//! these at once. How a tree becomes a tar and back is `layer`'s.

use std::fmt;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use oci::{Descriptor, DiffId};
use serde::{Deserialize, Serialize};

use crate::bucket::Bucket;
use crate::database::{Kind, Row, Write};
use crate::stamp::{Stamp, Stamped};
use crate::store::{Store, StoreError, now};
use crate::trash;
use crate::warning::Warning;

/// Names a layer, at random: two equal layers may have two ids.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LayerId(String);

/// Room for a layer's tree. Dropped without [`Store::seal`] it is removed, in the background; the
/// session does not end before.
#[derive(Debug)]
pub struct NewLayer {
    store: Store,
    id: LayerId,
    directory: PathBuf,
    is_kept: bool,
}

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// Its id.
    pub id: LayerId,
    /// The tree in overlay form, when there is one on disk.
    pub directory: Option<PathBuf>,
    /// The layer whose tree belongs below `directory`: the two together are this layer's.
    pub over: Option<LayerId>,
    /// Digest of its tar, once somebody has asked for it.
    pub diff_id: Option<DiffId>,
    /// Size of its tar in bytes, when known.
    pub tar_size: Option<u64>,
    /// Its plain tar was made from the tree, which gives it back byte for byte.
    pub gives_tar: bool,
    /// The layer as blobs, compressed or not: those that it came or was made as, and then what compressing
    /// it has given. A blob may have to be fetched first.
    pub blobs: Vec<Descriptor>,
    /// What of its tree could not be written to its tar.
    pub warnings: Vec<String>,
}

/// How a layer was compressed: what the bytes of the result depend on besides its content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Encoder {
    /// `gzip`, `zstd`, …
    pub algorithm: String,
    /// Level, as the algorithm counts.
    pub level: i32,
    /// Changes whenever the same input would give other bytes.
    pub version: u32,
}

/// A layer's row. Fields are filled in over time, by whoever finds out.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(crate) struct LayerRow {
    /// Which directory of `layers-v1` has the tree.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) directory: Option<LayerId>,
    /// Where the tree is instead, when it is a change of another's. There is one of the two at most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) delta: Option<Delta>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) diff_id: Option<DiffId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) tar_size: Option<u64>,
    /// The layer's plain tar was made from its tree, which gives it back byte for byte.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) gives_tar: bool,
    /// See [`crate::stamp`]. Those before knew no inodes and change times.
    #[serde(default, rename = "stamp-v2", skip_serializing_if = "Option::is_none")]
    pub(crate) stamp: Option<String>,
    /// Room that the tree takes on disk, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) bytes: Option<u64>,
    /// See [`LayerInfo::warnings`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) warnings: Option<Vec<String>>,
}

/// A tree in two directories, of which the lower is another layer's whole tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Delta {
    /// Which directory of `layers-v1` has what changed.
    pub(crate) directory: LayerId,
    /// The other layer, which is kept as long as this one, and its directory, which has the same name.
    pub(crate) over: LayerId,
}

impl Store {
    /// Makes room for a layer: an empty tree, and a work directory for an overlay over it.
    pub fn new_layer(&self) -> Result<NewLayer, StoreError> {
        let id = LayerId(self.inner.lease.unique_name());
        let directory = self.layer_path(&id);
        let create = |path: &Path, mode| {
            let created = DirBuilder::new().mode(mode).create(path);
            created.map_err(|error| StoreError::io("create", path, error))
        };
        create(&directory, 0o700)?;
        let layer = NewLayer { store: self.clone(), id, directory, is_kept: false };
        create(&layer.fs(), 0o755)?;
        create(&layer.work(), 0o700)?;
        Ok(layer)
    }

    /// The tree is finished and never changes again. Nothing may be mounted on it any more.
    pub fn seal(&self, layer: NewLayer) -> LayerId {
        let id = layer.keep();
        let row = LayerRow { directory: Some(id.clone()), ..LayerRow::default() };
        self.put_tree(&id, row);
        id
    }

    /// The same for a tree that the caller reads next: [`Store::set_stamp`] is left to him, until the
    /// next [`Store::flush`].
    pub fn seal_unstamped(&self, layer: NewLayer) -> LayerId {
        self.inner.stamps.expect(&layer.id, layer.fs());
        let id = layer.keep();
        let row = LayerRow { directory: Some(id.clone()), ..LayerRow::default() };
        self.put_tree_unstamped(&id, row);
        id
    }

    /// As [`Self::seal`], for a tree that is complete with that of the layer `over` below it, and that
    /// deletes nothing of it. `over` must have been sealed with a whole tree.
    pub fn seal_over(&self, layer: NewLayer, over: &LayerId) -> LayerId {
        let id = layer.keep();
        let delta = Some(Delta { directory: id.clone(), over: over.clone() });
        self.put_tree(&id, LayerRow { delta, ..LayerRow::default() });
        id
    }

    /// What is known of a layer; `None` when it can neither be mounted nor read from a blob.
    pub fn layer(&self, id: &LayerId) -> Option<LayerInfo> {
        let row = self.layer_row(id)?;
        let directory = self.directory_of(id, &row);
        let blobs = row.diff_id.as_ref().map_or_else(Vec::new, |diff_id| self.forms(diff_id));
        if directory.is_none() && blobs.is_empty() {
            return None;
        }
        let LayerRow { delta, diff_id, tar_size, gives_tar, warnings, .. } = row;
        let over = delta.filter(|_| directory.is_some()).map(|delta| delta.over);
        let (id, warnings) = (id.clone(), warnings.unwrap_or_default());
        Some(LayerInfo { id, directory, over, diff_id, tar_size, gives_tar, blobs, warnings })
    }

    /// The layer whose tar has this digest, if one is there.
    pub fn layer_of_diff_id(&self, diff_id: &DiffId) -> Option<LayerId> {
        let row = self.get(Kind::DiffId, diff_id.0.as_str().as_bytes())?;
        let id = LayerId::from_key(&row.value);
        self.layer(&id).map(|layer| layer.id)
    }

    /// A layer that exists as a blob, here or elsewhere, and has no tree yet. When there is a
    /// layer with this `diff_id` already, it gains the blob.
    pub fn add_blob_layer(&self, diff_id: &DiffId, blob: &Descriptor) -> LayerId {
        self.add_blob_form(diff_id, blob);
        if let Some(id) = self.layer_of_diff_id(diff_id) {
            return id;
        }
        let id = LayerId(self.inner.lease.unique_name());
        self.put_layer(&id, LayerRow { diff_id: Some(diff_id.clone()), ..LayerRow::default() });
        self.put(Kind::DiffId, diff_id.0.as_str().as_bytes(), id.0.as_bytes().to_vec());
        id
    }

    /// Gives a layer its tree, just unpacked. When it got one meanwhile, the new one is dropped.
    pub fn set_directory(&self, id: &LayerId, tree: NewLayer) {
        let row = self.layer_row(id).unwrap_or_default();
        if self.directory_of(id, &row).is_none() {
            let row = LayerRow { directory: Some(tree.keep()), ..LayerRow::default() };
            self.put_tree(id, row);
        }
    }

    /// Notes digest and size in bytes of a layer's tar.
    pub fn set_diff_id(&self, id: &LayerId, diff_id: &DiffId, tar_size: u64) {
        self.put_diff_id(id, diff_id, tar_size, false);
    }

    /// The same of a tar that was made from the layer's tree, in a way that always gives the same bytes:
    /// it need not be kept.
    pub fn set_diff_id_of_tree(&self, id: &LayerId, diff_id: &DiffId, tar_size: u64) {
        self.put_diff_id(id, diff_id, tar_size, true);
    }

    fn put_diff_id(&self, id: &LayerId, diff_id: &DiffId, tar_size: u64, gives_tar: bool) {
        let (known, tar_size) = (Some(diff_id.clone()), Some(tar_size));
        self.put_layer(id, LayerRow { diff_id: known, tar_size, gives_tar, ..LayerRow::default() });
        if self.layer_of_diff_id(diff_id).is_none() {
            self.put(Kind::DiffId, diff_id.0.as_str().as_bytes(), id.0.as_bytes().to_vec());
        }
    }

    /// Notes what of a layer's tree could not be written to its tar.
    pub fn set_warnings(&self, id: &LayerId, warnings: Vec<String>) {
        self.put_layer(id, LayerRow { warnings: Some(warnings), ..LayerRow::default() });
    }

    /// Notes that the layer with this `diff_id` is also to be had as a blob.
    pub fn add_blob_form(&self, diff_id: &DiffId, blob: &Descriptor) {
        self.put_form(diff_id, "", blob);
    }

    /// Notes what compressing a layer has given, so that it is done once.
    pub fn add_compressed(&self, diff_id: &DiffId, encoder: &Encoder, blob: &Descriptor) {
        self.put_form(diff_id, &encoder.key(), blob);
    }

    /// What compressing a layer has given, if it is still there.
    pub fn compressed(&self, diff_id: &DiffId, encoder: &Encoder) -> Option<Descriptor> {
        let row = self.get(Kind::Form, &form_key(diff_id, &encoder.key()))?;
        let descriptor = parse_form(&row)?;
        self.has_blob(&descriptor.digest).then_some(descriptor)
    }

    /// The layer as blobs. Prune may just have thrown them away, together with the layer's row or by
    /// themselves after it was found.
    fn forms(&self, diff_id: &DiffId) -> Vec<Descriptor> {
        let prefix = form_prefix(diff_id);
        let mut rows = loop {
            let rows = self.scan(Kind::Form, &prefix);
            if !rows.is_empty() || !self.take_back_forms(diff_id) {
                break rows;
            }
        };
        rows.sort_by_key(|(key, _)| !is_own_form(&key[prefix.len()..]));
        let mut forms: Vec<Descriptor> =
            rows.iter().filter_map(|(_, row)| parse_form(row)).collect();
        let mut seen = std::collections::HashSet::new();
        forms.retain(|form| seen.insert(form.digest.clone()));
        forms
    }

    fn put_form(&self, diff_id: &DiffId, encoder: &str, blob: &Descriptor) {
        let value = serde_json::to_vec(blob).expect("a descriptor is JSON");
        let key = match encoder {
            "" => form_key(diff_id, blob.digest.as_str()),
            encoder => form_key(diff_id, encoder),
        };
        self.put(Kind::Form, &key, value);
    }

    /// Forgets a layer that turned out to be missing or damaged: records that need it are absent
    /// from now on. Its tree goes when no session uses it any more.
    pub fn discard_layer(&self, id: &LayerId) {
        self.replace_layer(id, None);
    }

    /// Forgets the tree of a layer, which is not what it was. A layer that the store also has as a blob
    /// stays, to be unpacked again; any other is forgotten as a whole.
    pub fn discard_tree(&self, id: &LayerId) {
        let diff_id = self.layer_row(id).and_then(|row| row.diff_id);
        let is_there = |blob: &Descriptor| self.has_blob(&blob.digest);
        let diff_id = diff_id.filter(|diff_id| self.forms(diff_id).iter().any(is_there));
        let without_tree = |diff_id| LayerRow { diff_id: Some(diff_id), ..LayerRow::default() };
        self.replace_layer(id, diff_id.map(without_tree));
    }

    /// Puts `row` in the place of a layer's row, and the layer's tree into the trash.
    fn replace_layer(&self, id: &LayerId, row: Option<LayerRow>) {
        let key = id.0.as_bytes();
        let old = self.get(Kind::Layer, key).as_deref().and_then(LayerRow::parse);
        self.inner.pending_mut().rows.remove(&(Kind::Layer, key.into()));
        // Others may lie over it.
        self.inner.seen().clear();
        self.inner.checked().remove(id);
        let tree = old.as_ref().and_then(LayerRow::own_directory);
        let replaced = self.inner.database.write(|write| -> Result<_, StoreError> {
            let epoch = tree.map(|tree| trash::discard_directory(write, id, tree)).transpose()?;
            match &row {
                Some(row) => write.put(Kind::Layer, key, &row.row())?,
                None => write.delete(Kind::Layer, key)?,
            }
            Ok(epoch)
        });
        let closed = replaced.and_then(|epoch| match epoch {
            Some(epoch) => trash::close_epoch(&self.inner, epoch),
            None => Ok(()),
        });
        if let Err(StoreError::Database(error)) = closed {
            self.database_failed(error);
        }
    }

    pub(crate) fn layer_row(&self, id: &LayerId) -> Option<LayerRow> {
        if !self.inner.lease.hold(&id.0) {
            return None;
        }
        let key = id.0.as_bytes();
        let row = loop {
            match self.get(Kind::Layer, key) {
                Some(row) => break row,
                None if self.take_back(Kind::Layer, &id.0) => {}
                None => return None,
            }
        };
        self.touch(Kind::Layer, key, &row);
        LayerRow::parse(&row)
    }

    /// Fills in what is known now of a layer.
    fn put_layer(&self, id: &LayerId, news: LayerRow) {
        // Without success it may go like any other, and is made again.
        let _ = self.inner.lease.hold(&id.0);
        let key = id.0.as_bytes();
        let known = self.get(Kind::Layer, key).or_else(|| {
            // Prune may just have thrown it away: what it says still holds.
            if crate::trash::holds(&self.inner.database, Kind::Layer, &id.0).unwrap_or(true) {
                self.take_back(Kind::Layer, &id.0);
            }
            self.get(Kind::Layer, key)
        });
        self.change(|pending| {
            // Another thread may have filled in something else meanwhile.
            let known = pending.get(Kind::Layer, key).or(known);
            let known = known.as_deref().and_then(LayerRow::parse).unwrap_or_default();
            pending.put(Kind::Layer, key, news.or(known).row());
        });
    }

    /// Fills in that there is a tree, which no commit has synced.
    fn put_tree(&self, id: &LayerId, row: LayerRow) {
        let directory = self.directory_of(id, &row);
        self.put_tree_unstamped(id, row);
        if let Some(directory) = directory {
            self.stamp_in_background(id, directory);
        }
    }

    fn put_tree_unstamped(&self, id: &LayerId, row: LayerRow) {
        self.inner.pending_mut().unsynced_trees = true;
        self.put_layer(id, row);
        self.trust(id);
    }

    /// The directory with the layer's tree, or with what it changes of a tree that is there, too.
    pub(crate) fn directory_of(&self, id: &LayerId, row: &LayerRow) -> Option<PathBuf> {
        let path = self.layer_path(row.own_directory()?).join("fs");
        let is_there = std::fs::symlink_metadata(&path).is_ok_and(|found| found.is_dir());
        if is_there && row.delta.as_ref().is_none_or(|delta| self.is_whole(&delta.over)) {
            return Some(path);
        }
        self.warn(Warning::MissingLayer { layer: id.clone() });
        None
    }

    /// Whether a layer still has the tree that it was sealed with.
    fn is_whole(&self, id: &LayerId) -> bool {
        let row = self.layer_row(id).filter(|row| row.directory.as_ref() == Some(id));
        row.is_some_and(|row| self.directory_of(id, &row).is_some())
    }

    fn layer_path(&self, id: &LayerId) -> PathBuf {
        self.bucket(Bucket::Layers).join(&id.0)
    }
}

impl NewLayer {
    /// The id that the layer will have.
    pub fn id(&self) -> &LayerId {
        &self.id
    }

    /// The tree: an overlay's upper directory, or where a tar is unpacked to.
    pub fn fs(&self) -> PathBuf {
        self.directory.join("fs")
    }

    /// An overlay's work directory.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    fn keep(mut self) -> LayerId {
        self.is_kept = true;
        let _ = std::fs::remove_dir_all(self.work());
        self.id.clone()
    }
}

impl Drop for NewLayer {
    fn drop(&mut self) {
        if !self.is_kept {
            self.store.inner.removals.start(std::mem::take(&mut self.directory));
        }
    }
}

impl LayerId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id that a row's key or value is.
    pub(crate) fn from_key(key: &[u8]) -> Self {
        Self(String::from_utf8_lossy(key).into_owned())
    }
}

impl fmt::Display for LayerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Encoder {
    fn key(&self) -> String {
        format!("{}-{}-{}", self.algorithm, self.level, self.version)
    }
}

impl LayerRow {
    /// The directory that is this layer's own.
    pub(crate) fn own_directory(&self) -> Option<&LayerId> {
        self.directory.as_ref().or(self.delta.as_ref().map(|delta| &delta.directory))
    }

    /// The layer whose tree belongs below this one's.
    pub(crate) fn over(&self) -> Option<&LayerId> {
        self.delta.as_ref().map(|delta| &delta.over)
    }

    /// What this row says, and what `other` says where it says nothing.
    fn or(self, other: Self) -> Self {
        let tree = if self.own_directory().is_some() { &self } else { &other };
        let is_the_same = self.own_directory() == other.own_directory();
        let stamp = tree.stamp.clone().or_else(|| other.stamp.clone().filter(|_| is_the_same));
        Self {
            directory: tree.directory.clone(),
            delta: tree.delta.clone(),
            stamp,
            diff_id: self.diff_id.or(other.diff_id),
            tar_size: self.tar_size.or(other.tar_size),
            gives_tar: self.gives_tar || other.gives_tar,
            bytes: self.bytes.or(other.bytes),
            warnings: self.warnings.or(other.warnings),
        }
    }

    pub(crate) fn row(&self) -> Row {
        Row { value: serde_json::to_vec(self).expect("a layer's row is JSON"), used: now() }
    }

    pub(crate) fn parse(row: &Row) -> Option<Self> {
        serde_json::from_slice(&row.value).ok()
    }
}

/// The row to be written when another process may have filled in fields that this one has not.
pub(crate) fn merged(write: &Write<'_>, key: &[u8], row: &Row) -> rusqlite::Result<Row> {
    let Some(found) = write.get(Kind::Layer, key)? else { return Ok(row.clone()) };
    let (Some(ours), Some(theirs)) = (LayerRow::parse(row), LayerRow::parse(&found)) else {
        return Ok(row.clone());
    };
    Ok(ours.or(theirs).row())
}

/// Adds the stamp of its tree to a layer's row, and how large the tree is, if it still has that tree.
pub(crate) fn put_stamp(write: &Write<'_>, stamped: &Stamped) -> rusqlite::Result<()> {
    let key = stamped.layer.0.as_bytes();
    let found = write.get(Kind::Layer, key)?;
    let row = found.as_ref().and_then(LayerRow::parse);
    match row.filter(|row| row.own_directory() == Some(&stamped.directory)) {
        Some(row) => {
            let Stamp { digest, bytes } = stamped.stamp.clone();
            let row = LayerRow { stamp: Some(digest), bytes: Some(bytes), ..row };
            write.put(Kind::Layer, key, &row.row())
        }
        None => Ok(()),
    }
}

/// Adds to a layer's row how large its tree is. That is no use of the layer.
pub(crate) fn put_size(write: &Write<'_>, id: &LayerId, bytes: u64) -> rusqlite::Result<()> {
    let key = id.0.as_bytes();
    let Some(found) = write.get(Kind::Layer, key)? else { return Ok(()) };
    let Some(row) = LayerRow::parse(&found) else { return Ok(()) };
    let row = LayerRow { bytes: Some(bytes), ..row }.row();
    write.put(Kind::Layer, key, &Row { used: found.used, ..row })
}

pub(crate) fn form_prefix(diff_id: &DiffId) -> Vec<u8> {
    form_key(diff_id, "")
}

/// Whether a form is a blob that the layer came or was made as, not what compressing it has given.
fn is_own_form(form: &[u8]) -> bool {
    std::str::from_utf8(form).is_ok_and(|form| form.parse::<oci::Digest>().is_ok())
}

fn form_key(diff_id: &DiffId, form: &str) -> Vec<u8> {
    format!("{diff_id} {form}").into_bytes()
}

pub(crate) fn parse_form(row: &Row) -> Option<Descriptor> {
    serde_json::from_slice(&row.value).ok()
}
