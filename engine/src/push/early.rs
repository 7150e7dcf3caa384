//! Blobs that are sent while they are made.

use std::sync::{Arc, OnceLock};

use cache::{BlobWriter, GrowingBlob, StoreError};
use oci::{Descriptor, Reference};
use registry::EarlyUpload;
use tokio::task::spawn_blocking;

use super::Push;
use super::body::{GrowingBody, Shown};

/// Bytes of a blob from which on it is sent before it is whole. A smaller one is sent in a moment, if the
/// registry does not have it.
const LARGE: u64 = 4 << 20;

/// Pushes that send each blob as soon as it is there, and a large one while it is written.
#[derive(Clone, Default)]
pub(crate) struct Pushes(Vec<Arc<Push>>);

/// A blob that pushes send while it is written.
pub(crate) struct Early(Vec<Vec<EarlyBlob>>);

/// What goes to one repository of it.
pub(super) struct EarlyBlob {
    pub(super) repository: Reference,
    pub(super) upload: EarlyUpload,
    /// As what it is shown, once that is known.
    pub(super) shown: Arc<OnceLock<Shown>>,
}

impl Pushes {
    /// What is there from now on goes to one more.
    pub(crate) fn add(&mut self, push: Arc<Push>) {
        self.0.push(push);
    }

    /// A blob is there.
    pub(crate) fn begin(&self, blob: &Descriptor) {
        self.0.iter().for_each(|push| push.begin(blob));
    }

    /// A blob is about to be written.
    pub(crate) fn begin_early(&self, writer: &mut BlobWriter) -> Result<Early, StoreError> {
        if self.0.is_empty() {
            return Ok(Early(Vec::new()));
        }
        let blob = writer.growing()?;
        Ok(Early(self.0.iter().map(|push| push.begin_early(&blob)).collect()))
    }

    /// It is there now.
    pub(crate) fn go_on(&self, blob: &Descriptor, early: Early) {
        let pushes = self.0.iter().zip(early.0);
        pushes.for_each(|(push, early)| push.begin_with(blob, early));
    }
}

impl From<Arc<Push>> for Pushes {
    fn from(push: Arc<Push>) -> Self {
        Self(vec![push])
    }
}

impl Push {
    fn begin_early(&self, blob: &GrowingBlob) -> Vec<EarlyBlob> {
        let _runtime = self.runtime.enter();
        let begin = |repository: Reference| {
            let (waiting, shown) = (blob.clone(), Arc::<OnceLock<Shown>>::default());
            let source = Arc::new(GrowingBody { blob: blob.clone(), shown: shown.clone() });
            let is_worth = async move {
                spawn_blocking(move || waiting.outgrows(LARGE)).await.unwrap_or(false)
            };
            let upload = self.registries.push_early(&repository, source, is_worth);
            EarlyBlob { repository, upload, shown }
        };
        self.repositories().into_iter().map(begin).collect()
    }
}
