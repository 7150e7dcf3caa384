//! A build from its request to what it gives: prepared when a client asks for it, and done when it returns it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use engine::{
    BuildError, BuildRequest, Checked, Client, ContextSource, DockerfileSource, Engine,
    Entitlement, Output, Reserve, Workspace,
};
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use crate::builds::{Build, Ready, Tree};
use crate::client::{SessionClient, output_folder, text_in};
use crate::definition::Kept;
use crate::request::{Context, Wish};
use crate::session::{Sessions, Wanted, send_directory};
use crate::status::OwnStep;
use crate::wire::{control, gateway};
use crate::words::{Answered, Told, Vocabulary};
use crate::{answer, failure, layout, policy};

/// What builds are done with.
pub(crate) struct Builder {
    pub(crate) engine: Engine,
    pub(crate) vocabulary: Box<dyn Vocabulary>,
    /// What clients may grant to steps.
    pub(crate) grants: Vec<Entitlement>,
    pub(crate) sessions: Arc<Sessions>,
}

impl Builder {
    /// A store that is open for one build, which `cancel` ends.
    pub(crate) async fn workspace(
        self: &Arc<Self>,
        cancel: Option<&CancellationToken>,
    ) -> Result<Arc<Workspace>, Status> {
        let builder = self.clone();
        let opened = tokio::task::spawn_blocking(move || builder.engine.workspace(Reserve::Kept));
        let opened = opened.await.expect("opening a store does not panic");
        let workspace = opened.map_err(|error| failure::status(&error))?;
        if let Some(cancel) = cancel {
            workspace.ends_with(cancel);
        }
        Ok(Arc::new(workspace))
    }

    /// Prepares the build of a Dockerfile, or tells what is asked about it.
    pub(crate) async fn solve(
        self: &Arc<Self>,
        build: &Build,
        solve: &gateway::SolveRequest,
    ) -> Result<gateway::Result, Status> {
        let wish = Wish::read(&build.request, solve).map_err(|e| failure::refused(&e))?;
        let request = wish.request(self.vocabulary.as_ref()).map_err(|e| failure::refused(&e))?;
        self.check_grants(&request)?;
        let workspace = self.workspace(Some(&build.cancel)).await?;
        let (request, client) = self.input(build, &wish, request, &workspace).await?;
        if let Some(call) = &wish.call {
            return self.tell(call, &workspace, request, client, build).await;
        }
        let prepared = workspace
            .prepare(request, client.clone(), build.status.clone(), &build.cancel)
            .await
            .map_err(|error| failure::status(&error))?;
        let policies = build.request.source_policy_session.as_str();
        if !policies.is_empty() {
            let platform = prepared.images().next().map(|(platform, _)| platform);
            let session = self.sessions.get(policies).await?;
            policy::check(&session, platform, prepared.sources()).await?;
        }
        let name = build.new_name();
        let result = answer::result(&prepared, &name, solve.allow_result_array_ref);
        let (definition, request) = prepared.steps();
        for (platform, target) in prepared.targets() {
            let tree = Tree {
                kept: Kept { definition: definition.clone(), target },
                workspace: workspace.clone(),
                client: client.clone(),
                request: request.clone(),
                file: None,
            };
            build.keep_tree(answer::tree_name(&prepared, &name, platform), tree);
        }
        build.keep(name, Ready { workspace, prepared, client });
        Ok(result)
    }

    /// What is granted must be the daemon's to grant.
    pub(crate) fn check_grants(&self, request: &BuildRequest) -> Result<(), Status> {
        let is_allowed = |wanted: &&Entitlement| {
            let all = Entitlement::Device(None);
            let is_device = matches!(wanted, Entitlement::Device(_));
            self.grants.contains(wanted) || is_device && self.grants.contains(&all)
        };
        match request.entitlements.iter().find(|wanted| !is_allowed(wanted)) {
            None => Ok(()),
            Some(wanted) => Err(Status::permission_denied(format!(
                "{} is not allowed: the daemon was not started with it",
                match wanted {
                    Entitlement::NetworkHost => "network.host".to_owned(),
                    Entitlement::SecurityInsecure => "security.insecure".to_owned(),
                    Entitlement::Device(None) => "device".to_owned(),
                    Entitlement::Device(Some(name)) => format!("device={name}"),
                }
            ))),
        }
    }

    /// The client of a build.
    pub(crate) async fn client(
        &self,
        build: &Build,
        workspace: &Arc<Workspace>,
    ) -> Result<SessionClient, Status> {
        Ok(SessionClient {
            handle: Handle::current(),
            session: self.sessions.get(&build.request.session).await?,
            others: BTreeMap::new(),
            shared_keys: BTreeMap::new(),
            workspace: workspace.clone(),
            known_hosts: Vec::new(),
            scratch: workspace.store().temporary_directory(),
            status: build.status.clone(),
            cancel: build.cancel.clone(),
            kept: Mutex::default(),
        })
    }

    /// The client of a build, with the Dockerfile and the ignore file that it has.
    async fn input(
        &self,
        build: &Build,
        wish: &Wish,
        mut request: BuildRequest,
        workspace: &Arc<Workspace>,
    ) -> Result<(BuildRequest, Arc<SessionClient>), Status> {
        let mut others = BTreeMap::new();
        for (local, id) in &wish.sessions {
            others.insert(local.clone(), self.sessions.get(id).await?);
        }
        let client = SessionClient {
            others,
            shared_keys: wish.shared_keys.clone(),
            ..self.client(build, workspace).await?
        };
        let failed = |error: engine::ClientError| failure::status(&BuildError::from(error));
        request.dockerfile = match &wish.dockerfile {
            None => DockerfileSource::File(Some(wish.filename.clone().into())),
            Some(local) => {
                let file = dockerfile(&client, local, &wish.filename).await.map_err(failed)?;
                if let Context::Local(context) = &wish.context {
                    let exclude_patterns = match file.ignored {
                        Some(text) => parser::ignore::parse_file(&text),
                        None => client.ignored(context, "ignore").await.map_err(failed)?,
                    };
                    let name = context.clone();
                    request.context = ContextSource::Distant { name, exclude_patterns };
                }
                DockerfileSource::Text { name: file.name, text: file.text }
            }
        };
        Ok((request, Arc::new(client)))
    }

    /// Answers a question about the Dockerfile.
    async fn tell(
        &self,
        call: &str,
        workspace: &Workspace,
        request: BuildRequest,
        client: Arc<SessionClient>,
        build: &Build,
    ) -> Result<gateway::Result, Status> {
        let failed = |error: BuildError| failure::status(&error);
        let progress = Arc::new(Reading { status: build.status.clone(), read: Mutex::default() });
        let (asked, told): (Arc<dyn Client>, Arc<dyn engine::Progress>) =
            (client, progress.clone());
        let told = match call {
            "frontend.lint" => Told::Check(match workspace.check(request, asked, told).await {
                Err(BuildError::Dockerfile { diagnostics: found, .. }) => {
                    Checked { found, stopped_by: None }
                }
                checked => checked.map_err(failed)?,
            }),
            "frontend.outline" => Told::Outline(Box::new(
                workspace.outline(request, asked, told).await.map_err(failed)?,
            )),
            "frontend.targets" => {
                Told::Targets(workspace.dockerfile(request, asked, told).await.map_err(failed)?)
            }
            "frontend.subrequests.describe" => Told::Describe,
            other => return Err(failure::unknown_call(other)),
        };
        let read = progress.read.lock().expect("no panic while held").take();
        let (name, text) = read.unwrap_or_default();
        let answered: Answered = self.vocabulary.told(&told, &name, &text);
        Ok(answer::told(answered))
    }

    /// Builds what was prepared, and sends what the client gets as files.
    pub(crate) async fn finish(
        &self,
        build: &Build,
        ready: Ready,
    ) -> Result<control::SolveResponse, Status> {
        let Ready { workspace, prepared, client } = ready;
        let is_index = prepared.is_index();
        let folders = folders(prepared.outputs());
        let outcome = workspace
            .build_prepared(prepared, &build.cancel)
            .await
            .map_err(|error| failure::status(&error))?;
        for (index, kind) in folders {
            let step = OwnStep::start(&build.status, "sending files to client");
            let folder = output_folder(&client.scratch, index);
            let sent = match kind {
                Folder::Files => {
                    let index = index.to_string();
                    let sent = send_directory(&client.session, folder, &index, is_index).await;
                    sent.map_err(|error| error.to_string())
                }
                Folder::Layout => {
                    let sent = layout::send(&client.session, &folder).await;
                    sent.map_err(|error| chain(&error))
                }
            };
            step.end(sent.as_ref().err().map(String::as_str));
            sent.map_err(|error| Status::unknown(format!("failed to send files: {error}")))?;
        }
        Ok(control::SolveResponse { exporter_response: answer::exported(&outcome) })
    }
}

/// What the client gets of an output as files.
enum Folder {
    Files,
    /// An OCI layout, whose blobs its content store takes.
    Layout,
}

/// Outputs that are written to folders here before the client gets them, by their numbers.
fn folders(outputs: &[Output]) -> Vec<(usize, Folder)> {
    let folder = |(index, output): (usize, &Output)| match output {
        Output::Local { .. } => Some((index, Folder::Files)),
        Output::Oci { tar: false, .. } | Output::Docker { tar: false, .. } => {
            Some((index, Folder::Layout))
        }
        _ => None,
    };
    outputs.iter().enumerate().filter_map(folder).collect()
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |error| error.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A Dockerfile that was received.
struct Dockerfile {
    name: String,
    text: Vec<u8>,
    /// What its own ignore file says, if it has one.
    ignored: Option<String>,
}

async fn dockerfile(
    client: &SessionClient,
    local: &str,
    filename: &str,
) -> Result<Dockerfile, engine::ClientError> {
    let own_ignore_file = format!("{filename}.dockerignore");
    let mut names = vec![filename.to_owned()];
    // The default is also found in lower case.
    if let Some(folder) = filename.strip_suffix("Dockerfile") {
        names.push(format!("{folder}dockerfile"));
    }
    let follow = [&names[..], std::slice::from_ref(&own_ignore_file)].concat();
    let wanted = Wanted { name: local.to_owned(), follow, ..Wanted::default() };
    let title = format!("[internal] load build definition from {filename}");
    let place = client.receive_once(&wanted, "dockerfile", &title).await?;
    let read = |name: &str| {
        text_in(&place, name).map_err(|error| {
            engine::ClientError::io(format!("failed to read `{name}` of the client"), error)
        })
    };
    let mut text = None;
    for name in &names {
        text = text.map_or_else(|| read(name), |text| Ok(Some(text)))?;
    }
    let text = text.ok_or_else(|| {
        let message = "failed to read dockerfile: open {}: no such file or directory";
        engine::ClientError::new(message.replace("{}", filename))
    })?;
    let ignored = read(&own_ignore_file)?;
    let ignored = ignored.map(|text| String::from_utf8_lossy(&text).into_owned());
    let name = filename.rsplit('/').next().unwrap_or(filename).to_owned();
    Ok(Dockerfile { name, text, ignored })
}

/// Progress that keeps the Dockerfile which was read.
struct Reading {
    status: Arc<crate::status::StatusLog>,
    read: Mutex<Option<(String, Arc<str>)>>,
}

impl engine::Progress for Reading {
    fn event(&self, event: engine::Event) {
        if let engine::Event::Dockerfile { name, text } = &event {
            *self.read.lock().expect("no panic while held") = Some((name.clone(), text.clone()));
        }
        self.status.event(event);
    }

    fn shows_changes(&self) -> bool {
        false
    }
}
