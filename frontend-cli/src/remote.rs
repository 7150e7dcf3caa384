//! What is somewhere else than on this machine.

use std::ffi::OsStr;

/// A Git or HTTP address, by the rules Docker tells them from paths.
pub(crate) fn remote(text: &OsStr) -> Option<&str> {
    const PREFIXES: &[&str] =
        &["http://", "https://", "git://", "ssh://", "git@", "github.com/", "gitlab.com/"];
    text.to_str().filter(|text| PREFIXES.iter().any(|prefix| text.starts_with(prefix)))
}
