//! A blob as the body of a request.

use std::fs::File;
use std::io::{self, Read, Seek as _, SeekFrom};
use std::sync::{Arc, OnceLock};

use cache::{BlobFile, GrowingBlob, GrowingReader};
use http_client::BodySource;

use crate::progress::event::{Event, StepId};
use crate::progress::steps::Steps;

/// A blob on its way to a registry, as it is shown.
#[derive(Clone)]
pub(crate) struct Shown {
    pub(crate) steps: Arc<Steps>,
    pub(crate) step: StepId,
    /// What it is called there.
    pub(crate) item: String,
    /// Bytes of it.
    pub(crate) total: u64,
}

impl Shown {
    /// So many bytes are sent.
    fn sent(&self, current: u64) {
        let (step, item, total) = (self.step, self.item.clone(), Some(self.total));
        self.steps.event(Event::Transfer { step, item, current, total, done: false });
    }
}

/// A blob of the store that tells how much of it was sent.
pub(crate) struct Body {
    pub(crate) file: BlobFile,
    pub(crate) shown: Shown,
}

impl BodySource for Body {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = self.file.open()?;
        file.seek(SeekFrom::Start(from))?;
        Ok(Box::new(Told { file, shown: self.shown.clone(), current: from }))
    }
}

struct Told {
    file: File,
    shown: Shown,
    current: u64,
}

impl Read for Told {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.current += count as u64;
        self.shown.sent(self.current);
        Ok(count)
    }
}

/// A blob that is still being written. How much of it was sent is told once it has a name.
pub(crate) struct GrowingBody {
    pub(crate) blob: GrowingBlob,
    pub(crate) shown: Arc<OnceLock<Shown>>,
}

impl BodySource for GrowingBody {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + Send>> {
        let (blob, shown) = (self.blob.read_from(from), self.shown.clone());
        Ok(Box::new(ToldLater { blob, shown, current: from }))
    }
}

struct ToldLater {
    blob: GrowingReader,
    shown: Arc<OnceLock<Shown>>,
    current: u64,
}

impl Read for ToldLater {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.blob.read(buffer)?;
        self.current += count as u64;
        if let Some(shown) = self.shown.get() {
            shown.sent(self.current);
        }
        Ok(count)
    }
}
