//! Layers that exist only as directories get their tars and digests.

use std::sync::atomic::Ordering;

use cache::LayerId;
use cache::layer::{DiffOptions, LayerError, LayerSink, LeftOut};
use oci::{Descriptor, DiffId, Digest, media_type};

use crate::blocking::blocking;
use crate::error::{BoxedError, BuildError, Fault};
use crate::layer::layer_store::LayerStore;
use crate::layer::tar::LayerTar;
use crate::layer::write_back::WriteBack;
use crate::layer::{Layers, Writing};

/// More warnings about one layer than this are counted.
const TOLD_MAX: usize = 20;

/// A layer ready to be listed in a manifest.
#[derive(Debug, Clone)]
pub(crate) struct AssembledLayer {
    pub(crate) id: LayerId,
    pub(crate) diff_id: oci::DiffId,
    /// The form that the store's own manifest names.
    pub(crate) descriptor: Descriptor,
    /// Seconds since the epoch when the layer was made, if this store made it.
    pub(crate) created: Option<i64>,
}

impl Layers {
    /// Writes and hashes the tar of a layer directory over `base`, off the critical path. Who made the
    /// layer may be `writing` it already; that need not succeed.
    pub(crate) fn hash_later(&self, id: &LayerId, base: &[LayerId], writing: Option<Writing>) {
        let (store, layer, base) = (self.shared.clone(), id.clone(), base.to_vec());
        let hash = move || store.hash(&layer, &base);
        let task = match writing {
            None => tokio::task::spawn_blocking(hash),
            Some(writing) => tokio::spawn(async {
                match writing.await {
                    Ok(Ok(true)) => Ok(()),
                    _ => blocking(hash).await,
                }
            }),
        };
        self.shared.states.layers().entry(id.clone()).or_default().hashing = Some(task);
    }

    /// What a manifest says of `layers`; waits until they are hashed.
    pub(crate) async fn assembled(
        &self,
        layers: &[LayerId],
    ) -> Result<Vec<AssembledLayer>, BuildError> {
        self.absent.bring(&self.shared.store, layers).await?;
        let mut assembled = Vec::with_capacity(layers.len());
        for number in 0..layers.len() {
            assembled.push(self.assembled_top(&layers[..=number]).await?);
        }
        Ok(assembled)
    }

    /// What a manifest says of the topmost of `layers`; waits until it is hashed.
    pub(crate) async fn assembled_top(
        &self,
        layers: &[LayerId],
    ) -> Result<AssembledLayer, BuildError> {
        let (id, base) = layers.split_last().expect("some layer is on top");
        self.absent.bring(&self.shared.store, std::slice::from_ref(id)).await?;
        let task = self.shared.states.layers().get_mut(id).and_then(|state| state.hashing.take());
        if let Some(task) = task {
            // What failed there is tried again, where its error counts.
            let _ = task.await;
        }
        self.assembled_layer(id, base).await
    }

    async fn assembled_layer(
        &self,
        id: &LayerId,
        base: &[LayerId],
    ) -> Result<AssembledLayer, BuildError> {
        let mut form = self.form(id)?;
        if form.is_none() {
            // What the layer really changes shows only beside what is below it.
            self.directories(base).await?;
            self.verify(std::slice::from_ref(id)).await?;
            let (store, layer, base) = (self.shared.clone(), id.clone(), base.to_vec());
            blocking(move || store.hash(&layer, &base)).await?;
            form = self.form(id)?;
        }
        let (diff_id, descriptor) = form.ok_or_else(|| self.shared.lost(id))?;
        let created = self.shared.states.layer(id, |state| state.created).flatten();
        Ok(AssembledLayer { id: id.clone(), diff_id, descriptor, created })
    }

    /// A layer's digest, and the blob that a manifest names: as it was pulled, or our plain tar. What
    /// compressing it for an output has given is not meant here: an image would not stay the same.
    fn form(&self, id: &LayerId) -> Result<Option<(DiffId, Descriptor)>, BuildError> {
        let store = &self.shared.store;
        let info = store.layer(id).ok_or_else(|| self.shared.lost(id))?;
        let Some(diff_id) = info.diff_id else { return Ok(None) };
        // A step may have made just what a layer of some image holds: that of an empty directory.
        let is_ours = self.shared.states.layer(id, |state| state.created.is_some()) == Some(true);
        let pulled = self.shared.states.images().get(&diff_id).and_then(|state| state.blob.clone());
        let pulled = pulled.filter(|_| !is_ours);
        if pulled.as_ref().is_some_and(|blob| !store.has_blob(&blob.digest)) {
            // Our tar of its tree would be another blob.
            return Err(self.shared.lost(id));
        }
        let is_there = |blob: &&Descriptor| store.has_blob(&blob.digest);
        let plain =
            || info.blobs.iter().filter(|b| b.media_type == media_type::LAYER).find(is_there);
        // A tree can give back its tar; without one, any form will do.
        let any = || info.blobs.iter().filter(|_| info.directory.is_none()).find(is_there);
        let blob = pulled.or_else(|| plain().or_else(any).cloned());
        Ok(blob.map(|blob| {
            let kind = media_type::of_oci(&blob.media_type).to_owned();
            (diff_id, Descriptor { media_type: kind, ..blob })
        }))
    }

    /// Discards what is damaged of the blobs that an output is made of: writing it has failed.
    pub(crate) fn discard_damaged<'a>(&self, blobs: impl IntoIterator<Item = &'a Digest>) {
        let store = &self.shared.store;
        for digest in blobs {
            if store.blob(digest).is_none_or(|blob| self.shared.is_damaged(&blob)) {
                store.discard_blob(digest);
                self.has_discarded.store(true, Ordering::Relaxed);
            }
        }
    }

    /// Looks for damaged blobs among those of `layers`: an output of them has failed with `error`. What it
    /// gives is [`BuildError::Lost`] when there are some, or were.
    pub(crate) async fn why_not_written(
        &self,
        layers: impl Iterator<Item = &AssembledLayer>,
        error: BuildError,
    ) -> BuildError {
        let blobs: Vec<_> = layers.map(|l| (l.id.clone(), l.descriptor.digest.clone())).collect();
        let store = self.shared.clone();
        let has_discarded = self.has_discarded.load(Ordering::Relaxed);
        let looked = blocking(move || {
            let mut is_lost = has_discarded;
            for (id, digest) in blobs {
                if store.store.blob(&digest).is_none_or(|blob| store.is_damaged(&blob)) {
                    store.store.discard_blob(&digest);
                    store.lost(&id);
                    is_lost = true;
                }
            }
            Ok(is_lost)
        });
        match looked.await {
            Ok(true) => BuildError::Lost(Fault::of(error)),
            Ok(false) => error,
            Err(failed) => failed,
        }
    }
}

impl LayerStore {
    pub(super) fn hash(&self, id: &LayerId, base: &[LayerId]) -> Result<(), BuildError> {
        let failed = |e: BoxedError| BuildError::system("failed to write a layer's tar").because(e);
        let directories = self.tree(id)?.ok_or_else(|| self.lost(id))?.directories;
        // Of a tree that lies over another's the stamp is that of its own directory.
        let is_whole = directories.paths.len() == 1;
        let tree = self.rootfs(directories)?.view();
        let tree = tree.map_err(|e| failed(e.into()))?;
        let options = self.diff_options(base)?;
        let tree = tree.descriptor().expect("a layer has a directory");
        let tar = LayerTar { store: &self.store, forms: &self.forms, stop: &self.stop };
        let fill = |sink: &mut dyn LayerSink| {
            let mut sink = WriteBack::new(sink, || self.store.write_back());
            cache::layer::diff_and_stamp(tree, &options, &mut sink)
        };
        let (kept, (warnings, stamp)) = tar.write(fill, |e: LayerError| failed(e.into()))?;
        self.tell(id, &warnings);
        if let Some(stamp) = stamp.filter(|_| is_whole) {
            self.store.set_stamp(id, stamp);
        }
        // The tar may have been thrown away because its tree gives it back.
        let known = self.store.layer(id).filter(|info| info.gives_tar);
        if known.and_then(|info| info.diff_id).is_some_and(|known| known != kept.diff_id) {
            return Err(self.lost(id));
        }
        self.store.set_diff_id_of_tree(id, &kept.diff_id, kept.descriptor.size);
        self.store.add_blob_form(&kept.diff_id, &kept.descriptor);
        Ok(())
    }

    /// Tells what of a layer's tree is not in its tar: now, and whenever the layer is used.
    pub(super) fn tell(&self, id: &LayerId, warnings: &[LeftOut]) {
        if warnings.is_empty() {
            return;
        }
        let mut told: Vec<_> = warnings.iter().take(TOLD_MAX).map(ToString::to_string).collect();
        if warnings.len() > told.len() {
            told.push(LeftOut::More(warnings.len() - told.len()).to_string());
        }
        told.iter().for_each(|warning| self.steps.warn(warning.as_str()));
        self.store.set_warnings(id, told);
    }

    /// How a layer is read as what it changes of `base`.
    pub(super) fn diff_options(&self, base: &[LayerId]) -> Result<DiffOptions, BuildError> {
        self.machine.snapshotter(&self.store)?;
        let flavor = self.machine.flavor();
        let lower = self.lower(base, flavor)?;
        Ok(DiffOptions { flavor, lower: Some(lower), all_xattrs: false })
    }
}
