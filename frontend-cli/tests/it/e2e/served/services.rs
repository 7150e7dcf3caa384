//! What a client serves besides its directories.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use daemon::wire::filesync::auth_server::Auth;
use daemon::wire::filesync::file_send_server::FileSend;
use daemon::wire::filesync::{
    BytesMessage, CredentialsRequest, CredentialsResponse, FetchTokenRequest, FetchTokenResponse,
    GetTokenAuthorityRequest, GetTokenAuthorityResponse, VerifyTokenAuthorityRequest,
    VerifyTokenAuthorityResponse,
};
use daemon::wire::secrets::secrets_server::Secrets;
use daemon::wire::secrets::{GetSecretRequest, GetSecretResponse};
use daemon::wire::ssh;
use daemon::wire::ssh::ssh_server::Ssh;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio_stream::wrappers::ReceiverStream;
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

/// A name and a password for every registry, and how often they were asked for.
#[derive(Clone, Default)]
pub(crate) struct Login {
    pub(crate) known: Option<(String, String)>,
    pub(crate) asked: Arc<Mutex<Vec<String>>>,
}

#[tonic::async_trait]
impl Auth for Login {
    async fn credentials(
        &self,
        request: Request<CredentialsRequest>,
    ) -> Result<Response<CredentialsResponse>, Status> {
        self.asked.lock().expect("no panic").push(request.into_inner().host);
        let (username, secret) = self.known.clone().unwrap_or_default();
        Ok(Response::new(CredentialsResponse { username, secret }))
    }

    async fn fetch_token(
        &self,
        _: Request<FetchTokenRequest>,
    ) -> Result<Response<FetchTokenResponse>, Status> {
        Err(Status::unimplemented("no tokens"))
    }

    async fn get_token_authority(
        &self,
        _: Request<GetTokenAuthorityRequest>,
    ) -> Result<Response<GetTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("no tokens"))
    }

    async fn verify_token_authority(
        &self,
        _: Request<VerifyTokenAuthorityRequest>,
    ) -> Result<Response<VerifyTokenAuthorityResponse>, Status> {
        Err(Status::unimplemented("no tokens"))
    }
}

/// The socket of an agent.
#[derive(Clone, Default)]
pub(crate) struct Agent(pub(crate) Option<PathBuf>);

type Messages = Pin<Box<dyn tokio_stream::Stream<Item = Result<ssh::BytesMessage, Status>> + Send>>;

#[tonic::async_trait]
impl Ssh for Agent {
    type ForwardAgentStream = Messages;

    async fn check_agent(
        &self,
        request: Request<ssh::CheckAgentRequest>,
    ) -> Result<Response<ssh::CheckAgentResponse>, Status> {
        let id = request.into_inner().id;
        match (&self.0, id.as_str()) {
            (Some(_), "default") => Ok(Response::new(ssh::CheckAgentResponse {})),
            _ => Err(Status::not_found(id)),
        }
    }

    /// As Go's server does, it answers nothing before there is something to say.
    async fn forward_agent(
        &self,
        request: Request<Streaming<ssh::BytesMessage>>,
    ) -> Result<Response<Messages>, Status> {
        let socket = UnixStream::connect(self.0.as_ref().expect("it was checked")).await?;
        let (mut reader, mut writer) = socket.into_split();
        let mut incoming = request.into_inner();
        let first = incoming.message().await?.expect("a question");
        writer.write_all(&first.data).await?;
        let (sender, receiver) = tokio::sync::mpsc::channel(8);
        tokio::spawn(async move {
            while let Ok(Some(message)) = incoming.message().await {
                if writer.write_all(&message.data).await.is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer).await {
                let data = buffer[..length].to_vec();
                if sender.send(Ok(ssh::BytesMessage { data })).await.is_err() {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}
