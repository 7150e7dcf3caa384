//! The files of an image: its layers, put together.

use std::sync::Arc;

use cache::{LayerId, Store};
use tokio_util::sync::CancellationToken;

use crate::error::BuildError;
use crate::layer::{Layers, Rootfs};
use crate::progress::steps::Steps;
use crate::solve::ATTEMPTS;
use crate::stored::Variant;
use crate::workspace::Workspace;

impl Workspace {
    /// The layers `ids`, none of which was changed since it was made: those are unpacked again.
    pub(crate) async fn whole_rootfs(
        &self,
        ids: &[LayerId],
        steps: &Arc<Steps>,
        cancel: &CancellationToken,
    ) -> Result<Rootfs, BuildError> {
        let mut tries = 1..ATTEMPTS;
        loop {
            let (store, machine) = (self.store.clone(), self.machine.clone());
            let layers =
                Layers::new(store, machine, steps.clone(), Vec::new(), Arc::default(), cancel);
            let rootfs = layers.rootfs(ids).await?;
            match layers.verify(ids).await {
                Ok(()) => return Ok(rootfs),
                Err(BuildError::Lost(_)) if tries.next().is_some() => {
                    self.tell_store_warnings(steps);
                }
                Err(error) => return Err(error),
            }
        }
    }
}

/// The layers of an image as the store knows them; `text` is what the user calls it. It is an error when
/// one is missing.
pub(crate) fn layers_of(
    store: &Store,
    text: &str,
    variant: &Variant,
) -> Result<Vec<LayerId>, BuildError> {
    known_layers(store, variant).ok_or_else(|| {
        BuildError::input(format!("image `{text}` is incomplete in the store"))
            .with_hint("pull or build it again")
    })
}

fn known_layers(store: &Store, variant: &Variant) -> Option<Vec<LayerId>> {
    if variant.config.rootfs.diff_ids.len() != variant.manifest.layers.len() {
        return None;
    }
    let id =
        |(diff_id, blob): (&oci::DiffId, &oci::Descriptor)| match store.layer_of_diff_id(diff_id) {
            Some(id) => Some(id),
            None => store.has_blob(&blob.digest).then(|| store.add_blob_layer(diff_id, blob)),
        };
    variant.layers().map(id).collect()
}
