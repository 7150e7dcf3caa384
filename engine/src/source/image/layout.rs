//! OCI layouts that a build starts from.

use std::io::Read;
use std::path::{Path, PathBuf};

use cache::Store;
use oci::{Descriptor, Digest, Index};

use crate::error::BuildError;
use crate::source::open::open_regular;

/// Path of a blob in an OCI layout. A digest is always safe as a file name.
fn layout_blob(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs").join(digest.algorithm()).join(digest.hex())
}

pub(super) fn read_layout_blob(
    directory: &Path,
    descriptor: &Descriptor,
    cap: u64,
) -> Result<Vec<u8>, BuildError> {
    let path = layout_blob(directory, &descriptor.digest);
    let failed =
        |e: std::io::Error| BuildError::system(format!("failed to read `{}`", path.display()), &e);
    let mut bytes = Vec::new();
    open_regular(None, &path)
        .map_err(failed)?
        .take(cap + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > cap || !descriptor.digest.verifies(&bytes) {
        return Err(BuildError::System {
            message: format!("`{}` is damaged: its content has another digest", path.display()),
            hint: None,
        });
    }
    Ok(bytes)
}

pub(super) fn copy_layout_blob(
    store: &Store,
    directory: &Path,
    descriptor: &Descriptor,
) -> Result<(), BuildError> {
    let path = layout_blob(directory, &descriptor.digest);
    let failed = |e: &dyn std::error::Error| {
        BuildError::system(format!("failed to copy `{}`", path.display()), e)
    };
    let file = open_regular(None, &path).map_err(|e| failed(&e))?;
    let mut writer = store.blob_writer().map_err(|e| failed(&e))?;
    // One byte more would show that it is another.
    let mut file = file.take(descriptor.size.saturating_add(1));
    std::io::copy(&mut file, &mut writer).map_err(|e| failed(&e))?;
    writer.commit(Some((&descriptor.digest, descriptor.size))).map_err(|e| failed(&e))?;
    Ok(())
}

/// The descriptor that a tag, a digest or nothing names in a layout.
pub(super) fn find_in_layout(directory: &Path, wanted: &str) -> Result<Descriptor, BuildError> {
    let path = directory.join("index.json");
    let failed = |e: &dyn std::error::Error| {
        BuildError::system(format!("failed to read `{}`", path.display()), e)
    };
    let mut bytes = Vec::new();
    let file = open_regular(None, &path).map_err(|e| failed(&e))?;
    file.take(oci::manifest::SIZE_MAX as u64).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
    let name = |d: &Descriptor| {
        d.annotations.get("org.opencontainers.image.ref.name").cloned().unwrap_or_default()
    };
    let tag = wanted.rsplit_once(':').map_or(wanted, |(_, tag)| tag);
    let found = index.manifests.iter().find(|d| {
        d.digest.as_str() == wanted || (!wanted.is_empty() && (name(d) == wanted || name(d) == tag))
    });
    let only = if wanted.is_empty() || tag == "latest" {
        index.manifests.first().filter(|_| index.manifests.len() == 1)
    } else {
        None
    };
    found.or(only).cloned().ok_or_else(|| {
        let names: Vec<String> =
            index.manifests.iter().map(name).filter(|n| !n.is_empty()).collect();
        BuildError::Input {
            message: format!("no image `{wanted}` in the OCI layout `{}`", directory.display()),
            hint: (!names.is_empty()).then(|| format!("it has {}", names.join(", "))),
        }
    })
}
