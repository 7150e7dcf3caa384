//! What one build knows of layers, and what it has under way for them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use cache::layer::Finished;
use cache::{LayerId, NewLayer};
use oci::{Descriptor, DiffId};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;

use crate::error::BuildError;
use crate::layer::directories::LayerTree;

/// Writes and hashes the tar of a layer.
pub(super) type Hashing = JoinHandle<Result<(), BuildError>>;

/// A layer that is unpacked while it arrives; nothing if that failed.
pub(super) type Early = JoinHandle<Option<(NewLayer, Finished)>>;

/// Everything that is known of the layers of one build.
#[derive(Default)]
pub(super) struct States {
    layers: Mutex<HashMap<LayerId, LayerState>>,
    images: Mutex<HashMap<DiffId, ImageLayerState>>,
}

/// What is known of one layer.
#[derive(Default)]
pub(super) struct LayerState {
    /// Where its tree is: every step that stands on it asks.
    pub(super) tree: Option<LayerTree>,
    /// Whether its tree is what it was.
    pub(super) is_intact: Arc<OnceCell<bool>>,
    /// Its tar is being written.
    pub(super) hashing: Option<Hashing>,
    /// When it was made, in seconds since 1970, if a step of this build gives it.
    pub(super) created: Option<i64>,
}

/// What is known of one layer of an image that the build starts from.
#[derive(Default)]
pub(super) struct ImageLayerState {
    /// Its blob, as the image names it.
    pub(super) blob: Option<Descriptor>,
    /// It is being unpacked while it arrives.
    pub(super) early: Option<Early>,
}

impl States {
    /// All layers, locked.
    pub(super) fn layers(&self) -> MutexGuard<'_, HashMap<LayerId, LayerState>> {
        self.layers.lock().expect("no panic while held")
    }

    /// All layers of images, locked.
    pub(super) fn images(&self) -> MutexGuard<'_, HashMap<DiffId, ImageLayerState>> {
        self.images.lock().expect("no panic while held")
    }

    /// Something of one layer, if anything is known of it.
    pub(super) fn layer<T>(&self, id: &LayerId, read: impl FnOnce(&LayerState) -> T) -> Option<T> {
        self.layers().get(id).map(read)
    }

    /// All that goes on in the background, taken out.
    pub(super) fn take_tasks(&self) -> (Vec<Hashing>, Vec<Early>) {
        let hashing = self.layers().values_mut().filter_map(|state| state.hashing.take()).collect();
        let early = self.images().values_mut().filter_map(|state| state.early.take()).collect();
        (hashing, early)
    }
}
