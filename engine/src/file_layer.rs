//! Layers made by file operations.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};

use cache::layer::compress::Compression as Encoding;
use cache::layer::{DirectoryOptions, Flavor, Lower, TarSink, Time};
use cache::{LayerId, Store};
use llb::{CopyOp, FileAction, FileActionKind, FileInput, FileOp, Owner, OwnerId};
use tokio_util::sync::CancellationToken;

use crate::error::{BuildError, chain};
use crate::file_op::{self, FileOpError, Job, Manifest, Previous, Target, Written};
use crate::layer_tar::LayerTar;
use crate::machine::Machine;
use crate::tree::View;

/// Everything a file operation's layer is made with.
pub(crate) struct FileLayer<'a> {
    pub(crate) machine: &'a Machine,
    pub(crate) store: &'a Store,
    /// Ends it early.
    pub(crate) stop: &'a CancellationToken,
    pub(crate) op: &'a FileOp,
    pub(crate) output: usize,
    pub(crate) inputs: Vec<Option<&'a View>>,
    /// The layer that the same operation made last time.
    pub(crate) previous: Option<LayerId>,
    /// What its tar is compressed to while it is written, see [`LayerTar`].
    pub(crate) encodings: &'a [Encoding],
    /// Told what was left out or done otherwise than asked.
    pub(crate) warn: &'a dyn Fn(String),
}

impl FileLayer<'_> {
    /// Makes the layer: a directory if it will be `mounted`, else just its tar.
    pub(crate) fn write(&self, mounted: bool) -> Result<LayerId, BuildError> {
        if mounted { self.write_directory() } else { self.write_tar() }
    }

    fn write_directory(&self) -> Result<LayerId, BuildError> {
        let layer = self.store.new_layer().map_err(|e| failed(&e))?;
        let fs = layer.fs();
        let known = self.previous.as_ref().and_then(|id| previous(self.store, id));
        let previous = known.as_ref().map(|(path, manifest)| Previous { path, manifest });
        let options = || self.machine.directory_options(Lower::none());
        let target = Target::Directory { path: &fs, options: &options, previous };
        let applied = self.apply(target).map_err(file_error)?;
        std::fs::write(manifest_path(&fs), applied.manifest.to_bytes()).map_err(|e| failed(&e))?;
        Ok(self.store.seal(layer))
    }

    /// Writes the tar to the store.
    fn write_tar(&self) -> Result<LayerId, BuildError> {
        let kept = self.tar().write(|sink| self.apply(Target::Sink(sink)), file_error)?;
        Ok(self.store.add_blob_layer(&kept.diff_id, &kept.descriptor))
    }

    /// Writes the tar of the layer `id`, whose directory this has written. Contents come from there
    /// or from the tar of the previous layer; the inputs are not read again.
    pub(crate) fn write_tar_of(&self, id: &LayerId) -> Result<(), BuildError> {
        let lost = || BuildError::refused("the directory of a layer is gone");
        let directory = self.store.layer(id).and_then(|info| info.directory).ok_or_else(lost)?;
        let directory = File::open(directory).map_err(|e| failed(&e))?;
        let before = self.previous.as_ref().and_then(|id| tar_of(self.store, id));
        let written = Written::new(directory.into(), before);
        let kept =
            self.tar().write(|sink| self.apply(Target::Again { sink, written }), file_error)?;
        self.store.set_diff_id(id, &kept.diff_id, kept.descriptor.size);
        self.store.add_blob_form(&kept.diff_id, &kept.descriptor);
        Ok(())
    }

    fn tar(&self) -> LayerTar<'_> {
        LayerTar { store: self.store, encodings: self.encodings, stop: self.stop }
    }

    fn apply(&self, target: Target<'_>) -> Result<file_op::Applied, FileOpError> {
        let job = Job {
            op: self.op,
            output: self.output,
            inputs: &self.inputs,
            default_time: Time::EPOCH,
            scratch: &self.store.temporary_directory(),
            host: self.machine.host(),
            is_stopped: &|| self.stop.is_cancelled(),
        };
        let applied = file_op::apply(&job, target)?;
        applied.warnings.iter().for_each(|warning| (self.warn)(warning.clone()));
        Ok(applied)
    }
}

/// Beside a layer's tree: the fingerprints of its files.
fn manifest_path(fs: &Path) -> PathBuf {
    fs.with_file_name("manifest")
}

fn previous(store: &Store, id: &LayerId) -> Option<(PathBuf, Manifest)> {
    let directory = store.layer(id)?.directory?;
    let bytes = std::fs::read(manifest_path(&directory)).ok()?;
    Some((directory, Manifest::from_bytes(&bytes).ok()?))
}

/// The plain tar of a layer, if it is there.
fn tar_of(store: &Store, id: &LayerId) -> Option<File> {
    let info = store.layer(id)?;
    let mut plain = info.blobs.iter().filter(|blob| blob.media_type == oci::media_type::LAYER);
    plain.find_map(|blob| store.blob(&blob.digest)?.open().ok())
}

fn failed(error: &dyn std::error::Error) -> BuildError {
    BuildError::system("failed to write a layer", error)
}

/// Errors of copies are the user's: a path that is not there, a name that is in the way.
pub(crate) fn file_error(error: FileOpError) -> BuildError {
    BuildError::Input { message: chain(&error), hint: None }
}

/// An operation that copies what is in the directory `source` of input 0 to the root of an empty
/// tree. `owner` replaces the owners of all files.
pub(crate) fn copy_directory(source: &str, owner: Option<(u32, u32)>) -> FileOp {
    let owner = owner
        .map(|(uid, gid)| Owner { user: Some(OwnerId::Id(uid)), group: Some(OwnerId::Id(gid)) });
    let copy = CopyOp {
        src: if source.is_empty() { "/".to_owned() } else { source.to_owned() },
        dest: "/".to_owned(),
        owner,
        mode: None,
        mode_symbolic: None,
        follow_symlink: true,
        dir_copy_contents: true,
        attempt_unpack: false,
        create_dest_path: true,
        allow_wildcard: false,
        allow_empty_wildcard: true,
        timestamp: None,
        include_patterns: Vec::new(),
        exclude_patterns: Vec::new(),
        always_replace_existing: true,
        parents: false,
        display_src: source.to_owned(),
    };
    let action = FileAction {
        input: FileInput::Scratch,
        secondary: Some(FileInput::Input(0)),
        output: Some(0),
        kind: FileActionKind::Copy(copy),
    };
    FileOp { actions: vec![action] }
}

/// Copies what is in the directory `source` of `view` to the directory `target`, outside of any
/// layer.
pub(crate) fn copy_out(
    machine: &Machine,
    scratch: &Path,
    view: &View,
    source: &str,
    owner: Option<(u32, u32)>,
    target: &Path,
) -> Result<(), FileOpError> {
    let op = copy_directory(source, owner);
    let options = || DirectoryOptions {
        flavor: Flavor::Plain,
        ignore_owner: machine.host().single_id(),
        lower: Lower::none(),
    };
    let inputs = [Some(view)];
    let job = copy_job(machine, scratch, &op, &inputs);
    file_op::apply(&job, Target::Directory { path: target, options: &options, previous: None })?;
    Ok(())
}

/// The job of an operation that [`copy_directory`] made.
fn copy_job<'a>(
    machine: &'a Machine,
    scratch: &'a Path,
    op: &'a FileOp,
    inputs: &'a [Option<&'a View>],
) -> Job<'a> {
    Job {
        op,
        output: 0,
        inputs,
        default_time: Time::EPOCH,
        scratch,
        host: machine.host(),
        is_stopped: &|| false,
    }
}

/// Writes all files of `view` to `out` as a tar.
pub(crate) fn write_all(
    machine: &Machine,
    scratch: &Path,
    view: &View,
    out: impl Write + Send,
) -> Result<(), FileOpError> {
    let op = copy_directory("/", None);
    let inputs = [Some(view)];
    let job = copy_job(machine, scratch, &op, &inputs);
    let mut sink = TarSink::new(out);
    file_op::apply(&job, Target::Sink(&mut sink))?;
    sink.finish()?;
    Ok(())
}
