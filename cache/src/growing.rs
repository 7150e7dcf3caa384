//! A blob that is read while it is still being written.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};

/// How far the writing of a blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// So many bytes are in the file.
    Growing(u64),
    /// All of them are: this many.
    Whole(u64),
    /// There will be no more, and the blob is none.
    GivenUp,
}

#[derive(Debug)]
struct Growth {
    stage: Mutex<Stage>,
    changed: Condvar,
}

/// Tells those who read a blob how far it is. Dropped before the end, it tells that there will be none.
#[derive(Debug)]
pub(crate) struct Grower(Arc<Growth>);

/// A blob that is still being written.
#[derive(Debug, Clone)]
pub struct GrowingBlob {
    file: Arc<File>,
    growth: Arc<Growth>,
}

/// Reads a growing blob to the end that it will have, and waits for it; fails when the blob is given up.
#[derive(Debug)]
pub struct GrowingReader {
    blob: GrowingBlob,
    position: u64,
}

/// The blob at `path`, of which `written` bytes are there.
pub(crate) fn growing(path: &Path, written: u64) -> io::Result<(Grower, GrowingBlob)> {
    let file = Arc::new(File::open(path)?);
    let (stage, changed) = (Mutex::new(Stage::Growing(written)), Condvar::new());
    let growth = Arc::new(Growth { stage, changed });
    Ok((Grower(growth.clone()), GrowingBlob { file, growth }))
}

impl Growth {
    fn set(&self, stage: Stage) {
        *self.stage.lock().expect("no panic while held") = stage;
        self.changed.notify_all();
    }

    /// Waits until more than `position` bytes are there, or the end.
    fn beyond(&self, position: u64) -> Stage {
        let stage = self.stage.lock().expect("no panic while held");
        let is_short = |stage: &mut Stage| matches!(stage, Stage::Growing(n) if *n <= position);
        *self.changed.wait_while(stage, is_short).expect("no panic while held")
    }
}

impl Grower {
    /// So many bytes are in the file.
    pub(crate) fn written(&self, bytes: u64) {
        self.0.set(Stage::Growing(bytes));
    }

    /// The blob is whole, with this many bytes.
    pub(crate) fn finish(self, bytes: u64) {
        self.0.set(Stage::Whole(bytes));
    }
}

impl Drop for Grower {
    fn drop(&mut self) {
        let stage = *self.0.stage.lock().expect("no panic while held");
        if matches!(stage, Stage::Growing(_)) {
            self.0.set(Stage::GivenUp);
        }
    }
}

impl GrowingBlob {
    /// Waits until more than `bytes` are written; whether that happens before the blob is whole.
    pub fn outgrows(&self, bytes: u64) -> bool {
        matches!(self.growth.beyond(bytes), Stage::Growing(_))
    }

    /// A reader that begins `position` bytes after the start.
    pub fn read_from(&self, position: u64) -> GrowingReader {
        GrowingReader { blob: self.clone(), position }
    }
}

impl Read for GrowingReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = match self.blob.growth.beyond(self.position) {
            Stage::Growing(there) | Stage::Whole(there) => there,
            Stage::GivenUp => return Err(io::Error::other("the blob was given up")),
        };
        let more = usize::try_from(there.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let length = more.min(buffer.len());
        let count = self.blob.file.read_at(&mut buffer[..length], self.position)?;
        if count == 0 && length > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::Duration;

    use super::*;

    const PIECE: &[u8] = b"a piece of it, ";

    /// A file that grows by three pieces while it is read, and what the reader gets; it ends as `end` has it.
    fn read_while(end: impl FnOnce(Grower) + Send) -> io::Result<Vec<u8>> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        let (grower, blob) = growing(file.path(), 0).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for count in 1..=3 {
                    std::thread::sleep(Duration::from_millis(5));
                    file.write_all(PIECE).unwrap();
                    grower.written(count * PIECE.len() as u64);
                }
                end(grower);
            });
            let mut bytes = Vec::new();
            blob.read_from(2).read_to_end(&mut bytes).map(|_| bytes)
        })
    }

    #[test]
    fn a_reader_gets_all_of_it() {
        let bytes = read_while(|grower| grower.finish(3 * PIECE.len() as u64)).unwrap();
        assert_eq!(bytes, PIECE.repeat(3)[2..]);
    }

    #[test]
    fn a_blob_that_is_given_up_is_no_shorter_one() {
        let error = read_while(drop).unwrap_err();
        assert!(error.to_string().contains("given up"), "{error}");
        let error = read_while(|grower| grower.finish(1000)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_small_blob_does_not_outgrow_a_size() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (written, is_large) in [(9, false), (10, false), (11, true)] {
            let (grower, blob) = growing(file.path(), 0).unwrap();
            grower.written(written);
            let ended = std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(5));
                grower.finish(written);
            });
            assert_eq!(blob.outgrows(10), is_large, "{written}");
            ended.join().unwrap();
            assert!(!blob.outgrows(0));
        }
    }
}
