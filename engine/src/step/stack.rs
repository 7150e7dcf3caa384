//! Steps that lay trees over each other, and that tell what one has more than another.

use std::sync::Arc;

use cache::LayerId;
use solver::Executed;

use crate::error::BuildError;
use crate::step::files::{Files, Outputs};
use crate::step::worker::BuildWorker;

impl BuildWorker {
    /// All inputs over each other, the last on top.
    pub(super) async fn merge(&self, run: &Executed<'_, Outputs>) -> Result<Outputs, BuildError> {
        let mut layers = Vec::new();
        for tree in self.input_trees(run) {
            layers.extend_from_slice(&self.layers_of(&tree, &run.cancel).await?);
        }
        Ok([Files::Layers(layers.into())].into())
    }

    /// What input 1 has more than input 0: the layers above those of input 0 where it stands on them, else one
    /// with what differs.
    pub(super) async fn diff(&self, run: &Executed<'_, Outputs>) -> Result<Outputs, BuildError> {
        let mut trees = Vec::with_capacity(2);
        for tree in self.input_trees(run) {
            trees.push(self.layers_of(&tree, &run.cancel).await?);
        }
        let [lower, upper] = &trees[..] else { unreachable!("a difference has two inputs") };
        let more: Arc<[LayerId]> = match upper.strip_prefix(&lower[..]) {
            Some(above) => above.into(),
            None => {
                let layer = self.layers.difference(lower, upper).await?;
                self.hash_later(run.vertex, &layer, lower, None);
                [layer].into()
            }
        };
        Ok([Files::Layers(more)].into())
    }
}
