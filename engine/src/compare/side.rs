//! Which layers a word names.

use std::path::PathBuf;

use cache::{LayerId, Store};
use oci::Platform;

use crate::containers;
use crate::error::BuildError;
use crate::images::{find, rootfs};
use crate::stored::read_variants;

/// Shorter beginnings of a layer's digest are not looked for.
const PREFIX_MIN: usize = 4;

/// A stack of layers.
pub(super) struct Layers {
    /// Those that are sealed, the bottom one first.
    pub(super) ids: Vec<LayerId>,
    /// What a container has written above them.
    pub(super) upper: Option<PathBuf>,
}

impl Layers {
    /// Those of a container, of an image (`app`), of an image without its topmost ones (`app~2`), or those up to a layer,
    /// which is named by its id in the store or by the beginning of its digest.
    pub(super) fn named(
        store: &Store,
        text: &str,
        platform: Option<&Platform>,
    ) -> Result<Self, BuildError> {
        if let Some(container) = containers::find(store, text)? {
            let upper = Some(container.fs());
            return Ok(Self { ids: container.record.layers, upper });
        }
        let (name, without) = split(text)?;
        let mut ids = match find(store, name) {
            Ok(found) => {
                let variant = found.variant(store, name, platform)?;
                rootfs::layers_of(store, name, &variant)?
            }
            Err(error) => up_to(store, name).ok_or(error)?,
        };
        let Some(left) = ids.len().checked_sub(without) else {
            let count = ids.len();
            return Err(BuildError::input(format!("`{text}`: `{name}` has only {count} layers"))
                .with_hint("`mybuild history` shows them"));
        };
        ids.truncate(left);
        Ok(Self { ids, upper: None })
    }

    /// What the topmost layer lies on.
    pub(super) fn below(&self) -> Self {
        let left = match self.upper {
            Some(_) => self.ids.len(),
            None => self.ids.len().saturating_sub(1),
        };
        Self { ids: self.ids[..left].to_vec(), upper: None }
    }
}

/// `app~2`: the name, and how many layers are left out.
fn split(text: &str) -> Result<(&str, usize), BuildError> {
    let Some((name, count)) = text.rsplit_once('~') else { return Ok((text, 0)) };
    let count = if count.is_empty() { Ok(1) } else { count.parse() };
    let count = count.map_err(|_| {
        BuildError::input(format!("`{text}`: want a number of layers after `~`"))
            .with_hint("`app~1` is `app` without its topmost layer")
    })?;
    Ok((name, count))
}

/// The layer that `text` names, with what is below it in an image or in the result of a step.
fn up_to(store: &Store, text: &str) -> Option<Vec<LayerId>> {
    let digest = text.strip_prefix("sha256:").unwrap_or(text);
    let is_it = |id: &LayerId| {
        let named = || store.layer(id).and_then(|layer| layer.diff_id);
        id.as_str() == text
            || digest.len() >= PREFIX_MIN
                && named().is_some_and(|diff_id| diff_id.0.hex().starts_with(digest))
    };
    let images = store.images();
    let variants = images.iter().flat_map(|image| read_variants(store, &image.descriptor));
    let of_images = variants.filter_map(|variant| {
        variant.config.rootfs.diff_ids.iter().map(|id| store.layer_of_diff_id(id)).collect()
    });
    let of_steps = store.records().into_iter().flat_map(|record| record.outputs);
    of_images.chain(of_steps).find_map(|mut stack: Vec<LayerId>| {
        let place = stack.iter().position(is_it)?;
        stack.truncate(place + 1);
        Some(stack)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tilde_leaves_layers_out() {
        for (text, expected) in [
            ("app", Some(("app", 0))),
            ("app~", Some(("app", 1))),
            ("app:1~2", Some(("app:1", 2))),
            ("app~0", Some(("app", 0))),
            ("app~x", None),
            ("app~-1", None),
            ("app~99999999999999999999999", None),
        ] {
            assert_eq!(split(text).ok(), expected, "{text}");
        }
    }
}
