//! OCI layouts on the client's disk: what a build starts from, what is loaded, what is added to.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use cache::Store;
use oci::{Descriptor, Digest, layout};
use tokio_util::sync::CancellationToken;

use crate::error::{BoxedError, BuildError};
use crate::source::open::open_regular;
use crate::stop::Stoppable;

/// The bytes of the list of images in the layout at `directory`.
pub(crate) fn read_index(directory: &Path) -> io::Result<Vec<u8>> {
    read_capped(&directory.join(layout::INDEX), layout::INDEX_MAX)
}

/// Where the layout at `directory` has a blob. A digest is always safe as a file name.
pub(crate) fn blob_path(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join(layout::blob_path(digest))
}

/// A blob of at most `cap` bytes, verified.
pub(crate) fn read_blob(
    directory: &Path,
    descriptor: &Descriptor,
    cap: u64,
) -> Result<Vec<u8>, BuildError> {
    let path = blob_path(directory, &descriptor.digest);
    let damaged = || {
        BuildError::system(format!(
            "`{}` is damaged: its content has another digest",
            path.display()
        ))
    };
    let bytes = match read_capped(&path, cap) {
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => return Err(damaged()),
        read => read.map_err(|e| {
            BuildError::system(format!("failed to read `{}`", path.display())).because(e)
        })?,
    };
    if descriptor.digest.verifies(&bytes) { Ok(bytes) } else { Err(damaged()) }
}

/// Copies a blob into the store, verified.
pub(crate) fn copy_blob(
    store: &Store,
    directory: &Path,
    descriptor: &Descriptor,
    stop: &CancellationToken,
) -> Result<(), BuildError> {
    let path = blob_path(directory, &descriptor.digest);
    let failed = |e: BoxedError| {
        BuildError::system(format!("failed to copy `{}`", path.display())).because(e)
    };
    let file = open_regular(None, &path).map_err(|e| failed(e.into()))?;
    let mut writer = store.blob_writer().map_err(|e| failed(e.into()))?;
    // One byte more would show that it is another.
    let mut file = Stoppable::new(file.take(descriptor.size.saturating_add(1)), stop);
    io::copy(&mut file, &mut writer).map_err(|e| failed(e.into()))?;
    writer.commit(Some((&descriptor.digest, descriptor.size))).map_err(|e| failed(e.into()))?;
    Ok(())
}

/// The descriptor that a tag, a digest or nothing names in a layout.
pub(crate) fn find_image(directory: &Path, wanted: &str) -> Result<Descriptor, BuildError> {
    let failed = |e: BoxedError| {
        let path = directory.join(layout::INDEX);
        BuildError::system(format!("failed to read `{}`", path.display())).because(e)
    };
    let bytes = read_index(directory).map_err(|e| failed(e.into()))?;
    let index = layout::parse_index(&bytes).map_err(|e| failed(e.into()))?;
    layout::find(&index, wanted).cloned().ok_or_else(|| {
        let names: Vec<&str> = index.manifests.iter().filter_map(layout::ref_name).collect();
        BuildError::input(format!(
            "no image `{wanted}` in the OCI layout `{}`",
            directory.display()
        ))
        .with_hint_if((!names.is_empty()).then(|| format!("it has {}", names.join(", "))))
    })
}

/// A whole regular file of at most `cap` bytes.
fn read_capped(path: &Path, cap: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file: File = open_regular(None, path)?;
    file.take(cap + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > cap { Err(io::ErrorKind::FileTooLarge.into()) } else { Ok(bytes) }
}
