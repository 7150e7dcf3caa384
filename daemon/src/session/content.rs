//! Blobs that a client keeps: images it starts from, and those it is given.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use oci::Digest;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status};

use super::metadata::is_absent;
use super::{MESSAGE_MAX, Metadata, Session};
use crate::wire::content::content_client::ContentClient;
use crate::wire::content::{ReadContentRequest, WriteAction, WriteContentRequest};

/// Which store of the client's is meant.
const STORE: &str = "buildkit-attachable-store-id";
/// Clients take messages of less than 4 MiB.
const PIECE: usize = 1 << 20;
/// How many pieces are under way.
const PIECES: usize = 4;

/// Why a blob did not come, or was not taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ContentError {
    #[error("{}", .0.message())]
    Call(#[source] Box<Status>),
    #[error("it is larger than it is said to be")]
    Size,
    #[error(transparent)]
    File(#[from] io::Error),
}

impl From<Status> for ContentError {
    fn from(status: Status) -> Self {
        Self::Call(Box::new(status))
    }
}

fn of_store<T>(store: &str, message: T) -> tonic::Request<T> {
    let mut metadata = Metadata::default();
    metadata.add(STORE, &[store.to_owned()]);
    metadata.request(message)
}

impl Session {
    /// Writes the blob `digest` of the client's `store`, of at most `size_max` bytes, to a new file; says whether
    /// the client has it.
    pub(crate) async fn read_blob(
        &self,
        store: &str,
        digest: &Digest,
        size_max: u64,
        path: &Path,
    ) -> Result<bool, ContentError> {
        let mut client =
            ContentClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX);
        let request = ReadContentRequest { digest: digest.to_string(), offset: 0, size: 0 };
        let mut pieces = match client.read(of_store(store, request)).await {
            Err(status) if is_absent(&status) => return Ok(false),
            answer => answer?.into_inner(),
        };
        let mut file = File::options().write(true).create_new(true).open(path)?;
        let mut written = 0;
        loop {
            let piece = match pieces.message().await {
                Err(status) if is_absent(&status) && written == 0 => return Ok(false),
                piece => piece?,
            };
            let Some(piece) = piece else { return Ok(true) };
            written += piece.data.len() as u64;
            if written > size_max {
                return Err(ContentError::Size);
            }
            file.write_all(&piece.data)?;
        }
    }

    /// Gives the client's `store` the blob `digest`, which is the file's content.
    pub(crate) async fn write_blob(
        &self,
        store: &str,
        digest: &Digest,
        mut file: File,
    ) -> Result<(), ContentError> {
        let size = file.metadata()?.len();
        let (pieces, receiver) = mpsc::channel(PIECES);
        let name = digest.to_string();
        let message = move |action: WriteAction, offset: u64, data| WriteContentRequest {
            action: action.into(),
            r#ref: name.clone(),
            total: size as i64,
            expected: name.clone(),
            offset: offset as i64,
            data,
            ..WriteContentRequest::default()
        };
        let sent = tokio::task::spawn_blocking(move || {
            let mut offset = 0;
            loop {
                let mut data = Vec::with_capacity(PIECE);
                (&mut file).take(PIECE as u64).read_to_end(&mut data)?;
                let length = data.len() as u64;
                if length == 0 {
                    // Nobody takes it when the blob was there already.
                    let _ = pieces.blocking_send(message(WriteAction::Commit, offset, data));
                    return Ok::<_, io::Error>(());
                }
                if pieces.blocking_send(message(WriteAction::Write, offset, data)).is_err() {
                    return Ok(());
                }
                offset += length;
            }
        });
        let mut client = ContentClient::new(self.channel.clone());
        let answered = async {
            let request = of_store(store, ReceiverStream::new(receiver));
            let mut answers = client.write(request).await?.into_inner();
            while answers.message().await?.is_some() {}
            Ok(())
        };
        let answered: Result<(), Status> = answered.await;
        sent.await.expect("reading does not panic")?;
        match answered {
            Err(status) if status.code() != Code::AlreadyExists => Err(status.into()),
            _ => Ok(()),
        }
    }
}
