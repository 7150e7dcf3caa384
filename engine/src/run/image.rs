//! Which image a container runs, and its layers as directories.

use std::path::PathBuf;
use std::sync::Arc;

use cache::LayerId;
use oci::{Descriptor, Digest, ImageConfig, Reference};
use tokio_util::sync::CancellationToken;

use super::RunRequest;
use crate::blocking::blocking;
use crate::client::Client;
use crate::error::BuildError;
use crate::images::{find, rootfs};
use crate::progress::event::Progress;
use crate::progress::steps::Steps;
use crate::request::PullPolicy;
use crate::stored::Variant;
use crate::workspace::Workspace;

/// An image that can be mounted.
pub(super) struct Image {
    pub(super) id: Digest,
    pub(super) manifest: Descriptor,
    pub(super) config: ImageConfig,
    /// Its layers, the bottom one first.
    pub(super) ids: Vec<LayerId>,
    /// Directories of its layers, the bottom one first.
    pub(super) layers: Vec<PathBuf>,
}

impl Workspace {
    /// The image of the store, or else of the registry.
    pub(super) async fn image_to_run(
        &self,
        request: &RunRequest,
        client: &dyn Client,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Result<Image, BuildError> {
        let looked_up = matches!(request.pull, PullPolicy::Always | PullPolicy::Newer);
        let steps = Arc::new(Steps::new(progress.clone()));
        if !looked_up {
            match self.stored_image(request, &steps, &cancel).await {
                Err(BuildError::Input(_)) if request.pull == PullPolicy::Missing => {}
                found => return found,
            }
        }
        let reference: Reference = request
            .image
            .parse()
            .map_err(|e| BuildError::input(format!("`{}`", request.image)).because(e))?;
        // The store was looked into above; what it has for other platforms is told with the registry's
        // error.
        let policy = if looked_up { request.pull } else { PullPolicy::Newer };
        let platform = request.platform.clone();
        let pulled = self.pull(&reference, platform, policy, client, progress, cancel.clone());
        pulled.await.map_err(|error| match looked_up {
            true => error,
            false => error.within(format!(
                "image `{}` is not in the store, and cannot be pulled",
                request.image
            )),
        })?;
        self.stored_image(request, &steps, &cancel).await
    }

    /// The image of the store. It counts as missing when a layer is.
    async fn stored_image(
        &self,
        request: &RunRequest,
        steps: &Arc<Steps>,
        cancel: &CancellationToken,
    ) -> Result<Image, BuildError> {
        let (store, text, platform) =
            (self.store.clone(), request.image.clone(), request.platform.clone());
        let found = blocking(move || {
            let variant = find(&store, &text)?.variant(&store, &text, platform.as_ref())?;
            let layers = rootfs::layers_of(&store, &text, &variant)?;
            Ok((variant, layers))
        });
        let (variant, ids) = found.await?;
        let layers = self.whole_rootfs(&ids, steps, cancel).await?.lowers().to_vec();
        let Variant { id, manifest_descriptor: manifest, config, .. } = variant;
        Ok(Image { id, manifest, config, ids, layers })
    }
}
