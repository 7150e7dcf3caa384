//! Reading images out of archives and OCI layouts: what `docker save` of any age, `podman save`,
//! `skopeo` and our own `save` write.
//!
//! Files go into the store under the digest of their bytes while they are read, whatever they call
//! themselves; only then is it told from the documents what they are. Nothing is named before all of
//! it is there and verified.

mod contents;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use cache::Store;
use cache::layer::compress::Format;
use oci::layout::INDEX;
use oci::manifest::Document;
use oci::{Descriptor, DiffId, Digest, ImageConfig, Index, Reference, media_type};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

use self::contents::{Contents, DOCKER_MANIFEST, READABLE, REPOSITORIES, user_error};
use super::{flush, image_id, tag};
use crate::blocking::{blocking, until};
use crate::client::Client;
use crate::error::BuildError;
use crate::gc;
use crate::layer::size;
use crate::request::{MediaTypes, TarSource};
use crate::stored::{Variant, check_layers, is_image, read_variants};
use crate::workspace::Workspace;

/// The most images in one archive.
const IMAGES_MAX: usize = 1000;

/// Where images come from.
#[derive(Debug, Clone)]
pub enum ArchiveSource {
    /// A tar, compressed or not.
    Archive(TarSource),
    /// The directory of an OCI layout, as the client calls it.
    Layout(PathBuf),
}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its names, in their short form.
    pub names: Vec<String>,
    /// Its id.
    pub id: Digest,
}

impl Workspace {
    /// Brings all images of an archive into the store under the names they have there.
    ///
    /// Cancelled, it leaves nothing in the store.
    pub async fn load(
        &self,
        source: ArchiveSource,
        client: Arc<dyn Client>,
        cancel: CancellationToken,
    ) -> Result<Vec<Loaded>, BuildError> {
        let (store, rules, stop) = (self.store.clone(), self.rules.clone(), cancel.clone());
        let load = blocking(move || {
            gc::make_room(&store, &rules);
            load(&store, &source, client.as_ref(), &stop)
        });
        let loaded = until(&cancel, load).await;
        loaded.map_err(|error| error.with_room(self.store.room()))
    }
}

/// One image of Docker's `manifest.json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// An image that is there as a whole, not named yet.
struct Ready {
    target: Descriptor,
    names: Vec<Reference>,
}

fn load(
    store: &Store,
    source: &ArchiveSource,
    client: &dyn Client,
    stop: &CancellationToken,
) -> Result<Vec<Loaded>, BuildError> {
    let directory;
    let contents = match source {
        ArchiveSource::Layout(path) => {
            directory = client.directory(path)?;
            Contents::of_directory(store, &directory, stop)?
        }
        ArchiveSource::Archive(archive) => {
            Contents::of_archive(store, client.archive(archive)?, stop)?
        }
    };
    let ready = match contents.documents.get(INDEX) {
        Some(index) => contents.images_of_layout(index)?,
        None => contents.images_of_docker()?,
    };
    let mut loaded = Vec::new();
    for image in ready {
        for name in &image.names {
            tag(store, &name.to_string(), &image.target)?;
        }
        let variants = read_variants(store, &image.target);
        let names = image.names.iter().map(Reference::familiar).collect();
        loaded.push(Loaded { names, id: image_id(&image.target, &variants) });
    }
    flush(store)?;
    Ok(loaded)
}

impl Contents<'_> {
    fn images_of_layout(&self, index: &[u8]) -> Result<Vec<Ready>, BuildError> {
        let index = oci::layout::parse_index(index)
            .map_err(|error| user_error(format!("{INDEX}: {error}")))?;
        check_count(index.manifests.len())?;
        let docker_names = self.docker_names()?;
        // One image may stand there under several names.
        let mut ready: Vec<Ready> = Vec::new();
        for entry in index.manifests.iter().filter(|entry| is_image(entry)) {
            let mut names: Vec<Reference> = oci::layout::name(entry).into_iter().collect();
            let bare = oci::layout::without_name(entry.clone());
            let target = self.whole(&bare, 0)?.ok_or_else(|| {
                user_error(format!("the archive lacks parts of image {}", entry.digest))
            })?;
            for variant in read_variants(self.store, &target) {
                self.verify(&variant)?;
                if names.is_empty() {
                    names.extend(docker_names.get(&variant.id).into_iter().flatten().cloned());
                }
            }
            match ready.iter_mut().find(|known| known.target == target) {
                Some(known) => known.names.extend(names),
                None => ready.push(Ready { target, names }),
            }
        }
        if ready.is_empty() {
            return Err(user_error("the archive has no images".to_owned()));
        }
        Ok(ready)
    }

    /// What of an entry is there as a whole: itself, or, when only some platforms of an index came
    /// along, those.
    fn whole(&self, entry: &Descriptor, depth: usize) -> Result<Option<Descriptor>, BuildError> {
        if depth > oci::manifest::DEPTH_MAX || !self.bring(entry)? {
            return Ok(None);
        }
        let bytes = self.store.read_small(&entry.digest, oci::manifest::SIZE_MAX as u64);
        let bytes =
            bytes.map_err(|e| BuildError::system("failed to read a manifest").because(e))?;
        let kind = Some(entry.media_type.as_str()).filter(|kind| !kind.is_empty());
        let parsed = oci::manifest::parse(&bytes, kind);
        match parsed.map_err(|e| user_error(format!("manifest {}: {e}", entry.digest)))? {
            Document::Manifest(manifest) => {
                for part in manifest.layers.iter().chain([&manifest.config]) {
                    if !self.bring(part)? {
                        return Ok(None);
                    }
                }
                Ok(Some(entry.clone()))
            }
            Document::Index(index) => {
                let mut found = Vec::new();
                for child in &index.manifests {
                    found.extend(self.whole(child, depth + 1)?);
                }
                if found == index.manifests {
                    return Ok(Some(entry.clone()));
                }
                found.retain(is_image);
                if found.len() < 2 {
                    return Ok(found.pop());
                }
                let index = Index { manifests: found, ..index };
                let bytes = serde_json::to_vec(&index).expect("an index is plain data");
                crate::document::put(self.store, media_type::INDEX, &bytes).map(Some)
            }
        }
    }

    /// Names that Docker's document gives, if there is one, by image id.
    fn docker_names(&self) -> Result<BTreeMap<Digest, Vec<Reference>>, BuildError> {
        if !self.documents.contains_key(DOCKER_MANIFEST) {
            return Ok(BTreeMap::new());
        }
        let named = |entry: &DockerEntry| {
            let (id, _) = self.file(&entry.config)?;
            Ok((id.clone(), entry.names()?))
        };
        self.docker_entries()?.iter().map(named).collect()
    }

    fn docker_entries(&self) -> Result<Vec<DockerEntry>, BuildError> {
        let Some(bytes) = self.documents.get(DOCKER_MANIFEST) else {
            let message =
                "the archive has no images: neither index.json nor manifest.json is in it"
                    .to_owned();
            let hint = match self.documents.contains_key(REPOSITORIES) {
                true => "archives of Docker before 1.10 are not supported",
                false => READABLE,
            };
            return Err(BuildError::input(message).with_hint(hint));
        };
        let entries: Vec<DockerEntry> = serde_json::from_slice(bytes)
            .map_err(|e| user_error(format!("{DOCKER_MANIFEST}: {e}")))?;
        check_count(entries.len())?;
        Ok(entries)
    }

    fn images_of_docker(&self) -> Result<Vec<Ready>, BuildError> {
        let entries = self.docker_entries()?;
        if entries.is_empty() {
            return Err(user_error("the archive has no images".to_owned()));
        }
        entries.iter().map(|entry| self.docker_image(entry)).collect()
    }

    /// Gives an image of Docker's archive the manifest it comes without.
    fn docker_image(&self, entry: &DockerEntry) -> Result<Ready, BuildError> {
        let (id, length) = self.file(&entry.config)?;
        let config = self.store.read_small(id, oci::config::SIZE_MAX as u64);
        let config =
            config.map_err(|e| BuildError::system("failed to read the config").because(e))?;
        let config = ImageConfig::parse(&config)
            .map_err(|e| user_error(format!("`{}`: {e}", entry.config)))?;
        let paths = entry.layers.as_deref().unwrap_or_default();
        let diff_ids = &config.rootfs.diff_ids;
        if diff_ids.len() != paths.len() {
            return Err(user_error(format!(
                "image {id}: its config names {} layers, its manifest {}",
                diff_ids.len(),
                paths.len()
            )));
        }
        let mut layers = Vec::new();
        for (diff_id, path) in diff_ids.iter().zip(paths) {
            let (digest, length) = self.file(path)?;
            let measured = size::of_blob(self.store, digest, self.stop)
                .map_err(|e| user_error(format!("failed to read layer `{path}`: {e}")))?;
            check_diff_id(digest, diff_id, &measured.diff_id)?;
            let kind = match measured.format {
                Format::Plain => media_type::LAYER,
                Format::Gzip => media_type::LAYER_GZIP,
                Format::Zstd => media_type::LAYER_ZSTD,
                other => {
                    return Err(user_error(format!(
                        "layer `{path}`: {other:?} has no place in an image"
                    )));
                }
            };
            let layer = Descriptor::new(kind, digest.clone(), *length);
            self.store.add_blob_layer(diff_id, &layer);
            layers.push(layer);
        }
        let config = Descriptor::new(media_type::CONFIG, id.clone(), *length);
        let target = crate::document::write_manifest(
            self.store,
            MediaTypes::Oci,
            &config,
            layers,
            &BTreeMap::new(),
        )?;
        Ok(Ready { target, names: entry.names()? })
    }

    /// Holds layers against what the config says of them, and makes them known.
    fn verify(&self, variant: &Variant) -> Result<(), BuildError> {
        check_layers(&variant.manifest)?;
        let (diff_ids, layers) = (&variant.config.rootfs.diff_ids, &variant.manifest.layers);
        if diff_ids.len() != layers.len() {
            return Err(user_error(format!(
                "image {}: its config names {} layers, its manifest {}",
                variant.id,
                diff_ids.len(),
                layers.len()
            )));
        }
        for (diff_id, layer) in variant.layers() {
            if self.store.layer_of_diff_id(diff_id).is_none() {
                let measured =
                    size::of_blob(self.store, &layer.digest, self.stop).map_err(|e| {
                        user_error(format!("failed to read layer {}: {e}", layer.digest))
                    })?;
                check_diff_id(&layer.digest, diff_id, &measured.diff_id)?;
            }
            self.store.add_blob_layer(diff_id, layer);
        }
        Ok(())
    }
}

impl DockerEntry {
    fn names(&self) -> Result<Vec<Reference>, BuildError> {
        let parse = |name: &String| {
            let parsed = name.parse::<Reference>();
            parsed
                .map(|name| name.with_default_tag())
                .map_err(|e| user_error(format!("`{name}`: {e}")))
        };
        self.repo_tags.iter().flatten().map(parse).collect()
    }
}

/// Nobody should get a layer other than the one the config was signed for.
pub(super) fn check_diff_id(
    layer: &Digest,
    expected: &DiffId,
    found: &DiffId,
) -> Result<(), BuildError> {
    if expected == found {
        return Ok(());
    }
    Err(user_error(format!(
        "layer {layer} has the content {found}, the image's config wants {expected}"
    )))
}

fn check_count(images: usize) -> Result<(), BuildError> {
    if images > IMAGES_MAX {
        return Err(user_error(format!(
            "the archive names {images} images, more than {IMAGES_MAX}"
        )));
    }
    Ok(())
}
