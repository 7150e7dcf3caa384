//! Downloads: streamed, resumed, large ones in several ranges at once.
//!
//! Chunks go in order into a channel, whose other end may be read on a blocking thread. Large
//! resources come as segments, a few of which are fetched at once and wait in memory for their
//! turn, so that the receiver never sees a gap.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;

use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::bytes::Bytes;
use tokio_util::task::AbortOnDropHandle;

use crate::backoff::Backoff;
use crate::connections::Connections;
use crate::error::Error;
use crate::limits::Limits;
use crate::pace::Pace;
use crate::range::check_encoding;
use crate::response::Response;
use crate::retry::Failure;
use crate::window::{Surplus, Window};

/// Segments in flight.
const PARALLEL: usize = 4;

/// Something of known size on a server that does not change it.
pub trait Resource: Send + Sync + 'static {
    /// Why a request for it failed.
    type Error: Failure + From<Error> + Send + 'static;

    /// Its size in bytes.
    fn size(&self) -> u64;

    /// The connections to fetch it with.
    fn connections(&self) -> &Connections;

    /// The retries of one range, until the download's deadline.
    fn backoff(&self) -> Backoff<'_>;

    /// Requests `range` ([`Request::ask_for`](crate::Request::ask_for)) and returns the answer if its
    /// status is a success.
    fn open(&self, range: Range<u64>)
    -> impl Future<Output = Result<Response, Self::Error>> + Send;

    /// Hears that a range is tried again after this failure.
    fn goes_on_after(&self, _failure: &Self::Error) {}
}

/// An item in the channel of a download.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Piece {
    /// The next bytes.
    Data(Bytes),
    /// All bytes were sent. A channel that closes without this item belongs to a failed download.
    End,
}

/// Fetches all bytes from `from` on into `sender`, resuming as [`Resource::backoff`] allows.
///
/// # Errors
/// The failure of the last attempt: among them [`Error::Abandoned`] if the receiver is dropped,
/// [`Error::TooSlow`] below the minimum rate, [`Error::SizeMismatch`] and [`Error::Range`] if the
/// server sends something else.
pub async fn download<R: Resource>(
    resource: &Arc<R>,
    from: u64,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), R::Error> {
    let reached = fetch_start(resource, from, sender).await?;
    if reached < resource.size() {
        fetch_segments(resource, reached, sender).await?;
    }
    sender.send(Piece::End).await.map_err(|_| Error::Abandoned)?;
    Ok(())
}

/// Passes on the body of an answer that does not say how long it is. What breaks cannot be resumed: there
/// is nothing to tell that the rest has come.
///
/// # Errors
/// That of the connection; [`Error::TooSlow`], [`Error::Abandoned`] and an encoded body as
/// with [`download()`].
pub async fn download_unsized(
    mut response: Response,
    limits: &Limits,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), Error> {
    check_encoding(response.headers())?;
    let mut pace = Pace::new(limits);
    let length = |chunk: &Option<Bytes>| chunk.as_ref().map_or(0, Bytes::len);
    while let Some(chunk) = pace.of(response.chunk(), length).await? {
        sender.send(Piece::Data(chunk)).await.map_err(|_| Error::Abandoned)?;
    }
    sender.send(Piece::End).await.map_err(|_| Error::Abandoned)
}

/// Fetches all of it in one go, or only a first segment if several at once would help. Returns the
/// offset that it reached.
async fn fetch_start<R: Resource>(
    resource: &Arc<R>,
    from: u64,
    sender: &mpsc::Sender<Piece>,
) -> Result<u64, R::Error> {
    let (size, limits) = (resource.size(), resource.connections().limits());
    let mut output = Output::Channel(sender);
    if size - from <= limits.parallel_from {
        return fetch(&**resource, from..size, &mut output).await;
    }
    // The first segment shows whether the server supports ranges (without, it sends everything), and
    // whether more connections would help.
    let started = Instant::now();
    let first = from..size.min(from + limits.segment.max(1));
    let reached = fetch(&**resource, first, &mut output).await?;
    let seconds = started.elapsed().as_secs_f64();
    if (reached - from) as f64 >= limits.fast as f64 * seconds {
        return fetch(&**resource, reached..size, &mut output).await;
    }
    Ok(reached)
}

async fn fetch_segments<R: Resource>(
    resource: &Arc<R>,
    from: u64,
    sender: &mpsc::Sender<Piece>,
) -> Result<(), R::Error> {
    let segment = resource.connections().limits().segment.max(1);
    let size = resource.size();
    let mut segments = stream::iter(0..(size - from).div_ceil(segment))
        .map(|number| {
            let start = from + number * segment;
            let range = start..size.min(start + segment);
            AbortOnDropHandle::new(tokio::spawn(fetch_segment(Arc::clone(resource), range)))
        })
        .buffered(PARALLEL);
    while let Some(bytes) = segments.next().await {
        let bytes = bytes.expect("a segment's task neither panics nor is aborted")?;
        sender.send(Piece::Data(bytes)).await.map_err(|_| Error::Abandoned)?;
    }
    Ok(())
}

async fn fetch_segment<R: Resource>(
    resource: Arc<R>,
    range: Range<u64>,
) -> Result<Bytes, R::Error> {
    let mut bytes = Vec::with_capacity((range.end - range.start) as usize);
    fetch(&*resource, range, &mut Output::Memory(&mut bytes)).await?;
    Ok(bytes.into())
}

/// Fetches `range`, resuming as often as allowed. Returns the offset that it reached: the end of the
/// range, or that of the resource if the server sent all of it into the channel.
async fn fetch<R: Resource>(
    resource: &R,
    range: Range<u64>,
    output: &mut Output<'_>,
) -> Result<u64, R::Error> {
    let mut at = range.start;
    let mut backoff = resource.backoff();
    let mut pace = Pace::new(resource.connections().limits());
    while at < range.end {
        let before = at;
        match fetch_once(resource, &mut at, range.end, output, &mut pace).await {
            Ok(()) => return Ok(at),
            Err(failure) => {
                backoff.progressed(at - before);
                let Some(delay) = backoff.pause(&failure) else { return Err(failure) };
                resource.goes_on_after(&failure);
                tokio::time::sleep(delay).await;
            }
        }
    }
    Ok(at)
}

/// Requests the missing part of a range once; `at` advances with the bytes received.
async fn fetch_once<R: Resource>(
    resource: &R,
    at: &mut u64,
    end: u64,
    output: &mut Output<'_>,
    pace: &mut Pace<'_>,
) -> Result<(), R::Error> {
    let _permit = resource.connections().permit().await;
    let mut response = pace.of(resource.open(*at..end), |_| 0).await?;
    let mut window = Window::onto(&response, *at..end, resource.size(), output.surplus())?;
    let length = |chunk: &Option<Bytes>| chunk.as_ref().map_or(0, Bytes::len);
    let cut_short = |error: Error, at| error.within(at, resource.size());
    while let Some(chunk) =
        pace.of(response.chunk(), length).await.map_err(|error| cut_short(error, *at))?
    {
        let wanted = window.cut(chunk)?;
        *at = window.at();
        if !wanted.is_empty() {
            output.put(wanted).await?;
        }
        if window.is_full() {
            return Ok(());
        }
    }
    Ok(window.finish()?)
}

/// Where the bytes of a range go.
enum Output<'a> {
    Channel(&'a mpsc::Sender<Piece>),
    Memory(&'a mut Vec<u8>),
}

impl Output<'_> {
    /// The channel takes the rest of the resource, too; the memory of a segment does not.
    fn surplus(&self) -> Surplus {
        match self {
            Self::Channel(_) => Surplus::Take,
            Self::Memory(_) => Surplus::Leave,
        }
    }

    async fn put(&mut self, chunk: Bytes) -> Result<(), Error> {
        match self {
            Self::Channel(sender) => {
                sender.send(Piece::Data(chunk)).await.map_err(|_| Error::Abandoned)
            }
            Self::Memory(bytes) => {
                bytes.extend_from_slice(&chunk);
                Ok(())
            }
        }
    }
}
