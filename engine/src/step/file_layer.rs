//! Layers made by file operations.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cache::layer::{LayerSink, Lower, Time};
use cache::{LayerId, Snapshotter, Store};
use llb::FileOp;
use tokio_util::sync::CancellationToken;

use crate::error::BuildError;
use crate::file_op::{
    self, Applied, FileOpError, Job, Manifest, Plan, Previous, Small, TarBefore, Target, Written,
};
use crate::layer::tar::{Form, LayerTar};
use crate::layer::write_back::WriteBack;
use crate::machine::Machine;
use crate::tree::View;

/// Everything a file operation's layer is made with.
pub(crate) struct FileLayer {
    pub(crate) machine: Arc<Machine>,
    pub(crate) store: Store,
    /// Ends it early.
    pub(crate) stop: CancellationToken,
    pub(crate) op: FileOp,
    pub(crate) output: usize,
    pub(crate) inputs: Vec<Arc<View>>,
    /// The layer that the same operation made last time.
    pub(crate) previous: Option<LayerId>,
    /// Time of what it makes itself. It is not in the step's key: a known result keeps the time of when
    /// it was made.
    pub(crate) time: Time,
    /// In what forms it is wanted, see [`LayerTar`].
    pub(crate) forms: Arc<[Form]>,
    /// Told what was left out or done otherwise than asked.
    pub(crate) warn: Box<dyn Fn(String) + Send + Sync>,
}

/// The tree of a layer that the same operation made before, whole.
struct Before {
    id: LayerId,
    manifest: Manifest,
}

impl FileLayer {
    /// Makes the layer as just its tar: nothing will mount it.
    pub(crate) fn write_tar(&self) -> Result<LayerId, BuildError> {
        let (scratch, is_stopped) = (self.store.temporary_directory(), || self.stop.is_cancelled());
        let inputs = self.inputs();
        let job = self.job(&inputs, &scratch, &is_stopped);
        let plan = file_op::plan(&job).map_err(BuildError::from)?;
        let fill = |sink: &mut dyn LayerSink| self.emit(&plan, Target::Sink(sink));
        let (kept, _) = self.tar(&self.stop).write(fill, BuildError::from)?;
        Ok(self.store.add_blob_layer(&kept.diff_id, &kept.descriptor))
    }

    /// Makes the layer as a directory.
    pub(crate) fn write_directory(&self) -> Result<LayerId, BuildError> {
        let mut made = None;
        self.write_both(None, |id| made = Some(id.clone()))?;
        Ok(made.expect("the layer was made"))
    }

    /// Makes the layer as a directory, gives it to `made`, and goes on to write its tar until the token
    /// `tar` is cancelled. Whether there is a tar in the end: without the token there is none, nor where
    /// something was left out of the directory, which must not be in the tar either.
    pub(crate) fn write_both(
        &self,
        tar: Option<&CancellationToken>,
        made: impl FnOnce(&LayerId),
    ) -> Result<bool, BuildError> {
        let (scratch, is_stopped) = (self.store.temporary_directory(), || self.stop.is_cancelled());
        let inputs = self.inputs();
        let job = self.job(&inputs, &scratch, &is_stopped);
        let (store, previous) = (&self.store, self.previous.as_ref());
        let (plan, (tar_before, before)) = rayon::join(
            || file_op::plan(&job).map_err(BuildError::from),
            || {
                let tar_before = previous.filter(|_| tar.is_some());
                let tar_before = tar_before.and_then(|id| tar_of(store, id)).map(TarBefore::new);
                (tar_before, previous.and_then(|id| Before::find(store, id)))
            },
        );
        let plan = plan?;
        let (id, applied) = self.write_planned(&plan, before)?;
        made(&id);
        match tar.filter(|_| applied.warnings.is_empty()) {
            Some(stop) => self.write_tar_of(&plan, &id, tar_before, stop).map(|()| true),
            None => Ok(false),
        }
    }

    fn write_planned(
        &self,
        plan: &Plan<'_>,
        before: Option<Before>,
    ) -> Result<(LayerId, Applied), BuildError> {
        let layer = self.store.new_layer().map_err(failed)?;
        let fs = layer.fs();
        let may_lie_over = self.machine.snapshotter(&self.store)? != Snapshotter::Copy;
        let before = before.filter(|_| may_lie_over);
        let manifest = before.as_ref().map(|before| &before.manifest);
        let previous = manifest.map(|manifest| Previous { manifest, small: Small::USUAL });
        let options = || self.machine.directory_options(Lower::none());
        let target = Target::Directory { path: &fs, options: &options, previous };
        let applied = self.emit(plan, target).map_err(BuildError::from)?;
        if let Some(before) = before.filter(|_| applied.is_change) {
            return Ok((self.store.seal_over(layer, &before.id), applied));
        }
        std::fs::write(manifest_path(&fs), applied.manifest.to_bytes()).map_err(failed)?;
        Ok((self.store.seal(layer), applied))
    }

    /// Writes the tar of the layer `id`, whose directory this has written. Contents come from there
    /// or from the tar of the previous layer; the inputs are not read again.
    fn write_tar_of(
        &self,
        plan: &Plan<'_>,
        id: &LayerId,
        before: Option<TarBefore>,
        stop: &CancellationToken,
    ) -> Result<(), BuildError> {
        let written = Written::new(directories(&self.store, id)?, before);
        let fill = |sink: &mut dyn LayerSink| {
            let mut sink = WriteBack::new(sink, || self.store.write_back());
            self.emit(plan, Target::Again { sink: &mut sink, written })
        };
        let (kept, _) = self.tar(stop).write(fill, BuildError::from)?;
        self.store.set_diff_id(id, &kept.diff_id, kept.descriptor.size);
        self.store.add_blob_form(&kept.diff_id, &kept.descriptor);
        Ok(())
    }

    fn tar<'s>(&'s self, stop: &'s CancellationToken) -> LayerTar<'s> {
        LayerTar { store: &self.store, forms: &self.forms, stop }
    }

    fn inputs(&self) -> Vec<Option<&View>> {
        self.inputs.iter().map(|view| Some(view.as_ref())).collect()
    }

    fn job<'j>(
        &'j self,
        inputs: &'j [Option<&'j View>],
        scratch: &'j Path,
        is_stopped: &'j (dyn Fn() -> bool + Sync),
    ) -> Job<'j> {
        Job {
            op: &self.op,
            output: self.output,
            inputs,
            default_time: self.time,
            scratch,
            host: self.machine.host(),
            is_stopped,
        }
    }

    fn emit(&self, plan: &Plan<'_>, target: Target<'_>) -> Result<Applied, FileOpError> {
        let applied = plan.write(target, &|| self.stop.is_cancelled())?;
        applied.warnings.iter().for_each(|warning| (self.warn)(warning.clone()));
        Ok(applied)
    }
}

impl Before {
    /// The whole tree that the layer `id` is, or is a change of.
    fn find(store: &Store, id: &LayerId) -> Option<Self> {
        if !store.check_layer(id) {
            return None;
        }
        let id = store.layer(id)?.over.unwrap_or_else(|| id.clone());
        let directory = store.layer(&id)?.directory?;
        let bytes = std::fs::read(manifest_path(&directory)).ok()?;
        Some(Self { id, manifest: Manifest::from_bytes(&bytes).ok()? })
    }
}

/// Beside a layer's tree: what is in it.
fn manifest_path(fs: &Path) -> PathBuf {
    fs.with_file_name("manifest")
}

/// The directories of the layer `id`, the topmost first.
fn directories(store: &Store, id: &LayerId) -> Result<Vec<OwnedFd>, BuildError> {
    let lost = || BuildError::refused("the directory of a layer is gone");
    let mut paths = Vec::new();
    let mut next = Some(id.clone());
    while let Some(id) = next {
        let info = store.layer(&id).ok_or_else(lost)?;
        paths.push(info.directory.ok_or_else(lost)?);
        next = info.over;
    }
    let open = |path: &PathBuf| Ok(File::open(path).map_err(failed)?.into());
    paths.iter().map(open).collect()
}

/// The plain tar of a layer, if it is there.
fn tar_of(store: &Store, id: &LayerId) -> Option<File> {
    let info = store.layer(id)?;
    let mut plain = info.blobs.iter().filter(|blob| blob.media_type == oci::media_type::LAYER);
    plain.find_map(|blob| store.blob(&blob.digest)?.open().ok())
}

fn failed(error: impl std::error::Error + Send + Sync + 'static) -> BuildError {
    BuildError::system("failed to write a layer").because(error)
}
