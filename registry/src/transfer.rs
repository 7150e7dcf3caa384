//! Pulling blobs: streamed, resumed, in several ranges at once, verified.
//!
//! The network side runs on tokio and hands chunks, in order, to a blocking thread that owns the
//! sink. Large blobs come as segments, a few of which are fetched at once and wait in memory for
//! their turn, so that a sink never sees a gap.

use std::io;
use std::ops::Range;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use oci::{Descriptor, Digest, Reference};
use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, HeaderMap, HeaderValue, RANGE};
use reqwest::{Method, Response, StatusCode};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;

use crate::attempts::Attempts;
use crate::auth::Scope;
use crate::deadline::Deadline;
use crate::endpoint::{Endpoint, Request, next_chunk};
use crate::error::{Cause, Error};
use crate::pace::Pace;
use crate::registries::Registries;
use crate::retry::Backoff;
use crate::sink::{BlobSink, MemorySink};

/// Chunks between the network and the sink.
const CHANNEL: usize = 64;
/// Segments in flight.
const PARALLEL: usize = 4;
/// How often one host may send a blob with wrong bytes.
const WRONG_MAX: u32 = 2;

impl Registries {
    /// Fetches a blob into `sink`, going on after the bytes that are there already, and gives the
    /// sink back once its digest is the descriptor's. `progress` is told how many bytes are there.
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
                let source = Arc::new(Source::new(&endpoint, repository, descriptor, deadline));
                let (returned, outcome) = fetch_once(&source, drain).await;
                drain = returned;
                match outcome {
                    Ok(()) => return Ok(drain.sink),
                    // The local disk stays full whomever we ask.
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
    pub async fn fetch_bytes(
        &self,
        repository: &Reference,
        descriptor: &Descriptor,
        cap: u64,
    ) -> Result<Bytes, Error> {
        if descriptor.size > cap {
            let attempts = Attempts::new("fetch the blob", &descriptor.digest);
            return Err(attempts.fatal(&self.origin(repository.domain()), Cause::TooLarge(cap)));
        }
        let sink = MemorySink::new(&descriptor.digest);
        let sink = self.fetch_blob(repository, descriptor, sink, |_| {}).await?;
        Ok(sink.into_bytes().into())
    }
}

/// The receiving side: runs on a blocking thread while there is something to receive.
struct Drain<S, P> {
    sink: S,
    progress: P,
    /// The bytes in the sink are wrong.
    restart: bool,
}

enum Piece {
    Data(Bytes),
    End,
}

/// What the sink's thread ends with: the digest when the end was reached.
type Drained = io::Result<Option<Digest>>;

impl<S: BlobSink + 'static, P: FnMut(u64) + Send + 'static> Drain<S, P> {
    /// The bytes to go on after.
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

/// One way through the whole blob at one host.
async fn fetch_once<S, P>(
    source: &Arc<Source>,
    drain: Drain<S, P>,
) -> (Drain<S, P>, Result<(), Cause>)
where
    S: BlobSink + 'static,
    P: FnMut(u64) + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(CHANNEL);
    let from = drain.start(source.size);
    let thread = drain.spawn(from, receiver);
    let mut poured = pour(source, from, &sender).await;
    if poured.is_ok() {
        poured = sender.send(Piece::End).await.map_err(|_| sink_is_gone());
    }
    drop(sender);
    let (mut drain, drained) = thread.await.expect("a sink does not panic");
    let outcome = match (poured, drained) {
        (_, Err(error)) => Err(Cause::Storage(error)),
        (Err(cause), _) => Err(cause),
        (Ok(()), Ok(Some(actual))) if actual == source.digest => Ok(()),
        (Ok(()), Ok(Some(actual))) => {
            Err(Cause::DigestMismatch { expected: source.digest.clone(), actual })
        }
        (Ok(()), Ok(None)) => Err(sink_is_gone()),
    };
    // What a host with wrong sizes or digests sent is of no use to the next one.
    drain.restart =
        matches!(outcome, Err(Cause::DigestMismatch { .. } | Cause::SizeMismatch { .. }));
    (drain, outcome)
}

fn sink_is_gone() -> Cause {
    Cause::Storage(io::Error::other("the sink stopped early"))
}

async fn pour(source: &Arc<Source>, from: u64, sender: &mpsc::Sender<Piece>) -> Result<(), Cause> {
    let limits = source.endpoint.limits();
    let mut output = Output::Sink(sender);
    if source.size - from <= limits.parallel_from {
        return source.read(from..source.size, &mut output).await.map(drop);
    }
    // The first segment shows whether the server knows ranges (one that does not sends it all),
    // and whether more connections than one would help.
    let started = Instant::now();
    let reached =
        source.read(from..source.size.min(from + limits.segment.max(1)), &mut output).await?;
    let seconds = started.elapsed().as_secs_f64();
    if (reached - from) as f64 >= limits.fast as f64 * seconds {
        return source.read(reached..source.size, &mut output).await.map(drop);
    }
    pour_segments(source, reached, sender).await
}

async fn pour_segments(
    source: &Arc<Source>,
    from: u64,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), Cause> {
    let segment = source.endpoint.limits().segment.max(1);
    let count = (source.size - from).div_ceil(segment);
    let mut segments = stream::iter(0..count)
        .map(|number| {
            let start = from + number * segment;
            let range = start..source.size.min(start + segment);
            AbortOnDropHandle::new(tokio::spawn(read_segment(Arc::clone(source), range)))
        })
        .buffered(PARALLEL);
    while let Some(bytes) = segments.next().await {
        let bytes = bytes.expect("a segment's task neither panics nor is aborted")?;
        sender.send(Piece::Data(bytes)).await.map_err(|_| sink_is_gone())?;
    }
    Ok(())
}

async fn read_segment(source: Arc<Source>, range: Range<u64>) -> Result<Bytes, Cause> {
    let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
    source.read(range, &mut Output::Memory(&mut bytes)).await?;
    Ok(bytes.into())
}

/// Where a range goes.
enum Output<'a> {
    Sink(&'a mpsc::Sender<Piece>),
    Memory(&'a mut Vec<u8>),
}

impl Output<'_> {
    async fn put(&mut self, chunk: Bytes) -> Result<(), Cause> {
        match self {
            Self::Sink(sender) => sender.send(Piece::Data(chunk)).await.map_err(|_| sink_is_gone()),
            Self::Memory(bytes) => {
                bytes.extend_from_slice(&chunk);
                Ok(())
            }
        }
    }
}

/// A blob at one host.
struct Source {
    endpoint: Arc<Endpoint>,
    path: String,
    scope: Scope,
    digest: Digest,
    size: u64,
    deadline: Deadline,
}

impl Source {
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

    /// Reads `range`, resuming as often as makes sense, and says how far it came: to the end of
    /// the range, or to that of the blob when the sink was given all of it.
    async fn read(&self, range: Range<u64>, output: &mut Output<'_>) -> Result<u64, Cause> {
        let mut at = range.start;
        let mut backoff = Backoff::new(&self.endpoint, self.deadline);
        let mut pace = Pace::new(self.endpoint.limits());
        while at < range.end {
            let before = at;
            match self.read_once(&mut at, range.end, output, &mut pace).await {
                Ok(()) => return Ok(at),
                Err(cause) => {
                    backoff.progressed(at - before);
                    backoff.wait(cause).await?;
                }
            }
        }
        Ok(at)
    }

    async fn read_once(
        &self,
        at: &mut u64,
        end: u64,
        output: &mut Output<'_>,
        pace: &mut Pace<'_>,
    ) -> Result<(), Cause> {
        let _permit = self.endpoint.permit().await;
        let mut response = pace.of(self.open(*at, end), |_| 0).await?;
        let is_whole = response.status() != StatusCode::PARTIAL_CONTENT;
        check_encoding(response.headers())?;
        let mut end = end;
        let mut skip = 0;
        if is_whole {
            self.check_length(&response)?;
            skip = *at;
            if matches!(output, Output::Sink(_)) {
                end = self.size;
            }
        } else {
            check_range(response.headers(), *at, end, self.size)?;
        }
        let limits = self.endpoint.limits();
        let length = |chunk: &Option<Bytes>| chunk.as_ref().map_or(0, Bytes::len);
        while let Some(mut chunk) =
            pace.of(next_chunk(&mut response, limits, self.deadline), length).await?
        {
            let skipped = skip.min(chunk.len() as u64);
            skip -= skipped;
            let mut rest = chunk.split_off(skipped as usize);
            let wanted = end - *at;
            if rest.len() as u64 > wanted {
                if end == self.size {
                    return Err(Cause::SizeMismatch {
                        expected: self.size,
                        actual: *at + rest.len() as u64,
                    });
                }
                rest.truncate(wanted as usize);
            }
            *at += rest.len() as u64;
            if !rest.is_empty() {
                output.put(rest).await?;
            }
            if *at == end && end < self.size {
                return Ok(());
            }
        }
        if *at < end {
            return Err(Cause::SizeMismatch { expected: self.size, actual: *at });
        }
        Ok(())
    }

    async fn open(&self, at: u64, end: u64) -> Result<Response, Cause> {
        let rest = format!("blobs/{}", self.digest);
        let url = self.endpoint.url(&self.path, &rest, self.deadline).await?;
        let mut request = Request::new(Method::GET, url);
        if at > 0 || end < self.size {
            let range = format!("bytes={at}-{}", end - 1);
            request
                .headers
                .insert(RANGE, HeaderValue::from_str(&range).expect("numbers fit into a header"));
        }
        self.endpoint.send(&request, &self.scope, self.deadline).await
    }

    fn check_length(&self, response: &Response) -> Result<(), Cause> {
        match response.content_length() {
            Some(actual) if actual != self.size => {
                Err(Cause::SizeMismatch { expected: self.size, actual })
            }
            _ => Ok(()),
        }
    }
}

fn check_encoding(headers: &HeaderMap) -> Result<(), Cause> {
    match headers.get(CONTENT_ENCODING) {
        Some(encoding) if encoding != "identity" => {
            Err(Cause::Protocol("the blob came with a content encoding".to_owned()))
        }
        _ => Ok(()),
    }
}

/// Whether a partial answer is the part that was asked for, or the start of it.
fn check_range(headers: &HeaderMap, start: u64, end: u64, size: u64) -> Result<(), Cause> {
    let text = headers.get(CONTENT_RANGE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parse = || {
        let (range, total) = text.strip_prefix("bytes ")?.split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let fits_total = total == "*" || total.parse() == Ok(size);
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        (fits_total && first == start && last >= first && last < end).then_some(())
    };
    parse().ok_or_else(|| {
        Cause::Protocol(format!("asked for bytes {start}-{}, got `{text}`", end - 1))
    })
}
