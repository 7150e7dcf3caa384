//! Reading caches that BuildKit has written.

use std::collections::HashMap;

use buildkit_cache::{Artifact, Cache, Config, config};
use oci::{Descriptor, DiffId, ImageConfig, manifest};
use registry::chain;
use remote_cache::InRegistry;

/// Of images at one name so many are asked for records.
const IMAGES_MAX: usize = 16;

/// The caches at a name where there is none of ours: `bytes` are the document that is there. None if it is
/// something else. An error is a sentence for the user.
/// Whether a manifest or an index is a cache of BuildKit's, and no image.
pub(super) fn is_cache(bytes: &[u8]) -> bool {
    let document = manifest::parse(bytes, None);
    document.is_ok_and(|document| matches!(Artifact::of(document), Artifact::Cache { .. }))
}

pub(super) async fn read(place: &InRegistry, bytes: &[u8]) -> Result<Vec<Cache>, String> {
    let Ok(document) = manifest::parse(bytes, None) else { return Ok(Vec::new()) };
    match Artifact::of(document) {
        Artifact::Cache { config, layers } => {
            let bytes = fetch(place, &config, config::SIZE_MAX).await?;
            let config = Config::parse(&bytes).map_err(|error| chain(&error))?;
            Ok(vec![Cache::new(config, &layers)])
        }
        Artifact::Image { config, layers } => {
            Ok(of_image(place, &config, &layers).await?.into_iter().collect())
        }
        Artifact::Images(images) => {
            let mut caches = Vec::new();
            for image in images.iter().take(IMAGES_MAX) {
                let bytes = place.manifest_of(&image.digest).await;
                let bytes = bytes.map_err(|error| chain(&error))?;
                let document = manifest::parse(&bytes, None);
                let document = document.map_err(|error| chain(&error))?;
                if let Artifact::Image { config, layers } = Artifact::of(document) {
                    caches.extend(of_image(place, &config, &layers).await?);
                }
            }
            Ok(caches)
        }
    }
}

async fn of_image(
    place: &InRegistry,
    config: &Descriptor,
    layers: &[Descriptor],
) -> Result<Option<Cache>, String> {
    let bytes = fetch(place, config, oci::config::SIZE_MAX).await?;
    // What is not an image config carries no records.
    let Ok(config) = ImageConfig::parse(&bytes) else { return Ok(None) };
    Cache::of_image(&config, layers).map_err(|error| chain(&error))
}

async fn fetch(place: &InRegistry, blob: &Descriptor, max: usize) -> Result<Vec<u8>, String> {
    place.bytes(blob, max as u64).await.map_err(|error| chain(&error))
}

/// Where the layers of `caches` are.
pub(super) fn blobs(caches: &[Cache]) -> HashMap<DiffId, Descriptor> {
    let blobs = caches.iter().flat_map(Cache::blobs);
    let blob = |blob: &buildkit_cache::Blob| {
        let descriptor = blob.descriptor.clone();
        (blob.diff_id.clone(), descriptor)
    };
    blobs.map(blob).collect()
}
