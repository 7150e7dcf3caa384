//! Taking connections, whatever becomes of them.

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

/// Who connects and says nothing for so long is let go.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// How long nobody is taken when there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Where connections come from.
pub(crate) trait Listener: Send + 'static {
    /// A connection.
    type Stream: Send + 'static;

    fn accept(&self) -> BoxFuture<'_, io::Result<Self::Stream>>;

    /// Waits until the peer has said something.
    fn said(stream: &Self::Stream) -> BoxFuture<'_, io::Result<()>>;
}

impl Listener for UnixListener {
    type Stream = UnixStream;

    fn accept(&self) -> BoxFuture<'_, io::Result<UnixStream>> {
        Box::pin(async { Ok(self.accept().await?.0) })
    }

    fn said(stream: &UnixStream) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(stream.readable())
    }
}

impl Listener for TcpListener {
    type Stream = TcpStream;

    fn accept(&self) -> BoxFuture<'_, io::Result<TcpStream>> {
        Box::pin(async { Ok(self.accept().await?.0) })
    }

    fn said(stream: &TcpStream) -> BoxFuture<'_, io::Result<()>> {
        Box::pin(stream.readable())
    }
}

/// Connections whose peers have said something. That one cannot be taken ends nothing.
pub(crate) fn connections<L: Listener + Sync>(listener: L) -> ReceiverStream<io::Result<L::Stream>>
where
    L::Stream: Sync,
{
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        while !sender.is_closed() {
            let taken = tokio::select! {
                taken = Listener::accept(&listener) => taken,
                () = sender.closed() => return,
            };
            let Ok(stream) = taken else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            let sender = sender.clone();
            tokio::spawn(async move {
                let said = tokio::time::timeout(SILENCE_MAX, L::said(&stream)).await;
                if matches!(said, Ok(Ok(()))) {
                    // Nobody takes it once the daemon ends.
                    let _ = sender.send(Ok(stream)).await;
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}
