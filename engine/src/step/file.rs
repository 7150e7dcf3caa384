//! A step of file operations: from its inputs to the layers it makes.

use std::sync::Arc;

use cache::layer::Time;
use cache::{LayerId, Memo};
use llb::encode::Encoder;
use llb::{Definition, FileInput, FileOp, Op, VertexId};
use oci::Digest;
use solver::Executed;

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::file_op;
use crate::step::file_layer::FileLayer;
use crate::step::files::{Files, Outputs};
use crate::step::worker::BuildWorker;

/// Domain of the memos of what copies made last time.
const PREVIOUS: &str = "previous layer";

impl BuildWorker {
    pub(super) async fn file(
        &self,
        run: &Executed<'_, Outputs>,
        op: &FileOp,
    ) -> Result<Outputs, BuildError> {
        let mut trees = self.input_trees(run);
        for action in &op.actions {
            if let FileInput::Input(number) = action.input {
                trees[number] = Files::Layers(self.layers_of(&trees[number], &run.cancel).await?);
            }
        }
        let layers: Vec<LayerId> = trees.iter().flat_map(Files::layers).cloned().collect();
        let (written, verified) =
            tokio::join!(self.write_outputs(run, op, &trees), self.layers.verify(&layers));
        verified?;
        written
    }

    async fn write_outputs(
        &self,
        run: &Executed<'_, Outputs>,
        op: &FileOp,
        trees: &[Files],
    ) -> Result<Outputs, BuildError> {
        let mut views = Vec::with_capacity(trees.len());
        for tree in trees {
            views.push(self.view(tree).await?);
        }
        // Nobody mounts the result: its content goes straight into a tar.
        let mounted = self.is_mounted(run.vertex);
        let previous = if mounted { self.previous(run.vertex) } else { Vec::new() };
        let time = self.epoch.map_or_else(Time::now, |seconds| Time { seconds, nanoseconds: 0 });
        let mut made = Vec::new();
        let mut outputs = Vec::new();
        for output in 0..Op::File(op.clone()).outputs() {
            let base: Arc<[LayerId]> = match file_op::base(op, output).map_err(BuildError::from)? {
                FileInput::Input(number) => trees[number].layers().into(),
                _ => [].into(),
            };
            let is_shipped = self.shipped.contains(&run.vertex);
            let (steps, vertex) = (self.steps.clone(), run.vertex);
            let layer = FileLayer {
                machine: self.machine.clone(),
                store: self.store.clone(),
                stop: run.cancel.clone(),
                op: op.clone(),
                output,
                inputs: views.clone(),
                previous: previous.get(output).cloned(),
                time,
                forms: if is_shipped { self.layers.forms().clone() } else { [].into() },
                warn: Box::new(move |warning| steps.warn_of(vertex, warning)),
            };
            let written = match mounted {
                true => self.write_mounted(run, layer, &base).await?,
                false => blocking(move || layer.write_tar()).await?,
            };
            made.push(written.clone());
            outputs.push(Files::Layers(base.iter().cloned().chain([written]).collect()));
        }
        if mounted {
            let key = previous_key(&self.definition, run.vertex);
            self.store.put_memo(PREVIOUS, &key, &Memo::new(made));
        }
        Ok(outputs.into())
    }

    /// Makes a layer that will be mounted over `base`. Its tar, if an image has it, is written while the
    /// build goes on.
    async fn write_mounted(
        &self,
        run: &Executed<'_, Outputs>,
        layer: FileLayer,
        base: &[LayerId],
    ) -> Result<LayerId, BuildError> {
        let is_shipped = self.shipped.contains(&run.vertex);
        let tar_stop = is_shipped.then(|| self.layers.stop().clone());
        let (told, id) = tokio::sync::oneshot::channel();
        let writing = tokio::task::spawn_blocking(move || {
            // When the build was cancelled nobody listens, and nobody waits for the tar.
            let made = |id: &LayerId| drop(told.send(id.clone()));
            layer.write_both(tar_stop.as_ref(), made)
        });
        let Ok(id) = id.await else {
            let failed = writing.await.expect("writing a layer does not panic");
            return Err(failed.expect_err("a layer that was made is reported"));
        };
        self.hash_later(run.vertex, &id, base, Some(writing));
        Ok(id)
    }

    /// The layers that the same copy made last time, one an output: what changed may lie over them.
    fn previous(&self, vertex: VertexId) -> Vec<LayerId> {
        let memo = self.store.memo(PREVIOUS, &previous_key(&self.definition, vertex));
        memo.map_or_else(Vec::new, |memo| memo.layers)
    }
}

/// Key under which the last layer of a copy is remembered, whatever its content was.
fn previous_key(definition: &Definition, vertex: VertexId) -> Digest {
    let mut encoder = Encoder::new(PREVIOUS);
    llb::encode::encode_op(&mut encoder, &definition.vertex(vertex).op);
    encoder.finish()
}
