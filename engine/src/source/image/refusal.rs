//! Why there is no image to start from, and what to do about it.

use oci::{Manifest, Platform, Reference};

use super::Stored;
use crate::error::{BuildError, chain};

/// Nothing in the store will do, and the registry is not to be asked.
pub(super) fn not_stored(
    reference: &Reference,
    stored: Option<&Stored>,
    platform: &Platform,
) -> BuildError {
    let name = reference.familiar();
    let message = match stored {
        Some(Stored::For(platforms)) => {
            format!("`{name}` is in the store for {}, not for {platform}", list(platforms))
        }
        _ => format!("`{name}` is not in the store, and pulling is off"),
    };
    let hint = "build with `--pull=missing`, or `mybuild pull` it first";
    BuildError::Input { message, hint: Some(hint.to_owned()) }
}

/// The store has it for another platform, and the registry did not help.
pub(super) fn of_other_platform(
    reference: &Reference,
    platforms: &[Platform],
    platform: &Platform,
    registry: &BuildError,
) -> BuildError {
    let (name, has) = (reference.familiar(), list(platforms));
    BuildError::Input {
        message: format!("`{name}` is in the store for {has}, not for {platform}: {registry}"),
        hint: Some(format!(
            "take that one with `--platform {}`, or build or load `{name}` for {platform} first",
            platforms[0]
        )),
    }
}

fn list(platforms: &[Platform]) -> String {
    platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Layers are tars; what else a manifest may hold (a chart, a model, a signature) is nothing to start from.
pub(crate) fn check_layers(manifest: &Manifest) -> Result<(), BuildError> {
    let Some(other) = manifest.layers.iter().find(|layer| !is_layer(&layer.media_type)) else {
        return Ok(());
    };
    Err(BuildError::Input {
        message: format!(
            "layer {} has the media type `{}`, which is not an image layer's",
            other.digest, other.media_type
        ),
        hint: Some("it may be an artifact for another tool, not a container image".to_owned()),
    })
}

/// `tar`, `tar+gzip`, `tar+zstd` of the OCI, and Docker's names for them.
fn is_layer(media_type: &str) -> bool {
    let kinds = [
        "application/vnd.oci.image.layer.v1.tar",
        "application/vnd.oci.image.layer.nondistributable.v1.tar",
        "application/vnd.docker.image.rootfs.diff.tar",
        "application/vnd.docker.image.rootfs.foreign.diff.tar",
    ];
    let rest = kinds.iter().find_map(|kind| media_type.strip_prefix(kind));
    matches!(rest, Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd"))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_layer_is_told_by_its_media_type() {
        for (media_type, expected) in [
            ("application/vnd.oci.image.layer.v1.tar", true),
            ("application/vnd.oci.image.layer.v1.tar+gzip", true),
            ("application/vnd.oci.image.layer.v1.tar+zstd", true),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", true),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", true),
            ("application/vnd.oci.image.layer.v1.tar+encrypted", false),
            ("application/vnd.oci.image.layer.v1.tarball", false),
            ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", false),
            ("application/octet-stream", false),
            ("", false),
        ] {
            assert_eq!(is_layer(media_type), expected, "{media_type}");
        }
    }
}
