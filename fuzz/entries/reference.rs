//! Names of images, digests and platforms: no panic, and print-then-parse agrees.

use oci::{Digest, Platform, RawReference, Reference};

/// Reads `bytes` as each of them.
pub(crate) fn run(bytes: &[u8]) {
    let Ok(text) = str::from_utf8(bytes) else { return };
    if let Ok(raw) = RawReference::parse(text) {
        assert_eq!(raw.to_string(), text);
    }
    if let Ok(reference) = text.parse::<Reference>() {
        assert_eq!(reference.to_string().parse::<Reference>().as_ref(), Ok(&reference));
        assert_eq!(reference.familiar().parse::<Reference>().as_ref(), Ok(&reference));
        drop(reference.familiar_matches(text));
    }
    drop(Reference::parse_any(text));
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string(), text);
    }
    if let Ok(platform) = text.parse::<Platform>() {
        assert_eq!(platform.to_string().parse::<Platform>().as_ref(), Ok(&platform));
    }
}
