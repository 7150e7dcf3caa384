//! Bodies on their way to a server, and how far they are.

use std::io::{self, Read as _};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::stream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::bytes::Bytes;

use crate::error::Error;
use crate::limits::Limits;
use crate::request::BodySource;

/// Bytes of a body that are handed to the network at once.
const UPLOAD_CHUNK: usize = 256 << 10;
/// Bytes per second at which a server is trusted to keep what it got, before it answers.
const KEEPING_RATE: u64 = 8 << 20;

/// What a body waits for. The time that its source takes does not count.
#[derive(Debug, Clone, Copy)]
enum Stage {
    /// Its source.
    Source,
    /// The network, which takes the last chunk.
    Network(Instant),
    /// The answer, to so many bytes.
    Answer(Instant, u64),
}

/// Notices that a server does not take a body, or does not answer it.
#[derive(Debug)]
pub(crate) struct Sending {
    stage: Mutex<Stage>,
    /// Bytes that the network has got.
    sent: AtomicU64,
}

impl Sending {
    pub(crate) fn new() -> Self {
        Self { stage: Mutex::new(Stage::Network(Instant::now())), sent: AtomicU64::new(0) }
    }

    fn stage(&self) -> MutexGuard<'_, Stage> {
        self.stage.lock().expect("no panic while held")
    }

    /// The network wants the next chunk.
    pub(crate) fn reads(&self) {
        *self.stage() = Stage::Source;
    }

    /// The network has the next chunk, of so many bytes; nothing at the end.
    pub(crate) fn sends(&self, bytes: Option<u64>) {
        let now = Instant::now();
        let sent = self.sent.fetch_add(bytes.unwrap_or(0), Ordering::Relaxed);
        *self.stage() =
            if bytes.is_none() { Stage::Answer(now, sent) } else { Stage::Network(now) };
    }

    /// Returns once a server has been given all the time that it may take over the body.
    pub(crate) async fn is_stuck(&self, limits: &Limits) -> Error {
        loop {
            let (what, since, patience) = match *self.stage() {
                Stage::Source => ("", Instant::now(), limits.slow),
                Stage::Network(since) => ("the server to take more", since, chunk_time(limits)),
                Stage::Answer(since, size) => {
                    ("an answer", since, limits.request + keeping_time(size))
                }
            };
            if since.elapsed() >= patience {
                return Error::TimedOut { what, patience };
            }
            tokio::time::sleep_until(since + patience).await;
        }
    }
}

/// Reads at most `size` bytes of a body on a blocking thread, a few chunks ahead of the network.
pub(crate) fn stream_body(
    source: Arc<dyn BodySource>,
    from: u64,
    size: u64,
    sending: Arc<Sending>,
) -> reqwest::Body {
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(4);
    tokio::task::spawn_blocking(move || {
        let read = || -> io::Result<()> {
            let mut reader = source.open(from)?.take(size);
            loop {
                let mut chunk = Vec::with_capacity(UPLOAD_CHUNK);
                let length = reader.by_ref().take(UPLOAD_CHUNK as u64).read_to_end(&mut chunk)?;
                if length == 0 || sender.blocking_send(Ok(chunk.into())).is_err() {
                    return Ok(());
                }
            }
        };
        if let Err(error) = read() {
            // Fails if the request has ended, and then the error does not matter.
            drop(sender.blocking_send(Err(error)));
        }
    });
    let chunks = stream::unfold(receiver, move |mut receiver| {
        let sending = sending.clone();
        async move {
            sending.reads();
            let chunk = receiver.recv().await;
            let bytes = |chunk: &io::Result<Bytes>| chunk.as_ref().map_or(0, Bytes::len) as u64;
            sending.sends(chunk.as_ref().map(bytes));
            Some((chunk?, receiver))
        }
    });
    reqwest::Body::wrap_stream(chunks)
}

/// The slowest that a chunk may go, after as long a pause as a transfer may make.
fn chunk_time(limits: &Limits) -> Duration {
    limits.slow + Duration::from_secs(UPLOAD_CHUNK as u64 / limits.minimum_rate.max(1))
}

fn keeping_time(size: u64) -> Duration {
    Duration::from_secs(size / KEEPING_RATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Limits under which a chunk has 20 ms, and an answer 60 ms.
    fn limits() -> Limits {
        let (slow, request) = (Duration::from_millis(20), Duration::from_millis(60));
        Limits { slow, request, minimum_rate: u64::MAX, ..Limits::default() }
    }

    /// What is said when it is given up; `None` if that is not within `time`.
    async fn given_up(sending: &Sending, time: Duration) -> Option<String> {
        let error = tokio::time::timeout(time, sending.is_stuck(&limits())).await;
        error.ok().map(|error| error.to_string())
    }

    #[tokio::test]
    async fn a_server_gets_its_time_and_its_source_any() {
        let sending = Sending::new();
        let (short, long) = (Duration::from_millis(40), Duration::from_secs(60));
        assert!(given_up(&sending, long).await.unwrap().contains("the server to take more"));
        sending.reads();
        assert_eq!(given_up(&sending, short).await, None);
        sending.sends(Some(1));
        assert!(given_up(&sending, long).await.unwrap().contains("the server to take more"));
        sending.sends(None);
        assert_eq!(given_up(&sending, short).await, None);
        assert!(given_up(&sending, long).await.unwrap().contains("an answer"));
    }

    #[test]
    fn much_may_take_longer_to_keep() {
        assert_eq!(keeping_time(5 * KEEPING_RATE), Duration::from_secs(5));
        let limits = Limits { minimum_rate: UPLOAD_CHUNK as u64 / 10, ..Limits::default() };
        assert_eq!(chunk_time(&limits), limits.slow + Duration::from_secs(10));
    }
}
