//! Names of packs.

use std::time::SystemTime;

use oci::Digest;

/// Hex digits for the time, which is good for 35,000 years.
const TIME: usize = 10;
/// Hex digits of the pack's digest.
const DIGEST: usize = 24;

/// A pack's name: when it was written, and what is in it. No two packs have the same, so that nobody overwrites
/// another's. In the order of text the newest is last.
pub(crate) fn new(bytes: &[u8], now: SystemTime) -> String {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    format!("{since:0TIME$x}-{}", &Digest::of(bytes).hex()[..DIGEST])
}

/// The name of a pack where packs have numbers: `id`, of as many digits, is whose number it is.
pub(crate) fn numbered(number: u64, id: &str) -> String {
    format!("{number:0TIME$x}-{id}")
}

/// Whether `name` is one, and not a part of somebody's path.
pub(crate) fn is_name(name: &str) -> bool {
    let is_hex = |text: &str| text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    name.split_once('-').is_some_and(|(time, digest)| {
        time.len() == TIME && digest.len() == DIGEST && is_hex(time) && is_hex(digest)
    })
}

/// Whether this is the name of the bytes with this digest.
pub(crate) fn fits(name: &str, bytes: &Digest) -> bool {
    name.split_once('-').is_some_and(|(_, digest)| bytes.hex().starts_with(digest))
}
