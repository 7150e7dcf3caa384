//! Layers in use: directories when something mounts them, digests while the next step runs.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use cache::layer::{DiffOptions, DirectorySink, Finished, Flavor, Lower, UnpackOptions};
use cache::{LayerId, NewLayer, Store};
use tokio::task::JoinHandle;

use crate::assemble::AssembledLayer;
use crate::error::BuildError;
use crate::machine::Machine;
use crate::stack;
use crate::steps::Steps;
use crate::worker::blocking;

type Hashing = JoinHandle<Result<(), BuildError>>;

/// The layers of one build.
pub(crate) struct Layers {
    store: Store,
    machine: Arc<Machine>,
    steps: Arc<Steps>,
    /// Held while layers are turned into directories.
    unpacking: tokio::sync::Mutex<()>,
    /// Layers whose tar is being written and hashed.
    hashing: Mutex<HashMap<LayerId, Hashing>>,
    /// When layers were made, in seconds since the epoch.
    made: Mutex<HashMap<LayerId, i64>>,
}

impl Layers {
    pub(crate) fn new(store: Store, machine: Arc<Machine>, steps: Arc<Steps>) -> Self {
        Self { store, machine, steps, unpacking: tokio::sync::Mutex::default(), hashing: Mutex::default(), made: Mutex::default() }
    }

    /// Takes note of when a step's new layers, the topmost ones, were made.
    pub(crate) fn made(&self, record: &cache::Record) {
        let mut made = self.made.lock().expect("no panic while held");
        for top in record.outputs.iter().filter_map(|layers| layers.last()) {
            made.entry(top.clone()).or_insert(record.created);
        }
    }

    /// Directories of `layers`, in their order; those that exist only as blobs are unpacked, all
    /// at once.
    pub(crate) async fn directories(&self, layers: &[LayerId]) -> Result<Vec<PathBuf>, BuildError> {
        if let Some(directories) = self.known_directories(layers)? {
            return Ok(directories);
        }
        // Stages with one base ask at the same time: the second finds the work done.
        let _unpacking = self.unpacking.lock().await;
        let missing: Vec<LayerId> = layers
            .iter()
            .filter(|id| self.store.layer(id).is_some_and(|info| info.directory.is_none()))
            .cloned()
            .collect();
        let unpacked = missing.into_iter().map(|id| {
            let (store, machine) = (self.store.clone(), self.machine.clone());
            blocking(move || Ok((id.clone(), unpack(&machine, &store, &id)?)))
        });
        let unpacked: HashMap<_, _> =
            futures_util::future::try_join_all(unpacked).await?.into_iter().collect();
        let (store, machine) = (self.store.clone(), self.machine.clone());
        let (steps, all) = (self.steps.clone(), layers.to_vec());
        blocking(move || place(&machine, &store, &steps, &all, unpacked)).await?;
        self.known_directories(layers)?.ok_or_else(|| lost(&layers[0]))
    }

    /// What can be mounted in place of `layers`, the bottom one first.
    pub(crate) async fn mountable(&self, layers: &[LayerId]) -> Result<Vec<PathBuf>, BuildError> {
        let directories = self.directories(layers).await?;
        let hidden = layers.len() - directories.len();
        let (store, machine) = (self.store.clone(), self.machine.clone());
        let ids = layers[hidden..].to_vec();
        blocking(move || stack::mountable(&machine, &store, &ids, directories)).await
    }

    /// The directories, if all are there. What a layer hides as a whole is left out.
    fn known_directories(&self, layers: &[LayerId]) -> Result<Option<Vec<PathBuf>>, BuildError> {
        let mut directories = Vec::with_capacity(layers.len());
        for id in layers {
            let info = self.store.layer(id).ok_or_else(|| lost(id))?;
            let Some(directory) = info.directory else { return Ok(None) };
            if hides_all_below(&directory).exists() {
                directories.clear();
            }
            directories.push(directory);
        }
        Ok(Some(directories))
    }

    /// Starts to write and hash the tar of a layer directory over `base`, off the critical path.
    pub(crate) fn hash_later(&self, id: &LayerId, base: &[LayerId]) {
        let (store, machine) = (self.store.clone(), self.machine.clone());
        let (layer, base) = (id.clone(), base.to_vec());
        let task = tokio::task::spawn_blocking(move || hash(&machine, &store, &layer, &base));
        self.hashing.lock().expect("no panic while held").insert(id.clone(), task);
    }

    /// What a manifest says of `layers`; waits until they are hashed.
    pub(crate) async fn assembled(&self, layers: &[LayerId]) -> Result<Vec<AssembledLayer>, BuildError> {
        let mut assembled = Vec::with_capacity(layers.len());
        for (number, id) in layers.iter().enumerate() {
            let task = self.hashing.lock().expect("no panic while held").remove(id);
            if let Some(task) = task {
                task.await.expect("hashing does not panic")?;
            }
            assembled.push(self.assembled_layer(id, &layers[..number]).await?);
        }
        Ok(assembled)
    }

    async fn assembled_layer(&self, id: &LayerId, base: &[LayerId]) -> Result<AssembledLayer, BuildError> {
        let mut info = self.store.layer(id).ok_or_else(|| lost(id))?;
        if info.diff_id.is_none() || info.blobs.is_empty() {
            let (store, machine) = (self.store.clone(), self.machine.clone());
            let (layer, base) = (id.clone(), base.to_vec());
            blocking(move || hash(&machine, &store, &layer, &base)).await?;
            info = self.store.layer(id).ok_or_else(|| lost(id))?;
        }
        let created = self.made.lock().expect("no panic while held").get(id).copied();
        let diff_id = info.diff_id.ok_or_else(|| lost(id))?;
        let descriptor = info.blobs.first().cloned().ok_or_else(|| lost(id))?;
        Ok(AssembledLayer { id: id.clone(), diff_id, descriptor, created })
    }

    /// Stops what still runs in the background.
    pub(crate) async fn close(&self) {
        let tasks: Vec<Hashing> =
            self.hashing.lock().expect("no panic while held").drain().map(|(_, task)| task).collect();
        for task in tasks {
            // A failure here matters to nobody: the layer is hashed when somebody asks for it.
            let _ = task.await;
        }
    }
}

/// A layer that the store had a moment ago.
fn lost(id: &LayerId) -> BuildError {
    BuildError::System {
        message: format!("layer {id} is missing or damaged in the store"),
        hint: Some("build again: what is missing is made anew".to_owned()),
    }
}

fn hash(machine: &Machine, store: &Store, id: &LayerId, base: &[LayerId]) -> Result<(), BuildError> {
    let failed = |e: &dyn std::error::Error| BuildError::system("failed to write a layer's tar", e);
    let info = store.layer(id).ok_or_else(|| lost(id))?;
    let directory = info.directory.ok_or_else(|| lost(id))?;
    let mut writer = store.unhashed_blob_writer().map_err(|e| failed(&e))?;
    let flavor = machine.flavor();
    let lower = lower(store, base, flavor).map_err(|e| failed(&e))?;
    let options = DiffOptions { flavor, lower: Some(lower), all_xattrs: false };
    let tree = File::open(&directory).map_err(|e| failed(&e))?;
    let written = cache::layer::write_tar(&tree, &options, &mut writer).map_err(|e| failed(&e))?;
    let digest = written.diff_id.0.clone();
    writer.commit(Some((&digest, written.size))).map_err(|e| failed(&e))?;
    store.set_diff_id(id, &written.diff_id, written.size);
    let descriptor = oci::Descriptor::new(oci::media_type::LAYER, digest, written.size);
    store.add_blob_form(&written.diff_id, &descriptor);
    Ok(())
}

/// The layers below, for telling what a layer really changes.
fn lower(store: &Store, base: &[LayerId], flavor: Flavor) -> std::io::Result<Lower> {
    // The topmost first.
    let directories = base.iter().rev().filter_map(|id| store.layer(id)?.directory);
    let roots: std::io::Result<Vec<_>> = directories.map(|d| File::open(d).map(Into::into)).collect();
    Ok(Lower::new(roots?, flavor))
}

/// Unpacks a layer into a directory that nobody sees yet.
fn unpack(machine: &Machine, store: &Store, id: &LayerId) -> Result<(NewLayer, Finished), BuildError> {
    let failed = |e: &dyn std::error::Error| BuildError::system("failed to unpack a layer", e);
    let info = store.layer(id).ok_or_else(|| lost(id))?;
    let blob = info.blobs.iter().find_map(|form| store.blob(&form.digest)).ok_or_else(|| lost(id))?;
    let layer = store.new_layer().map_err(|e| failed(&e))?;
    let root = File::open(layer.fs()).map_err(|e| failed(&e))?;
    let options = machine.directory_options(Lower::none());
    let sink = DirectorySink::new(root.into(), options).map_err(|e| failed(&e))?;
    let options = UnpackOptions { diff_id: info.diff_id, ..UnpackOptions::default() };
    let blob = blob.open().map_err(|e| failed(&e))?;
    let unpacked = cache::layer::unpack(blob, sink, &options).map_err(|e| failed(&e))?;
    Ok((layer, unpacked.finished))
}

/// Gives layers their directories, from the bottom up: what an archive left to the layers below
/// is taken from there.
fn place(
    machine: &Machine,
    store: &Store,
    steps: &Steps,
    layers: &[LayerId],
    mut unpacked: HashMap<LayerId, (NewLayer, Finished)>,
) -> Result<(), BuildError> {
    let failed = |e: &dyn std::error::Error| BuildError::system("failed to unpack a layer", e);
    for (number, id) in layers.iter().enumerate() {
        let Some((layer, finished)) = unpacked.remove(id) else { continue };
        finished.warnings.iter().for_each(|warning| steps.warn(warning.to_string()));
        if !finished.implied.is_empty() || !finished.dangling.is_empty() {
            let below = lower(store, &layers[..number], machine.flavor()).map_err(|e| failed(&e))?;
            let root = File::open(layer.fs()).map_err(|e| failed(&e))?;
            cache::layer::adopt(root.into(), machine.directory_options(below), &finished).map_err(|e| failed(&e))?;
        }
        if finished.opaque_root {
            File::create(hides_all_below(&layer.fs())).map_err(|e| failed(&e))?;
        }
        store.set_directory(id, layer);
    }
    Ok(())
}

/// Beside a layer's tree: a mark that nothing of the layers below shows. Overlayfs has none for
/// the root.
fn hides_all_below(fs: &Path) -> PathBuf {
    fs.with_file_name("opaque")
}
