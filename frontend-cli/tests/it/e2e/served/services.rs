//! What a client serves besides its directories.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use daemon::wire::filesync::BytesMessage;
use daemon::wire::filesync::file_send_server::FileSend;
use daemon::wire::secrets::secrets_server::Secrets;
use daemon::wire::secrets::{GetSecretRequest, GetSecretResponse};
use tonic::{Request, Response, Status, Streaming};

/// Archives that were received, by the exporter's number.
#[derive(Clone, Default)]
pub(crate) struct Archives(pub(crate) Arc<Mutex<BTreeMap<String, Vec<u8>>>>);

type Bytes = Pin<Box<dyn tokio_stream::Stream<Item = Result<BytesMessage, Status>> + Send>>;

#[tonic::async_trait]
impl FileSend for Archives {
    type DiffCopyStream = Bytes;

    async fn diff_copy(
        &self,
        request: Request<Streaming<BytesMessage>>,
    ) -> Result<Response<Bytes>, Status> {
        let index = request.metadata().get("buildkit-attachable-exporter-id");
        let index = index.expect("it is told").to_str().expect("text").to_owned();
        let mut pieces = request.into_inner();
        let mut archive = Vec::new();
        while let Some(piece) = pieces.message().await? {
            archive.extend(piece.data);
        }
        self.0.lock().expect("no panic").insert(index, archive);
        Ok(Response::new(Box::pin(tokio_stream::empty())))
    }
}

/// Secrets by id.
#[derive(Clone, Default)]
pub(crate) struct Kept(pub(crate) BTreeMap<String, Vec<u8>>);

#[tonic::async_trait]
impl Secrets for Kept {
    async fn get_secret(
        &self,
        request: Request<GetSecretRequest>,
    ) -> Result<Response<GetSecretResponse>, Status> {
        let id = request.into_inner().id;
        let data = self.0.get(&id).cloned().ok_or_else(|| Status::not_found(id))?;
        Ok(Response::new(GetSecretResponse { data }))
    }
}
