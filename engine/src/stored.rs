//! Images as the store has them: what their documents say.

use cache::Store;
use oci::manifest::Document;
use oci::{Descriptor, Digest, ImageConfig, Manifest, Reference};
use parser::suggest::{Case, nearest};

use crate::error::BuildError;

/// How deep indexes may nest.
const INDEX_DEPTH_MAX: usize = oci::manifest::DEPTH_MAX;

/// An image for one platform whose manifest and config the store has.
#[derive(Debug, Clone)]
pub(crate) struct Variant {
    pub(crate) manifest_descriptor: Descriptor,
    pub(crate) manifest: Manifest,
    pub(crate) id: Digest,
    pub(crate) config: ImageConfig,
}

impl Variant {
    /// The layers with their blobs, the bottom one first.
    pub(crate) fn layers(&self) -> impl Iterator<Item = (&oci::DiffId, &Descriptor)> {
        self.config.rootfs.diff_ids.iter().zip(&self.manifest.layers)
    }

    /// The manifest as an entry of an index.
    pub(crate) fn entry(&self) -> Descriptor {
        let mut entry = self.manifest_descriptor.clone();
        entry.platform = Some(self.config.platform());
        entry
    }
}

/// All that an image consists of.
pub(crate) struct Content {
    /// Configs and layers, each once.
    pub(crate) blobs: Vec<Descriptor>,
    /// Manifests and indexes, each once and after what it refers to: the image itself is the last.
    pub(crate) documents: Vec<DocumentBytes>,
}

/// A manifest or index.
pub(crate) struct DocumentBytes {
    pub(crate) descriptor: Descriptor,
    pub(crate) bytes: Vec<u8>,
    pub(crate) is_index: bool,
}

/// All that `target` leads to; all of it must be there.
pub(crate) fn content(store: &Store, target: &Descriptor) -> Result<Content, BuildError> {
    let mut content = Content { blobs: Vec::new(), documents: Vec::new() };
    collect_content(store, target, 0, &mut content)?;
    Ok(content)
}

fn collect_content(
    store: &Store,
    target: &Descriptor,
    depth: usize,
    content: &mut Content,
) -> Result<(), BuildError> {
    if content.documents.iter().any(|known| known.descriptor.digest == target.digest) {
        return Ok(());
    }
    let lacking = |digest: &Digest| {
        BuildError::system(format!(
            "image {} is incomplete in the store: {digest} is missing",
            target.digest
        ))
        .with_hint("pull or build it again, or take what is there with `--platform`")
    };
    let bytes = store.read_small(&target.digest, oci::manifest::SIZE_MAX as u64);
    let bytes = bytes.map_err(|_| lacking(&target.digest))?;
    let media_type = Some(target.media_type.as_str()).filter(|kind| !kind.is_empty());
    let parsed = oci::manifest::parse(&bytes, media_type).map_err(|e| {
        BuildError::system(format!("invalid manifest {}", target.digest)).because(e)
    })?;
    let mut descriptor = target.clone();
    let is_index = match parsed {
        Document::Manifest(manifest) => {
            name_kind(&mut descriptor, &manifest.media_type, oci::media_type::MANIFEST);
            for part in manifest.layers.into_iter().chain([manifest.config]) {
                if content.blobs.iter().any(|known| known.digest == part.digest) {
                    continue;
                }
                if !store.has_blob(&part.digest) {
                    return Err(lacking(&part.digest));
                }
                content.blobs.push(part);
            }
            false
        }
        Document::Index(index) if depth < INDEX_DEPTH_MAX => {
            name_kind(&mut descriptor, &index.media_type, oci::media_type::INDEX);
            for child in &index.manifests {
                collect_content(store, child, depth + 1, content)?;
            }
            true
        }
        Document::Index(_) => {
            return Err(BuildError::system("image indexes nest too deep".to_owned()));
        }
    };
    content.documents.push(DocumentBytes { descriptor, bytes, is_index });
    Ok(())
}

/// What names a document need not say what it is: then it says so itself, or the OCI does.
fn name_kind(descriptor: &mut Descriptor, own: &str, usual: &str) {
    if descriptor.media_type.is_empty() {
        descriptor.media_type = if own.is_empty() { usual } else { own }.to_owned();
    }
}

/// The platforms of an image that the store has. Attestations are no images.
pub(crate) fn read_variants(store: &Store, target: &Descriptor) -> Vec<Variant> {
    let mut variants = Vec::new();
    collect_variants(store, target, 0, &mut variants);
    variants
}

fn collect_variants(store: &Store, target: &Descriptor, depth: usize, variants: &mut Vec<Variant>) {
    let Ok(bytes) = store.read_small(&target.digest, oci::manifest::SIZE_MAX as u64) else {
        return;
    };
    match oci::manifest::parse(
        &bytes,
        Some(&target.media_type).filter(|t| !t.is_empty()).map(|t| t.as_str()),
    ) {
        Ok(Document::Index(index)) if depth < INDEX_DEPTH_MAX => {
            for entry in index.manifests.iter().filter(|entry| is_image(entry)) {
                collect_variants(store, entry, depth + 1, variants);
            }
        }
        Ok(Document::Manifest(manifest)) => {
            let config = store.read_small(&manifest.config.digest, oci::config::SIZE_MAX as u64);
            let Some(config) = config.ok().and_then(|bytes| ImageConfig::parse(&bytes).ok()) else {
                return;
            };
            let id = manifest.config.digest.clone();
            variants.push(Variant { manifest_descriptor: target.clone(), manifest, id, config });
        }
        _ => {}
    }
}

pub(crate) fn is_image(entry: &Descriptor) -> bool {
    let is_unknown =
        entry.platform.as_ref().is_some_and(|p| p.os == "unknown" || p.architecture == "unknown");
    !is_unknown && !entry.annotations.contains_key("vnd.docker.reference.type")
}

/// The name of an image of the store that is near `name`, which is not there.
pub(crate) fn near(store: &Store, name: &str) -> Option<String> {
    let names = store.images().into_iter().map(|image| familiar(&image.name));
    let without_tag = |name: String| match name.strip_suffix(":latest") {
        Some(short) => [short.to_owned(), name],
        None => [name.clone(), name],
    };
    let names: Vec<String> = names.flat_map(without_tag).collect();
    nearest(name, names.iter().map(String::as_str), Case::Sensitive)
}

/// Layers are tars; what else a manifest may hold (a chart, a model, a signature) is nothing to start from.
pub(crate) fn check_layers(manifest: &Manifest) -> Result<(), BuildError> {
    let Some(other) = manifest.layers.iter().find(|layer| !is_layer(&layer.media_type)) else {
        return Ok(());
    };
    Err(BuildError::input(format!(
        "layer {} has the media type `{}`, which is not an image layer's",
        other.digest, other.media_type
    ))
    .with_hint("it may be an artifact for another tool, not a container image"))
}

/// `tar`, `tar+gzip`, `tar+zstd` of the OCI, and Docker's names for them.
fn is_layer(media_type: &str) -> bool {
    let kinds = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let rest = kinds.iter().find_map(|kind| media_type.strip_prefix(kind));
    matches!(rest, Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd"))
}

/// A name as users see it.
pub(crate) fn familiar(name: &str) -> String {
    name.parse::<Reference>().map_or_else(|_| name.to_owned(), |reference| reference.familiar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_layer_is_told_by_its_media_type() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.layer.v1.tar", true),
            ("application/vnd.oci.image.layer.v1.tar+gzip", true),
            ("application/vnd.oci.image.layer.v1.tar+zstd", true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true),
            ("application/vnd.oci.image.layer.v1.tar+encrypted", false),
            ("application/vnd.oci.image.layer.v1.tarball", false),
            ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", false),
            ("application/octet-stream", false),
            ("", false),
        ] {
            assert_eq!(is_layer(media_type), expected, "{media_type}");
        }
    }
}
