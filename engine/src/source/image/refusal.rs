//! Why there is no image to start from, and what to do about it.

use oci::{Platform, Reference};

use super::Stored;
use crate::error::{BuildError, chain};

/// Nothing in the store will do, and the registry is not to be asked.
pub(super) fn not_stored(
    reference: &Reference,
    stored: Option<&Stored>,
    platform: &Platform,
) -> BuildError {
    let message = match stored {
        Some(Stored::For(platforms)) => for_others(reference, platforms, platform),
        _ => format!("`{}` is not in the store, and pulling is off", reference.familiar()),
    };
    let hint = "build with `--pull=missing`, or `mybuild pull` it first";
    BuildError::Input { message, hint: Some(hint.to_owned()) }
}

/// Nothing in the store will do, and there is no network.
pub(super) fn not_asked(
    reference: &Reference,
    stored: Option<&Stored>,
    platform: &Platform,
) -> BuildError {
    BuildError::offline(match stored {
        Some(Stored::For(platforms)) => {
            let have = for_others(reference, platforms, platform);
            format!("{have}, and would have to be pulled from {}", reference.domain())
        }
        _ => format!(
            "`{}` is not in the store, and would have to be pulled from {}",
            reference.familiar(),
            reference.domain()
        ),
    })
}

/// The store knows the image and lacks some of it, and there is no network.
pub(super) fn not_whole(reference: &Reference) -> BuildError {
    BuildError::offline(format!(
        "parts of `{}` are not in the store, and would have to be pulled from {}",
        reference.familiar(),
        reference.domain()
    ))
}

fn for_others(reference: &Reference, platforms: &[Platform], platform: &Platform) -> String {
    let name = reference.familiar();
    format!("`{name}` is in the store for {}, not for {platform}", list(platforms))
}

/// The store has it for another platform, and the registry did not help.
pub(super) fn of_other_platform(
    reference: &Reference,
    platforms: &[Platform],
    platform: &Platform,
    registry: &BuildError,
) -> BuildError {
    let name = reference.familiar();
    BuildError::Input {
        message: format!("{}: {registry}", for_others(reference, platforms, platform)),
        hint: Some(format!(
            "take that one with `--platform {}`, or build or load `{name}` for {platform} first",
            platforms[0]
        )),
    }
}

fn list(platforms: &[Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub(super) fn registry_error(error: &registry::Error) -> BuildError {
    use registry::ErrorKind;
    let hint = match error.kind() {
        ErrorKind::NotFound => {
            Some("check the name and tag; what only this machine has must be built or loaded first")
        }
        ErrorKind::Unauthorized | ErrorKind::Denied => {
            Some("check the name, and the credentials in Docker's config.json")
        }
        ErrorKind::TooManyRequests => Some("wait, or use a mirror (`mirrors` in mybuild.toml)"),
        ErrorKind::Unavailable => {
            Some("check the network, or use a mirror (`mirrors` in mybuild.toml)")
        }
        _ => None,
    };
    BuildError::System { message: chain(error), hint: hint.map(str::to_owned) }
}
