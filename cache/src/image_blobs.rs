//! The blobs that an image consists of.

use std::io::ErrorKind;
use std::path::Path;

use oci::{Descriptor, Digest, Document};

use crate::bucket::blob_path;
use crate::database::{Kind, Write};
use crate::disk::read_capped;
use crate::error::StoreError;
use crate::trash;

/// How much of a manifest is read to find what an image consists of.
const MANIFEST_MAX: u64 = oci::manifest::SIZE_MAX as u64;

/// All blobs that an image consists of, itself included, as far as they are in the store. A manifest
/// that is there and cannot be read is an error: nobody can say what it needs.
pub(crate) fn reachable(root: &Path, descriptor: &Descriptor) -> Result<Vec<Digest>, StoreError> {
    let mut found = Vec::new();
    visit(root, descriptor, 0, &mut found)?;
    Ok(found)
}

fn visit(
    root: &Path,
    descriptor: &Descriptor,
    depth: usize,
    found: &mut Vec<Digest>,
) -> Result<(), StoreError> {
    found.push(descriptor.digest.clone());
    let is_document = oci::manifest::Kind::of(&descriptor.media_type).is_some();
    if !is_document || depth > oci::manifest::DEPTH_MAX {
        return Ok(());
    }
    let path = blob_path(root, &descriptor.digest);
    let bytes = match read_capped(&path, MANIFEST_MAX) {
        Ok(bytes) => bytes,
        // No manifest is a directory, or as large as that.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::FileTooLarge) => {
            return Ok(());
        }
        Err(error) => return Err(StoreError::io("read", &path, error)),
    };
    match oci::manifest::parse(&bytes, Some(&descriptor.media_type)) {
        Ok(Document::Manifest(manifest)) => {
            found.push(manifest.config.digest);
            found.extend(manifest.layers.into_iter().map(|layer| layer.digest));
        }
        Ok(Document::Index(index)) => {
            for child in &index.manifests {
                visit(root, child, depth + 1, found)?;
            }
        }
        Err(_) => {}
    }
    Ok(())
}

/// Takes all blobs of an image back out of the trash.
pub(crate) fn restore_image(
    write: &Write<'_>,
    root: &Path,
    descriptor: &Descriptor,
) -> Result<(), StoreError> {
    if write.scan(Kind::Epoch, &[])?.is_empty() {
        return Ok(());
    }
    for digest in reachable(root, descriptor)? {
        trash::restore(write, Kind::Blob, digest.as_str().as_bytes())?;
    }
    Ok(())
}
