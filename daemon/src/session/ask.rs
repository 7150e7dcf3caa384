//! What a client is asked for: secrets, credentials, agents, and what it uploads.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Status, Streaming};

use super::metadata::is_absent;
use super::{MESSAGE_MAX, Metadata, Session};
use crate::wire::filesync::auth_client::AuthClient;
use crate::wire::filesync::{CredentialsRequest, CredentialsResponse};
use crate::wire::secrets::GetSecretRequest;
use crate::wire::secrets::secrets_client::SecretsClient;
use crate::wire::ssh::ssh_client::SshClient;
use crate::wire::ssh::{BytesMessage, CheckAgentRequest};
use crate::wire::upload;
use crate::wire::upload::upload_client::UploadClient;

/// How long a client may take to answer what it knows.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest piece of an agent's messages that is sent, in bytes.
const PIECE: usize = 32 << 10;
/// How many pieces are under way.
const PIECES: usize = 8;

impl Session {
    /// The secret called `id`; `None` if the client has none.
    pub(crate) async fn secret(&self, id: &str) -> Result<Option<Vec<u8>>, Status> {
        if !self.serves("/moby.buildkit.secrets.v1.Secrets/GetSecret") {
            return Ok(None);
        }
        let mut client =
            SecretsClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX);
        let request = GetSecretRequest { id: id.to_owned(), ..GetSecretRequest::default() };
        present(in_time(client.get_secret(request)).await.map(|answer| answer.data))
    }

    /// What proves to the registry `host` who the client is; `None` if it has nothing.
    pub(crate) async fn credentials(
        &self,
        host: &str,
    ) -> Result<Option<CredentialsResponse>, Status> {
        if !self.serves("/moby.filesync.v1.Auth/Credentials") {
            return Ok(None);
        }
        let mut client = AuthClient::new(self.channel.clone());
        let request = CredentialsRequest { host: host.to_owned() };
        let answer = present(in_time(client.credentials(request)).await)?;
        Ok(answer.filter(|answer| !answer.secret.is_empty()))
    }

    /// A connection with the agent called `id`; `None` if the client has none.
    pub(crate) async fn agent(&self, id: &str) -> Result<Option<Forwarding>, Status> {
        if !self.serves("/moby.sshforward.v1.SSH/ForwardAgent") {
            return Ok(None);
        }
        let mut client = SshClient::new(self.channel.clone());
        let request = CheckAgentRequest { id: id.to_owned() };
        if present(in_time(client.check_agent(request)).await)?.is_none() {
            return Ok(None);
        }
        Ok(Some(Forwarding { client, id: id.to_owned() }))
    }

    /// What the client has uploaded under `id` (`http://buildkit-session/ID`).
    pub(crate) async fn upload(&self, id: &str) -> Result<Streaming<upload::BytesMessage>, Status> {
        let mut client =
            UploadClient::new(self.channel.clone()).max_decoding_message_size(MESSAGE_MAX);
        let mut metadata = Metadata::default();
        metadata.add("urlpath", &[format!("/{id}")]);
        metadata.add("urlhost", &["buildkit-session".to_owned()]);
        let request = metadata.request(tokio_stream::pending());
        in_time(client.pull(request)).await
    }
}

async fn in_time<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, Status> {
    match tokio::time::timeout(PATIENCE, call).await {
        Ok(answer) => answer.map(tonic::Response::into_inner),
        Err(_) => Err(Status::deadline_exceeded("the client does not answer")),
    }
}

fn present<T>(answer: Result<T, Status>) -> Result<Option<T>, Status> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(status) if is_absent(&status) => Ok(None),
        Err(status) => Err(status),
    }
}

/// A connection with an agent of the client's.
pub(crate) struct Forwarding {
    client: SshClient<Channel>,
    id: String,
}

impl Forwarding {
    /// Carries bytes between the agent and `socket` until either ends.
    pub(crate) async fn carry(mut self, socket: UnixStream) {
        let (outgoing, pieces) = mpsc::channel(PIECES);
        let mut metadata = Metadata::default();
        metadata.add("buildkit.ssh.id", std::slice::from_ref(&self.id));
        let request = metadata.request(ReceiverStream::new(pieces));
        let (mut reader, mut writer) = socket.into_split();
        let there = async move {
            let mut buffer = vec![0; PIECE];
            while let Ok(length @ 1..) = reader.read(&mut buffer).await {
                let data = buffer[..length].to_vec();
                if outgoing.send(BytesMessage { data }).await.is_err() {
                    break;
                }
            }
        };
        // The client answers when the agent does, and that when it was asked something.
        let back = async move {
            if let Ok(incoming) = self.client.forward_agent(request).await {
                let mut incoming = incoming.into_inner();
                while let Ok(Some(message)) = incoming.message().await {
                    if writer.write_all(&message.data).await.is_err() {
                        break;
                    }
                }
            }
            let _ = writer.shutdown().await;
        };
        tokio::join!(there, back);
    }
}
