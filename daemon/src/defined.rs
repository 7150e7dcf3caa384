//! Builds that come as definitions: kept as trees that later calls name, and made into images when one of
//! them is returned.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use engine::{BuildRequest, Client, Defined, DefinedImage, PullPolicy};
use engine::{SolveRequest, tree::View};
use oci::{ImageConfig, Platform};
use tonic::Status;

use crate::build::Builder;
use crate::builds::{Build, Ready, Tree};
use crate::client::SessionClient;
use crate::definition::{self, Definition, Kept, Reading};
use crate::failure;
use crate::policy;
use crate::request::Wish;
use crate::session::Session;
use crate::wire::gateway::{self, Ref, RefMap, result};
use crate::wire::{control, pb};

/// Where a client says what the config of an image is.
const CONFIG: &str = "containerimage.config";
/// `PATH` of an image of which nothing is said.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Sessions by the local directories that they have.
type Sessions = BTreeMap<String, Arc<Session>>;

impl Builder {
    /// Reads a definition, and keeps what it gives as a tree.
    pub(crate) async fn solve_definition(
        self: &Arc<Self>,
        build: &Build,
        solve: &gateway::SolveRequest,
        definition: &pb::Definition,
    ) -> Result<gateway::Result, Status> {
        if !solve.frontend.is_empty() {
            return Err(Status::invalid_argument("a definition and a frontend exclude each other"));
        }
        let tree = self.read_definition(build, solve, definition).await?;
        if tree.kept.target.is_none() {
            return Ok(result_of(String::new(), solve.allow_result_array_ref));
        }
        if solve.evaluate {
            self.evaluate(build, &tree).await?;
        }
        let id = build.new_name();
        build.keep_tree(id.clone(), tree);
        Ok(result_of(id, solve.allow_result_array_ref))
    }

    /// The tree that a definition gives.
    async fn read_definition(
        self: &Arc<Self>,
        build: &Build,
        solve: &gateway::SolveRequest,
        definition: &pb::Definition,
    ) -> Result<Tree, Status> {
        let (mut request, _) = self.outputs_of(build, solve)?;
        let (read, inherited) = read(build, definition)?;
        let Definition { steps, target, file, pulls, known_hosts } = read;
        let policies = build.request.source_policy_session.as_str();
        if !policies.is_empty() {
            let sources = steps.vertices().filter_map(|vertex| match &steps.vertex(vertex).op {
                llb::Op::Source(source) => Some(source),
                _ => None,
            });
            let session = self.sessions.get(policies).await?;
            policy::check(&session, Some(&Platform::host()), sources).await?;
        }
        if pulls {
            request.pull = PullPolicy::Always;
        }
        let workspace = self.workspace(Some(&build.cancel)).await?;
        let (mut others, shared_keys) = self.locals_of(&steps).await;
        others.extend(inherited);
        let known_hosts = known_hosts.into_bytes();
        let client = self.client(build, &workspace).await?;
        let client = SessionClient { others, shared_keys, known_hosts, ..client };
        Ok(Tree {
            kept: Kept { definition: Arc::new(steps), target },
            workspace,
            client: Arc::new(client),
            request: Arc::new(request),
            file: file.map(|file| (file.name, file.text)),
        })
    }

    /// The sessions that have the local directories of a definition, and what tells copies of these apart, by
    /// their names. A session that has gone is not needed where the build's own has the directory, too.
    async fn locals_of(&self, steps: &llb::Definition) -> (Sessions, BTreeMap<String, String>) {
        let (mut sessions, mut keys) = (Sessions::new(), BTreeMap::new());
        for vertex in steps.vertices() {
            let llb::Op::Source(llb::SourceOp::Local(local)) = &steps.vertex(vertex).op else {
                continue;
            };
            keys.insert(local.name.clone(), local.shared_key.clone());
            if local.session.is_empty() || sessions.contains_key(&local.name) {
                continue;
            }
            if let Ok(session) = self.sessions.get(&local.session).await {
                sessions.insert(local.name.clone(), session);
            }
        }
        (sessions, keys)
    }

    /// What a build asks for besides its steps; and the config that its exporters name.
    fn outputs_of(
        &self,
        build: &Build,
        solve: &gateway::SolveRequest,
    ) -> Result<(BuildRequest, Option<String>), Status> {
        let refused = |e| failure::refused(&e);
        let mut wish = Wish::of_definition(&build.request, solve).map_err(refused)?;
        let configs = wish.asked.outputs.iter_mut().map(|output| output.rest.remove(CONFIG));
        let config = configs.collect::<Vec<_>>().into_iter().flatten().next();
        let request = wish.request(self.vocabulary.as_ref()).map_err(refused)?;
        self.check_grants(&request)?;
        Ok((request, config))
    }

    /// Runs the steps of a tree.
    pub(crate) async fn evaluate(&self, build: &Build, tree: &Tree) -> Result<(), Status> {
        self.open(build, tree).await.map(drop)
    }

    /// Runs the steps of a tree and opens it.
    pub(crate) async fn open(&self, build: &Build, tree: &Tree) -> Result<Arc<View>, Status> {
        let request = SolveRequest {
            definition: (*tree.kept.definition).clone(),
            targets: tree.kept.target.into_iter().collect(),
            pull: tree.request.pull,
            offline: tree.request.offline,
            limits: tree.request.limits.clone(),
            step_disk: tree.request.step_disk,
            jobs: tree.request.jobs,
        };
        let client: Arc<dyn Client> = tree.client.clone();
        let (progress, cancel) = (build.status.clone(), build.cancel.clone());
        let read = tree.workspace.read(request, client, progress, cancel).await;
        read.map_err(|error| failure::status(&error))
    }

    /// Makes the images of the trees that a client has returned.
    pub(crate) async fn finish_trees(
        self: &Arc<Self>,
        build: &Build,
        returned: &gateway::Result,
    ) -> Result<control::SolveResponse, Status> {
        let mut defined = Defined::default();
        let mut first: Option<Tree> = None;
        let (_, given) = self.outputs_of(build, &gateway::SolveRequest::default())?;
        for (platform, id) in ids(returned) {
            let tree = build.tree(&id)?;
            let config = config(returned, platform.as_deref(), given.as_deref())?;
            let moved = defined.definition.absorb(&tree.kept.definition);
            let moved = moved.map_err(|error| Status::internal(error.to_string()))?;
            let target = tree.kept.target;
            let target =
                target.map(|target| llb::Input { vertex: moved[&target.vertex], ..target });
            let platform = config.platform();
            defined.images.push(DefinedImage { platform, config, target });
            first.get_or_insert(tree);
        }
        let Some(Tree { workspace, client, request, file, .. }) = first else {
            return Ok(control::SolveResponse::default());
        };
        let mut request = (*request).clone();
        request.platforms = match &defined.images[..] {
            [_] => Vec::new(),
            images => images.iter().map(|image| image.platform.clone()).collect(),
        };
        defined.file = file;
        let asker: Arc<dyn Client> = client.clone();
        let (progress, cancel) = (build.status.clone(), &build.cancel);
        let prepared = workspace
            .prepare_defined(request, defined, asker, progress, cancel)
            .await
            .map_err(|error| failure::status(&error))?;
        self.finish(build, Ready { workspace, prepared, client }).await
    }

    /// A build whose definition stands in its request.
    pub(crate) async fn build_definition(
        self: &Arc<Self>,
        build: &Build,
        definition: &pb::Definition,
    ) -> Result<control::SolveResponse, Status> {
        let solve = gateway::SolveRequest { allow_result_array_ref: true, ..Default::default() };
        let result = self.solve_definition(build, &solve, definition).await?;
        if build.request.exporters.is_empty() && build.request.exporter_deprecated.is_empty() {
            for (_, id) in ids(&result) {
                self.evaluate(build, &build.tree(&id)?).await?;
            }
            return Ok(control::SolveResponse::default());
        }
        self.finish_trees(build, &result).await
    }
}

/// Reads a definition, and what has the local directories of the results that it starts from. These are results of
/// the same build: another one's directories may have the same names.
fn read(build: &Build, definition: &pb::Definition) -> Result<(Definition, Sessions), Status> {
    let inherited = RefCell::new(Sessions::new());
    let result = |id: &str| {
        let tree = build.tree(id).ok()?;
        inherited.borrow_mut().extend(tree.client.others.clone());
        Some(tree.kept)
    };
    let reading = Reading {
        platform: Platform::host(),
        entitlements: &build.request.entitlements.iter().cloned().collect(),
        results: &result,
    };
    let read = definition::read(definition, &reading).map_err(|e| failure::definition(&e))?;
    Ok((read, inherited.into_inner()))
}

/// A result that is one tree. Definitions may start from it.
fn result_of(id: String, allows_refs: bool) -> gateway::Result {
    let result = match allows_refs {
        true if id.is_empty() => result::Result::Ref(Ref::default()),
        true => result::Result::Ref(Ref { def: Some(definition::of_result(&id)), id }),
        false => result::Result::RefDeprecated(id),
    };
    gateway::Result { result: Some(result), ..Default::default() }
}

/// The trees of a result, by their platforms where there are several.
fn ids(result: &gateway::Result) -> Vec<(Option<String>, String)> {
    let several = |all: &mut dyn Iterator<Item = (&String, &String)>| {
        all.map(|(platform, id)| (Some(platform.clone()), id.clone())).collect()
    };
    let all: Vec<(Option<String>, String)> = match &result.result {
        None => Vec::new(),
        Some(result::Result::RefDeprecated(id)) => vec![(None, id.clone())],
        Some(result::Result::Ref(of)) => vec![(None, of.id.clone())],
        Some(result::Result::RefsDeprecated(refs)) => several(&mut refs.refs.iter()),
        Some(result::Result::Refs(RefMap { refs })) => {
            several(&mut refs.iter().map(|(platform, of)| (platform, &of.id)))
        }
    };
    all.into_iter().filter(|(_, id)| !id.is_empty()).collect()
}

/// The config of an image: what its client says, what its exporter says, or the usual one.
fn config(
    result: &gateway::Result,
    platform: Option<&str>,
    given: Option<&str>,
) -> Result<ImageConfig, Status> {
    let of_platform = platform.and_then(|p| result.metadata.get(&format!("{CONFIG}/{p}")));
    let told = of_platform.or_else(|| result.metadata.get(CONFIG)).map(Vec::as_slice);
    let Some(bytes) = told.or(given.map(str::as_bytes)) else {
        return usual_config(platform);
    };
    ImageConfig::parse(bytes)
        .map_err(|error| Status::invalid_argument(format!("failed to read `{CONFIG}`: {error}")))
}

fn usual_config(platform: Option<&str>) -> Result<ImageConfig, Status> {
    let platform = match platform {
        None => Platform::host(),
        Some(text) => text.parse().map_err(|error: oci::platform::InvalidPlatform| {
            Status::invalid_argument(error.to_string())
        })?,
    };
    let mut config = ImageConfig {
        os: platform.os,
        architecture: platform.architecture,
        variant: platform.variant,
        ..ImageConfig::default()
    };
    config.config.working_dir = "/".to_owned();
    config.config.env.push(DEFAULT_PATH.to_owned());
    Ok(config)
}
