//! Layers in use: directories when something mounts them, digests while the next step runs.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use cache::layer::compress::Compression as Encoding;
use cache::layer::{
    DiffOptions, DirectorySink, Finished, Flavor, LayerError, LayerSink, Lower, UnpackOptions,
    Warning,
};
use cache::{Allowance, LayerId, NewLayer, Store};
use oci::{Descriptor, DiffId, Platform, media_type};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::layer::extraction::Extraction;
use crate::layer::roots::Roots;
use crate::layer::stack;
use crate::layer::tar::LayerTar;
use crate::layer::write_back::{WriteBack, WriteBackReader};
use crate::machine::Machine;
use crate::output::assemble::{AssembledImage, AssembledLayer};
use crate::progress::event::StepId;
use crate::progress::steps::Steps;
use crate::source::image::{Begun, ResolvedImage};
use crate::stop::Stoppable;
use crate::tree;

mod check;

pub(crate) use check::Bases;

type Hashing = JoinHandle<Result<(), BuildError>>;

/// Writes the tar of a layer; whether it did.
pub(crate) type Writing = JoinHandle<Result<bool, BuildError>>;

/// A layer that is unpacked while it arrives; nothing if that failed.
type Early = JoinHandle<Option<(NewLayer, Finished)>>;

/// How many layers are unpacked while they arrive, the largest ones of an image. Each holds memory,
/// and threads that wait for the network.
const EARLY_MAX: usize = 4;
/// More warnings about one layer than this are counted.
const TOLD_MAX: usize = 20;

/// The layers of one build.
pub(crate) struct Layers {
    shelf: Shelf,
    /// Held while layers are turned into directories.
    unpacking: tokio::sync::Mutex<()>,
    /// Layers whose trees are what they were, or not.
    intact: Mutex<HashMap<LayerId, Arc<OnceCell<bool>>>>,
    /// Layers that are unpacked while they arrive.
    early: Arc<Mutex<HashMap<DiffId, Early>>>,
    /// Layers whose tar is being written and hashed.
    hashing: Mutex<HashMap<LayerId, Hashing>>,
    /// When layers were made, in seconds since the epoch.
    made: Mutex<HashMap<LayerId, i64>>,
    /// Blobs of the images that this build starts from.
    pulled: Mutex<HashMap<DiffId, Descriptor>>,
}

/// What every piece of work on layers needs, also in the background.
#[derive(Clone)]
struct Shelf {
    store: Store,
    steps: Arc<Steps>,
    machine: Arc<Machine>,
    /// Trees that were found: asked for by every step that stands on them.
    trees: Arc<Mutex<HashMap<LayerId, LayerTree>>>,
    roots: Arc<Roots>,
    /// A layer that the store had was not what it should be.
    damaged: Arc<AtomicBool>,
    /// The build needs no more layers, or is cancelled.
    stop: CancellationToken,
    /// What the tars of an image's layers are compressed to while they are written.
    encodings: Arc<[Encoding]>,
}

/// Where the tree of one layer is.
#[derive(Clone)]
struct LayerTree {
    directories: Directories,
    /// Nothing of the layers below shows.
    hides: bool,
}

/// Directories that together are a tree, the bottom one first, and the layers that they belong to.
#[derive(Clone, Default)]
pub(crate) struct Directories {
    ids: Vec<LayerId>,
    paths: Vec<PathBuf>,
}

impl Directories {
    fn push(&mut self, id: &LayerId, path: PathBuf) {
        self.ids.push(id.clone());
        self.paths.push(path);
    }

    fn extend(&mut self, others: Self) {
        self.ids.extend(others.ids);
        self.paths.extend(others.paths);
    }
}

impl Layers {
    pub(crate) fn new(
        store: Store,
        machine: Arc<Machine>,
        steps: Arc<Steps>,
        encodings: Vec<Encoding>,
        cancel: &CancellationToken,
    ) -> Self {
        let (damaged, stop) = (Arc::default(), cancel.child_token());
        let encodings = encodings.into();
        Self {
            shelf: Shelf {
                store,
                steps,
                machine,
                trees: Arc::default(),
                roots: Arc::default(),
                damaged,
                stop,
                encodings,
            },
            unpacking: tokio::sync::Mutex::default(),
            intact: Mutex::default(),
            early: Arc::default(),
            hashing: Mutex::default(),
            made: Mutex::default(),
            pulled: Mutex::default(),
        }
    }

    /// What the tars of an image's layers are compressed to while they are written.
    pub(crate) fn encodings(&self) -> &Arc<[Encoding]> {
        &self.shelf.encodings
    }

    /// Takes note of when a step's new layers, the topmost ones, were made.
    pub(crate) fn made(&self, record: &cache::Record) {
        let mut made = self.made.lock().expect("no panic while held");
        for top in record.outputs.iter().filter_map(|layers| layers.last()) {
            made.entry(top.clone()).or_insert(record.created);
        }
    }

    /// Takes note of the blobs of an image's layers: a manifest names them as they came.
    pub(crate) fn pulled(&self, diff_ids: &[DiffId], blobs: &[Descriptor]) {
        let mut pulled = self.pulled.lock().expect("no panic while held");
        for (diff_id, blob) in diff_ids.iter().zip(blobs) {
            pulled.entry(diff_id.clone()).or_insert_with(|| blob.clone());
        }
    }

    /// Whether a layer of the store was found missing or damaged. It is absent from now on: who
    /// builds again gets a new one.
    pub(crate) fn found_damage(&self) -> bool {
        self.shelf.damaged.load(Ordering::Relaxed)
    }

    /// A layer that the store had a moment ago: it is absent from now on, and the build starts again.
    pub(crate) fn lost(&self, id: &LayerId) -> BuildError {
        self.shelf.lost(id)
    }

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
            .map(|blob| Extraction::new(&self.shelf.steps, step, &blob.digest, blob.size))
            .collect();
        let (shelf, early) = (self.shelf.clone(), self.early.clone());
        Arc::new(move |number, reader| {
            let diff_id = &diff_ids[number];
            let known = shelf.store.layer_of_diff_id(diff_id).and_then(|id| shelf.store.layer(&id));
            if !largest.contains(&number) || known.is_some_and(|known| known.directory.is_some()) {
                return;
            }
            let (shelf, wanted) = (shelf.clone(), diff_id.clone());
            let extraction = extractions[number].clone();
            // Another stage may have the same layer under way.
            let mut early = early.lock().expect("no panic while held");
            if early.len() >= EARLY_MAX {
                return;
            }
            early.entry(diff_id.clone()).or_insert_with(|| {
                tokio::task::spawn_blocking(move || {
                    let reader = extraction.reader(Stoppable::new(reader, &shelf.stop));
                    let unpacked = shelf.unpack_stream(reader, Some(wanted)).ok()?.ok()?;
                    extraction.done();
                    Some(unpacked)
                })
            });
        })
    }

    /// The tree of a layer that was unpacked while it arrived.
    async fn take_early(&self, id: &LayerId) -> Option<(NewLayer, Finished)> {
        let diff_id = self.shelf.store.layer(id)?.diff_id?;
        let task = self.early.lock().expect("no panic while held").remove(&diff_id)?;
        task.await.ok()?
    }

    /// Directories of `layers`, in their order; those that exist only as blobs are unpacked, all
    /// at once.
    pub(crate) async fn directories(&self, layers: &[LayerId]) -> Result<Directories, BuildError> {
        self.unpacked(layers, None).await
    }

    /// The same for `step`, which shows what is unpacked.
    pub(crate) async fn directories_for(
        &self,
        step: StepId,
        layers: &[LayerId],
    ) -> Result<Directories, BuildError> {
        self.unpacked(layers, Some(step)).await
    }

    async fn unpacked(
        &self,
        layers: &[LayerId],
        step: Option<StepId>,
    ) -> Result<Directories, BuildError> {
        if let Some(directories) = self.shelf.known_directories(layers)? {
            return Ok(directories);
        }
        // Stages with one base ask at the same time: the second finds the work done.
        let _unpacking = self.unpacking.lock().await;
        let store = &self.shelf.store;
        let is_missing =
            |id: &&LayerId| store.layer(id).is_some_and(|info| info.directory.is_none());
        let missing: HashSet<LayerId> = layers.iter().filter(is_missing).cloned().collect();
        let unpacked = missing.into_iter().map(|id| async move {
            if let Some(early) = self.take_early(&id).await {
                return Ok((id, early));
            }
            let (shelf, steps) = (self.shelf.clone(), self.shelf.steps.clone());
            // What failed there is tried again, where its error counts.
            blocking(move || {
                let shown = step.map(|step| (&steps, step));
                Ok((id.clone(), shelf.unpack(&id, shown)?))
            })
            .await
        });
        let unpacked: HashMap<_, _> =
            futures_util::future::try_join_all(unpacked).await?.into_iter().collect();
        let (shelf, all) = (self.shelf.clone(), layers.to_vec());
        blocking(move || shelf.place(&all, unpacked)).await?;
        self.shelf.known_directories(layers)?.ok_or_else(|| self.shelf.lost(&layers[0]))
    }

    /// What can be mounted in place of `layers`, the bottom one first.
    pub(crate) async fn mountable(&self, layers: &[LayerId]) -> Result<Vec<PathBuf>, BuildError> {
        self.stacked(self.directories(layers).await?).await
    }

    /// The same for `step`, which shows what is unpacked.
    pub(crate) async fn mountable_for(
        &self,
        step: StepId,
        layers: &[LayerId],
    ) -> Result<Vec<PathBuf>, BuildError> {
        self.stacked(self.directories_for(step, layers).await?).await
    }

    async fn stacked(&self, directories: Directories) -> Result<Vec<PathBuf>, BuildError> {
        let shelf = self.shelf.clone();
        blocking(move || shelf.mountable(directories)).await
    }

    /// Fails if somebody has changed the trees of `layers` behind the store's back: those that can be
    /// are unpacked again for the next try. Each is looked at once a build, at the cost of a `stat` a
    /// file: to be awaited beside the work on them, and before its result is kept or leaves the store.
    pub(crate) async fn verify(&self, layers: &[LayerId]) -> Result<(), BuildError> {
        let cells: Vec<(LayerId, Arc<OnceCell<bool>>)> = {
            let mut intact = self.intact.lock().expect("no panic while held");
            layers
                .iter()
                .map(|id| (id.clone(), intact.entry(id.clone()).or_default().clone()))
                .collect()
        };
        let checks = cells.into_iter().map(|(id, cell)| async move {
            let store = self.shelf.store.clone();
            let layer = id.clone();
            let check = || async move { blocking(move || Ok(store.check_layer(&layer))).await };
            if *cell.get_or_try_init(check).await? { Ok(()) } else { Err(self.shelf.changed(&id)) }
        });
        // All of them, so that all that is damaged is found at once.
        futures_util::future::join_all(checks).await.into_iter().collect()
    }

    /// Writes and hashes the tar of a layer directory over `base`, off the critical path. Who made the
    /// layer may be `writing` it already; that need not succeed.
    pub(crate) fn hash_later(&self, id: &LayerId, base: &[LayerId], writing: Option<Writing>) {
        let (shelf, layer, base) = (self.shelf.clone(), id.clone(), base.to_vec());
        let hash = move || shelf.hash(&layer, &base);
        let task = match writing {
            None => tokio::task::spawn_blocking(hash),
            Some(writing) => tokio::spawn(async {
                match writing.await {
                    Ok(Ok(true)) => Ok(()),
                    _ => blocking(hash).await,
                }
            }),
        };
        self.hashing.lock().expect("no panic while held").insert(id.clone(), task);
    }

    /// Ends what goes on in the background, see [`Self::close`].
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.shelf.stop
    }

    /// What a manifest says of `layers`; waits until they are hashed.
    pub(crate) async fn assembled(
        &self,
        layers: &[LayerId],
    ) -> Result<Vec<AssembledLayer>, BuildError> {
        let mut assembled = Vec::with_capacity(layers.len());
        for (number, id) in layers.iter().enumerate() {
            let task = self.hashing.lock().expect("no panic while held").remove(id);
            if let Some(task) = task {
                // What failed there is tried again, where its error counts.
                let _ = task.await;
            }
            assembled.push(self.assembled_layer(id, &layers[..number]).await?);
        }
        Ok(assembled)
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
            let (shelf, layer, base) = (self.shelf.clone(), id.clone(), base.to_vec());
            blocking(move || shelf.hash(&layer, &base)).await?;
            form = self.form(id)?;
        }
        let (diff_id, descriptor) = form.ok_or_else(|| self.shelf.lost(id))?;
        let created = self.made.lock().expect("no panic while held").get(id).copied();
        Ok(AssembledLayer { id: id.clone(), diff_id, descriptor, created })
    }

    /// A layer's digest, and the blob that a manifest names: as it was pulled, or our plain tar. What
    /// compressing it for an output has given is not meant here: an image would not stay the same.
    fn form(&self, id: &LayerId) -> Result<Option<(DiffId, Descriptor)>, BuildError> {
        let store = &self.shelf.store;
        let info = store.layer(id).ok_or_else(|| self.shelf.lost(id))?;
        let Some(diff_id) = info.diff_id else { return Ok(None) };
        // A step may have made just what a layer of some image holds: that of an empty directory.
        let is_ours = self.made.lock().expect("no panic while held").contains_key(id);
        let pulled = self.pulled.lock().expect("no panic while held").get(&diff_id).cloned();
        let pulled = pulled.filter(|_| !is_ours);
        if pulled.as_ref().is_some_and(|blob| !store.has_blob(&blob.digest)) {
            // Our tar of its tree would be another blob.
            return Err(self.shelf.lost(id));
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

    /// Looks for damaged blobs among those of `images`: writing them out has failed.
    pub(crate) async fn look_for_damage(&self, images: &[(Platform, AssembledImage)]) {
        let layers = images.iter().flat_map(|(_, image)| &image.layers);
        let blobs: Vec<_> = layers.map(|l| (l.id.clone(), l.descriptor.digest.clone())).collect();
        let shelf = self.shelf.clone();
        let looked = blocking(move || {
            for (id, digest) in blobs {
                if shelf.store.blob(&digest).is_none_or(|blob| shelf.is_damaged(&blob)) {
                    shelf.store.discard_blob(&digest);
                    shelf.lost(&id);
                }
            }
            Ok(())
        });
        looked.await.expect("it only looks");
    }

    /// Stops what still runs in the background: layers that no image has are hashed when somebody
    /// asks for them.
    pub(crate) async fn close(&self) {
        self.shelf.stop.cancel();
        let tasks: Vec<Hashing> = self
            .hashing
            .lock()
            .expect("no panic while held")
            .drain()
            .map(|(_, task)| task)
            .collect();
        for task in tasks {
            let _ = task.await;
        }
        // Their downloads have ended, well or not.
        let early: Vec<Early> =
            self.early.lock().expect("no panic while held").drain().map(|(_, task)| task).collect();
        for task in early {
            let _ = task.await;
        }
    }
}

impl Shelf {
    /// A layer that the store had a moment ago.
    fn lost(&self, id: &LayerId) -> BuildError {
        self.store.discard_layer(id);
        self.changed(id)
    }

    /// A layer whose tree the store has just forgotten.
    fn changed(&self, id: &LayerId) -> BuildError {
        let is_other = |tree: &LayerTree| !tree.directories.ids.contains(id);
        self.trees.lock().expect("no panic while held").retain(|_, tree| is_other(tree));
        self.damaged.store(true, Ordering::Relaxed);
        BuildError::System {
            message: format!("layer {id} is missing or damaged in the store"),
            hint: Some("build again: what is missing is made again".to_owned()),
        }
    }

    /// The directories, if all are there. What a layer hides as a whole is left out.
    fn known_directories(&self, layers: &[LayerId]) -> Result<Option<Directories>, BuildError> {
        let mut directories = Directories::default();
        for id in layers {
            let Some(tree) = self.tree(id)? else { return Ok(None) };
            if tree.hides {
                directories = Directories::default();
            }
            directories.extend(tree.directories);
        }
        Ok(Some(directories))
    }

    /// What can be mounted in place of `directories`, the bottom one first.
    fn mountable(&self, directories: Directories) -> Result<Vec<PathBuf>, BuildError> {
        let Directories { ids, paths } = directories;
        stack::mountable(&self.machine, &self.store, &ids, paths)
    }

    /// The tree of a layer, if it has one.
    fn tree(&self, id: &LayerId) -> Result<Option<LayerTree>, BuildError> {
        if let Some(known) = self.trees.lock().expect("no panic while held").get(id) {
            return Ok(Some(known.clone()));
        }
        let info = self.store.layer(id).ok_or_else(|| self.lost(id))?;
        let Some(directory) = info.directory else { return Ok(None) };
        let mut directories = Directories::default();
        if let Some(over) = info.over {
            let whole = self.store.layer(&over).and_then(|info| info.directory);
            directories.push(&over, whole.ok_or_else(|| self.lost(&over))?);
        }
        let hides = hides_all_below(&directory).try_exists();
        let hides = hides.map_err(|e| BuildError::system("failed to look at a layer", &e))?;
        directories.push(id, directory);
        let tree = LayerTree { directories, hides };
        self.trees.lock().expect("no panic while held").insert(id.clone(), tree.clone());
        Ok(Some(tree))
    }

    fn hash(&self, id: &LayerId, base: &[LayerId]) -> Result<(), BuildError> {
        let failed =
            |e: &dyn std::error::Error| BuildError::system("failed to write a layer's tar", e);
        let directories = self.tree(id)?.ok_or_else(|| self.lost(id))?.directories;
        // Of a tree that lies over another's the stamp is that of its own directory.
        let is_whole = directories.paths.len() == 1;
        let tree = tree::view_of_layers(self.machine.host(), &self.mountable(directories)?);
        let tree = tree.map_err(|e| failed(&e))?;
        let options = self.diff_options(base)?;
        let tree = tree.descriptor().expect("a layer has a directory");
        let tar = LayerTar { store: &self.store, encodings: &self.encodings, stop: &self.stop };
        let fill = |sink: &mut dyn LayerSink| {
            let mut sink = WriteBack::new(sink, || self.store.write_back());
            cache::layer::diff_and_stamp(tree, &options, &mut sink)
        };
        let (kept, (warnings, stamp)) = tar.write(fill, |e: LayerError| failed(&e))?;
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
    fn tell(&self, id: &LayerId, warnings: &[Warning]) {
        if warnings.is_empty() {
            return;
        }
        let mut told: Vec<_> = warnings.iter().take(TOLD_MAX).map(ToString::to_string).collect();
        if warnings.len() > told.len() {
            told.push(Warning::More(warnings.len() - told.len()).to_string());
        }
        told.iter().for_each(|warning| self.steps.warn(warning.as_str()));
        self.store.set_warnings(id, told);
    }

    /// How a layer is read as what it changes of `base`.
    fn diff_options(&self, base: &[LayerId]) -> Result<DiffOptions, BuildError> {
        self.machine.snapshotter(&self.store)?;
        let flavor = self.machine.flavor();
        let lower = self.lower(base, flavor)?;
        Ok(DiffOptions { flavor, lower: Some(lower), all_xattrs: false })
    }

    /// The layers below, for telling what a layer really changes: all of them, or it would be another
    /// layer.
    fn lower(&self, base: &[LayerId], flavor: Flavor) -> Result<Lower, BuildError> {
        let mut roots = Vec::new();
        // The topmost first.
        for id in base.iter().rev() {
            let tree = self.tree(id)?.ok_or_else(|| self.lost(id))?;
            for path in tree.directories.paths.iter().rev() {
                let opened = self.roots.open(path);
                roots.push(opened.map_err(|e| BuildError::system("failed to open a layer", &e))?);
            }
            if tree.hides {
                break;
            }
        }
        Ok(Lower::new(roots, flavor))
    }

    /// Unpacks a layer into a directory that nobody sees yet; `shown` by a step.
    fn unpack(
        &self,
        id: &LayerId,
        shown: Option<(&Arc<Steps>, StepId)>,
    ) -> Result<(NewLayer, Finished), BuildError> {
        let failed = |e: &dyn std::error::Error| BuildError::system("failed to unpack a layer", e);
        let info = self.store.layer(id).ok_or_else(|| self.lost(id))?;
        let blob = info.blobs.iter().find_map(|form| self.store.blob(&form.digest));
        let blob = blob.ok_or_else(|| self.lost(id))?;
        let file = blob.open().map_err(|e| failed(&e))?;
        let size = file.metadata().map_err(|e| failed(&e))?.len();
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
            Err(error) if self.is_damaged(&blob) => {
                self.store.discard_blob(blob.digest());
                self.lost(id);
                Err(failed(&error))
            }
            Err(error) => Err(failed(&error)),
        }
    }

    /// Unpacks a stream, which must have the digest `diff_id`, into a directory that nobody sees
    /// yet. The inner error is the stream's.
    fn unpack_stream(
        &self,
        stream: impl Read + Send,
        diff_id: Option<DiffId>,
    ) -> Result<Result<(NewLayer, Finished), LayerError>, BuildError> {
        let failed = |e: &dyn std::error::Error| BuildError::system("failed to unpack a layer", e);
        let layer = self.store.new_layer().map_err(|e| failed(&e))?;
        let root = File::open(layer.fs()).map_err(|e| failed(&e))?;
        self.machine.snapshotter(&self.store)?;
        let options = self.machine.directory_options(Lower::none());
        let sink = DirectorySink::new(root.into(), options).map_err(|e| failed(&e))?;
        let room = Allowance::in_store(self.store.root());
        let options = UnpackOptions { diff_id, room, ..UnpackOptions::default() };
        let stream = WriteBackReader::new(stream, || self.store.write_back());
        let unpacked = cache::layer::unpack(stream, sink, &options);
        Ok(unpacked.map(|unpacked| (layer, unpacked.finished)))
    }

    /// Whether a blob's bytes are others than its name says.
    fn is_damaged(&self, blob: &cache::BlobFile) -> bool {
        let read = blob.open_verified().and_then(|mut file| io::copy(&mut file, &mut io::sink()));
        read.is_err_and(|error| error.kind() == io::ErrorKind::InvalidData)
    }

    /// Gives layers their directories, from the bottom up: what an archive left to the layers below
    /// is taken from there.
    fn place(
        &self,
        layers: &[LayerId],
        mut unpacked: HashMap<LayerId, (NewLayer, Finished)>,
    ) -> Result<(), BuildError> {
        let failed = |e: &dyn std::error::Error| BuildError::system("failed to unpack a layer", e);
        for (number, id) in layers.iter().enumerate() {
            let Some((layer, finished)) = unpacked.remove(id) else { continue };
            finished.warnings.iter().for_each(|warning| self.steps.warn(warning.to_string()));
            self.adopt(&layer, &finished, &layers[..number])?;
            if finished.opaque_root {
                File::create(hides_all_below(&layer.fs())).map_err(|e| failed(&e))?;
            }
            self.store.set_directory(id, layer);
        }
        Ok(())
    }
}

impl Shelf {
    /// Gives an unpacked tree what its archive left to the layers `below`.
    fn adopt(
        &self,
        layer: &NewLayer,
        finished: &Finished,
        below: &[LayerId],
    ) -> Result<(), BuildError> {
        let failed = |e: &dyn std::error::Error| BuildError::system("failed to unpack a layer", e);
        if finished.implied.is_empty() && finished.dangling.is_empty() {
            return Ok(());
        }
        let below = self.lower(below, self.machine.flavor())?;
        let root = File::open(layer.fs()).map_err(|e| failed(&e))?;
        cache::layer::adopt(root.into(), self.machine.directory_options(below), finished)
            .map_err(|e| failed(&e))?;
        Ok(())
    }
}

/// Beside a layer's tree: a mark that nothing of the layers below shows. Overlayfs has none for
/// the root.
fn hides_all_below(fs: &Path) -> PathBuf {
    fs.with_file_name("opaque")
}
