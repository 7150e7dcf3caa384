//! New images of images in registries: renamed, put together into an index, annotated. Blobs move only
//! where a repository does not have them.
//!
//! The rules are those of `docker buildx imagetools create`, but for an index that is the only source: its
//! annotations stay.

use std::collections::BTreeMap;

use oci::manifest::{Document, Kind};
use oci::{Descriptor, Digest, Index, Reference, media_type};
use registry::Copied;

use super::source::{Found, Source};
use super::{RegistryClient, failed};
use crate::annotations::{Annotation, AnnotationLevel};
use crate::error::BuildError;

/// What a single source becomes if nothing is put on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// An index over it.
    Index,
    /// The same again.
    Same,
}

/// What is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembly {
    /// What of.
    pub sources: Vec<Source>,
    /// With which annotations.
    pub annotations: Vec<Annotation>,
    /// What a single image becomes.
    pub form: Form,
}

/// A new image, and where its parts are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assembled {
    /// Its media type, digest and size.
    pub descriptor: Descriptor,
    /// The manifest or index, to the byte.
    pub bytes: Vec<u8>,
    /// What it refers to, and the repository that has it.
    parts: Vec<(Reference, Descriptor)>,
}

/// What [`RegistryClient::put`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Put {
    /// What is in the repository now, and was not before.
    pub manifests: usize,
    /// Blobs that were mounted there.
    pub mounted: usize,
    /// Blobs that were sent there.
    pub sent: usize,
}

impl RegistryClient {
    /// Makes a new image. Nothing is written anywhere.
    ///
    /// # Errors
    /// [`BuildError::Input`] if the sources or annotations do not fit, [`BuildError::System`] if a source is
    /// not available.
    pub async fn assemble(&self, assembly: &Assembly) -> Result<Assembled, BuildError> {
        let mut found = Vec::new();
        for source in &assembly.sources {
            found.push(self.find(source).await?);
        }
        combine(found, &assembly.annotations, assembly.form)
    }

    /// Puts the image where `name` says, after everything that it refers to.
    ///
    /// # Errors
    /// [`BuildError::System`]; then the tag is what it was.
    pub async fn put(&self, image: &Assembled, name: &Reference) -> Result<Put, BuildError> {
        let done = std::sync::Mutex::new(Put { manifests: 0, mounted: 0, sent: 0 });
        let told = |copied| {
            let mut done = done.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            match copied {
                Copied::Manifest(_) => done.manifests += 1,
                Copied::Blob(_, registry::Pushed::Mounted) => done.mounted += 1,
                Copied::Blob(_, registry::Pushed::Uploaded) => done.sent += 1,
                Copied::Blob(_, registry::Pushed::Existing) => {}
            }
        };
        for (from, part) in &image.parts {
            self.registries.copy(from, part, name, &told).await.map_err(failed)?;
        }
        let (media_type, bytes) = (&image.descriptor.media_type, image.bytes.clone());
        self.registries.push_manifest(name, media_type, bytes.into()).await.map_err(failed)?;
        Ok(done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner()))
    }
}

/// The sources as one image.
fn combine(
    mut found: Vec<Found>,
    annotations: &[Annotation],
    form: Form,
) -> Result<Assembled, BuildError> {
    let is_same = match (&*found, form) {
        ([one], Form::Index) => matches!(one.document, Document::Index(_)),
        ([_], Form::Same) => true,
        _ => false,
    };
    if is_same && annotations.is_empty() {
        let found = found.remove(0);
        return Ok(found.unchanged());
    }
    let kept = match &*found {
        [Found { document: Document::Index(index), .. }] => index.annotations.clone(),
        _ => BTreeMap::new(),
    };
    let mut entries = Entries::default();
    for Found { name, descriptor, document, .. } in found {
        match document {
            Document::Index(index) => {
                index.manifests.into_iter().for_each(|entry| entries.add(&name, entry));
            }
            Document::Manifest(_) => entries.add(&name, descriptor),
        }
    }
    let is_dockers = entries.list.iter().all(|(_, entry)| is_of_docker(entry));
    let media_type = if is_dockers { media_type::DOCKER_INDEX } else { media_type::INDEX };
    let mut index =
        Index { media_type: media_type.to_owned(), annotations: kept, ..Index::default() };
    for annotation in annotations {
        annotate(&mut index, &mut entries.list, annotation)?;
    }
    index.manifests = entries.list.iter().map(|(_, entry)| entry.clone()).collect();
    let bytes = serde_json::to_vec_pretty(&index).expect("it is plain data");
    let descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
    Ok(Assembled { descriptor, bytes, parts: entries.list })
}

impl Found {
    /// The same image again, to the byte.
    fn unchanged(self) -> Assembled {
        let of_index = |entry| (self.name.clone(), entry);
        let parts = match self.document {
            Document::Index(index) => index.manifests.into_iter().map(of_index).collect(),
            Document::Manifest(_) => vec![of_index(self.descriptor.clone())],
        };
        Assembled { descriptor: self.descriptor, bytes: self.bytes, parts }
    }
}

/// The entries of an index, one a digest, in the order in which they came.
#[derive(Default)]
struct Entries {
    list: Vec<(Reference, Descriptor)>,
}

impl Entries {
    fn add(&mut self, from: &Reference, entry: Descriptor) {
        let known = self.list.iter_mut().find(|(_, known)| known.digest == entry.digest);
        let Some((_, known)) = known else {
            self.list.push((from.clone(), entry));
            return;
        };
        if known.media_type.is_empty() {
            known.media_type = entry.media_type;
        }
        known.platform = entry.platform.or(known.platform.take());
        known.annotations.extend(entry.annotations);
    }
}

fn is_of_docker(entry: &Descriptor) -> bool {
    [media_type::DOCKER_MANIFEST, media_type::DOCKER_INDEX].contains(&&*entry.media_type)
        && Kind::of(&entry.media_type).is_some()
}

fn annotate(
    index: &mut Index,
    entries: &mut [(Reference, Descriptor)],
    annotation: &Annotation,
) -> Result<(), BuildError> {
    let Annotation { level, platform, key, value } = annotation;
    let refused = |why: &str| {
        BuildError::input(format!("annotation `{key}`: {why}"))
            .with_hint("write `index:KEY=VALUE` or `manifest-descriptor:KEY=VALUE`")
    };
    if index.media_type == media_type::DOCKER_INDEX {
        return Err(refused("a Docker manifest list has no annotations"));
    }
    match level {
        AnnotationLevel::Index => {
            index.annotations.insert(key.clone(), value.clone());
        }
        AnnotationLevel::ManifestDescriptor => {
            let mut is_put = false;
            for (_, entry) in entries {
                let is_it = platform.is_none() || entry.platform == *platform;
                if is_it {
                    entry.annotations.insert(key.clone(), value.clone());
                }
                is_put |= is_it;
            }
            if let (false, Some(platform)) = (is_put, platform) {
                return Err(refused(&format!("there is no image for {platform}")));
            }
        }
        AnnotationLevel::Manifest => {
            return Err(refused("the manifests stay as they are: they would get other digests"));
        }
        AnnotationLevel::IndexDescriptor => {
            return Err(refused("nothing here describes the index"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use oci::{Manifest, manifest};

    use super::*;

    fn image(name: &str, platform: &str, media_type: &str) -> Found {
        let bytes = format!("{name} {platform}").into_bytes();
        let mut descriptor = Descriptor::new(media_type, Digest::of(&bytes), bytes.len() as u64);
        descriptor.platform = Some(platform.parse().unwrap());
        let manifest = Manifest {
            schema_version: 2,
            media_type: media_type.to_owned(),
            config: descriptor.clone(),
            layers: Vec::new(),
            annotations: BTreeMap::new(),
        };
        let name = name.parse().unwrap();
        Found { name, descriptor, bytes, document: Document::Manifest(manifest) }
    }

    fn index_of(name: &str, images: &[Found], note: &str) -> Found {
        let manifests = images.iter().map(|image| image.descriptor.clone()).collect();
        let annotations = [("note".to_owned(), note.to_owned())].into();
        let index = Index { manifests, annotations, ..Index::default() };
        let bytes = serde_json::to_vec(&index).unwrap();
        let descriptor = Descriptor::new(media_type::INDEX, Digest::of(&bytes), bytes.len() as u64);
        Found { name: name.parse().unwrap(), descriptor, bytes, document: Document::Index(index) }
    }

    fn put(level: AnnotationLevel, platform: Option<&str>) -> Annotation {
        let platform = platform.map(|platform| platform.parse().unwrap());
        Annotation { level, platform, key: "k".to_owned(), value: "v".to_owned() }
    }

    /// The new image in one line.
    fn check(found: Vec<Found>, annotations: &[Annotation], form: Form, want: &str) {
        let got = match combine(found, annotations, form) {
            Err(error) => error.to_string(),
            Ok(made) => match manifest::parse(&made.bytes, None) {
                Ok(Document::Index(index)) => {
                    let entries = index.manifests.iter().zip(&made.parts).map(|(entry, part)| {
                        assert_eq!(*entry, part.1);
                        let platform = entry.platform.as_ref().unwrap();
                        let annotations: Vec<&String> = entry.annotations.keys().collect();
                        format!(" {}:{platform}{annotations:?}", part.0.path())
                    });
                    let kind = index.media_type.rsplit('.').nth(1).unwrap();
                    let annotations: Vec<&String> = index.annotations.keys().collect();
                    format!("{kind}{annotations:?}{}", entries.collect::<String>())
                }
                _ => format!("same {}", made.parts[0].0.path()),
            },
        };
        assert_eq!(got, want);
    }

    #[test]
    fn images_become_one_index() {
        use AnnotationLevel::{Index, IndexDescriptor, Manifest, ManifestDescriptor};
        let oci = |name: &str, platform: &str| image(name, platform, media_type::MANIFEST);
        let docker =
            |name: &str, platform: &str| image(name, platform, media_type::DOCKER_MANIFEST);
        let both = || {
            let images = [oci("h/a", "linux/amd64"), oci("h/a", "linux/arm64")];
            index_of("h.x/a", &images, "n")
        };
        let one = || oci("h.x/a", "linux/amd64");
        check(vec![one()], &[], Form::Same, "same a");
        check(vec![one()], &[], Form::Index, "index[] a:linux/amd64[]");
        let same = combine(vec![both()], &[], Form::Index).unwrap();
        assert_eq!((same.bytes, same.parts.len()), (both().bytes, 2));
        check(
            vec![one(), oci("h.x/b", "linux/arm64"), one()],
            &[],
            Form::Same,
            "index[] a:linux/amd64[] b:linux/arm64[]",
        );
        check(
            vec![docker("h.x/a", "linux/amd64"), docker("h.x/b", "linux/arm64")],
            &[],
            Form::Index,
            "list[] a:linux/amd64[] b:linux/arm64[]",
        );
        check(
            vec![docker("h.x/a", "linux/amd64"), oci("h.x/b", "linux/arm64")],
            &[put(Index, None)],
            Form::Index,
            r#"index["k"] a:linux/amd64[] b:linux/arm64[]"#,
        );
        // What is put on an index leaves it what it is; of several none is more right than the others.
        check(
            vec![both()],
            &[put(Index, None), put(ManifestDescriptor, Some("linux/arm64"))],
            Form::Same,
            r#"index["k", "note"] a:linux/amd64[] a:linux/arm64["k"]"#,
        );
        check(
            vec![both(), oci("h.x/c", "linux/s390x")],
            &[put(ManifestDescriptor, None)],
            Form::Same,
            r#"index[] a:linux/amd64["k"] a:linux/arm64["k"] c:linux/s390x["k"]"#,
        );
        for (annotation, want) in [
            (
                put(ManifestDescriptor, Some("linux/s390x")),
                "annotation `k`: there is no image for linux/s390x",
            ),
            (
                put(Manifest, None),
                "annotation `k`: the manifests stay as they are: they would get other digests",
            ),
            (put(IndexDescriptor, None), "annotation `k`: nothing here describes the index"),
        ] {
            check(vec![both()], &[annotation], Form::Same, want);
        }
        let want = "annotation `k`: a Docker manifest list has no annotations";
        check(vec![docker("h.x/a", "linux/amd64")], &[put(Index, None)], Form::Same, want);
    }
}
