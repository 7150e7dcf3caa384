//! Named contexts: what `--build-context NAME=VALUE` means.

use std::path::{Path, PathBuf};

use oci::platform::InvalidPlatform;
use oci::{Platform, Reference};
use parser::lower::{self, NamedContext};

use crate::client::Client;
use crate::error::{BoxedError, BuildError};
use crate::source::ignore_file::ignore_patterns;

/// A named context, and where it is if it is on the client's machine.
pub(crate) struct Named {
    pub(crate) context: NamedContext,
    pub(crate) place: Option<PathBuf>,
}

/// What a `--build-context` value means.
pub(crate) fn named_context(
    client: &dyn Client,
    name: &str,
    specification: &str,
) -> Result<Named, BuildError> {
    let elsewhere = |context| Ok(Named { context, place: None });
    if let Some(directory) = context_directory(specification) {
        let directory = existing_directory(client, "build context", directory)?;
        let exclude_patterns = ignore_patterns(&directory, None)?;
        let context = NamedContext::Local { name: name.to_owned(), exclude_patterns };
        return Ok(Named { context, place: Some(directory) });
    }
    if let Some(reference) = specification.strip_prefix("docker-image://") {
        return elsewhere(NamedContext::Image(reference.to_owned()));
    }
    if let Some(layout) = specification.strip_prefix("oci-layout://") {
        let (path, reference) = split_layout(layout);
        let path = existing_directory(client, "OCI layout", Path::new(path))?;
        let (name, reference) = (name.to_owned(), reference.to_owned());
        let context = NamedContext::OciLayout { name, reference };
        return Ok(Named { context, place: Some(path) });
    }
    if let Some(target) = specification.strip_prefix("target:") {
        return Err(BuildError::refused(format!(
            "build context `{name}`: `target:{target}` names a target of a bake file"
        )));
    }
    match lower::remote(specification) {
        Some(lower::Remote::Git) => return elsewhere(NamedContext::Git(specification.to_owned())),
        Some(lower::Remote::Http) => {
            return elsewhere(NamedContext::Http(specification.to_owned()));
        }
        None => {}
    }
    let scheme = specification.split("://").next().unwrap_or_default();
    Err(BuildError::refused(format!(
        "build context `{name}`: `{scheme}://` sources are not supported"
    )))
}

/// The directory that a `--build-context` value names, if it does not mean something else.
pub fn context_directory(specification: &str) -> Option<&Path> {
    let is_other = specification.contains("://")
        || specification.starts_with("target:")
        || lower::remote(specification).is_some();
    (!is_other).then(|| Path::new(specification))
}

/// The name of a context as lowering looks for it: in its familiar form, perhaps with a platform.
pub(crate) fn context_name(written: &str) -> Result<String, BuildError> {
    let invalid = |error: BoxedError| {
        BuildError::input(format!("invalid context name `{written}`")).because(error)
    };
    let (name, platform) = match written.split_once("::") {
        Some((name, platform)) => (name, Some(platform)),
        None => (written, None),
    };
    let name = Reference::parse_normalized(name).map_err(|error| invalid(error.into()))?;
    let name = name.familiar();
    let name = name.strip_suffix(":latest").unwrap_or(&name);
    let Some(platform) = platform else { return Ok(name.to_owned()) };
    let platform: Platform =
        platform.parse().map_err(|error: InvalidPlatform| invalid(error.into()))?;
    Ok(format!("{name}::{platform}"))
}

/// `path`, `path:tag`, `path@sha256:…` to path and the reference in it.
fn split_layout(layout: &str) -> (&str, &str) {
    if let Some((path, digest)) = layout.split_once('@') {
        return (path, digest);
    }
    match layout.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (layout, ""),
    }
}

/// The directory of the client's that is called `path`.
pub(crate) fn existing_directory(
    client: &dyn Client,
    what: &str,
    path: &Path,
) -> Result<PathBuf, BuildError> {
    let place = client.directory(path)?;
    let found = std::fs::canonicalize(place).and_then(|p| Ok((p.metadata()?.is_dir(), p)));
    match found {
        Ok((true, path)) => Ok(path),
        Ok((false, _)) => {
            Err(BuildError::input(format!("{what} `{}` is not a directory", path.display()))
                .with_hint("give the directory that holds the files to build from"))
        }
        Err(error) => {
            Err(BuildError::input(format!("failed to open {what} `{}`", path.display()))
                .because(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_have_the_names_that_images_have() {
        for (written, expected) in [
            ("app", Some("app")),
            ("alpine:latest", Some("alpine")),
            ("docker.io/library/alpine:3.20", Some("alpine:3.20")),
            ("example.org/a/b", Some("example.org/a/b")),
            ("app::linux/arm64", Some("app::linux/arm64")),
            ("alpine:latest::linux/aarch64", Some("alpine::linux/arm64")),
            ("UPPER", None),
            ("app::", None),
            ("app::what/ever/it/is", None),
        ] {
            assert_eq!(context_name(written).ok().as_deref(), expected, "{written}");
        }
    }

    #[test]
    fn layout_paths_end_where_the_tag_or_digest_starts() {
        for (text, expected) in [
            ("dir", ("dir", "")),
            ("dir:tag", ("dir", "tag")),
            ("/a:b/dir", ("/a:b/dir", "")),
            ("/a/dir:1.0", ("/a/dir", "1.0")),
            ("dir@sha256:00", ("dir", "sha256:00")),
        ] {
            assert_eq!(split_layout(text), expected);
        }
    }
}
