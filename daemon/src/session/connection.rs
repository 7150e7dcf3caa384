//! A session's way: bytes of an HTTP/2 connection, in messages of the call that the client has made. In it the
//! daemon is the one that calls.

use std::pin::Pin;
use std::sync::{Arc, Mutex};

use futures_util::Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::transport::{Channel, Endpoint};
use tonic::{Status, Streaming};

use super::{Session, Sessions};
use crate::wire::control::BytesMessage;

/// What goes to the client.
pub(crate) type Frames = Pin<Box<dyn Stream<Item = Result<BytesMessage, Status>> + Send>>;

/// So many bytes may be under way each way.
const BUFFER: usize = 256 << 10;
/// Longest piece that is sent, in bytes.
const PIECE: usize = 32 << 10;
const ID: &str = "x-docker-expose-session-uuid";
const SHARED_KEY: &str = "x-docker-expose-session-sharedkey";
const METHOD: &str = "x-docker-expose-session-grpc-method";
/// Longest id, and most methods that a client names.
const ID_MAX: usize = 256;
const METHODS_MAX: usize = 256;

/// Opens the session that the call `incoming` is.
pub(crate) fn open(
    sessions: &Arc<Sessions>,
    metadata: &MetadataMap,
    incoming: Streaming<BytesMessage>,
) -> Result<Frames, Status> {
    let text = |key| metadata.get(key).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let (id, shared_key) = (text(ID).to_owned(), text(SHARED_KEY).to_owned());
    if id.is_empty() || id.len() > ID_MAX {
        return Err(Status::invalid_argument(format!("`{ID}` does not name a session")));
    }
    let methods = metadata.get_all(METHOD).iter().take(METHODS_MAX);
    let methods = methods.filter_map(|value| Some(value.to_str().ok()?.to_owned())).collect();
    let (ours, theirs) = tokio::io::duplex(BUFFER);
    let closed = CancellationToken::new();
    let channel = channel(ours);
    let session = Session { id: id.clone(), shared_key, methods, channel, closed: closed.clone() };
    sessions.add(Arc::new(session))?;
    let (frames, outgoing) = mpsc::channel(8);
    let sessions = sessions.clone();
    tokio::spawn(async move {
        let (reader, writer) = tokio::io::split(theirs);
        let sent = tokio::spawn(send(reader, frames));
        // It ends when the client has said all, or is gone.
        receive(incoming, writer).await;
        closed.cancel();
        sessions.remove(&id);
        sent.abort();
    });
    Ok(Box::pin(ReceiverStream::new(outgoing)))
}

/// HTTP/2 over `ours`, once.
fn channel(ours: DuplexStream) -> Channel {
    let once = Mutex::new(Some(ours));
    let connector = tower::service_fn(move |_| {
        let ours = once.lock().expect("no panic while held").take();
        async move {
            let lost = || std::io::Error::other("the session's connection is lost");
            ours.map(hyper_util::rt::TokioIo::new).ok_or_else(lost)
        }
    });
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(connector)
}

async fn receive(
    mut incoming: Streaming<BytesMessage>,
    mut writer: tokio::io::WriteHalf<DuplexStream>,
) {
    while let Ok(Some(message)) = incoming.message().await {
        if writer.write_all(&message.data).await.is_err() {
            break;
        }
    }
    let _ = writer.shutdown().await;
}

async fn send(
    mut reader: tokio::io::ReadHalf<DuplexStream>,
    frames: mpsc::Sender<Result<BytesMessage, Status>>,
) {
    let mut buffer = vec![0; PIECE];
    while let Ok(length @ 1..) = reader.read(&mut buffer).await {
        let data = buffer[..length].to_vec();
        if frames.send(Ok(BytesMessage { data })).await.is_err() {
            break;
        }
    }
}
