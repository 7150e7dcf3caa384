//! What is somewhere else than on this machine.

use std::ffi::OsStr;

/// The address of a git repository or of a file over HTTP, by the rules by which BuildKit tells them from
/// paths.
pub(crate) fn remote(text: &OsStr) -> Option<&str> {
    text.to_str().filter(|text| parser::lower::remote(text).is_some())
}

/// An address that a Dockerfile can be at.
pub(crate) fn url(text: &OsStr) -> Option<&str> {
    let is_url = |text: &&str| ["http://", "https://"].iter().any(|start| text.starts_with(start));
    text.to_str().filter(is_url)
}
