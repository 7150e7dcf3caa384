//! What to do about a registry that did not do what it was asked.

use registry::ErrorKind;

/// How to go on after a failure of this kind.
pub(crate) fn of(kind: ErrorKind) -> Option<&'static str> {
    match kind {
        ErrorKind::NotFound => {
            Some("check the name and tag; what only this machine has must be built or loaded first")
        }
        ErrorKind::Unauthorized | ErrorKind::Denied => {
            Some("check the name; `mybuild login REGISTRY` tells a registry who you are")
        }
        ErrorKind::TooManyRequests => Some("wait, or use a mirror (`mirrors` in mybuild.toml)"),
        ErrorKind::Unavailable => {
            Some("check the network, or use a mirror (`mirrors` in mybuild.toml)")
        }
        ErrorKind::Untrusted => Some(
            "name the registry's own root certificate (`ca` in mybuild.toml), or put it into Docker's certs.d",
        ),
        _ => None,
    }
}
