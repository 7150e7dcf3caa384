//! The bytes of a file on their way: from the network, in order, to a blocking thread that hashes and
//! writes them.

use std::io::{self, Write as _};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use cache::Allowance;
use http_client::{
    Backoff, Connections, Error, Piece, Resource, Response, StatusCode, Validators, download,
    download_unsized,
};
use oci::{Digest, Hasher};
use tempfile::NamedTempFile;
use tokio::sync::mpsc;

use super::Told;
use super::cause::Cause;
use super::remote::Remote;
use crate::progress::event::Event;

/// Chunks between the network and the disk.
const CHANNEL: usize = 64;

/// How a file is taken in.
pub(super) struct Body {
    /// The digest that it has to have.
    pub(super) pinned: Option<Digest>,
    /// Bytes that it may have; `None` for what there is room for.
    pub(super) size_max: Option<u64>,
    /// Where it is written.
    pub(super) directory: PathBuf,
    /// What it is called for the user.
    pub(super) item: String,
    pub(super) told: Told,
}

/// A file, whole.
pub(super) struct Received {
    pub(super) file: NamedTempFile,
    pub(super) size: u64,
    /// SHA-256.
    pub(super) digest: Digest,
}

/// Takes in the file that `response` begins, and asks for the rest where the connection breaks.
pub(super) async fn receive(
    remote: &Arc<Remote>,
    response: Response,
    body: Body,
) -> Result<Received, Cause> {
    let (total, told) = (response.content_length(), body.told.clone());
    let mut sink = Sink::new(body, total)?;
    let (sender, mut receiver) = mpsc::channel(CHANNEL);
    let thread = tokio::task::spawn_blocking(move || {
        while let Some(piece) = receiver.blocking_recv() {
            match piece {
                Piece::Data(chunk) => sink.write(&chunk)?,
                Piece::End => return sink.finish(),
            }
        }
        // Why is told by who sends.
        Err(Cause::Http(Error::Abandoned))
    });
    let sent = match total {
        Some(size) => {
            let part = Arc::new(Part::new(remote.clone(), response, size, told));
            download(&part, 0, &sender).await
        }
        None => {
            download_unsized(response, remote.connections().limits(), &sender).await.map_err(broken)
        }
    };
    drop(sender);
    let received = thread.await.expect("a sink does not panic");
    match (sent, received) {
        // Nobody sends to a sink that has failed.
        (Err(Cause::Http(Error::Abandoned)) | Ok(()), received) => received,
        (Err(cause), _) => Err(cause),
    }
}

/// What broke off may come whole the next time.
fn broken(error: Error) -> Cause {
    match error {
        Error::Transport(_) => Cause::Broken(error),
        error => error.into(),
    }
}

/// A file of known size.
struct Part {
    remote: Arc<Remote>,
    /// The answer that has begun it.
    first: Mutex<Option<Response>>,
    validators: Validators,
    size: u64,
    told: Told,
}

impl Part {
    fn new(remote: Arc<Remote>, first: Response, size: u64, told: Told) -> Self {
        let validators = Validators::of(&first);
        Self { remote, first: Mutex::new(Some(first)), validators, size, told }
    }
}

impl Resource for Part {
    type Error = Cause;

    fn size(&self) -> u64 {
        self.size
    }

    fn connections(&self) -> &Connections {
        self.remote.connections()
    }

    fn backoff(&self) -> Backoff<'_> {
        self.remote.backoff()
    }

    async fn open(&self, range: Range<u64>) -> Result<Response, Cause> {
        if let Some(first) = self.first.lock().expect("no panic while held").take() {
            return Ok(first);
        }
        let rest = self.remote.ask(|request| {
            request.ask_for(range.clone(), self.size);
            if range.start > 0 {
                self.validators.ask_for_the_same(request);
            }
        });
        let rest = match rest.await {
            Err(Cause::Status { status: 416, .. }) => return Err(Cause::Changed),
            rest => rest?,
        };
        if Validators::of(&rest).differs_from(&self.validators) {
            return Err(Cause::Changed);
        }
        // A server that sends all of it again has to say that it is still the same.
        let is_part = rest.status() == StatusCode::PARTIAL_CONTENT;
        if is_part || range.start == 0 || !self.validators.is_empty() {
            Ok(rest)
        } else {
            Err(Cause::CutShort { received: range.start, size: self.size })
        }
    }

    fn goes_on_after(&self, failure: &Cause) {
        self.told.again(failure);
    }
}

/// Where bytes go.
struct Sink {
    file: NamedTempFile,
    sha256: Hasher,
    /// Of another algorithm than SHA-256.
    other: Option<Hasher>,
    room: Allowance,
    length: u64,
    total: Option<u64>,
    body: Body,
}

impl Sink {
    fn new(body: Body, total: Option<u64>) -> Result<Self, Cause> {
        if let (Some(total), Some(max)) = (total, body.size_max)
            && total > max
        {
            return Err(Cause::TooLarge(max));
        }
        let made = tempfile::Builder::new().prefix("http-").tempfile_in(&body.directory);
        let other = body.pinned.as_ref().filter(|digest| digest.algorithm() != "sha256");
        Ok(Self {
            file: made.map_err(Cause::Storage)?,
            sha256: Hasher::sha256(),
            other: other.map(Hasher::like),
            room: room(&body, total).map_err(Cause::Storage)?,
            length: 0,
            total,
            body,
        })
    }

    fn write(&mut self, chunk: &[u8]) -> Result<(), Cause> {
        self.length += chunk.len() as u64;
        if let Some(max) = self.body.size_max.filter(|max| self.length > *max) {
            return Err(Cause::TooLarge(max));
        }
        if self.total.is_none() {
            self.room.take_bytes(chunk.len() as u64).map_err(Cause::Storage)?;
        }
        self.file.write_all(chunk).map_err(Cause::Storage)?;
        self.sha256.update(chunk);
        self.other.iter_mut().for_each(|other| other.update(chunk));
        self.tell(false);
        Ok(())
    }

    fn finish(self) -> Result<Received, Cause> {
        self.tell(true);
        let digest = self.sha256.finish();
        let found = self.other.map_or_else(|| digest.clone(), Hasher::finish);
        match self.body.pinned {
            Some(expected) if expected != found => Err(Cause::Mismatch { found, expected }),
            _ => Ok(Received { file: self.file, size: self.length, digest }),
        }
    }

    fn tell(&self, done: bool) {
        let Told { steps, step } = &self.body.told;
        let (item, current) = (self.body.item.clone(), self.length);
        steps.event(Event::Transfer { step: *step, item, current, total: self.total, done });
    }
}

/// Room for all of it, where its size is known.
fn room(body: &Body, total: Option<u64>) -> io::Result<Allowance> {
    let mut room = Allowance::in_store(&body.directory);
    room.take_bytes(total.unwrap_or(0))?;
    Ok(room)
}
