//! Layers as the store knows them: a tree in overlay form, a tar's digest, blobs, or several of
//! these at once. How a tree becomes a tar and back is `layer`'s.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use oci::{Descriptor, DiffId};

use crate::bucket::Bucket;
use crate::database::Kind;
use crate::error::StoreError;
use crate::layer_id::LayerId;
use crate::layer_row::{Delta, LayerRow};
use crate::store::Store;
use crate::warning::Warning;
use crate::{layer_row, trash};

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

impl Store {
    /// Makes room for a layer: an empty tree, and a work directory for an overlay over it.
    pub fn new_layer(&self) -> Result<NewLayer, StoreError> {
        let id = LayerId::new(self.inner.lease.unique_name());
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
        let id = self.reserve_layer();
        self.add_reserved_layer(&id, diff_id, blob);
        id
    }

    /// A name for a layer that is not here yet, and may never be. Nothing is written.
    pub fn reserve_layer(&self) -> LayerId {
        LayerId::new(self.inner.lease.unique_name())
    }

    /// The layer that `id` was [reserved](Self::reserve_layer) for has come, as a blob.
    pub fn add_reserved_layer(&self, id: &LayerId, diff_id: &DiffId, blob: &Descriptor) {
        self.add_blob_form(diff_id, blob);
        self.put_layer(id, LayerRow { diff_id: Some(diff_id.clone()), ..LayerRow::default() });
        if self.layer_of_diff_id(diff_id).is_none() {
            self.put(Kind::DiffId, diff_id.0.as_str().as_bytes(), id.as_str().as_bytes().to_vec());
        }
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
            self.put(Kind::DiffId, diff_id.0.as_str().as_bytes(), id.as_str().as_bytes().to_vec());
        }
    }

    /// Notes what of a layer's tree could not be written to its tar.
    pub fn set_warnings(&self, id: &LayerId, warnings: Vec<String>) {
        self.put_layer(id, LayerRow { warnings: Some(warnings), ..LayerRow::default() });
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
        let key = id.as_str().as_bytes();
        let old = self.get(Kind::Layer, key).as_deref().and_then(LayerRow::parse);
        self.inner.pending_mut().rows.remove(&(Kind::Layer, key.into()));
        // Others may lie over it.
        self.inner.seen().clear();
        self.inner.checked().remove(id);
        let tree = old.as_ref().and_then(LayerRow::own_directory);
        let replaced = self.inner.database.write(|write| -> Result<_, StoreError> {
            let epoch =
                tree.map(|tree| layer_row::discard_directory(write, id, tree)).transpose()?;
            match &row {
                Some(row) => write.put(Kind::Layer, key, &row.row())?,
                None => write.delete(Kind::Layer, key)?,
            }
            Ok(epoch)
        });
        let closed = replaced.and_then(|epoch| match epoch {
            Some(epoch) => trash::close_epoch(self.root(), &self.inner.database, epoch),
            None => Ok(()),
        });
        if let Err(StoreError::Database(error)) = closed {
            self.database_failed(error);
        }
    }

    pub(crate) fn layer_row(&self, id: &LayerId) -> Option<LayerRow> {
        if !self.inner.lease.hold(id.as_str()) {
            return None;
        }
        let key = id.as_str().as_bytes();
        let row = loop {
            match self.get(Kind::Layer, key) {
                Some(row) => break row,
                None if self.take_back(Kind::Layer, id.as_str()) => {}
                None => return None,
            }
        };
        self.touch(Kind::Layer, key, &row);
        LayerRow::parse(&row)
    }

    /// Fills in what is known now of a layer.
    fn put_layer(&self, id: &LayerId, news: LayerRow) {
        // Without success it may go like any other, and is made again.
        let _ = self.inner.lease.hold(id.as_str());
        let key = id.as_str().as_bytes();
        let known = self.get(Kind::Layer, key).or_else(|| {
            // Prune may just have thrown it away: what it says still holds.
            if trash::holds(&self.inner.database, Kind::Layer, id.as_str()).unwrap_or(true) {
                self.take_back(Kind::Layer, id.as_str());
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
        self.bucket(Bucket::Layers).join(id.as_str())
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
