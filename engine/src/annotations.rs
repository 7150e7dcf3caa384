//! Annotations of an image, and what each is put on.

use std::collections::BTreeMap;

use oci::Platform;

use crate::error::BuildError;

/// One annotation that was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Annotation {
    /// What it is put on.
    pub level: AnnotationLevel,
    /// Of which platform; `None` for all.
    pub platform: Option<Platform>,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
}

/// What an annotation is put on, with BuildKit's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnnotationLevel {
    /// The manifest of each image.
    Manifest,
    /// Its descriptor: in the index, or where the image is named.
    ManifestDescriptor,
    /// The index over the platforms.
    Index,
    /// Its descriptor, where it is named.
    IndexDescriptor,
}

/// What is put there for `platform`: what was said of it alone wins over what was said of all.
pub(crate) fn at(
    annotations: &[Annotation],
    level: AnnotationLevel,
    platform: Option<&Platform>,
) -> BTreeMap<String, String> {
    let here = |of: Option<&Platform>| {
        let of = of.cloned();
        annotations.iter().filter(move |a| a.level == level && a.platform == of)
    };
    let own = platform.map(|platform| here(Some(platform)));
    let all = here(None).chain(own.into_iter().flatten());
    all.map(|a| (a.key.clone(), a.value.clone())).collect()
}

/// Refuses annotations that nothing would get.
pub(crate) fn check<'a>(
    annotations: impl IntoIterator<Item = &'a Annotation>,
    platforms: &[Platform],
    is_index: bool,
) -> Result<(), BuildError> {
    for Annotation { level, platform, key, .. } in annotations {
        let is_of_index =
            matches!(level, AnnotationLevel::Index | AnnotationLevel::IndexDescriptor);
        if is_of_index && !is_index {
            let message = "index annotations not supported for single platform export";
            return Err(BuildError::input(format!("annotation `{key}`: {message}")).with_hint(
                "an index is made of several platforms, or with \
                 `--build-arg BUILDKIT_MULTI_PLATFORM=1`",
            ));
        }
        if let Some(platform) = platform.as_ref().filter(|platform| !platforms.contains(platform)) {
            let message = format!("annotation `{key}`: nothing is built for {platform}");
            let names: Vec<String> = platforms.iter().map(ToString::to_string).collect();
            let hint = format!("this build is for {}", names.join(", "));
            return Err(BuildError::input(message).with_hint(hint));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_of_one_platform_wins() {
        let arm64 = Platform::new("linux", "arm64", "");
        let annotation = |level, platform: Option<&Platform>, key: &str, value: &str| {
            let (platform, key, value) = (platform.cloned(), key.to_owned(), value.to_owned());
            Annotation { level, platform, key, value }
        };
        use AnnotationLevel::{Index, Manifest};
        let all = [
            annotation(Manifest, Some(&arm64), "a", "arm"),
            annotation(Manifest, None, "a", "all"),
            annotation(Manifest, None, "a", "last"),
            annotation(Index, None, "a", "index"),
        ];
        for (level, platform, expected) in [
            (Manifest, Some(&arm64), "arm"),
            (Manifest, Some(&Platform::new("linux", "amd64", "")), "last"),
            (Manifest, None, "last"),
            (Index, None, "index"),
        ] {
            assert_eq!(at(&all, level, platform)["a"], expected, "{level:?} {platform:?}");
        }
        assert!(at(&all, AnnotationLevel::IndexDescriptor, None).is_empty());
    }
}
