//! Manifests, indexes and image configs: no panic, and what is understood can be written and read
//! again.

use oci::{Document, ImageConfig, layout, manifest, media_type};

/// Reads `bytes` as each of them.
pub(crate) fn run(bytes: &[u8]) {
    for content_type in [None, Some(media_type::MANIFEST), Some(media_type::INDEX)] {
        let written = match manifest::parse(bytes, content_type) {
            Ok(Document::Manifest(manifest)) => serde_json::to_vec(&manifest),
            Ok(Document::Index(index)) => {
                drop((index.platforms(), index.select(&oci::Platform::host()).is_some()));
                drop(index.manifests.iter().filter_map(layout::name).collect::<Vec<_>>());
                assert!(
                    layout::find(&index, "").is_none_or(|only| index.manifests == [only.clone()])
                );
                serde_json::to_vec(&index)
            }
            Err(_) => continue,
        };
        let written = written.expect("a document is JSON");
        let again = manifest::parse(&written, content_type);
        assert!(again.is_ok(), "{again:?}: {}", String::from_utf8_lossy(&written));
    }
    if let Ok(config) = ImageConfig::parse(bytes) {
        let written = serde_json::to_vec(&config).expect("a config is JSON");
        let again = ImageConfig::parse(&written).expect("what we write we can read");
        // Fractions in fields that nobody knows may lose their last bit.
        assert_eq!((again.rootfs, again.history), (config.rootfs, config.history));
    }
}
