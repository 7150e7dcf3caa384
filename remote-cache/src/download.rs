//! From a server's object of known size into a sink, on a blocking thread.

use std::sync::Arc;

use http_client::{Failure, Piece, Resource, download};
use oci::Descriptor;
use registry::BlobSink;
use tokio::sync::mpsc;

use crate::error::Error;

/// Chunks between the network and the sink.
const CHANNEL: usize = 64;

/// Fetches all of `resource`, which has the digest of `blob`, and gives the sink back.
pub(crate) async fn fetch<R, S, P>(
    resource: R,
    blob: &Descriptor,
    mut sink: S,
    mut progress: P,
) -> Result<S, Error>
where
    R: Resource,
    R::Error: Failure,
    Error: From<R::Error>,
    S: BlobSink + 'static,
    P: FnMut(u64) + Send + 'static,
{
    let (sender, mut receiver) = mpsc::channel(CHANNEL);
    let expected = blob.digest.clone();
    let drain = tokio::task::spawn_blocking(move || {
        sink.restart().map_err(Error::Sink)?;
        while let Some(piece) = receiver.blocking_recv() {
            let Piece::Data(chunk) = piece else { break };
            sink.write(&chunk).map_err(Error::Sink)?;
            progress(sink.received());
        }
        let found = sink.digest().map_err(Error::Sink)?;
        Ok::<_, Error>((sink, found))
    });
    let downloaded = download(&Arc::new(resource), 0, &sender).await;
    drop(sender);
    let drained = drain.await.expect("a sink does not panic");
    // Who stops listening has the better reason.
    let (sink, found) = match (downloaded, drained) {
        (Ok(()), drained) => drained?,
        (Err(_), Err(error)) => return Err(error),
        (Err(error), Ok(_)) => return Err(error.into()),
    };
    match found == expected {
        true => Ok(sink),
        false => Err(Error::OtherContent { expected, found }),
    }
}
