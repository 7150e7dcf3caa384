//! An image of what a container has left.

use std::fs::File;
use std::sync::Arc;

use cache::layer::{DiffOptions, DirectorySink, LayerError, Lower};
use cache::{LayerId, Store, StoreError};
use oci::{Digest, History, Reference};
use tokio_util::sync::CancellationToken;

use super::{StoredContainer, changes, named, running};
use crate::blocking::blocking;
use crate::error::BuildError;
use crate::images::{flush, tag};
use crate::layer::{AssembledLayer, Layers};
use crate::machine::Machine;
use crate::output::assemble::{Parts, assemble};
use crate::progress::event::Silence;
use crate::progress::steps::Steps;
use crate::stored::read_variants;
use crate::workspace::Workspace;

/// What is committed, and how.
#[derive(Debug, Clone, Default)]
pub struct CommitRequest {
    /// The container's name, or the beginning of its id.
    pub container: String,
    /// What the image is called.
    pub name: Option<Reference>,
    /// Who made it.
    pub author: String,
    /// A comment on the new layer.
    pub message: String,
    /// Instructions that change the config, as in a Dockerfile.
    pub changes: Vec<String>,
}

/// Why the files of a container could not be copied.
#[derive(Debug, thiserror::Error)]
enum CopyError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("failed to open the container's files")]
    Open(#[from] std::io::Error),
}

impl Workspace {
    /// Makes an image of a container that does not run: its image, with what its command has written as
    /// one more layer. Gives the image's id.
    pub async fn commit(&self, request: CommitRequest) -> Result<Digest, BuildError> {
        let (store, text) = (self.store.clone(), request.container.clone());
        let container = blocking(move || named(&store, &text)).await?;
        if container.is_running() {
            return Err(running(&container));
        }
        let changed = changes::apply(&container.record.config, &request.changes)?;
        let layers = self.layers_with(&container).await?;
        let mut config = container.record.config.clone();
        config.config = changed;
        config.author.clone_from(&request.author);
        let base_history = config.history.len();
        config.history.push(History {
            created_by: container.record.command.join(" "),
            author: request.author,
            comment: request.message,
            empty_layer: layers.len() == container.record.layers.len(),
            ..History::default()
        });
        let store = self.store.clone();
        blocking(move || {
            let parts = Parts {
                config,
                base_history,
                layers,
                epoch: None,
                annotations: Default::default(),
                descriptor_annotations: Default::default(),
            };
            let image = assemble(&store, parts)?;
            if let Some(name) = request.name {
                tag(&store, &name.with_default_tag().to_string(), &image.manifest)?;
            }
            flush(&store)?;
            Ok(image.config_descriptor.digest)
        })
        .await
    }

    /// The layers of a container's image, and that of the container if it has changed anything.
    async fn layers_with(
        &self,
        container: &StoredContainer,
    ) -> Result<Vec<AssembledLayer>, BuildError> {
        let (store, machine) = (self.store.clone(), self.machine.clone());
        let steps = Arc::new(Steps::new(Arc::new(Silence)));
        let cancel = CancellationToken::new();
        let layers =
            Layers::new(store, machine.clone(), steps, Vec::new(), Arc::default(), &cancel);
        for variant in read_variants(&self.store, &container.record.manifest) {
            layers.pulled(&variant.config.rootfs.diff_ids, &variant.manifest.layers);
        }
        let (store, copied) = (self.store.clone(), container.clone());
        let top = blocking(move || {
            copy(&machine, &store, &copied)
                .map_err(|e| BuildError::system("failed to copy the container's files").because(e))
        });
        let mut ids = container.record.layers.clone();
        ids.push(top.await?);
        let assembled = layers.assembled(&ids).await;
        layers.close().await;
        let mut assembled = assembled?;
        // An archive without entries.
        let is_empty = |layer: &AssembledLayer| layer.diff_id.0 == Digest::of(&[0; 1024]);
        if assembled.last().is_some_and(is_empty) {
            assembled.pop();
        }
        Ok(assembled)
    }
}

/// A layer with what a container has written; the container keeps its own.
fn copy(
    machine: &Machine,
    store: &Store,
    container: &StoredContainer,
) -> Result<LayerId, CopyError> {
    let layer = store.new_layer()?;
    let root = File::open(layer.fs())?;
    let mut sink = DirectorySink::new(root.into(), machine.directory_options(Lower::none()))?;
    let options = DiffOptions { flavor: machine.flavor(), lower: None, all_xattrs: true };
    cache::layer::diff(File::open(container.fs())?, &options, &mut sink)?;
    sink.finish()?;
    Ok(store.seal(layer))
}
