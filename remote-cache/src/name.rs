//! Names of packs.

use std::time::{Duration, SystemTime};

use oci::Digest;

/// Hex digits for the time, which is good for 35,000 years.
const TIME: usize = 10;
/// Hex digits of the pack's digest.
const DIGEST: usize = 24;
/// What files and objects of packs end with.
const ENDING: &str = ".json";

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

/// When a pack that has no number was written.
pub(crate) fn written(name: &str) -> Option<SystemTime> {
    let seconds = u64::from_str_radix(name.split_once('-')?.0, 16).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// The file or object of a pack.
pub(crate) fn file(name: &str) -> String {
    format!("{name}{ENDING}")
}

/// The name of the pack that a file or object of this name is.
pub(crate) fn of_file(file: &str) -> Option<&str> {
    file.strip_suffix(ENDING).filter(|name| is_name(name))
}

/// Whether this is the name of the bytes with this digest.
pub(crate) fn fits(name: &str, bytes: &Digest) -> bool {
    name.split_once('-').is_some_and(|(_, digest)| bytes.hex().starts_with(digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_when_the_pack_was_written() {
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let name = new(b"pack", time);
        assert_eq!(written(&name), Some(time));
        for (path, expected) in [
            (file(&name), Some(name.as_str())),
            (format!("a/{}", file(&name)), None),
            (name.clone(), None),
            ("other.json".to_owned(), None),
            (String::new(), None),
        ] {
            assert_eq!(of_file(&path), expected, "{path}");
        }
        assert_eq!(written("x-y"), None);
        assert_eq!(written(""), None);
    }
}
