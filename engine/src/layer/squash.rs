//! What layers change together, as one: what a build adds to its base, what one tree has more than another.

use cache::{LayerId, Memo};
use llb::encode::Encoder;

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::layer::layers::Layers;

/// Domain of the memos of such layers.
const SQUASHED: &str = "squashed layers";

impl Layers {
    /// `layers` with those above the lowest `base` as one, which has what they change together: what one
    /// adds and another takes away is not in it. The same layers always give the same one.
    pub(crate) async fn squashed(
        &self,
        layers: &[LayerId],
        base: usize,
    ) -> Result<Vec<LayerId>, BuildError> {
        let (below, own) = layers.split_at(base);
        if own.len() < 2 {
            return Ok(layers.to_vec());
        }
        let mut encoder = Encoder::new(SQUASHED);
        for part in [below, own] {
            encoder.list(part, |encoder, id| {
                encoder.text(id.as_str());
            });
        }
        let key = encoder.finish();
        let known =
            self.shared.store.memo(SQUASHED, &key).and_then(|memo| memo.layers.into_iter().next());
        let squashed = match known {
            Some(known) => known,
            None => {
                let made = self.difference(below, layers).await?;
                self.shared.store.put_memo(SQUASHED, &key, &Memo::new(vec![made.clone()]));
                made
            }
        };
        Ok([below, &[squashed]].concat())
    }

    /// What the layers `upper` have and lack together beside the layers `lower`, as one.
    pub(crate) async fn difference(
        &self,
        lower: &[LayerId],
        upper: &[LayerId],
    ) -> Result<LayerId, BuildError> {
        let below = self.rootfs(lower).await?;
        let whole = self.rootfs(upper).await?;
        let layer = blocking(move || whole.changes_over(&below)).await?;
        self.verify(&[lower, upper].concat()).await?;
        let store = self.shared.store.clone();
        blocking(move || Ok(store.seal(layer))).await
    }
}
