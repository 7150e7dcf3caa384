//! What an image is called in the store.

use oci::{Descriptor, Reference};

use super::Export;
use super::error::ExportError;
use crate::error::BuildError;
use crate::request::StoreNames;

/// Gives `target` these names.
pub(super) fn give(
    export: &Export<'_>,
    target: &Descriptor,
    names: &[Reference],
) -> Result<Vec<String>, BuildError> {
    let mut given = Vec::new();
    for name in names.iter().map(|name| name.with_default_tag().to_string()) {
        if given.contains(&name) {
            continue;
        }
        let step = export.steps.internal(&format!("naming to {name}"));
        let tag = export.store.tag(&name, target);
        step.ended(tag.map_err(|e| ExportError::Tag(e).into()))?;
        given.push(name);
    }
    Ok(given)
}

/// These names, and those that the image's digest is a part of.
pub(super) fn all(
    names: &[Reference],
    digest_names: &StoreNames,
    target: &Descriptor,
) -> Vec<Reference> {
    let with_digest = |name: &Reference| name.without_tag().with_digest(target.digest.clone());
    let mut all = names.to_vec();
    if digest_names.canonical {
        all.extend(names.iter().map(with_digest));
    }
    if let Some(dangling) = &digest_names.dangling
        && (names.is_empty() || !dangling.only_unnamed)
    {
        all.push(with_digest(&dangling.repository));
    }
    all
}

#[cfg(test)]
mod tests {
    use oci::{Digest, media_type};

    use super::*;
    use crate::request::Dangling;

    #[test]
    fn names_with_the_digest_are_beside_the_others() {
        let name = |text: &str| text.parse::<Reference>().unwrap();
        let digest = Digest::of(b"");
        let target = Descriptor::new(media_type::MANIFEST, digest.clone(), 0);
        let dangling =
            |only_unnamed| Some(Dangling { repository: name("left/over"), only_unnamed });
        let of = |repository: &str| format!("docker.io/{repository}@{digest}");
        let (a, b) = ("docker.io/library/a:1", "docker.io/library/b");
        for (names, canonical, dangling, expected) in [
            (&["a:1", "b"][..], false, None, vec![a.to_owned(), b.to_owned()]),
            (&["a:1"], true, None, vec![a.to_owned(), of("library/a")]),
            (&[], true, dangling(true), vec![of("left/over")]),
            (&["a:1"], false, dangling(true), vec![a.to_owned()]),
            (&["a:1"], false, dangling(false), vec![a.to_owned(), of("left/over")]),
        ] {
            let names: Vec<Reference> = names.iter().map(|text| name(text)).collect();
            let all = all(&names, &StoreNames { canonical, dangling }, &target);
            assert_eq!(all.iter().map(Reference::to_string).collect::<Vec<_>>(), expected);
        }
    }
}
