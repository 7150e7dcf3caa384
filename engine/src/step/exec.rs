//! A step that runs a process: from its inputs to the layers it leaves.

use std::collections::BTreeMap;
use std::sync::Arc;

use cache::layer::Time;
use cache::{LayerId, Memo};
use llb::encode::Encoder;
use llb::{ExecOp, VertexId};
use oci::Digest;
use solver::Executed;
use tokio_util::sync::CancellationToken;

use crate::blocking::{blocking, until};
use crate::error::BuildError;
use crate::file_op::{copy_directory, digest_of_all};
use crate::layer::Rootfs;
use crate::layer::write_back::written_back;
use crate::progress::event::StoppedStep;
use crate::shared_cache::Brought;
use crate::step::exhausted::{self, Words};
use crate::step::file_layer::FileLayer;
use crate::step::files::{Files, Outputs};
use crate::step::mounts::cache_mount_id;
use crate::step::process;
use crate::step::sandbox::{Ended, Task};
use crate::step::surroundings::Surroundings;
use crate::step::worker::BuildWorker;
use crate::tree::View;

/// Domain of the memos of contexts as layers.
const SNAPSHOT: &str = "context snapshot";

/// Layers, and what can be mounted in their place.
#[derive(Clone)]
struct Stack {
    layers: Arc<[LayerId]>,
    rootfs: Rootfs,
}

impl BuildWorker {
    pub(crate) async fn exec(
        &self,
        run: &Executed<'_, Outputs>,
        op: &ExecOp,
    ) -> Result<Outputs, BuildError> {
        let (prepared, stacks) = until(&run.cancel, self.prepare(run, op)).await?;
        let step = self.steps.id(run.vertex);
        let (store, build) = (self.store.clone(), self.build_id.clone());
        let log = crate::progress::steps::StepLog::new(self.steps.clone(), step, move || {
            store.log_writer(&build, &step.0.to_string()).ok()
        });
        let used: Vec<LayerId> = stacks.values().flat_map(|s| s.layers.iter().cloned()).collect();
        let task = Task { prepared, disk: self.step_disk };
        let ended = self.sandbox.run(task, log, &self.steps, &run.cancel);
        let ended = written_back(&self.store, ended);
        let (ended, verified) = tokio::join!(ended, until(&run.cancel, self.layers.verify(&used)));
        // What runs on a damaged tree may fail or not: it does not count.
        verified?;
        let ended = ended?;
        if run.cancel.is_cancelled() {
            let name = self.definition.vertex(run.vertex).metadata.name.clone();
            let Ended { tail: log_tail, log_path, .. } = ended;
            self.steps.stopped(StoppedStep { step, name, log_tail, log_path });
            return Err(BuildError::Canceled);
        }
        let code = ended.status.code();
        let good = if op.valid_exit_codes.is_empty() {
            code == 0
        } else {
            op.valid_exit_codes.contains(&code)
        };
        if !good || ended.overrun.is_some() {
            return Err(self.exit_error(run.vertex, op, ended));
        }
        let mut outputs = BTreeMap::new();
        for (output, written) in ended.outputs {
            let input = op.mounts.iter().find(|m| m.output == Some(output)).and_then(|m| m.input);
            let rootfs = match input {
                Some(input) => stacks[&input].rootfs.clone(),
                None => Rootfs::empty(&self.machine, &self.store),
            };
            let store = self.store.clone();
            let is_shipped = self.shipped.contains(&run.vertex);
            let id = blocking(move || {
                let layer = rootfs.collect_changes(written)?;
                // What is hashed is stamped on the way.
                Ok(if is_shipped { store.seal_unstamped(layer) } else { store.seal(layer) })
            });
            let id = id.await?;
            let base = input.map(|input| stacks[&input].layers.clone()).unwrap_or_default();
            self.hash_later(run.vertex, &id, &base, None);
            outputs.insert(output, Files::Layers(base.iter().cloned().chain([id]).collect()));
        }
        Ok(outputs.into_values().collect())
    }

    /// Brings everything together that a process needs.
    async fn prepare(
        &self,
        run: &Executed<'_, Outputs>,
        op: &ExecOp,
    ) -> Result<(process::Prepared, BTreeMap<usize, Stack>), BuildError> {
        let mut stacks: BTreeMap<usize, Stack> = BTreeMap::new();
        for (number, tree) in self.input_trees(run).iter().enumerate() {
            let layers = self.layers_of(tree, &run.cancel).await?;
            let step = self.steps.id(run.vertex);
            let rootfs = self.layers.rootfs_for(step, &layers).await?;
            stacks.insert(number, Stack { layers, rootfs });
        }
        let inputs = self.definition.inputs(run.vertex);
        let inputs = inputs.iter().map(|i| self.definition.vertex(i.vertex).digest.clone());
        let inputs: Vec<Digest> = inputs.collect();
        let brought = self.bring_mounts(op, &inputs).await;
        let trees = stacks.iter().map(|(number, s)| (*number, s.rootfs.clone())).collect();
        let (store, op, client) = (self.store.clone(), op.clone(), self.client.clone());
        let (machine, token) = (self.machine.clone(), run.cancel.clone());
        let architectures = &self.definition.vertex(run.vertex).metadata.architectures;
        let foreign = architectures.iter().find(|name| !executor::is_native(name)).cloned();
        let (sandbox, limits) = (self.sandbox.clone(), self.limits.clone());
        let prepared = blocking(move || {
            let mount_points = sandbox.mount_points(&store)?;
            let surroundings = Surroundings {
                machine: &machine,
                store: &store,
                limits: &limits,
                inputs: &inputs,
                brought: &brought,
                client: &client,
                mount_points: Some(&mount_points),
            };
            let prepared = process::prepare(&op, &trees, &surroundings, &|| token.is_cancelled());
            let architecture = foreign.unwrap_or_default();
            prepared.map(|prepared| prepared.for_architecture(architecture))
        });
        Ok((prepared.await?, stacks))
    }

    /// Fetches what caches say that the op's cache mounts held, as far as there are none here.
    async fn bring_mounts(&self, op: &ExecOp, inputs: &[Digest]) -> Vec<Brought> {
        let ids: Vec<String> =
            op.mounts.iter().filter_map(|mount| cache_mount_id(mount, inputs)).collect();
        let brings = ids.iter().map(|id| self.shared.mounts.bring(&self.store, id));
        futures_util::future::join_all(brings).await.into_iter().flatten().collect()
    }

    /// A context as layers: what a step mounts must be what was digested, with the ignore file
    /// applied, whatever happens to the directory meanwhile.
    pub(crate) async fn snapshot(
        &self,
        view: &Arc<View>,
        stop: &CancellationToken,
    ) -> Result<Arc<[LayerId]>, BuildError> {
        let view = view.clone();
        let (machine, store) = (self.machine.clone(), self.store.clone());
        let (steps, stop) = (self.steps.clone(), stop.clone());
        blocking(move || {
            let digest = digest_of_all(&view).map_err(BuildError::from)?;
            let mut encoder = Encoder::new(SNAPSHOT);
            encoder.text(digest.as_str());
            let key = encoder.finish();
            if let Some(known) = store.memo(SNAPSHOT, &key) {
                known.warnings.iter().for_each(|warning| steps.warn(warning.as_str()));
                return Ok(known.layers.into());
            }
            let (told, warnings) = std::sync::mpsc::channel();
            let layer = FileLayer {
                machine,
                store: store.clone(),
                stop,
                op: copy_directory("/", None, None),
                output: 0,
                inputs: vec![view],
                previous: None,
                time: Time::now(),
                forms: [].into(),
                warn: Box::new(move |warning: String| {
                    steps.warn(warning.as_str());
                    // Somebody listens until the layer is made.
                    let _ = told.send(warning);
                }),
            };
            let layer = layer.write_directory()?;
            let warnings = warnings.try_iter().collect();
            let memo = Memo { warnings, ..Memo::new(vec![layer.clone()]) };
            store.put_memo(SNAPSHOT, &key, &memo);
            Ok([layer].into())
        })
        .await
    }

    /// The process ended otherwise than it should.
    fn exit_error(&self, vertex: VertexId, op: &ExecOp, ended: Ended) -> BuildError {
        let command = &self.definition.vertex(vertex).metadata.command;
        let Words { how, hint } =
            exhausted::words(&ended, &op.ulimits, self.machine.host().limited_ids());
        let message = format!("process {command:?} did not complete successfully: {how}");
        let mut error = self.step_error(vertex, BuildError::system(message).with_hint_if(hint));
        if let BuildError::Step { failure } = &mut error {
            failure.exit_code = Some(ended.status.code());
            failure.log_tail = ended.tail;
            failure.log_path = ended.log_path;
        }
        error
    }
}
