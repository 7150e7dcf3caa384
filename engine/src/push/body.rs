//! A blob as the body of a request.

use std::io::{self, Read, Seek as _, SeekFrom};
use std::sync::Arc;

use cache::BlobFile;
use http_client::BodySource;

use crate::progress::event::{Event, StepId};
use crate::progress::steps::Steps;

/// A blob of the store that tells how much of it was sent.
pub(crate) struct Body {
    pub(crate) file: BlobFile,
    pub(crate) steps: Arc<Steps>,
    pub(crate) step: StepId,
    /// What it is called there.
    pub(crate) item: String,
}

impl BodySource for Body {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + Send>> {
        let mut file = self.file.open()?;
        file.seek(SeekFrom::Start(from))?;
        Ok(Box::new(Told {
            file,
            steps: self.steps.clone(),
            step: self.step,
            item: self.item.clone(),
            current: from,
            total: self.file.size(),
        }))
    }
}

struct Told {
    file: std::fs::File,
    steps: Arc<Steps>,
    step: StepId,
    item: String,
    current: u64,
    total: u64,
}

impl Read for Told {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.current += count as u64;
        self.steps.event(Event::Transfer {
            step: self.step,
            item: self.item.clone(),
            current: self.current,
            total: Some(self.total),
            done: false,
        });
        Ok(count)
    }
}
