//! An image in the registries of its names.

use std::sync::Arc;

use oci::{Descriptor, Reference};

use super::Export;
use crate::blocking::blocking;
use crate::error::BuildError;
use crate::push::Push;
use crate::request::ImageForm;

/// The push of one output.
pub(crate) struct OutputPush {
    pub(crate) push: Arc<Push>,
    /// As which it goes there.
    pub(crate) form: ImageForm,
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
    let push = output.push.clone();
    let forming = export.forming(&output.form, push.step());
    let formed = blocking(move || forming.built(&push.into()));
    let target = formed.await?.target;
    output.push.finish(&target).await?;
    Ok(PushedImage { names: output.push.names(&target.digest), target })
}
