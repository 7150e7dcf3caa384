//! OCI layouts that are the client's: one that a build starts from is copied here, and one that it writes there.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use oci::{Descriptor, Digest, Index, Manifest, layout, media_type};

use crate::session::{ContentError, Session};

/// Larger documents are none, in bytes.
const DOCUMENT_MAX: u64 = 16 << 20;
/// Which store an exporter's layout is written to.
const EXPORT: &str = "export";

/// Why a layout was not copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LayoutError {
    /// The client has no such image, or not all of it.
    #[error("the client does not have `{0}`")]
    Missing(Digest),
    /// A document is not what it is said to be.
    #[error("`{0}` is not an image")]
    Document(Digest),
    /// A blob did not come, or was not taken.
    #[error("failed to transfer `{digest}`")]
    Blob {
        /// Which.
        digest: Digest,
        /// Why.
        source: ContentError,
    },
    /// The copy cannot be written or read.
    #[error(transparent)]
    File(#[from] io::Error),
}

/// Copies the image `digest` of the client's `store` into the empty directory `into`. Of an index, images may be
/// missing.
pub(crate) async fn fetch(
    session: &Session,
    store: &str,
    digest: &Digest,
    into: &Path,
) -> Result<(), LayoutError> {
    fs::create_dir_all(into.join("blobs").join(digest.algorithm()))?;
    let fetching = Fetching { session, store, into };
    let Some(size) = fetching.blob(digest, DOCUMENT_MAX).await? else {
        return Err(LayoutError::Missing(digest.clone()));
    };
    let top = fs::read(fetching.path(digest))?;
    let document = Document::read(digest, &top)?;
    let kind = match &document {
        Document::Index(_) => media_type::INDEX,
        Document::Manifest(_) => media_type::MANIFEST,
    };
    let mut waiting = document.parts();
    let mut known = HashSet::from([digest.clone()]);
    while let Some(part) = waiting.pop() {
        if !known.insert(part.descriptor.digest.clone()) {
            continue;
        }
        let Descriptor { digest, size, .. } = &part.descriptor;
        match fetching.blob(digest, *size).await? {
            None if part.is_optional => {}
            None => return Err(LayoutError::Missing(digest.clone())),
            Some(_) if part.is_document => {
                let bytes = fs::read(fetching.path(digest))?;
                waiting.extend(Document::read(digest, &bytes)?.parts());
            }
            Some(_) => {}
        }
    }
    let descriptor = Descriptor::new(kind, digest.clone(), size);
    let index = serde_json::json!({ "schemaVersion": 2, "manifests": [descriptor] });
    fs::write(into.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    fs::write(into.join(layout::INDEX), index.to_string())?;
    Ok(())
}

struct Fetching<'a> {
    session: &'a Session,
    store: &'a str,
    into: &'a Path,
}

impl Fetching<'_> {
    fn path(&self, digest: &Digest) -> PathBuf {
        self.into.join(layout::blob_path(digest))
    }

    /// The size of a blob that is copied; `None` if the client does not have it.
    async fn blob(&self, digest: &Digest, size_max: u64) -> Result<Option<u64>, LayoutError> {
        let path = self.path(digest);
        let read = self.session.read_blob(self.store, digest, size_max, &path).await;
        match read.map_err(|source| LayoutError::Blob { digest: digest.clone(), source })? {
            true => Ok(Some(fs::metadata(path)?.len())),
            false => Ok(None),
        }
    }
}

enum Document {
    Index(Index),
    Manifest(Box<Manifest>),
}

/// A blob that a document leads to.
struct Part {
    descriptor: Descriptor,
    is_document: bool,
    /// Those who have an index need not have all of its images.
    is_optional: bool,
}

impl Document {
    fn read(digest: &Digest, bytes: &[u8]) -> Result<Self, LayoutError> {
        let wrong = || LayoutError::Document(digest.clone());
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|_| wrong())?;
        match value.get("manifests").is_some() {
            true => serde_json::from_value(value).map(Self::Index).map_err(|_| wrong()),
            false => {
                let manifest = serde_json::from_value(value).map_err(|_| wrong())?;
                Ok(Self::Manifest(Box::new(manifest)))
            }
        }
    }

    fn parts(self) -> Vec<Part> {
        let part =
            |descriptor, is_document| Part { descriptor, is_document, is_optional: is_document };
        match self {
            Self::Index(index) => index.manifests.into_iter().map(|d| part(d, true)).collect(),
            Self::Manifest(manifest) => {
                let blobs = std::iter::once(manifest.config).chain(manifest.layers);
                blobs.map(|descriptor| part(descriptor, false)).collect()
            }
        }
    }
}

/// Gives the client the blobs of the layout at `from`: what documents lead to before them. Which images are in it
/// the client notes itself.
pub(crate) async fn send(session: &Session, from: &Path) -> Result<(), LayoutError> {
    let index = layout::parse_index(&fs::read(from.join(layout::INDEX))?)
        .map_err(|error| LayoutError::File(io::Error::other(error)))?;
    let mut order = Vec::new();
    let mut waiting: Vec<(Descriptor, bool)> =
        index.manifests.into_iter().map(|descriptor| (descriptor, true)).collect();
    while let Some((descriptor, is_document)) = waiting.pop() {
        let digest = descriptor.digest;
        if is_document {
            let bytes = fs::read(from.join(layout::blob_path(&digest)))?;
            let parts = Document::read(&digest, &bytes)?.parts();
            waiting.extend(parts.into_iter().map(|part| (part.descriptor, part.is_document)));
        }
        order.push(digest);
    }
    let mut sent = HashSet::new();
    for digest in order.into_iter().rev().filter(|digest| sent.insert(digest.clone())) {
        let file = File::open(from.join(layout::blob_path(&digest)))?;
        let written = session.write_blob(EXPORT, &digest, file).await;
        written.map_err(|source| LayoutError::Blob { digest, source })?;
    }
    Ok(())
}
