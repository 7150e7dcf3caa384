//! The documents of an image in the store: manifests, configs, indexes.

use std::collections::BTreeMap;

use cache::Store;
use oci::{Descriptor, Digest, Manifest, media_type};

use crate::error::BuildError;
use crate::request::MediaTypes;

/// Writes a manifest over a config and layers.
pub(crate) fn write_manifest(
    store: &Store,
    types: MediaTypes,
    config: &Descriptor,
    layers: Vec<Descriptor>,
    annotations: &BTreeMap<String, String>,
) -> Result<Descriptor, BuildError> {
    let manifest = Manifest {
        schema_version: 2,
        media_type: named(types, media_type::MANIFEST).to_owned(),
        config: called(types, config.clone()),
        layers: layers.into_iter().map(|layer| called(types, layer)).collect(),
        annotations: annotations.clone(),
    };
    let bytes = serde_json::to_vec(&manifest).expect("a manifest is plain data");
    put(store, &manifest.media_type, &bytes)
}

/// What `types` call the OCI's `kind`.
pub(crate) fn named(types: MediaTypes, kind: &str) -> &str {
    match types {
        MediaTypes::Oci => kind,
        MediaTypes::Docker => media_type::of_docker(kind),
    }
}

fn called(types: MediaTypes, mut descriptor: Descriptor) -> Descriptor {
    descriptor.media_type = named(types, &descriptor.media_type).to_owned();
    descriptor
}

/// Keeps a small blob.
pub(crate) fn put(store: &Store, kind: &str, bytes: &[u8]) -> Result<Descriptor, BuildError> {
    let digest = Digest::of(bytes);
    if !store.has_blob(&digest) {
        store
            .put_blob(bytes)
            .map_err(|e| BuildError::system("failed to write a blob").because(e))?;
    }
    Ok(Descriptor::new(kind, digest, bytes.len() as u64))
}
