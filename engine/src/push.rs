//! Pushing: what the store has of an image goes to the registries of its names.
//!
//! Blobs come first, all at once, each only if the repository lacks it; then the manifests, then the index
//! over them, then the names: a push that fails leaves none.

mod body;
mod early;
mod error;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use cache::{BlobFile, Store};
use futures_util::future::try_join_all;
use oci::{Descriptor, Digest, Reference};
use registry::{ErrorKind, Pushed, Registries};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::progress::event::{Event, StepId};
use crate::progress::steps::{InternalStep, Steps};
use crate::stored::{self, DocumentBytes};

pub(crate) use body::{Body, Shown};
use early::EarlyBlob;
pub(crate) use early::Pushes;
use error::PushError;

/// A push to the registries of some names, and what has been begun of it.
pub(crate) struct Push {
    store: Store,
    registries: Arc<Registries>,
    steps: Arc<Steps>,
    names: Vec<Reference>,
    /// Whether the names' repositories get the image without a tag.
    by_digest: bool,
    uploads: Mutex<HashMap<(Reference, Digest), Upload>>,
    runtime: Handle,
    /// The step that shows the blobs, from the first one on.
    step: Mutex<Option<InternalStep>>,
}

/// A blob on its way to a repository.
enum Upload {
    Begun(AbortOnDropHandle<Result<(), BuildError>>),
    Done,
}

impl Push {
    /// A push to the repositories of `names`, under the names' tags unless `by_digest`. To be called inside a
    /// runtime, which does the work.
    pub(crate) fn new(
        store: Store,
        registries: Arc<Registries>,
        steps: Arc<Steps>,
        names: Vec<Reference>,
        by_digest: bool,
    ) -> Self {
        let (uploads, step) = Default::default();
        let runtime = Handle::current();
        Self { store, registries, steps, names, by_digest, uploads, runtime, step }
    }

    /// The step that shows what happens to the blobs.
    pub(crate) fn step(&self) -> StepId {
        let mut step = self.step.lock().expect("no panic while held");
        step.get_or_insert_with(|| self.steps.internal("pushing layers")).step
    }

    /// Begins to bring a blob of the store to all repositories. Whether it fails is told in the end; what
    /// the image does not need then is given up.
    pub(crate) fn begin(&self, blob: &Descriptor) {
        self.begin_with(blob, Vec::new());
    }

    fn begin_with(&self, blob: &Descriptor, mut early: Vec<EarlyBlob>) {
        let step = self.step();
        let mut uploads = self.uploads.lock().expect("no panic while held");
        for repository in self.repositories() {
            let key = (repository.clone(), blob.digest.clone());
            let begun = early.iter().position(|early| early.repository == repository);
            let early = begun.map(|begun| early.swap_remove(begun));
            uploads.entry(key).or_insert_with(|| {
                let upload = BlobUpload {
                    store: self.store.clone(),
                    registries: self.registries.clone(),
                    steps: self.steps.clone(),
                    step,
                    repository,
                    early,
                    blob: blob.clone(),
                };
                Upload::Begun(AbortOnDropHandle::new(self.runtime.spawn(upload.run())))
            });
        }
    }

    /// Pushes everything below `top`, `top` itself and then its names.
    pub(crate) async fn finish(&self, top: &Descriptor) -> Result<(), BuildError> {
        let (store, target) = (self.store.clone(), top.clone());
        let content = blocking(move || stored::content(&store, &target)).await?;
        self.step();
        self.settle().await;
        content.blobs.iter().for_each(|blob| self.begin(blob));
        let pushed = self.uploaded(&content.blobs).await;
        let step = self.step.lock().expect("no panic while held").take();
        step.expect("made above").ended(pushed)?;
        let (top, below) = content.documents.split_last().expect("the top is one");
        for repository in self.repositories() {
            self.push_below(&repository, below).await?;
        }
        for name in self.names(&top.descriptor.digest) {
            self.push_top(&name, top).await?;
        }
        Ok(())
    }

    /// What the image is called where it went.
    pub(crate) fn names(&self, digest: &Digest) -> Vec<Reference> {
        let named = |name: &Reference| match self.by_digest {
            true => name.without_tag().with_digest(digest.clone()),
            false => name.with_default_tag(),
        };
        self.names.iter().map(named).collect()
    }

    /// Forgets what has failed by now: it is tried again, where its error counts.
    async fn settle(&self) {
        for (key, upload) in self.take_uploads() {
            let upload = match upload {
                Upload::Begun(upload) if upload.is_finished() => match joined(upload).await {
                    Ok(()) => Upload::Done,
                    Err(_) => continue,
                },
                upload => upload,
            };
            self.uploads.lock().expect("no panic while held").insert(key, upload);
        }
    }

    /// Waits for `blobs`; when one fails, the others are given up.
    async fn uploaded(&self, blobs: &[Descriptor]) -> Result<(), BuildError> {
        let uploads = self.take_uploads().into_iter();
        let is_needed = |digest: &Digest| blobs.iter().any(|blob| blob.digest == *digest);
        let uploads = uploads.filter_map(|((_, digest), upload)| match upload {
            Upload::Begun(upload) if is_needed(&digest) => Some(joined(upload)),
            _ => None,
        });
        try_join_all(uploads).await.map(drop)
    }

    fn take_uploads(&self) -> HashMap<(Reference, Digest), Upload> {
        std::mem::take(&mut *self.uploads.lock().expect("no panic while held"))
    }

    /// Manifests at once, then the indexes over them.
    async fn push_below(
        &self,
        repository: &Reference,
        documents: &[DocumentBytes],
    ) -> Result<(), BuildError> {
        let (indexes, manifests): (Vec<_>, Vec<_>) =
            documents.iter().partition(|document| document.is_index);
        let push = |document| self.push_document(repository, document);
        try_join_all(manifests.into_iter().map(push)).await?;
        for index in indexes {
            push(index).await?;
        }
        Ok(())
    }

    async fn push_document(
        &self,
        repository: &Reference,
        document: &DocumentBytes,
    ) -> Result<(), BuildError> {
        let digest = document.descriptor.digest.clone();
        let pinned = repository.without_tag().with_digest(digest);
        self.put(&pinned, document).await
    }

    async fn push_top(&self, name: &Reference, top: &DocumentBytes) -> Result<(), BuildError> {
        let shown = name.with_digest(top.descriptor.digest.clone());
        let step = self.steps.internal(&format!("pushing manifest for {shown}"));
        step.ended(self.put(name, top).await)
    }

    async fn put(&self, target: &Reference, document: &DocumentBytes) -> Result<(), BuildError> {
        let (kind, bytes) = (&document.descriptor.media_type, document.bytes.clone());
        let pushed = self.registries.push_manifest(target, kind, bytes.into()).await;
        let stored = pushed.map_err(PushError::from)?;
        debug_assert_eq!(stored.digest, document.descriptor.digest);
        Ok(())
    }

    /// Each once.
    fn repositories(&self) -> Vec<Reference> {
        let mut repositories: Vec<Reference> = Vec::new();
        for repository in self.names.iter().map(Reference::without_tag) {
            if !repositories.contains(&repository) {
                repositories.push(repository);
            }
        }
        repositories
    }
}

async fn joined(upload: AbortOnDropHandle<Result<(), BuildError>>) -> Result<(), BuildError> {
    upload.await.expect("an upload does not panic")
}

/// What it takes to bring one blob to one repository.
struct BlobUpload {
    store: Store,
    registries: Arc<Registries>,
    steps: Arc<Steps>,
    step: StepId,
    repository: Reference,
    early: Option<EarlyBlob>,
    blob: Descriptor,
}

impl BlobUpload {
    async fn run(self) -> Result<(), BuildError> {
        let Self { store, registries, steps, step, repository, early, blob } = self;
        let (digest, lookup) = (blob.digest.clone(), store.clone());
        let found = blocking(move || Ok((lookup.blob(&digest), lookup.origins(&digest)))).await?;
        let (Some(file), origins) = found else {
            return Err(PushError::NoBlob(blob.digest).into());
        };
        let is_near = |origin: &&Reference| {
            origin.domain() == repository.domain() && origin.path() != repository.path()
        };
        let mount = origins.iter().find(is_near);
        let item = blob.digest.short();
        let shown = Shown { steps: steps.clone(), step, item: item.clone(), total: blob.size };
        let early = early.map(|early| {
            let _ = early.shown.set(shown.clone());
            early.upload
        });
        let body = Arc::new(Body { file: file.clone(), shown });
        let pushed = registries.push_blob(&repository, &blob, mount, early, body).await;
        let pushed = match pushed {
            Err(error) if may_be_ours(&error) && is_damaged(&store, file).await? => {
                return Err(PushError::NoBlob(blob.digest).into());
            }
            pushed => pushed.map_err(PushError::from)?,
        };
        let item = match pushed {
            Pushed::Existing => format!("{item} already exists"),
            Pushed::Mounted => format!("{item} mounted"),
            Pushed::Uploaded => item,
        };
        let (current, total) = (blob.size, Some(blob.size));
        steps.event(Event::Transfer { step, item, current, total, done: true });
        store.add_origin(&blob.digest, &repository);
        Ok(())
    }
}

/// Whether a registry would say so of a blob with other bytes than its digest says.
fn may_be_ours(error: &registry::Error) -> bool {
    use ErrorKind::{DigestMismatch, InvalidAnswer, Storage};
    matches!(error.kind(), DigestMismatch | InvalidAnswer | Storage)
}

/// Whether a blob of the store is damaged. It is absent from now on if so.
async fn is_damaged(store: &Store, file: BlobFile) -> Result<bool, BuildError> {
    let store = store.clone();
    blocking(move || {
        let is_damaged = file.verify(&|| false).is_err();
        if is_damaged {
            store.discard_blob(file.digest());
        }
        Ok(is_damaged)
    })
    .await
}
