//! An image in the registries of its names.

use std::sync::Arc;

use oci::{Descriptor, Reference};

use super::{Compressing, Export, target};
use crate::blocking::blocking;
use crate::error::BuildError;
use crate::push::Push;
use crate::request::Compression;

/// The push of one output.
pub(crate) struct OutputPush {
    pub(crate) push: Arc<Push>,
    pub(crate) compression: Compression,
    /// Whether the store names the image by the digest that it has in the registry.
    pub(crate) names_by_digest: bool,
}

/// An image that was pushed.
#[derive(Debug, Clone)]
pub struct PushedImage {
    /// Its names there: with a tag, or with its digest.
    pub names: Vec<Reference>,
    /// The image's manifest, or the index over all platforms. Its layers are compressed, so that it is not
    /// the store's own.
    pub target: Descriptor,
}

/// Compresses what is not compressed yet, each layer going out as soon as it is, and pushes the image.
pub(super) async fn push(
    export: &Export<'_>,
    output: &OutputPush,
) -> Result<PushedImage, BuildError> {
    let (store, steps, stop) = (export.store.clone(), export.steps.clone(), export.stop.clone());
    let (images, shape) = (export.images.to_vec(), export.shape.clone());
    let (push, compression) = (output.push.clone(), output.compression);
    let compress = blocking(move || {
        let ready = |blob: &Descriptor| push.begin(blob);
        let step = push.step();
        let compressing = Compressing {
            store: &store,
            compression,
            steps: &steps,
            step,
            stop: &stop,
            ready: &ready,
        };
        let images = images
            .into_iter()
            .map(|(platform, image)| Ok((platform, compressing.image(image)?)))
            .collect::<Result<Vec<_>, BuildError>>()?;
        target(&store, &images, &shape)
    });
    let target = compress.await?;
    output.push.finish(&target).await?;
    Ok(PushedImage { names: output.push.names(&target.digest), target })
}
