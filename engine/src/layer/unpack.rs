//! Layers that exist only as blobs become directories.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::io::Read;
use std::sync::Arc;

use cache::layer::{DirectorySink, Finished, LayerError, Lower, UnpackOptions};
use cache::{Allowance, DamagedBlob, LayerId, NewLayer};
use oci::DiffId;

use crate::blocking::blocking;
use crate::error::{BoxedError, BuildError};
use crate::layer::Layers;
use crate::layer::directories::Directories;
use crate::layer::extraction::Extraction;
use crate::layer::layer_store::{LayerStore, hides_all_below};
use crate::layer::write_back::WriteBackReader;
use crate::progress::event::StepId;
use crate::progress::steps::Steps;
use crate::source::image::{Begun, ResolvedImage};
use crate::stop::Stoppable;

/// How many layers are unpacked while they arrive, the largest ones of an image. Each holds memory,
/// and threads that wait for the network.
const EARLY_MAX: usize = 4;

impl Layers {
    /// Unpacks layers of `image` while their blobs arrive, if `wanted`. The trees count when the
    /// blobs turn out to be good: see [`Layers::directories`].
    pub(crate) fn unpack_early(&self, image: &ResolvedImage, wanted: bool, step: StepId) -> Begun {
        let diff_ids = image.config.rootfs.diff_ids.clone();
        let mut largest: Vec<usize> = (0..diff_ids.len()).collect();
        largest.sort_by_key(|number| std::cmp::Reverse(image.manifest.layers[*number].size));
        largest.truncate(if wanted { EARLY_MAX } else { 0 });
        let extractions: Vec<Extraction> = image
            .manifest
            .layers
            .iter()
            .map(|blob| Extraction::new(&self.shared.steps, step, &blob.digest, blob.size))
            .collect();
        let store = self.shared.clone();
        Arc::new(move |number, reader| {
            let diff_id = &diff_ids[number];
            let known = store.store.layer_of_diff_id(diff_id).and_then(|id| store.store.layer(&id));
            if !largest.contains(&number) || known.is_some_and(|known| known.directory.is_some()) {
                return;
            }
            let (store, wanted) = (store.clone(), diff_id.clone());
            let extraction = extractions[number].clone();
            // Another stage may have the same layer under way.
            let states = store.states.clone();
            let mut states = states.images();
            if states.values().filter(|state| state.early.is_some()).count() >= EARLY_MAX {
                return;
            }
            states.entry(diff_id.clone()).or_default().early.get_or_insert_with(|| {
                tokio::task::spawn_blocking(move || {
                    let reader = extraction.reader(Stoppable::new(reader, &store.stop));
                    let unpacked = store.unpack_stream(reader, Some(wanted)).ok()?.ok()?;
                    extraction.done();
                    Some(unpacked)
                })
            });
        })
    }

    /// The tree of a layer that was unpacked while it arrived.
    async fn take_early(&self, id: &LayerId) -> Option<(NewLayer, Finished)> {
        let diff_id = self.shared.store.layer(id)?.diff_id?;
        let task = self.shared.states.images().get_mut(&diff_id)?.early.take()?;
        task.await.ok()?
    }

    /// Directories of `layers`, in their order; those that exist only as blobs are unpacked, all
    /// at once.
    pub(super) async fn directories(&self, layers: &[LayerId]) -> Result<Directories, BuildError> {
        self.unpacked(layers, None).await
    }

    /// The same for `step`, which shows what is unpacked.
    pub(super) async fn directories_for(
        &self,
        step: StepId,
        layers: &[LayerId],
    ) -> Result<Directories, BuildError> {
        self.unpacked(layers, Some(step)).await
    }

    /// Gives `layers` directories; `step` shows what is unpacked.
    pub(crate) async fn unpack_for(
        &self,
        step: StepId,
        layers: &[LayerId],
    ) -> Result<(), BuildError> {
        self.unpacked(layers, Some(step)).await.map(drop)
    }

    async fn unpacked(
        &self,
        layers: &[LayerId],
        step: Option<StepId>,
    ) -> Result<Directories, BuildError> {
        self.absent.bring(&self.shared.store, layers).await?;
        if let Some(directories) = self.shared.known_directories(layers)? {
            return Ok(directories);
        }
        // Stages with one base ask at the same time: the second finds the work done.
        let _unpacking = self.unpacking.lock().await;
        let store = &self.shared.store;
        let is_missing =
            |id: &&LayerId| store.layer(id).is_some_and(|info| info.directory.is_none());
        let missing: HashSet<LayerId> = layers.iter().filter(is_missing).cloned().collect();
        let unpacked = missing.into_iter().map(|id| async move {
            if let Some(early) = self.take_early(&id).await {
                return Ok((id, early));
            }
            let (store, steps) = (self.shared.clone(), self.shared.steps.clone());
            // What failed there is tried again, where its error counts.
            blocking(move || {
                let shown = step.map(|step| (&steps, step));
                Ok((id.clone(), store.unpack(&id, shown)?))
            })
            .await
        });
        let unpacked: HashMap<_, _> =
            futures_util::future::try_join_all(unpacked).await?.into_iter().collect();
        let (store, all) = (self.shared.clone(), layers.to_vec());
        blocking(move || store.place(&all, unpacked)).await?;
        self.shared.known_directories(layers)?.ok_or_else(|| self.shared.lost(&layers[0]))
    }
}

impl LayerStore {
    /// Unpacks a layer into a directory that nobody sees yet; `shown` by a step.
    pub(super) fn unpack(
        &self,
        id: &LayerId,
        shown: Option<(&Arc<Steps>, StepId)>,
    ) -> Result<(NewLayer, Finished), BuildError> {
        let failed = |e: BoxedError| BuildError::system("failed to unpack a layer").because(e);
        let info = self.store.layer(id).ok_or_else(|| self.lost(id))?;
        let blob = info.blobs.iter().find_map(|form| self.store.blob(&form.digest));
        let blob = blob.ok_or_else(|| self.lost(id))?;
        let file = blob.open().map_err(|e| failed(e.into()))?;
        let size = file.metadata().map_err(|e| failed(e.into()))?.len();
        let extraction =
            shown.map(|(steps, step)| Extraction::new(steps, step, blob.digest(), size));
        let file = Stoppable::new(file, &self.stop);
        let unpacked = match &extraction {
            Some(extraction) => self.unpack_stream(extraction.reader(file), info.diff_id)?,
            None => self.unpack_stream(file, info.diff_id)?,
        };
        match unpacked {
            Ok(unpacked) => {
                extraction.iter().for_each(Extraction::done);
                Ok(unpacked)
            }
            Err(_) if self.is_damaged(&blob) => {
                self.store.discard_blob(blob.digest());
                Err(self.lost(id))
            }
            Err(error) => Err(failed(error.into())),
        }
    }

    /// Unpacks a stream, which must have the digest `diff_id`, into a directory that nobody sees
    /// yet. The inner error is the stream's.
    pub(super) fn unpack_stream(
        &self,
        stream: impl Read + Send,
        diff_id: Option<DiffId>,
    ) -> Result<Result<(NewLayer, Finished), LayerError>, BuildError> {
        let failed = |e: BoxedError| BuildError::system("failed to unpack a layer").because(e);
        let layer = self.store.new_layer().map_err(|e| failed(e.into()))?;
        let root = File::open(layer.fs()).map_err(|e| failed(e.into()))?;
        self.machine.snapshotter(&self.store)?;
        let options = self.machine.directory_options(Lower::none());
        let sink = DirectorySink::new(root.into(), options).map_err(|e| failed(e.into()))?;
        let room = Allowance::in_store(self.store.root());
        let options = UnpackOptions { diff_id, room, ..UnpackOptions::default() };
        let stream = WriteBackReader::new(stream, || self.store.write_back());
        let unpacked = cache::layer::unpack(stream, sink, &options);
        Ok(unpacked.map(|unpacked| (layer, unpacked.finished)))
    }

    /// Whether a blob's bytes are others than its name says.
    pub(super) fn is_damaged(&self, blob: &cache::BlobFile) -> bool {
        let read = blob.open_verified().and_then(|mut file| io::copy(&mut file, &mut io::sink()));
        read.is_err_and(|error| DamagedBlob::of(&error).is_some())
    }

    /// Gives layers their directories, from the bottom up: what an archive left to the layers below
    /// is taken from there.
    pub(super) fn place(
        &self,
        layers: &[LayerId],
        mut unpacked: HashMap<LayerId, (NewLayer, Finished)>,
    ) -> Result<(), BuildError> {
        let failed = |e: BoxedError| BuildError::system("failed to unpack a layer").because(e);
        for (number, id) in layers.iter().enumerate() {
            let Some((layer, finished)) = unpacked.remove(id) else { continue };
            finished.warnings.iter().for_each(|warning| self.steps.warn(warning.to_string()));
            self.adopt(&layer, &finished, &layers[..number])?;
            if finished.opaque_root {
                File::create(hides_all_below(&layer.fs())).map_err(|e| failed(e.into()))?;
            }
            self.store.set_directory(id, layer);
        }
        Ok(())
    }

    /// Gives an unpacked tree what its archive left to the layers `below`.
    pub(super) fn adopt(
        &self,
        layer: &NewLayer,
        finished: &Finished,
        below: &[LayerId],
    ) -> Result<(), BuildError> {
        let failed = |e: BoxedError| BuildError::system("failed to unpack a layer").because(e);
        if finished.implied.is_empty() && finished.dangling.is_empty() {
            return Ok(());
        }
        let below = self.lower(below, self.machine.flavor())?;
        let root = File::open(layer.fs()).map_err(|e| failed(e.into()))?;
        cache::layer::adopt(root.into(), self.machine.directory_options(below), finished)
            .map_err(|e| failed(e.into()))?;
        Ok(())
    }
}
