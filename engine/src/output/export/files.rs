//! The root file system as files or as one tar.

use std::path::Path;
use std::sync::Arc;

use oci::Platform;
use tokio_util::sync::CancellationToken;

use super::Export;
use super::error::ExportError;
use super::layout::place;
use super::mirror::{self, Part};
use super::tar::{self, TarPart};
use crate::blocking::blocking;
use crate::client::Target;
use crate::error::{BuildError, Fault};
use crate::file_op::{copy_directory, copy_out};
use crate::machine::Machine;
use crate::output::assemble::AssembledImage;
use crate::request::{Destination, LocalMode};
use crate::stop::Stoppable;
use crate::tree::View;

/// Writes each image's files to `dest`, into a folder a platform if asked, or if there is an index.
/// Files belong to the caller. Where there is a time of the sources, all of them have it.
pub(crate) async fn to_directory(
    export: &Export<'_>,
    dest: &Path,
    platform_split: Option<bool>,
    mode: LocalMode,
) -> Result<(), BuildError> {
    let step = export.steps.internal("exporting to client directory");
    step.ended(write_directories(export, dest, platform_split, mode).await)
}

async fn write_directories(
    export: &Export<'_>,
    dest: &Path,
    platform_split: Option<bool>,
    mode: LocalMode,
) -> Result<(), BuildError> {
    let split = platform_split.unwrap_or(export.request.is_index());
    let dest = export.client.output_directory(dest)?;
    let mut parts = Vec::with_capacity(export.built.images.len());
    for (platform, image) in &export.built.images {
        let folder = split.then(|| folder(platform));
        parts.push(Part { folder, view: view(export, image).await? });
    }
    if mode == LocalMode::Delete {
        parts = mirror(export, &dest, parts).await?;
    }
    for (part, (_, image)) in parts.into_iter().zip(&export.built.images) {
        let target = part.folder.map_or_else(|| dest.clone(), |folder| dest.join(folder));
        let (view, epoch) = (part.view, image.epoch);
        let (machine, scratch) = (export.machine.clone(), export.store.temporary_directory());
        let stop = export.stop.clone();
        let write = blocking(move || write_files(&machine, &scratch, &view, epoch, &target, &stop));
        verified(export, [image], write).await?;
    }
    Ok(())
}

async fn mirror(
    export: &Export<'_>,
    dest: &Path,
    parts: Vec<Part>,
) -> Result<Vec<Part>, BuildError> {
    let (stop, dest) = (export.stop.clone(), dest.to_owned());
    blocking(move || {
        let failed = ExportError::writing(format!("`{}`", dest.display()));
        mirror::remove_others(&dest, &parts, &stop).map_err(failed)?;
        Ok(parts)
    })
    .await
}

/// Writes the images' files as one tar, with times and folders as [`to_directory`].
pub(crate) async fn to_tar(
    export: &Export<'_>,
    dest: &Destination,
    platform_split: Option<bool>,
) -> Result<(), BuildError> {
    let step = export.steps.internal("exporting to tar");
    step.ended(write_parts(export, dest, platform_split).await)
}

async fn write_parts(
    export: &Export<'_>,
    dest: &Destination,
    platform_split: Option<bool>,
) -> Result<(), BuildError> {
    let is_split = platform_split.unwrap_or(export.request.is_index());
    let mut parts = Vec::with_capacity(export.built.images.len());
    for (platform, image) in &export.built.images {
        let folder = is_split.then(|| folder(platform));
        parts.push(TarPart { folder, view: view(export, image).await?, time: image.epoch });
    }
    let (stop, dest) = (export.stop.clone(), dest.clone());
    let (machine, scratch) = (export.machine.clone(), export.store.temporary_directory());
    let client = export.client.clone();
    let write = blocking(move || {
        let target = client.output(&dest)?;
        let written = write_tar(&machine, &scratch, &parts, target, &stop);
        Ok(written.map_err(ExportError::writing(place(&dest)))?)
    });
    verified(export, export.built.images.iter().map(|(_, image)| image), write).await
}

/// Writes, and looks meanwhile whether what is read is what it was.
async fn verified(
    export: &Export<'_>,
    images: impl IntoIterator<Item = &AssembledImage>,
    write: impl Future<Output = Result<(), BuildError>>,
) -> Result<(), BuildError> {
    let layers = images.into_iter().flat_map(|image| &image.layers);
    let ids: Vec<_> = layers.map(|layer| layer.id.clone()).collect();
    let (written, verified) = tokio::join!(write, export.layers.verify(&ids));
    verified.and(written)
}

/// `linux_arm_v7`
fn folder(platform: &Platform) -> String {
    platform.to_string().replace('/', "_")
}

async fn view(export: &Export<'_>, image: &AssembledImage) -> Result<Arc<View>, BuildError> {
    let ids: Vec<_> = image.layers.iter().map(|l| l.id.clone()).collect();
    let rootfs = export.layers.rootfs(&ids).await?;
    // What has left the store cannot be taken back.
    export.layers.verify(&ids).await?;
    blocking(move || {
        let view = rootfs.view();
        view.map(Arc::new).map_err(|e| BuildError::System(Fault::of(e)))
    })
    .await
}

fn write_files(
    machine: &Machine,
    scratch: &Path,
    view: &View,
    epoch: Option<i64>,
    target: &Path,
    stop: &CancellationToken,
) -> Result<(), BuildError> {
    let dest = format!("`{}`", target.display());
    crate::umask::make_directories(target).map_err(ExportError::writing(dest.as_str()))?;
    // Root of this namespace is the caller.
    let op = copy_directory("/", Some((0, 0)), epoch);
    let is_stopped = || stop.is_cancelled();
    let copied = copy_out(machine.host(), scratch, view, &op, target, &is_stopped);
    Ok(copied.map_err(ExportError::writing(dest))?)
}

fn write_tar(
    machine: &Machine,
    scratch: &Path,
    parts: &[TarPart],
    target: Target,
    stop: &CancellationToken,
) -> std::io::Result<()> {
    let write = |out: &mut (dyn std::io::Write + Send)| {
        let out = Stoppable::new(out, stop);
        let mut out = std::io::BufWriter::with_capacity(1 << 20, out);
        let is_stopped = || stop.is_cancelled();
        tar::write_all(machine.host(), scratch, parts, &mut out, &is_stopped)
            .map_err(std::io::Error::other)?;
        std::io::Write::flush(&mut out)
    };
    target.fill(write)
}
