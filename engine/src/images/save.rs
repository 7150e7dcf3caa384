//! Writing images to an archive that Docker, Podman and we load: an OCI layout with Docker's
//! `manifest.json` beside it. The manifests are the store's own, so an image that is loaded again is
//! the same to the byte.

use std::collections::BTreeSet;
use std::sync::Arc;

use cache::Store;
use oci::{Descriptor, Digest, Index, Platform, Reference, layout};
use tokio_util::sync::CancellationToken;

use super::{By, Variant, find, read_variants};
use crate::blocking::{blocking, until};
use crate::client::{Client, Target};
use crate::error::BuildError;
use crate::output::export::{
    Archive, DockerEntry, find_blobs, of_docker, place, to_tar, write_archive,
};
use crate::request::Destination;
use crate::stored;
use crate::workspace::Workspace;

impl Workspace {
    /// Writes images, each given by a name or id, to one archive. With `platform`, only their images
    /// for it.
    pub async fn save(
        &self,
        names: &[String],
        platform: Option<Platform>,
        dest: Destination,
        client: Arc<dyn Client>,
        cancel: CancellationToken,
    ) -> Result<(), BuildError> {
        let (store, names, stop) = (self.store.clone(), names.to_vec(), cancel.clone());
        let saving = blocking(move || {
            let open = || Ok(client.output(&dest)?);
            let written = save(&store, &names, platform.as_ref(), open, &stop)?;
            written.map_err(|e| {
                BuildError::system(format!("failed to write {}", place(&dest))).because(e)
            })
        });
        until(&cancel, saving).await
    }
}

/// One image of the archive.
struct Chosen {
    target: Descriptor,
    names: Vec<Reference>,
}

fn save(
    store: &Store,
    names: &[String],
    platform: Option<&Platform>,
    open: impl FnOnce() -> Result<Target, BuildError>,
    stop: &CancellationToken,
) -> Result<std::io::Result<()>, BuildError> {
    let mut chosen: Vec<Chosen> = Vec::new();
    for text in names.iter().flat_map(|text| tags(store, text)) {
        choose(store, &text, platform, &mut chosen)?;
    }
    let mut blobs: BTreeSet<Digest> = BTreeSet::new();
    let mut entries = Vec::new();
    for image in &chosen {
        let content = stored::content(store, &image.target)?;
        blobs.extend(content.documents.into_iter().map(|document| document.descriptor.digest));
        blobs.extend(content.blobs.into_iter().map(|blob| blob.digest));
        let variants = read_variants(store, &image.target);
        let chosen = of_docker(variants.iter(), |variant| variant.config.platform());
        entries.extend(chosen.map(|variant| docker_entry(variant, &image.names)));
    }
    let index =
        Index { manifests: chosen.iter().flat_map(named_entries).collect(), ..Index::default() };
    let documents = [
        (layout::INDEX, serde_json::to_vec(&index).expect("an index is plain data")),
        ("manifest.json", serde_json::to_vec(&entries).expect("entries are plain data")),
        (layout::MARKER, layout::MARKER_CONTENT.to_vec()),
    ];
    let write = |mut out: Archive<'_>| {
        let blobs = find_blobs(store, &blobs)?;
        to_tar(&mut out, &blobs, &documents, stop)
    };
    Ok(write_archive(open()?, write))
}

/// All names of the store in the repository that `text` is, as for Docker; else `text` itself.
fn tags(store: &Store, text: &str) -> Vec<String> {
    let repository = text.parse::<Reference>().ok();
    let repository = repository.filter(|name| name.tag().is_none() && name.digest().is_none());
    let is_in_it = |image: &cache::Image| {
        let name = image.name.parse::<Reference>().ok();
        name.is_some_and(|name| Some(name.without_tag()) == repository)
    };
    let images = store.images().into_iter().filter(is_in_it);
    let names: Vec<String> = images.map(|image| image.name).collect();
    if names.is_empty() { vec![text.to_owned()] } else { names }
}

fn choose(
    store: &Store,
    text: &str,
    platform: Option<&Platform>,
    chosen: &mut Vec<Chosen>,
) -> Result<(), BuildError> {
    let found = find(store, text)?;
    let target = match (&found.by, platform) {
        (_, Some(platform)) => found.variant(store, text, Some(platform))?.manifest_descriptor,
        (By::Id(id), None) if *id != found.target.digest => {
            found.variant(store, text, None)?.manifest_descriptor
        }
        _ => found.target.clone(),
    };
    // A digest is not a name that `docker load` could give an image.
    let name = match &found.by {
        By::Name(name) => name.parse::<Reference>().ok().filter(|name| name.digest().is_none()),
        _ => None,
    };
    let at = chosen.iter().position(|known| known.target == target).unwrap_or_else(|| {
        chosen.push(Chosen { target, names: Vec::new() });
        chosen.len() - 1
    });
    let names = &mut chosen[at].names;
    if let Some(name) = name.filter(|name| !names.contains(name)) {
        names.push(name);
    }
    Ok(())
}

fn named_entries(image: &Chosen) -> Vec<Descriptor> {
    let named = |name: &Reference| {
        let mut entry = image.target.clone();
        entry.annotations.extend(layout::name_annotations(name));
        entry
    };
    match image.names.as_slice() {
        [] => vec![image.target.clone()],
        names => names.iter().map(named).collect(),
    }
}

fn docker_entry(variant: &Variant, names: &[Reference]) -> DockerEntry {
    let path = |digest: &Digest| format!("blobs/{}/{}", digest.algorithm(), digest.hex());
    DockerEntry {
        config: path(&variant.id),
        repo_tags: names.iter().map(Reference::familiar).collect(),
        layers: variant.manifest.layers.iter().map(|layer| path(&layer.digest)).collect(),
    }
}
