//! Which layers a word names.

use cache::{LayerId, Store};
use oci::Platform;

use crate::error::BuildError;
use crate::images::{find, rootfs};
use crate::stored::read_variants;

/// Shorter beginnings of a layer's digest are not looked for.
const PREFIX_MIN: usize = 4;

/// A stack of layers, the bottom one first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layers(pub(super) Vec<LayerId>);

impl Layers {
    /// Those of an image (`app`), of an image without its topmost ones (`app~2`), or those up to a layer,
    /// which is named by its id in the store or by the beginning of its digest.
    pub(super) fn named(
        store: &Store,
        text: &str,
        platform: Option<&Platform>,
    ) -> Result<Self, BuildError> {
        let (name, without) = split(text)?;
        let mut layers = match find(store, name) {
            Ok(found) => {
                let variant = found.variant(store, name, platform)?;
                rootfs::layers_of(store, name, &variant)?
            }
            Err(error) => up_to(store, name).ok_or(error)?,
        };
        let Some(left) = layers.len().checked_sub(without) else {
            let count = layers.len();
            return Err(BuildError::input(format!("`{text}`: `{name}` has only {count} layers"))
                .with_hint("`mybuild history` shows them"));
        };
        layers.truncate(left);
        Ok(Self(layers))
    }

    /// What the topmost layer lies on.
    pub(super) fn below(&self) -> Self {
        Self(self.0.iter().take(self.0.len().saturating_sub(1)).cloned().collect())
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
