//! Layers in use: directories when something mounts them, digests while the next step runs.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cache::{LayerId, Store};
use oci::{Descriptor, DiffId};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::layer::absent::AbsentLayers;
use crate::layer::directories::Directories;
use crate::layer::layer_store::LayerStore;
use crate::layer::rootfs::Rootfs;
use crate::layer::tar::Form;
use crate::machine::Machine;
use crate::progress::event::StepId;
use crate::progress::steps::Steps;

/// Writes the tar of a layer; whether it did.
pub(crate) type Writing = JoinHandle<Result<bool, BuildError>>;

/// The layers of one build.
pub(crate) struct Layers {
    pub(super) shared: LayerStore,
    /// Those that are elsewhere.
    pub(super) absent: Arc<AbsentLayers>,
    /// Held while layers are turned into directories.
    pub(super) unpacking: tokio::sync::Mutex<()>,
    /// Blobs that an output could not be written from are gone.
    pub(super) has_discarded: AtomicBool,
}

impl Layers {
    pub(crate) fn new(
        store: Store,
        machine: Arc<Machine>,
        steps: Arc<Steps>,
        forms: Vec<Form>,
        absent: Arc<AbsentLayers>,
        cancel: &CancellationToken,
    ) -> Self {
        let stop = cancel.child_token();
        let forms = forms.into();
        Self {
            shared: LayerStore {
                store,
                steps,
                machine,
                states: Arc::default(),
                roots: Arc::default(),
                stop,
                forms,
            },
            absent,
            unpacking: tokio::sync::Mutex::default(),
            has_discarded: AtomicBool::new(false),
        }
    }

    /// In what forms the layers of an image are wanted.
    pub(crate) fn forms(&self) -> &Arc<[Form]> {
        &self.shared.forms
    }

    /// Takes note of when a step's new layers, the topmost ones, were made.
    pub(crate) fn made(&self, record: &cache::Record) {
        let mut states = self.shared.states.layers();
        for top in record.outputs.iter().filter_map(|layers| layers.last()) {
            states.entry(top.clone()).or_default().created.get_or_insert(record.created);
        }
    }

    /// Takes note of the blobs of an image's layers: a manifest names them as they came.
    pub(crate) fn pulled(&self, diff_ids: &[DiffId], blobs: &[Descriptor]) {
        let mut states = self.shared.states.images();
        for (diff_id, blob) in diff_ids.iter().zip(blobs) {
            states.entry(diff_id.clone()).or_default().blob.get_or_insert_with(|| blob.clone());
        }
    }

    /// A layer that the store had a moment ago: it is absent from now on, and the build starts again.
    pub(crate) fn lost(&self, id: &LayerId) -> BuildError {
        self.shared.lost(id)
    }

    /// What can be mounted in place of `layers`, the bottom one first.
    pub(crate) async fn rootfs(&self, layers: &[LayerId]) -> Result<Rootfs, BuildError> {
        self.stacked(self.directories(layers).await?).await
    }

    /// The same for `step`, which shows what is unpacked.
    pub(crate) async fn rootfs_for(
        &self,
        step: StepId,
        layers: &[LayerId],
    ) -> Result<Rootfs, BuildError> {
        self.stacked(self.directories_for(step, layers).await?).await
    }

    async fn stacked(&self, directories: Directories) -> Result<Rootfs, BuildError> {
        let store = self.shared.clone();
        blocking(move || store.rootfs(directories)).await
    }

    /// Fails if somebody has changed the trees of `layers` behind the store's back: those that can be
    /// are unpacked again for the next try. Each is looked at once a build, at the cost of a `stat` a
    /// file: to be awaited beside the work on them, and before its result is kept or leaves the store.
    pub(crate) async fn verify(&self, layers: &[LayerId]) -> Result<(), BuildError> {
        let cells: Vec<(LayerId, Arc<OnceCell<bool>>)> = {
            let mut states = self.shared.states.layers();
            let mut cell = |id: &LayerId| states.entry(id.clone()).or_default().is_intact.clone();
            layers.iter().map(|id| (id.clone(), cell(id))).collect()
        };
        let checks = cells.into_iter().map(|(id, cell)| async move {
            let store = self.shared.store.clone();
            let layer = id.clone();
            let check = || async move { blocking(move || Ok(store.check_layer(&layer))).await };
            if *cell.get_or_try_init(check).await? { Ok(()) } else { Err(self.shared.changed(&id)) }
        });
        // All of them, so that all that is damaged is found at once.
        futures_util::future::join_all(checks).await.into_iter().collect()
    }

    /// Ends what goes on in the background, see [`Self::close`].
    pub(crate) fn stop(&self) -> &CancellationToken {
        &self.shared.stop
    }

    /// Stops what still runs in the background: layers that no image has are hashed when somebody
    /// asks for them.
    pub(crate) async fn close(&self) {
        self.shared.stop.cancel();
        let (hashing, early) = self.shared.states.take_tasks();
        for task in hashing {
            let _ = task.await;
        }
        // Their downloads have ended, well or not.
        for task in early {
            let _ = task.await;
        }
    }
}
