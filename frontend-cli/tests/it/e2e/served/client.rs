//! A client as buildctl is one: a session, a build, and the gateway that drives it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use daemon::wire::control::control_client::ControlClient;
use daemon::wire::control::{self, BytesMessage, StatusRequest, StatusResponse};
use daemon::wire::filesync::auth_server::AuthServer;
use daemon::wire::filesync::file_send_server::FileSendServer;
use daemon::wire::filesync::file_sync_server::FileSyncServer;
use daemon::wire::gateway::llb_bridge_client::LlbBridgeClient;
use daemon::wire::gateway::{self, PingRequest, ReturnRequest};
use daemon::wire::pb;
use daemon::wire::secrets::secrets_server::SecretsServer;
use daemon::wire::ssh::ssh_server::SshServer;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Status};

use super::files::Directories;
use super::services::{Agent, Archives, Kept, Login};

/// Sessions and builds of this process, for their names.
static COUNT: AtomicUsize = AtomicUsize::new(0);

/// What a client has.
#[derive(Clone, Default)]
pub(crate) struct Client {
    pub(crate) directories: Directories,
    pub(crate) archives: Archives,
    pub(crate) secrets: Kept,
    pub(crate) login: Login,
    pub(crate) agent: Agent,
    pub(crate) shared_key: String,
}

/// What is asked of a build.
#[derive(Clone, Default)]
pub(crate) struct Asked {
    pub(crate) options: BTreeMap<String, String>,
    pub(crate) exporters: Vec<control::Exporter>,
    pub(crate) cache: control::CacheOptions,
    /// What is built instead of a Dockerfile.
    pub(crate) definition: Option<pb::Definition>,
}

/// What a build has come to.
#[derive(Debug)]
pub(crate) struct Done {
    /// What the gateway gave.
    pub(crate) result: Result<gateway::Result, Status>,
    /// What the build gave.
    pub(crate) response: Result<BTreeMap<String, String>, Status>,
    pub(crate) messages: Vec<StatusResponse>,
}

/// What a client says in its session.
#[derive(Clone)]
pub(crate) struct Frames(Arc<Mutex<Option<mpsc::Sender<BytesMessage>>>>);

impl Frames {
    /// Says that nothing more comes.
    pub(crate) fn close(&self) {
        *self.0.lock().expect("no panic") = None;
    }

    fn sender(&self) -> Option<mpsc::Sender<BytesMessage>> {
        self.0.lock().expect("no panic").clone()
    }
}

/// A session that is open.
pub(crate) struct Opened {
    pub(crate) id: String,
    pub(crate) frames: Frames,
    pub(crate) ended: JoinHandle<Result<(), Status>>,
}

pub(crate) async fn channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move {
            let stream = tokio::net::UnixStream::connect(socket).await?;
            Ok::<_, std::io::Error>(hyper_util::rt::TokioIo::new(stream))
        }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    endpoint.connect_with_connector(connector).await.expect("the daemon listens")
}

impl Client {
    /// With these directories.
    pub(crate) fn with(directories: &[(&str, &Path)]) -> Self {
        let by_name =
            directories.iter().map(|(name, path)| ((*name).to_owned(), path.to_path_buf()));
        let directories = Directories { by_name: by_name.collect(), ..Directories::default() };
        Self { directories, ..Self::default() }
    }

    /// Opens a session.
    pub(crate) async fn open(&self, channel: &Channel) -> Opened {
        let id = format!("session{}", COUNT.fetch_add(1, Ordering::Relaxed));
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        let services = Server::builder()
            .add_service(FileSyncServer::new(self.directories.clone()))
            .add_service(FileSendServer::new(self.archives.clone()))
            .add_service(SecretsServer::new(self.secrets.clone()))
            .add_service(AuthServer::new(self.login.clone()))
            .add_service(SshServer::new(self.agent.clone()));
        let once = tokio_stream::once(Ok::<_, std::io::Error>(theirs));
        tokio::spawn(services.serve_with_incoming(once));
        let (sender, outgoing) = mpsc::channel(8);
        let frames = Frames(Arc::new(Mutex::new(Some(sender))));
        let mut request = Request::new(ReceiverStream::new(outgoing));
        let metadata = request.metadata_mut();
        metadata.insert("x-docker-expose-session-uuid", id.parse().expect("text"));
        let shared_key = self.shared_key.parse().expect("text");
        metadata.insert("x-docker-expose-session-sharedkey", shared_key);
        for method in [
            "/moby.filesync.v1.FileSync/DiffCopy",
            "/moby.filesync.v1.FileSend/diffcopy",
            "/moby.buildkit.secrets.v1.Secrets/GetSecret",
            "/moby.filesync.v1.Auth/Credentials",
            "/moby.sshforward.v1.SSH/CheckAgent",
            "/moby.sshforward.v1.SSH/ForwardAgent",
        ] {
            metadata.append("x-docker-expose-session-grpc-method", method.parse().expect("text"));
        }
        let answers = ControlClient::new(channel.clone()).session(request).await;
        let mut answers = answers.expect("the session opens").into_inner();
        let (mut reader, mut writer) = tokio::io::split(ours);
        let sending = frames.clone();
        tokio::spawn(async move {
            let mut buffer = vec![0; 32 << 10];
            while let Ok(length @ 1..) = reader.read(&mut buffer).await {
                let data = buffer[..length].to_vec();
                let Some(sender) = sending.sender() else { break };
                if sender.send(BytesMessage { data }).await.is_err() {
                    break;
                }
            }
        });
        let ended = tokio::spawn(async move {
            while let Some(message) = answers.message().await? {
                if writer.write_all(&message.data).await.is_err() {
                    break;
                }
            }
            Ok(())
        });
        Opened { id, frames, ended }
    }

    /// Builds as buildctl does.
    pub(crate) async fn build(&self, socket: &Path, asked: Asked) -> Done {
        let channel = channel(socket).await;
        let session = self.open(&channel).await;
        let done = drive(&channel, &session, asked).await;
        session.frames.close();
        let ended = tokio::time::timeout(Duration::from_secs(10), session.ended).await;
        ended.expect("the session ends").expect("no panic").expect("it ends well");
        done
    }
}

/// Begins a build, has the gateway prepare it, and returns what that gives.
pub(crate) async fn drive(channel: &Channel, session: &Opened, asked: Asked) -> Done {
    let build = format!("build{}", COUNT.fetch_add(1, Ordering::Relaxed));
    let request = control::SolveRequest {
        r#ref: build.clone(),
        session: session.id.clone(),
        exporters: asked.exporters,
        frontend_attrs: asked.options.clone(),
        cache: Some(asked.cache),
        ..control::SolveRequest::default()
    };
    let mut control = ControlClient::new(channel.clone());
    let solving = tokio::spawn(async move { control.solve(request).await });
    let following = tokio::spawn(follow(channel.clone(), build.clone()));
    let mut bridge = LlbBridgeClient::new(channel.clone());
    bridge.ping(of_build(&build, PingRequest {})).await.expect("the build is known");
    let frontend = if asked.definition.is_some() { "" } else { "dockerfile.v0" };
    let solve = gateway::SolveRequest {
        frontend: frontend.to_owned(),
        definition: asked.definition,
        frontend_opt: asked.options,
        allow_result_return: true,
        allow_result_array_ref: true,
        ..gateway::SolveRequest::default()
    };
    let result = bridge.solve(of_build(&build, solve)).await;
    let result = result.map(|answer| answer.into_inner().result.expect("a result"));
    let returned = match &result {
        Ok(result) => ReturnRequest { result: Some(result.clone()), error: None },
        Err(status) => ReturnRequest { result: None, error: Some(as_message(status)) },
    };
    bridge.r#return(of_build(&build, returned)).await.expect("taken");
    let response = solving.await.expect("no panic");
    Done {
        result,
        response: response.map(|answer| answer.into_inner().exporter_response),
        messages: following.await.expect("no panic"),
    }
}

pub(crate) fn of_build<T>(build: &str, message: T) -> Request<T> {
    let mut request = Request::new(message);
    let name = build.parse().expect("text");
    request.metadata_mut().insert("buildkit-controlapi-buildid", name);
    request
}

/// A status with what is said beside it, as clients give it back.
fn as_message(status: &Status) -> daemon::wire::rpc::Status {
    match status.details() {
        [] => daemon::wire::rpc::Status {
            code: status.code() as i32,
            message: status.message().to_owned(),
            details: Vec::new(),
        },
        details => prost::Message::decode(details).expect("details are a status"),
    }
}

async fn follow(channel: Channel, r#ref: String) -> Vec<StatusResponse> {
    let status = ControlClient::new(channel).status(StatusRequest { r#ref }).await;
    let mut stream = status.expect("the build is known").into_inner();
    let mut messages = Vec::new();
    while let Some(message) = stream.message().await.expect("messages until the end") {
        messages.push(message);
    }
    messages
}

impl Done {
    /// Names of the vertices that ended, with `cached` behind those that were known.
    pub(crate) fn steps(&self) -> Vec<String> {
        let vertexes = self.messages.iter().flat_map(|message| &message.vertexes);
        let ended = vertexes.filter(|vertex| vertex.completed.is_some());
        ended
            .map(|v| if v.cached { format!("{} cached", v.name) } else { v.name.clone() })
            .collect()
    }

    pub(crate) fn log(&self) -> String {
        let logs = self.messages.iter().flat_map(|message| &message.logs);
        logs.map(|log| String::from_utf8_lossy(&log.msg).into_owned()).collect()
    }
}
