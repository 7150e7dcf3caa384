//! The layers of the store, as one build sees them.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use cache::layer::{Flavor, Lower};
use cache::{LayerId, Store};
use tokio_util::sync::CancellationToken;

use crate::error::BuildError;
use crate::layer::directories::{Directories, LayerTree};
use crate::layer::rootfs::Rootfs;
use crate::layer::roots::Roots;
use crate::layer::state::States;
use crate::layer::tar::Form;
use crate::machine::Machine;
use crate::progress::steps::Steps;

/// What every piece of work on layers needs, also in the background.
#[derive(Clone)]
pub(super) struct LayerStore {
    pub(super) store: Store,
    pub(super) steps: Arc<Steps>,
    pub(super) machine: Arc<Machine>,
    pub(super) states: Arc<States>,
    pub(super) roots: Arc<Roots>,
    /// The build needs no more layers, or is cancelled.
    pub(super) stop: CancellationToken,
    /// In what forms the layers of an image are wanted.
    pub(super) forms: Arc<[Form]>,
}

impl LayerStore {
    /// A layer that the store had a moment ago.
    pub(super) fn lost(&self, id: &LayerId) -> BuildError {
        self.store.discard_layer(id);
        self.changed(id)
    }

    /// A layer whose tree the store has just forgotten.
    pub(super) fn changed(&self, id: &LayerId) -> BuildError {
        for state in self.states.layers().values_mut() {
            state.tree.take_if(|tree| tree.directories.ids.contains(id));
        }
        BuildError::lost(format!("layer {id} is missing or damaged in the store"))
            .with_hint("build again: what is missing is made again")
    }

    /// The directories, if all are there. What a layer hides as a whole is left out.
    pub(super) fn known_directories(
        &self,
        layers: &[LayerId],
    ) -> Result<Option<Directories>, BuildError> {
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
    pub(super) fn rootfs(&self, directories: Directories) -> Result<Rootfs, BuildError> {
        let Directories { ids, paths } = directories;
        Rootfs::over(&self.machine, &self.store, &ids, paths)
    }

    /// The tree of a layer, if it has one.
    pub(super) fn tree(&self, id: &LayerId) -> Result<Option<LayerTree>, BuildError> {
        if let Some(known) = self.states.layer(id, |state| state.tree.clone()).flatten() {
            return Ok(Some(known));
        }
        let info = self.store.layer(id).ok_or_else(|| self.lost(id))?;
        let Some(directory) = info.directory else { return Ok(None) };
        let mut directories = Directories::default();
        if let Some(over) = info.over {
            let whole = self.store.layer(&over).and_then(|info| info.directory);
            directories.push(&over, whole.ok_or_else(|| self.lost(&over))?);
        }
        let hides = hides_all_below(&directory).try_exists();
        let hides =
            hides.map_err(|e| BuildError::system("failed to look at a layer").because(e))?;
        directories.push(id, directory);
        let tree = LayerTree { directories, hides };
        self.states.layers().entry(id.clone()).or_default().tree = Some(tree.clone());
        Ok(Some(tree))
    }

    /// The layers below, for telling what a layer really changes: all of them, or it would be another
    /// layer.
    pub(super) fn lower(&self, base: &[LayerId], flavor: Flavor) -> Result<Lower, BuildError> {
        let mut roots = Vec::new();
        // The topmost first.
        for id in base.iter().rev() {
            let tree = self.tree(id)?.ok_or_else(|| self.lost(id))?;
            for path in tree.directories.paths.iter().rev() {
                let opened = self.roots.open(path);
                roots.push(
                    opened.map_err(|e| BuildError::system("failed to open a layer").because(e))?,
                );
            }
            if tree.hides {
                break;
            }
        }
        Ok(Lower::new(roots, flavor))
    }
}

/// Beside a layer's tree: a mark that nothing of the layers below shows. Overlayfs has none for
/// the root.
pub(super) fn hides_all_below(fs: &Path) -> PathBuf {
    fs.with_file_name("opaque")
}
