//! Pulling blobs: downloading, resuming and verifying them, from a mirror or the registry itself.
//!
//! The network side runs on tokio and hands chunks, in order, to a blocking thread that owns the
//! sink.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use http_client::{
    Backoff, Connections, Deadline, Error as HttpError, Method, Piece, Request, Resource, Response,
    download,
};
use oci::{Descriptor, Digest, Reference};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::bytes::Bytes;

use crate::attempts::Attempts;
use crate::cause::Cause;
use crate::endpoint::Endpoint;
use crate::error::Error;
use crate::registries::Registries;
use crate::scope::Scope;
use crate::sink::{BlobSink, MemorySink};

/// Chunks between the network and the sink.
const CHANNEL: usize = 64;
/// How often to fetch a blob with wrong bytes from one host.
const WRONG_MAX: u32 = 2;

impl Registries {
    /// Fetches a blob into `sink`, resuming after the bytes that it has already, and returns the sink
    /// once its digest is the descriptor's. `progress` is called with the number of bytes it has.
    ///
    /// # Errors
    /// [`Error`] once the mirrors and the registry have failed; at once when the sink fails.
    pub async fn fetch_blob<S, P>(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        sink: S,
        progress: P,
    ) -> Result<S, Error>
    where
        S: BlobSink + 'static,
        P: FnMut(u64) + Send + 'static,
    {
        let subject = format!("{}@{}", repository.repository(), descriptor.digest);
        let mut attempts = Attempts::new("fetch the blob", subject);
        let deadline = self.transfer_deadline(descriptor.size);
        let mut drain = Drain { sink, progress, restart: false };
        for endpoint in self.endpoints(repository.domain()) {
            for wrong in 1..=WRONG_MAX {
                let blob = Arc::new(Blob::new(&endpoint, repository, descriptor, deadline));
                let (returned, outcome) = fetch_once(&blob, drain).await;
                drain = returned;
                match outcome {
                    Ok(()) => return Ok(drain.sink),
                    // Another host does not help against a full disk.
                    Err(cause @ Cause::Storage(_)) => return Err(attempts.fatal(&endpoint, cause)),
                    Err(Cause::DigestMismatch { .. }) if wrong < WRONG_MAX => {}
                    Err(cause) => {
                        attempts.failed(&endpoint, cause);
                        break;
                    }
                }
            }
        }
        Err(attempts.into_error())
    }

    /// Fetches a small blob, such as an image config, into memory.
    ///
    /// # Errors
    /// Those of [`fetch_blob`](Self::fetch_blob), and a blob larger than `cap` bytes.
    pub async fn fetch_bytes(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        cap: u64,
    ) -> Result<Bytes, Error> {
        if descriptor.size > cap {
            let attempts = Attempts::new("fetch the blob", &descriptor.digest);
            return Err(
                attempts.fatal(&self.origin(repository.domain()), HttpError::TooLarge(cap).into())
            );
        }
        let sink = MemorySink::new(&descriptor.digest);
        let sink = self.fetch_blob(repository, descriptor, sink, |_| {}).await?;
        Ok(sink.into_bytes().into())
    }
}

/// The receiving side, which runs on a blocking thread.
struct Drain<S, P> {
    sink: S,
    progress: P,
    /// Whether the bytes in the sink are wrong.
    restart: bool,
}

/// The result of the sink's thread: the digest if all bytes were received.
type Drained = io::Result<Option<Digest>>;

impl<S: BlobSink + 'static, P: FnMut(u64) + Send + 'static> Drain<S, P> {
    /// How many bytes to resume after.
    fn start(&self, size: u64) -> u64 {
        match self.sink.received() {
            received if self.restart || received > size => 0,
            received => received,
        }
    }

    fn spawn(mut self, from: u64, receiver: mpsc::Receiver<Piece>) -> JoinHandle<(Self, Drained)> {
        tokio::task::spawn_blocking(move || {
            let result = self.run(from, receiver);
            (self, result)
        })
    }

    fn run(&mut self, from: u64, mut receiver: mpsc::Receiver<Piece>) -> Drained {
        if from == 0 && self.sink.received() > 0 {
            self.sink.restart()?;
        }
        self.restart = false;
        let mut received = from;
        (self.progress)(received);
        loop {
            match receiver.blocking_recv() {
                Some(Piece::Data(chunk)) => {
                    self.sink.write(&chunk)?;
                    received += chunk.len() as u64;
                    (self.progress)(received);
                }
                Some(Piece::End) => return self.sink.digest().map(Some),
                None => return Ok(None),
            }
        }
    }
}

/// Fetches the whole blob from one host.
async fn fetch_once<S, P>(blob: &Arc<Blob>, drain: Drain<S, P>) -> (Drain<S, P>, Result<(), Cause>)
where
    S: BlobSink + 'static,
    P: FnMut(u64) + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let from = drain.start(blob.size);
    let thread = drain.spawn(from, receiver);
    let downloaded = download(blob, from, &sender).await;
    drop(sender);
    let (mut drain, drained) = thread.await.expect("a sink does not panic");
    let outcome = match (downloaded, drained) {
        (_, Err(error)) => Err(Cause::Storage(error)),
        (Err(cause), _) => Err(cause),
        (Ok(()), Ok(Some(actual))) if actual == blob.digest => Ok(()),
        (Ok(()), Ok(Some(actual))) => {
            Err(Cause::DigestMismatch { expected: blob.digest.clone(), actual })
        }
        (Ok(()), Ok(None)) => Err(HttpError::Abandoned.into()),
    };
    // The next host starts over after a wrong size or digest.
    drain.restart = matches!(
        outcome,
        Err(Cause::DigestMismatch { .. } | Cause::Http(HttpError::SizeMismatch { .. }))
    );
    (drain, outcome)
}

/// A blob at one host.
struct Blob {
    endpoint: Arc<Endpoint>,
    path: String,
    scope: Scope,
    digest: Digest,
    size: u64,
    deadline: Deadline,
}

impl Blob {
    fn new(
        endpoint: &Arc<Endpoint>,
        repository: &Reference,
        descriptor: &Descriptor,
        deadline: Deadline,
    ) -> Self {
        Self {
            endpoint: Arc::clone(endpoint),
            path: repository.path().to_owned(),
            scope: endpoint.scope(repository.path(), "pull"),
            digest: descriptor.digest.clone(),
            size: descriptor.size,
            deadline,
        }
    }
}

impl Resource for Blob {
    type Error = Cause;

    fn size(&self) -> u64 {
        self.size
    }

    fn connections(&self) -> &Connections {
        self.endpoint.connections()
    }

    fn backoff(&self) -> Backoff<'_> {
        self.endpoint.backoff(self.deadline)
    }

    async fn open(&self, range: Range<u64>) -> Result<Response, Cause> {
        let rest = format!("blobs/{}", self.digest);
        let url = self.endpoint.url(&self.path, &rest, self.deadline).await?;
        let mut request = Request::new(Method::GET, url);
        request.ask_for(range, self.size);
        self.endpoint.send(&request, &self.scope, self.deadline).await
    }
}
