//! Layers in use: directories when something mounts them, digests while the next step runs.

use std::collections::HashMap;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cache::layer::{DiffOptions, DirectorySink, Flavor, Lower, UnpackOptions};
use cache::{LayerId, Store};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::assemble::AssembledLayer;
use crate::error::BuildError;
use crate::machine::Machine;
use crate::worker::blocking;

type Unpacking = Arc<OnceCell<PathBuf>>;
type Hashing = JoinHandle<Result<(), BuildError>>;

/// The layers of one build.
pub(crate) struct Layers {
    store: Store,
    machine: Arc<Machine>,
    /// Layers being turned into directories, so that it happens once.
    unpacking: Mutex<HashMap<LayerId, Unpacking>>,
    /// Layers whose tar is being written and hashed.
    hashing: Mutex<HashMap<LayerId, Hashing>>,
    /// When layers were made, in seconds since the epoch.
    made: Mutex<HashMap<LayerId, i64>>,
}

impl Layers {
    pub(crate) fn new(store: Store, machine: Arc<Machine>) -> Self {
        Self { store, machine, unpacking: Mutex::default(), hashing: Mutex::default(), made: Mutex::default() }
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
        let found = layers.iter().map(|id| self.directory(id));
        futures_util::future::try_join_all(found).await
    }

    async fn directory(&self, id: &LayerId) -> Result<PathBuf, BuildError> {
        let info = self.store.layer(id).ok_or_else(|| lost(id))?;
        if let Some(directory) = info.directory {
            return Ok(directory);
        }
        let cell = self.unpacking.lock().expect("no panic while held").entry(id.clone()).or_default().clone();
        let unpacked = cell.get_or_try_init(|| async {
            let (store, machine, id) = (self.store.clone(), self.machine.clone(), id.clone());
            blocking(move || unpack(&machine, &store, &id)).await
        });
        unpacked.await.cloned()
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
    let mut writer = store.blob_writer().map_err(|e| failed(&e))?;
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

fn unpack(machine: &Machine, store: &Store, id: &LayerId) -> Result<PathBuf, BuildError> {
    let failed = |e: &dyn std::error::Error| BuildError::system("failed to unpack a layer", e);
    let info = store.layer(id).ok_or_else(|| lost(id))?;
    let blob = info.blobs.iter().find_map(|form| store.blob(&form.digest)).ok_or_else(|| lost(id))?;
    let layer = store.new_layer().map_err(|e| failed(&e))?;
    let root = File::open(layer.fs()).map_err(|e| failed(&e))?;
    let options = machine.directory_options(Lower::none());
    let sink = DirectorySink::new(root.into(), options).map_err(|e| failed(&e))?;
    let options = UnpackOptions { diff_id: info.diff_id, ..UnpackOptions::default() };
    let blob = blob.open().map_err(|e| failed(&e))?;
    cache::layer::unpack(blob, sink, &options).map_err(|e| failed(&e))?;
    store.set_directory(id, layer);
    store.layer(id).and_then(|info| info.directory).ok_or_else(|| lost(id))
}
