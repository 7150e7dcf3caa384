//! A blob that is fetched from one registry while it is sent to another.

use std::io;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex};

use http_client::BodySource;
use oci::{Descriptor, Digest, Hasher, Reference};
use tokio::runtime::Handle;

use crate::cause::Cause;
use crate::error::Error;
use crate::registries::Registries;
use crate::sink::BlobSink;

/// Chunks between the two connections.
const CHUNKS: usize = 16;

/// The body of an upload that is another registry's blob.
pub(super) struct Passage {
    registries: Arc<Registries>,
    from: Reference,
    blob: Descriptor,
    runtime: Handle,
    /// Why it could not be fetched.
    failure: Arc<Mutex<Option<Error>>>,
}

impl Passage {
    /// Must be called within a runtime.
    pub(super) fn new(registries: &Arc<Registries>, from: &Reference, blob: &Descriptor) -> Self {
        Self {
            registries: Arc::clone(registries),
            from: from.clone(),
            blob: blob.clone(),
            runtime: Handle::current(),
            failure: Arc::default(),
        }
    }

    /// Why the blob could not be fetched, if it is that which failed.
    pub(super) fn failure(&self) -> Option<Error> {
        self.failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).take()
    }
}

impl BodySource for Passage {
    /// What comes before `from` is fetched as well: the digest is that of all bytes.
    fn open(&self, from: u64) -> io::Result<Box<dyn io::Read + Send>> {
        let (sender, receiver) = sync_channel(CHUNKS);
        let (registries, repository) = (Arc::clone(&self.registries), self.from.clone());
        let (blob, failure) = (self.blob.clone(), Arc::clone(&self.failure));
        self.runtime.spawn(async move {
            let hasher = Hasher::like(&blob.digest);
            let sink = Sender { chunks: sender.clone(), skip: from, received: 0, hasher };
            let end = match registries.fetch_blob(&repository, &blob, sink, |_| {}).await {
                Ok(_) => Ok(Vec::new()),
                Err(error) => {
                    let end = io::Error::other(error.to_string());
                    if !is_unread(&error) {
                        *failure.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
                            Some(error);
                    }
                    Err(end)
                }
            };
            // Waits for room, which the reader makes, or for its end.
            drop(tokio::task::spawn_blocking(move || sender.send(end)).await);
        });
        Ok(Box::new(Reader { chunks: Some(receiver), rest: io::Cursor::default() }))
    }
}

/// Whether only the upload has ended, which knows better why.
fn is_unread(error: &Error) -> bool {
    matches!(error.cause(), Cause::Storage(error) if error.kind() == io::ErrorKind::BrokenPipe)
}

/// A chunk, none at the end, or why there is no more.
type Chunk = io::Result<Vec<u8>>;

/// The sending end, which a download fills.
struct Sender {
    chunks: SyncSender<Chunk>,
    /// Bytes at the start that the other side has already.
    skip: u64,
    received: u64,
    hasher: Hasher,
}

impl BlobSink for Sender {
    fn received(&self) -> u64 {
        self.received
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.hasher.update(chunk);
        let skipped = self.skip.saturating_sub(self.received).min(chunk.len() as u64);
        self.received += chunk.len() as u64;
        let new = &chunk[skipped as usize..];
        if new.is_empty() {
            return Ok(());
        }
        self.chunks.send(Ok(new.to_vec())).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// What was passed on cannot be taken back: the upload fails, and begins again.
    fn restart(&mut self) -> io::Result<()> {
        Err(io::Error::other("the blob has other bytes than its digest says"))
    }

    fn digest(&mut self) -> io::Result<Digest> {
        Ok(self.hasher.clone().finish())
    }
}

/// The receiving end, which an upload reads.
struct Reader {
    /// None after the end.
    chunks: Option<Receiver<Chunk>>,
    rest: io::Cursor<Vec<u8>>,
}

impl io::Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = io::Read::read(&mut self.rest, buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(chunks) = &self.chunks else { return Ok(0) };
            let chunk = chunks.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))??;
            if chunk.is_empty() {
                self.chunks = None;
            }
            self.rest = io::Cursor::new(chunk);
        }
    }
}
