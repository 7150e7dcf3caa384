//! A result that the client takes as one file.

use std::io;

use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::{MESSAGE_MAX, Metadata, Session};
use crate::wire::filesync::BytesMessage;
use crate::wire::filesync::file_send_client::FileSendClient;

/// Clients take messages of less than 4 MiB.
const PIECE: usize = 1 << 20;
/// How many pieces are under way.
const PIECES: usize = 4;

/// Which exporter of the request something goes to.
pub(super) const EXPORTER: &str = "buildkit-attachable-exporter-id";

/// A file on its way to the client. It blocks.
#[derive(Debug)]
pub(crate) struct Sending {
    handle: Handle,
    pieces: Option<mpsc::Sender<BytesMessage>>,
    ended: Option<JoinHandle<Result<(), Status>>>,
    buffer: Vec<u8>,
    /// The client has it already.
    is_unwanted: bool,
}

impl Sending {
    /// Begins the file that is the result of the exporter `index`.
    pub(crate) fn begin(handle: &Handle, session: &Session, index: &str) -> Self {
        let (pieces, receiver) = mpsc::channel(PIECES);
        let mut metadata = Metadata::default();
        metadata.add(EXPORTER, &[index.to_owned()]);
        let request = metadata.request(ReceiverStream::new(receiver));
        let mut client =
            FileSendClient::new(session.channel.clone()).max_decoding_message_size(MESSAGE_MAX);
        let ended = handle.spawn(async move {
            let mut answers = client.diff_copy(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        });
        Self {
            handle: handle.clone(),
            pieces: Some(pieces),
            ended: Some(ended),
            buffer: Vec::with_capacity(PIECE),
            is_unwanted: false,
        }
    }

    fn send(&mut self) -> io::Result<()> {
        let data = std::mem::replace(&mut self.buffer, Vec::with_capacity(PIECE));
        let pieces = self.pieces.as_ref().ok_or(io::ErrorKind::BrokenPipe)?;
        match pieces.blocking_send(BytesMessage { data }) {
            Ok(()) => Ok(()),
            // What follows is taken as written.
            Err(_) => self.end(),
        }
    }

    /// Nothing more is sent; what the client says to that.
    fn end(&mut self) -> io::Result<()> {
        self.pieces = None;
        let Some(ended) = self.ended.take() else { return Ok(()) };
        match self.handle.block_on(ended).map_err(io::Error::other)? {
            Ok(()) => Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => {
                self.is_unwanted = true;
                Ok(())
            }
            Err(status) => Err(io::Error::other(status.message().to_owned())),
        }
    }
}

impl io::Write for Sending {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        if self.is_unwanted {
            return Ok(data.len());
        }
        let taken = data.len().min(PIECE - self.buffer.len());
        self.buffer.extend_from_slice(&data[..taken]);
        if self.buffer.len() == PIECE {
            self.send()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl engine::Load for Sending {
    fn finish(mut self: Box<Self>) -> io::Result<()> {
        if !self.buffer.is_empty() && self.pieces.is_some() {
            self.send()?;
        }
        self.end()
    }
}
