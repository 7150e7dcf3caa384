//! How far the unpacking of a layer is, told as a transfer of the step that it is for.

use std::io::{self, Read};
use std::sync::Arc;

use oci::Digest;

use crate::progress::event::{Event, StepId};
use crate::progress::steps::Steps;

/// Bytes between two words about it.
const INTERVAL: u64 = 1 << 20;

/// One layer's unpacking.
#[derive(Clone)]
pub(crate) struct Extraction {
    steps: Arc<Steps>,
    step: StepId,
    item: String,
    total: u64,
}

impl Extraction {
    /// Of the blob `digest`, which has `total` bytes as it is stored.
    pub(crate) fn new(steps: &Arc<Steps>, step: StepId, digest: &Digest, total: u64) -> Self {
        let item = format!("extracting {}", digest.short());
        Self { steps: steps.clone(), step, item, total }
    }

    /// Reads the blob, and tells how much was read.
    pub(crate) fn reader<R: Read>(&self, inner: R) -> impl Read + use<R> {
        Counted { inner, extraction: self.clone(), current: 0, told: 0 }
    }

    /// It is unpacked.
    pub(crate) fn done(&self) {
        self.tell(self.total, true);
    }

    fn tell(&self, current: u64, done: bool) {
        let (step, item, total) = (self.step, self.item.clone(), Some(self.total));
        self.steps.event(Event::Transfer { step, item, current, total, done });
    }
}

struct Counted<R> {
    inner: R,
    extraction: Extraction,
    current: u64,
    told: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.current += count as u64;
        if self.current - self.told >= INTERVAL {
            self.told = self.current;
            self.extraction.tell(self.current, false);
        }
        Ok(count)
    }
}
