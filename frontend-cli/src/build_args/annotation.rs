//! `--annotation`, and the attributes of outputs that mean the same.

use engine::{Annotation, AnnotationLevel};
use oci::Platform;
use parser::suggest::{Case, did_you_mean};

use crate::error::UsageError;
use crate::platform;

/// What an annotation can be put on.
const LEVELS: [(&str, AnnotationLevel); 4] = [
    ("manifest", AnnotationLevel::Manifest),
    ("index", AnnotationLevel::Index),
    ("manifest-descriptor", AnnotationLevel::ManifestDescriptor),
    ("index-descriptor", AnnotationLevel::IndexDescriptor),
];

/// Reads `[LEVEL[[PLATFORM]],…:]KEY=VALUE`: one annotation a level.
pub(super) fn parse(text: &str) -> Result<Vec<Annotation>, UsageError> {
    let what = format!("--annotation {text}");
    let invalid = |why: &str| UsageError::new(format!("`{what}`: {why}"));
    let (key, value) = text.split_once('=').ok_or_else(|| invalid("want KEY=VALUE"))?;
    let (levels, key) = key.split_once(':').unwrap_or(("manifest", key));
    if key.is_empty() {
        return Err(invalid("the key is empty"));
    }
    levels.split(',').map(|level| annotation(&what, level, key, value)).collect()
}

/// Reads the name of an output's attribute, `annotation[-LEVEL][[PLATFORM]].KEY`; nothing where it is not
/// one.
pub(super) fn attribute(
    text: &str,
    name: &str,
    value: &str,
) -> Option<Result<Annotation, UsageError>> {
    let (level, key) = split_attribute(name)?;
    let level = match level.strip_prefix('-') {
        Some(level) => level.to_owned(),
        None => format!("manifest{level}"),
    };
    Some(annotation(&format!("--output {text}"), &level, key, value))
}

/// What stands between `annotation` and the point, and the key behind it.
pub(super) fn split_attribute(name: &str) -> Option<(&str, &str)> {
    let (level, key) = name.strip_prefix("annotation")?.split_once('.')?;
    (level.is_empty() || level.starts_with(['-', '['])).then_some((level, key))
}

/// The annotation for a `LEVEL[[PLATFORM]]`, given in `what`.
fn annotation(what: &str, level: &str, key: &str, value: &str) -> Result<Annotation, UsageError> {
    let invalid = |why: &str| UsageError::new(format!("`{what}`: {why}"));
    let (name, platform) = match level.split_once('[') {
        None => (level, None),
        Some((name, rest)) => {
            let platform = rest.strip_suffix(']').filter(|platform| !platform.is_empty());
            let wrong = || invalid(&format!("`{level}`: want a level and a platform in brackets"));
            (name, Some(platform.ok_or_else(wrong)?))
        }
    };
    let known = LEVELS.iter().find(|(known, _)| *known == name);
    let Some((_, level)) = known else {
        let meant = did_you_mean(name, LEVELS.iter().map(|(name, _)| *name), Case::Sensitive);
        return Err(invalid(&format!("unknown level `{name}`{meant}"))
            .with_hint("a key with a colon is written `manifest:KEY=VALUE`"));
    };
    if platform.is_some()
        && matches!(level, AnnotationLevel::Index | AnnotationLevel::IndexDescriptor)
    {
        return Err(invalid(&format!("`{name}` is of all platforms")).with_hint(
            "leave the platform out, or put it on `manifest` or `manifest-descriptor`",
        ));
    }
    let platform: Option<Platform> =
        platform.map(|text| platform::parse(&format!("`{what}`"), text)).transpose()?;
    let (key, value) = (key.to_owned(), value.to_owned());
    Ok(Annotation { level: *level, platform, key, value })
}
