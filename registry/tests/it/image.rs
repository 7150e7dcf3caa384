//! An image that a test's registry has.

use oci::{Descriptor, Digest, media_type};

use crate::server::{Reply, Seen};

/// An image with one layer in the repository `app`.
#[derive(Clone)]
pub(crate) struct Image {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layer: Vec<u8>,
}

impl Image {
    pub(crate) fn new(layer: Vec<u8>) -> Self {
        let config = br#"{"architecture":"amd64","os":"linux"}"#.to_vec();
        let describe =
            |kind, bytes: &[u8]| Descriptor::new(kind, Digest::of(bytes), bytes.len() as u64);
        let manifest = oci::Manifest {
            schema_version: 2,
            media_type: media_type::MANIFEST.to_owned(),
            config: describe(media_type::CONFIG, &config),
            layers: vec![describe(media_type::LAYER_GZIP, &layer)],
            annotations: Default::default(),
        };
        Self { manifest: serde_json::to_vec(&manifest).unwrap(), config, layer }
    }

    /// What a registry that means well answers.
    pub(crate) fn answer(&self, seen: &Seen) -> Reply {
        let path = seen.path();
        if path == "/v2/" {
            return Reply::ok("{}");
        }
        let digest = Digest::of(&self.manifest);
        let names = ["latest".to_owned(), digest.to_string()];
        if names.iter().any(|name| path == format!("/v2/app/manifests/{name}")) {
            return Reply::ok(self.manifest.clone())
                .with("Content-Type", media_type::MANIFEST)
                .with("Docker-Content-Digest", digest.as_str());
        }
        let blobs = [&self.config, &self.layer];
        let blob =
            blobs.into_iter().find(|blob| path == format!("/v2/app/blobs/{}", Digest::of(blob)));
        blob.map_or_else(Reply::not_found, |blob| Reply::part(seen, blob))
    }
}
