//! What a name on the command line means: a tag, a digest, or the beginning of an image's id.

use std::io;

use cache::Store;
use oci::{Descriptor, Digest, ImageConfig, Reference};

use super::{Variant, read_variants, variant_of_config};
use crate::error::BuildError;

/// A prefix shorter than this is not looked for among images that nothing names.
const PREFIX_MIN: usize = 4;
/// Blobs that an id's beginning may match before it counts as ambiguous.
const CANDIDATES_MAX: usize = 64;
/// Images that an error names.
const NAMED_IN_ERRORS: usize = 3;

/// An image that a text names.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// What the name stands for: a manifest or an index.
    pub(crate) target: Descriptor,
    /// How it was named.
    pub(crate) by: By,
}

/// How an image was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum By {
    /// By this entry of the store.
    Name(String),
    /// By repository and digest: these entries.
    Digest(Vec<String>),
    /// By the id of the image, or of one of its platforms.
    Id(Digest),
}

/// Finds an image of the store.
pub(crate) fn find(store: &Store, text: &str) -> Result<Found, BuildError> {
    if let Some(found) = by_name(store, text) {
        return Ok(found);
    }
    if let Some(found) = by_id(store, text)? {
        return Ok(found);
    }
    Err(missing(store, text))
}

fn by_name(store: &Store, text: &str) -> Option<Found> {
    let images = store.images();
    let reference: Option<Reference> = text.parse().ok();
    if let Some(digest) = reference.as_ref().and_then(Reference::digest) {
        let repository = reference.as_ref().expect("just asked").repository();
        let is_it = |image: &&cache::Image| {
            let named = image.name.parse::<Reference>();
            named.is_ok_and(|named| named.repository() == repository)
                && [&image.descriptor.digest, &super::repo_digest(store, image)].contains(&digest)
        };
        let found: Vec<&cache::Image> = images.iter().filter(is_it).collect();
        let target = found.first()?.descriptor.clone();
        let names = found.iter().filter(|image| image.descriptor == target);
        return Some(Found {
            by: By::Digest(names.map(|image| image.name.clone()).collect()),
            target,
        });
    }
    let name =
        reference.map_or(text.to_owned(), |reference| reference.with_default_tag().to_string());
    let image = images.into_iter().find(|image| image.name == name)?;
    Some(Found { target: image.descriptor, by: By::Name(image.name) })
}

/// The hexadecimal digits of what may be an id: `sha256:0123…`, `0123…`.
fn id_prefix(text: &str) -> Option<&str> {
    let hex = text.strip_prefix("sha256:").unwrap_or(text);
    let is_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (!hex.is_empty() && hex.len() <= 64 && hex.bytes().all(is_hex)).then_some(hex)
}

fn by_id(store: &Store, text: &str) -> Result<Option<Found>, BuildError> {
    let Some(prefix) = id_prefix(text) else { return Ok(None) };
    let mut found: Vec<(Digest, Descriptor)> = Vec::new();
    for image in store.images() {
        add(&mut found, prefix, &image.descriptor.digest, &image.descriptor);
        for variant in read_variants(store, &image.descriptor) {
            add(&mut found, prefix, &variant.id, &image.descriptor);
            let manifest = &variant.manifest_descriptor;
            add(&mut found, prefix, &manifest.digest, manifest);
        }
    }
    if found.is_empty() && prefix.len() >= PREFIX_MIN {
        for variant in unnamed(store, prefix)? {
            add(&mut found, prefix, &variant.id, &variant.manifest_descriptor);
        }
    }
    match found.as_slice() {
        [] => Ok(None),
        [(id, target)] => Ok(Some(Found { target: target.clone(), by: By::Id(id.clone()) })),
        several => {
            Err(BuildError::input(format!("`{text}` is the beginning of {} ids", several.len()))
                .with_hint("write more of it"))
        }
    }
}

fn add(found: &mut Vec<(Digest, Descriptor)>, prefix: &str, id: &Digest, target: &Descriptor) {
    if id.hex().starts_with(prefix) && !found.iter().any(|(known, _)| known == id) {
        found.push((id.clone(), target.clone()));
    }
}

/// Images that no name leads to, such as those built without one: they are there until the next
/// prune, and everything of them can be told from their config.
fn unnamed(store: &Store, prefix: &str) -> Result<Vec<Variant>, BuildError> {
    let candidates: Vec<Digest> = if prefix.len() == 64 {
        format!("sha256:{prefix}").parse().into_iter().collect()
    } else {
        let folder = store.root().join("blobs/sha256");
        let entries: io::Result<Vec<_>> = std::fs::read_dir(folder).and_then(Iterator::collect);
        let entries =
            entries.map_err(|e| BuildError::system("failed to read the store").because(e))?;
        let names = entries.iter().filter_map(|entry| entry.file_name().into_string().ok());
        let fitting = names.filter(|name| name.starts_with(prefix)).take(CANDIDATES_MAX);
        fitting.filter_map(|name| format!("sha256:{name}").parse().ok()).collect()
    };
    Ok(candidates.iter().filter_map(|digest| unnamed_image(store, digest)).collect())
}

fn unnamed_image(store: &Store, id: &Digest) -> Option<Variant> {
    let bytes = store.read_small(id, oci::config::SIZE_MAX as u64).ok()?;
    let config = ImageConfig::parse(&bytes).ok()?;
    // Any JSON object parses as a config; an image's has these.
    (!config.os.is_empty() && !config.architecture.is_empty())
        .then(|| variant_of_config(store, id, bytes.len() as u64, config))?
}

fn missing(store: &Store, text: &str) -> BuildError {
    let names: Vec<String> =
        store.images().iter().map(|image| crate::stored::familiar(&image.name)).collect();
    let hint = match names.as_slice() {
        [] => "the store has no images; build one with `-t NAME`, or `mybuild pull` it".to_owned(),
        names if names.len() <= NAMED_IN_ERRORS => format!("there is {}", names.join(", ")),
        names => format!("`mybuild images` shows the {} there are", names.len()),
    };
    BuildError::input(format!("no image `{text}` in the store")).with_hint(hint)
}

impl Found {
    /// The image's platform that is meant: the one whose id was given, else the wanted one, else
    /// this machine's, else the first.
    pub(crate) fn variant(
        &self,
        store: &Store,
        text: &str,
        platform: Option<&oci::Platform>,
    ) -> Result<Variant, BuildError> {
        let variants = read_variants(store, &self.target);
        if let By::Id(id) = &self.by
            && let Some(variant) = variants.iter().find(|variant| variant.id == *id)
        {
            return check_platform(variant.clone(), text, platform);
        }
        let host = oci::Platform::host();
        let index = oci::Index {
            manifests: variants.iter().map(Variant::entry).collect(),
            ..oci::Index::default()
        };
        let chosen = index.select(platform.unwrap_or(&host)).map(|entry| &entry.digest);
        let chosen =
            variants.iter().find(|variant| Some(&variant.manifest_descriptor.digest) == chosen);
        let chosen = chosen.or(variants.first().filter(|_| platform.is_none())).cloned();
        chosen.ok_or_else(|| match (platform, variants.as_slice()) {
            (Some(platform), [_, ..]) => other_platform(text, platform, &variants),
            _ => BuildError::system(format!(
                "image `{text}` is incomplete in the store: its manifest or config is missing"
            ))
            .with_hint("pull or build it again"),
        })
    }
}

fn check_platform(
    variant: Variant,
    text: &str,
    platform: Option<&oci::Platform>,
) -> Result<Variant, BuildError> {
    let index = oci::Index { manifests: vec![variant.entry()], ..oci::Index::default() };
    match platform {
        Some(platform) if index.select(platform).is_none() => {
            Err(other_platform(text, platform, std::slice::from_ref(&variant)))
        }
        _ => Ok(variant),
    }
}

fn other_platform(text: &str, platform: &oci::Platform, variants: &[Variant]) -> BuildError {
    let known: Vec<String> = variants.iter().map(|v| v.config.platform().to_string()).collect();
    BuildError::input(format!("image `{text}` is not there for {platform}"))
        .with_hint(format!("it is there for {}", known.join(", ")))
}
