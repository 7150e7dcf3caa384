//! OCI image layouts (OCI image specification, image-layout.md): what is called what in them, and which
//! image a name stands for. The caller reads and writes the files.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::manifest::{self, Descriptor, Document, Index, InvalidManifest, media_type};
use crate::reference::{DEFAULT_TAG, Reference};

/// The file that says that a directory or archive is a layout.
pub const MARKER: &str = "oci-layout";
/// What [`MARKER`] holds.
pub const MARKER_CONTENT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// The file that lists the images.
pub const INDEX: &str = "index.json";
/// The largest [`INDEX`] that is read, in bytes.
pub const INDEX_MAX: u64 = manifest::SIZE_MAX as u64;

/// Annotation of an image in an index: its tag or short name.
pub const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// Annotation of an image in an index: its whole name, as containerd writes and reads it.
pub const FULL_NAME: &str = "io.containerd.image.name";

/// Path of a blob below the layout's root.
pub fn blob_path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// Reads an [`INDEX`].
pub fn parse_index(bytes: &[u8]) -> Result<Index, InvalidManifest> {
    match manifest::parse(bytes, Some(media_type::INDEX))? {
        Document::Index(index) => Ok(index),
        Document::Manifest(manifest) => {
            Err(InvalidManifest::UnsupportedMediaType(manifest.media_type))
        }
    }
}

/// The image that a tag, a whole name, a digest or nothing stands for. Nothing and `latest` stand for the
/// only one, too.
pub fn find<'a>(index: &'a Index, wanted: &str) -> Option<&'a Descriptor> {
    let tag = wanted.rsplit_once(':').map_or(wanted, |(_, tag)| tag);
    let is_wanted = |image: &&Descriptor| {
        let is_named = |name| name == wanted || name == tag;
        image.digest.as_str() == wanted
            || (!wanted.is_empty() && ref_name(image).is_some_and(is_named))
    };
    let only = || match index.manifests.as_slice() {
        [only] if wanted.is_empty() || tag == DEFAULT_TAG => Some(only),
        _ => None,
    };
    index.manifests.iter().find(is_wanted).or_else(only)
}

/// The tag or short name of an image in an index.
pub fn ref_name(image: &Descriptor) -> Option<&str> {
    image.annotations.get(REF_NAME).map(String::as_str)
}

/// What an image in an index is called: by its whole name, or by what stands for it. A bare `latest` is a
/// tag of nothing.
pub fn name(image: &Descriptor) -> Option<Reference> {
    let annotations = [FULL_NAME, REF_NAME].iter().filter_map(|key| image.annotations.get(*key));
    let mut names = annotations.filter(|name| *name != DEFAULT_TAG);
    Some(names.find_map(|name| name.parse::<Reference>().ok())?.with_default_tag())
}

/// The annotations that call an image `name`.
pub fn name_annotations(name: &Reference) -> BTreeMap<String, String> {
    BTreeMap::from([
        (FULL_NAME.to_owned(), name.to_string()),
        (REF_NAME.to_owned(), name.tag().unwrap_or(DEFAULT_TAG).to_owned()),
    ])
}

/// An image without the annotations that are its name.
pub fn without_name(mut image: Descriptor) -> Descriptor {
    image.annotations.retain(|key, _| ![REF_NAME, FULL_NAME].contains(&key.as_str()));
    image
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(content: &str, annotations: &[(&str, &str)]) -> Descriptor {
        let mut image = Descriptor::new(media_type::MANIFEST, Digest::of(content.as_bytes()), 0);
        image.annotations =
            annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        image
    }

    #[test]
    fn images_are_called_by_their_annotations() {
        let full = "docker.io/library/app:1.0";
        for (annotations, wanted) in [
            (&[][..], None),
            (&[(REF_NAME, "latest")], None),
            (&[(REF_NAME, "app:1.0")], Some(full)),
            (&[(REF_NAME, "app")], Some("docker.io/library/app:latest")),
            (&[(FULL_NAME, full), (REF_NAME, "1.0")], Some(full)),
            (&[(REF_NAME, "Not A Name")], None),
        ] {
            let name = name(&image("", annotations));
            assert_eq!(name.map(|name| name.to_string()).as_deref(), wanted, "{annotations:?}");
        }
    }

    #[test]
    fn a_name_finds_its_image() {
        let of = |images: &[&Descriptor]| Index {
            manifests: images.iter().map(|image| (*image).clone()).collect(),
            ..Index::default()
        };
        let (one, two) = (image("1", &[(REF_NAME, "1.0")]), image("2", &[(REF_NAME, "b:latest")]));
        let digest = one.digest.to_string();
        for (index, wanted, expected) in [
            (of(&[&one]), "", Some(&one)),
            (of(&[&one]), "latest", Some(&one)),
            (of(&[&one]), "2.0", None),
            (of(&[&one, &two]), "", None),
            (of(&[&one, &two]), "latest", None),
            (of(&[&one, &two]), "1.0", Some(&one)),
            (of(&[&one, &two]), "a:1.0", Some(&one)),
            (of(&[&one, &two]), "b:latest", Some(&two)),
            (of(&[&two, &one]), &digest, Some(&one)),
            (of(&[]), "", None),
        ] {
            assert_eq!(find(&index, wanted), expected, "`{wanted}`");
        }
    }
}
