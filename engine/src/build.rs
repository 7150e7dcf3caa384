//! One build from request to images.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cache::layer::compress::Compression as Encoding;
use cache::{LayerId, Reserve, Store};
use llb::{Definition, Input as VertexInput, VertexId};
use oci::{Descriptor, Digest, Platform};
use parser::lower::{self, ImageRequest, Lowered, Options, RequestedImage};
use registry::{Credentials, Registries};
use solver::Slots;
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::config::Config;
use crate::error::{BuildError, StepFailure, chain};
use crate::gc;
use crate::layer::{Layers, tar};
use crate::machine::Machine;
use crate::output::assemble::{self, AssembledImage, Parts};
use crate::output::export::Export;
use crate::output::redate::{NewTimes, Redate};
use crate::plan::Plan;
use crate::progress::event::{Event, Progress};
use crate::progress::steps::Steps;
use crate::request::{BuildRequest, Entitlement, Epoch, NetworkMode, NoCache, Output, Rewrite};
use crate::source::contexts::Contexts;
use crate::source::image::{Images, ResolvedImage};
use crate::source::input::{self, Input};
use crate::step::files::Outputs;
use crate::step::sandbox::Sandbox;
use crate::step::worker::{BuildWorker, shipped};
use crate::stop::{in_time, until};

/// How often a build is tried: the store may have lost what it said it had, and people edit while they
/// build.
pub(crate) const ATTEMPTS: usize = 5;
/// How long a file that changes is left alone before the first new attempt; twice as long each time.
const AT_REST: Duration = Duration::from_millis(100);

/// How an engine is opened.
#[derive(Debug, Clone, Default)]
pub struct EngineOptions {
    /// The store's directory; `None` for `$MYBUILD_ROOT`, else the usual place.
    pub root: Option<PathBuf>,
    /// The configuration file; `None` for the usual places.
    pub config: Option<PathBuf>,
    /// Whether the room may be used that the store has set aside.
    pub reserve: Reserve,
}

/// A store, a configuration, and what it takes to build with them.
pub struct Engine {
    pub(crate) store: Store,
    pub(crate) registries: Arc<Registries>,
    pub(crate) machine: Arc<Machine>,
    pub(crate) sandbox: Arc<Sandbox>,
    /// What the store keeps to.
    pub(crate) rules: Arc<[cache::PruneFilter]>,
}

/// What a build gives.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// One image a platform.
    pub images: Vec<BuiltImage>,
    /// The names the result got in the store.
    pub names: Vec<String>,
    /// What the names stand for: the image's manifest, or the index over all platforms.
    pub target: Descriptor,
    /// Names this build among all builds of the machine; its logs are kept under it.
    pub build_id: String,
}

/// An image of one platform.
#[derive(Debug, Clone)]
pub struct BuiltImage {
    /// Its platform.
    pub platform: Platform,
    /// Its manifest.
    pub manifest: Descriptor,
    /// The digest of its config: the image id.
    pub config: Digest,
}

/// What lowering gave for one platform.
struct PlatformPlan {
    platform: Platform,
    lowered: Lowered,
    /// The result in the common definition; `None` for an empty image.
    target: Option<VertexInput>,
}

/// Which stages are lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    /// What the target needs.
    Target,
    /// All of the file.
    AllStages,
}

/// One try at a build.
struct Attempt {
    layers: Arc<Layers>,
    is_last: bool,
}

/// Everything about the build that is the same for all its steps.
struct Session {
    request: BuildRequest,
    input: Input,
    images: Arc<Images>,
    steps: Arc<Steps>,
    resolved: HashMap<ImageRequest, Arc<ResolvedImage>>,
    build_id: String,
}

impl Engine {
    /// Opens the store and reads the configuration. Connects to nothing and starts nothing.
    pub fn open(options: &EngineOptions) -> Result<Self, BuildError> {
        let config = Config::load(options.config.as_deref())
            .map_err(|e| BuildError::Input { message: e.to_string(), hint: None })?;
        let machine = Arc::new(Machine::probe());
        let root = options.root.clone().map_or_else(|| default_root(&machine), Ok)?;
        let options = cache::Options { reserve: options.reserve, ..cache::Options::default() };
        let store = Store::open(&root, options).map_err(|e| {
            let message = format!("failed to open the store `{}`", root.display());
            BuildError::system(message, &e).with_room(cache::Room::of(&root))
        })?;
        let disk = store.disk_size().map_err(|e| {
            BuildError::system(format!("failed to ask how large `{}` is", root.display()), &e)
        })?;
        let rules = config.gc.rules(disk).map_err(|message| BuildError::Input {
            message: format!("invalid configuration: `[gc]`: {message}"),
            hint: None,
        })?;
        let settings = registry::Config { hosts: config.registry, ..registry::Config::default() };
        let registries = Arc::new(Registries::new(settings, Credentials::from_environment()));
        let sandbox = Arc::new(Sandbox::new(machine.clone()));
        Ok(Self { store, registries, sandbox, machine, rules: rules.into() })
    }

    /// Says that the program ends once `cancel` is cancelled: from then on nothing waits for the disk for more
    /// than a moment. What the store could not commit by then has to be done again, what it could not remove
    /// goes with the next session.
    pub fn ends_with(&self, cancel: &CancellationToken) {
        let (stopper, cancel) = (self.store.stopper(), cancel.clone());
        tokio::spawn(async move {
            cancel.cancelled().await;
            stopper.stop();
        });
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Lowers without building.
    pub async fn plan(
        &self,
        request: BuildRequest,
        progress: Arc<dyn Progress>,
    ) -> Result<Plan, BuildError> {
        let never = CancellationToken::new();
        let mut session = self.session(request, progress, &never).await?;
        let (definition, plans) = session.lower(Scope::Target).await?;
        session.tell_notes(&plans);
        let targets = plans.iter().filter_map(|p| p.target.map(|t| t.vertex)).collect();
        let warnings = plans.into_iter().flat_map(|p| p.lowered.warnings).collect();
        Ok(Plan::new(definition, targets, warnings, &session.resolved))
    }

    /// Looks the Dockerfile over without building: the warnings about what the target needs, or
    /// about all stages where no target is named.
    pub async fn check(
        &self,
        request: BuildRequest,
        progress: Arc<dyn Progress>,
    ) -> Result<Vec<parser::Diagnostic>, BuildError> {
        let scope = if request.target.is_some() { Scope::Target } else { Scope::AllStages };
        let never = CancellationToken::new();
        let mut session = self.session(request, progress, &never).await?;
        let (_, plans) = session.lower(scope).await?;
        session.tell_notes(&plans);
        Ok(plans.into_iter().flat_map(|plan| plan.lowered.warnings).collect())
    }

    /// Builds. `cancel` stops it: running steps are killed, nothing is left behind.
    pub async fn build(
        &self,
        request: BuildRequest,
        progress: Arc<dyn Progress>,
        cancel: CancellationToken,
    ) -> Result<Outcome, BuildError> {
        let session = until(&cancel, self.session(request, progress, &cancel)).await?;
        let steps = session.steps.clone();
        let built = self.build_session(session, &cancel).await;
        steps.close(built.is_ok());
        self.tell_store_warnings(&steps);
        if cancel.is_cancelled() && built.is_err() {
            return Err(BuildError::Canceled);
        }
        built.map_err(|error| error.with_room(self.store.room()))
    }

    async fn session(
        &self,
        request: BuildRequest,
        progress: Arc<dyn Progress>,
        cancel: &CancellationToken,
    ) -> Result<Session, BuildError> {
        let (store, stop) = (self.store.clone(), cancel.clone());
        let single_id = self.machine.host().single_id();
        let read = blocking(move || {
            let input = input::read(&request, &store.temporary_directory(), &stop, single_id)?;
            Ok((input, request))
        });
        let (input, request) = read.await?;
        let images = Images::new(
            self.store.clone(),
            self.registries.clone(),
            request.pull,
            input.layouts.clone(),
        );
        let steps = Arc::new(Steps::new(progress));
        let (name, text) = (input.name.clone(), input.text.as_str().into());
        steps.event(Event::Dockerfile { name, text });
        Ok(Session {
            request,
            input,
            images: Arc::new(images),
            steps,
            resolved: HashMap::new(),
            build_id: unique_id(),
        })
    }

    pub(crate) fn tell_store_warnings(&self, steps: &Steps) {
        for warning in self.store.take_warnings() {
            steps.warn(chain(&warning));
        }
    }

    async fn build_session(
        &self,
        mut session: Session,
        cancel: &CancellationToken,
    ) -> Result<Outcome, BuildError> {
        let (definition, plans) = until(cancel, session.lower(Scope::Target)).await?;
        session.tell_warnings(&plans);
        session.check_times(&plans)?;
        session.tell_notes(&plans);
        let definition = Arc::new(definition);
        let targets: Vec<VertexId> =
            plans.iter().filter_map(|p| p.target.map(|t| t.vertex)).collect();
        session.steps.add_plan(&definition, &targets);
        self.tell_snapshotter(&session.steps).await?;
        let encodings = session.encodings(&plans);
        let mut number = 0;
        let outcome = loop {
            number += 1;
            let (store, machine) = (self.store.clone(), self.machine.clone());
            let layers =
                Layers::new(store, machine, session.steps.clone(), encodings.clone(), cancel);
            let attempt = Attempt { layers: Arc::new(layers), is_last: number == ATTEMPTS };
            let outcome = self.attempt(&session, &definition, &plans, &attempt, cancel).await;
            in_time(cancel, attempt.layers.close()).await;
            if attempt.is_last || cancel.is_cancelled() {
                break outcome;
            }
            match &outcome {
                Err(BuildError::Changed { path, what }) => {
                    session.steps.warn(format!(
                        "`{path}` changed while the build ran ({what}): the steps that take it in \
                         start again"
                    ));
                    until(cancel, rest(number)).await?;
                }
                Err(_) if attempt.layers.found_damage() => {
                    self.tell_store_warnings(&session.steps);
                }
                _ => break outcome,
            }
            session.steps.start_again();
        };
        let flushed = in_time(cancel, self.flush()).await;
        if !cancel.is_cancelled() {
            self.make_room_again();
        }
        flushed.unwrap_or(Err(BuildError::Canceled)).and(outcome)
    }

    /// What the steps have written may be more than the store is to keep.
    fn make_room_again(&self) {
        if self.store.has_made_room() {
            gc::make_room(&self.store, &self.rules);
        }
    }

    async fn flush(&self) -> Result<(), BuildError> {
        if !self.store.is_dirty() {
            return Ok(());
        }
        let store = self.store.clone();
        let failed = |e| BuildError::system("failed to write to the store", &e);
        blocking(move || store.flush().map_err(failed)).await
    }

    async fn tell_snapshotter(&self, steps: &Steps) -> Result<(), BuildError> {
        let (store, machine) = (self.store.clone(), self.machine.clone());
        let snapshotter = match machine.known_snapshotter(&store) {
            Some(known) => known,
            None => blocking(move || machine.snapshotter(&store)).await?,
        };
        if snapshotter == cache::Snapshotter::Copy {
            let root = self.store.root().display();
            steps.warn(format!(
                "overlay mounts do not work in `{root}`: files are copied for every step"
            ));
        }
        Ok(())
    }

    /// Builds once. What the store turns out to have lost is absent the next time.
    async fn attempt(
        &self,
        session: &Session,
        definition: &Arc<Definition>,
        plans: &[PlatformPlan],
        attempt: &Attempt,
        cancel: &CancellationToken,
    ) -> Result<Outcome, BuildError> {
        let trees = self.solve(session, definition.clone(), plans, attempt, cancel).await?;
        until(cancel, self.finish(session, plans, trees, &attempt.layers, cancel)).await
    }

    /// Runs what must run; gives back each platform's layers.
    async fn solve(
        &self,
        session: &Session,
        definition: Arc<Definition>,
        plans: &[PlatformPlan],
        attempt: &Attempt,
        cancel: &CancellationToken,
    ) -> Result<Vec<Vec<LayerId>>, BuildError> {
        let targets: Vec<VertexId> =
            plans.iter().filter_map(|p| p.target.map(|t| t.vertex)).collect();
        let worker = Arc::new(BuildWorker {
            definition: definition.clone(),
            shipped: shipped(&definition, &targets),
            store: self.store.clone(),
            machine: self.machine.clone(),
            layers: attempt.layers.clone(),
            images: session.images.clone(),
            resolved: Mutex::new(session.resolved.clone()),
            steps: session.steps.clone(),
            contexts: Contexts::new(self.machine.clone(), session.input.directories.clone()),
            is_last_attempt: attempt.is_last,
            secrets: session.request.secrets.clone(),
            sandbox: self.sandbox.clone(),
            rules: self.rules.clone(),
            limits: session.request.limits.clone(),
            step_disk: session.request.step_disk,
            dockerfile: (session.input.name.clone(), session.input.text.clone()),
            build_id: session.build_id.clone(),
            epoch: plans.iter().find_map(|plan| plan.lowered.source_date_epoch),
        });
        let slots = Arc::new(slots(session.request.jobs));
        let solved =
            solver::drive(worker.clone(), definition, &targets, slots, &session.build_id, cancel)
                .await;
        if solved.is_err() {
            worker.contexts.abandon();
        }
        in_time(cancel, worker.contexts.save_indexes(&session.steps)).await;
        let results = solved.map_err(|failure| match failure {
            Some((_, error)) => error,
            None => BuildError::Canceled,
        })?;
        let by_vertex: BTreeMap<VertexId, Outputs> = targets.into_iter().zip(results).collect();
        let mut trees = Vec::with_capacity(plans.len());
        for plan in plans {
            trees.push(match plan.target {
                None => Vec::new(),
                Some(target) => {
                    let tree = &by_vertex[&target.vertex][target.output];
                    worker.layers_of(tree, cancel).await?.to_vec()
                }
            });
        }
        Ok(trees)
    }

    /// From layers to images, names and outputs.
    async fn finish(
        &self,
        session: &Session,
        plans: &[PlatformPlan],
        trees: Vec<Vec<LayerId>>,
        layers: &Arc<Layers>,
        cancel: &CancellationToken,
    ) -> Result<Outcome, BuildError> {
        let step = session.steps.internal("exporting to image");
        let (images, target) = step.ended(self.assemble(session, plans, trees, layers).await)?;
        let export = Export {
            store: &self.store,
            machine: &self.machine,
            layers,
            steps: &session.steps,
            images: &images,
            stop: cancel,
        };
        let exported = crate::output::export::run(&export, &session.request, &target).await;
        // What is on standard output already cannot be written again.
        let is_pure = !session.request.outputs.iter().any(Output::is_stdout);
        if is_pure && matches!(&exported, Err(error) if !matches!(error, BuildError::Canceled)) {
            layers.look_for_damage(images.iter().flat_map(|(_, image)| &image.layers)).await;
        }
        let names = exported?;
        let images = images.iter().map(|(platform, image)| built(platform, image)).collect();
        Ok(Outcome { images, names, target, build_id: session.build_id.clone() })
    }

    async fn assemble(
        &self,
        session: &Session,
        plans: &[PlatformPlan],
        trees: Vec<Vec<LayerId>>,
        layers: &Arc<Layers>,
    ) -> Result<(Vec<(Platform, AssembledImage)>, Descriptor), BuildError> {
        let mut images = Vec::new();
        for (plan, tree) in plans.iter().zip(trees) {
            let mut assembled = layers.assembled(&tree).await?;
            if let Some(times) = session.new_times(plan) {
                let (store, layers) = (self.store.clone(), layers.clone());
                let base = session.base_layers(plan);
                assembled = blocking(move || {
                    Redate { store: &store, layers: &layers, times }.all(assembled, base)
                })
                .await?;
            }
            let parts = Parts {
                config: plan.lowered.config.clone(),
                base_history: plan.lowered.base_history,
                layers: assembled,
                epoch: session.epoch(plan),
                annotations: &session.request.annotations,
            };
            images.push((plan.platform.clone(), assemble::assemble(&self.store, parts)?));
        }
        let target = crate::output::export::target(&self.store, &images)?;
        Ok((images, target))
    }
}

/// Lets a file that changed come to rest before attempt `number + 1`.
async fn rest(number: usize) -> Result<(), BuildError> {
    tokio::time::sleep(AT_REST * (1 << (number - 1))).await;
    Ok(())
}

fn built(platform: &Platform, image: &AssembledImage) -> BuiltImage {
    BuiltImage {
        platform: platform.clone(),
        manifest: image.manifest.clone(),
        config: image.config_descriptor.digest.clone(),
    }
}

impl Session {
    /// In what forms the layers are wanted; none when they get other times first.
    fn encodings(&self, plans: &[PlatformPlan]) -> Vec<Encoding> {
        let is_redated = plans.iter().any(|plan| self.new_times(plan).is_some());
        if is_redated { Vec::new() } else { tar::encodings(&self.request.outputs) }
    }

    /// The time of the sources.
    fn epoch(&self, plan: &PlatformPlan) -> Option<i64> {
        match self.request.times.epoch {
            Epoch::OfBuild => plan.lowered.source_date_epoch,
            Epoch::Given(seconds) => Some(seconds),
            Epoch::None => None,
        }
    }

    /// What becomes of the times in the layers that the build makes.
    fn new_times(&self, plan: &PlatformPlan) -> Option<NewTimes> {
        let epoch = self.epoch(plan)?.max(0).unsigned_abs();
        match self.request.times.rewrite {
            Rewrite::Default | Rewrite::Later => Some(NewTimes::Later(epoch)),
            Rewrite::All => Some(NewTimes::All(epoch)),
            Rewrite::None => None,
        }
    }

    /// How many of an image's layers are its base's.
    fn base_layers(&self, plan: &PlatformPlan) -> usize {
        let base = plan.lowered.base.as_ref().map(|request| &self.resolved[request]);
        base.map_or(0, |image| image.config.rootfs.diff_ids.len())
    }

    /// Who asks for other times has to say which.
    fn check_times(&self, plans: &[PlatformPlan]) -> Result<(), BuildError> {
        if plans.iter().all(|plan| self.epoch(plan).is_some()) {
            return Ok(());
        }
        match self.request.times.rewrite {
            Rewrite::Default | Rewrite::None => Ok(()),
            Rewrite::Later => {
                let message = "`rewrite-timestamp=true` changes nothing without SOURCE_DATE_EPOCH";
                self.steps.warn(message.to_owned());
                Ok(())
            }
            Rewrite::All => Err(BuildError::Input {
                message: "`rewrite-timestamp=all` needs a time".to_owned(),
                hint: Some("set SOURCE_DATE_EPOCH to seconds since 1970".to_owned()),
            }),
        }
    }

    /// Parses and lowers for every platform, resolving the images that lowering asks for.
    async fn lower(&mut self, scope: Scope) -> Result<(Definition, Vec<PlatformPlan>), BuildError> {
        parser::frontend::check(&self.input.text, &self.request.build_args)
            .map_err(|foreign| self.dockerfile_error(vec![foreign]))?;
        let parsed = parser::parse(&self.input.text);
        if parsed.diagnostics.iter().any(|d| d.severity == parser::Severity::Error) {
            return Err(self.dockerfile_error(parsed.diagnostics));
        }
        let platforms = match self.request.platforms.as_slice() {
            [] => vec![Platform::host()],
            asked => asked.to_vec(),
        };
        let mut definition = Definition::default();
        let mut plans = Vec::new();
        for platform in platforms {
            let options = Options {
                all_stages: scope == Scope::AllStages,
                ..self.options(&platform, parsed.diagnostics.clone())
            };
            let lowered = self.lower_for(&parsed.dockerfile, &options).await?;
            let moved = definition.absorb(&lowered.definition).expect("a definition stays one");
            let target =
                lowered.target.map(|t| VertexInput { vertex: moved[&t.vertex], output: t.output });
            plans.push(PlatformPlan { platform, lowered, target });
        }
        Ok((definition, plans))
    }

    async fn lower_for(
        &mut self,
        dockerfile: &parser::Dockerfile,
        options: &Options,
    ) -> Result<Lowered, BuildError> {
        let mut known = BTreeMap::new();
        loop {
            let outcome = lower::lower(dockerfile, options, &known);
            match outcome.map_err(|diagnostics| self.dockerfile_error(diagnostics))? {
                lower::Outcome::Lowered(lowered) => return Ok(*lowered),
                lower::Outcome::NeedImages(requests) => {
                    let (images, steps) = (&self.images, &self.steps);
                    let images = requests.iter().map(|request| async move {
                        let resolved = images.resolve(request, steps).await;
                        resolved.map_err(|error| (request, error))
                    });
                    let images = futures_util::future::try_join_all(images).await;
                    let images = images.map_err(|(request, error)| {
                        let asked = lower::asked(dockerfile, options, &known, request);
                        self.no_image(error, asked)
                    })?;
                    for (request, image) in requests.into_iter().zip(images) {
                        known.insert(request.clone(), image.base_image());
                        self.remember(request, image);
                    }
                }
            }
        }
    }

    /// An image that the Dockerfile asks for is not available: says where it is asked for.
    fn no_image(&self, error: BuildError, asked: Option<lower::Asked>) -> BuildError {
        let (message, mut hint) = match error {
            BuildError::Input { message, hint }
            | BuildError::Refused { message, hint }
            | BuildError::System { message, hint } => (message, hint),
            other => return other,
        };
        let Some(asked) = asked else { return BuildError::Input { message, hint } };
        if let Some(near) = asked.near.clone().or_else(|| self.images.near(&asked.name)) {
            hint = Some(format!("did you mean `{near}`?"));
        }
        let message = match asked.is_base {
            true => message,
            false => format!("no stage is called `{}`, and as an image: {message}", asked.name),
        };
        BuildError::Step {
            failure: Box::new(StepFailure {
                name: format!("[internal] load metadata for {}", asked.name),
                message,
                exit_code: None,
                span: Some((asked.span.start, asked.span.end)),
                lines: Some((asked.lines.start, asked.lines.end)),
                dockerfile: Some((self.input.name.clone(), self.input.text.clone())),
                log_tail: Vec::new(),
                log_path: None,
                hint,
            }),
        }
    }

    /// Vertices name an image with the digest it resolved to; they must find it again.
    fn remember(&mut self, request: ImageRequest, image: ResolvedImage) {
        let image = Arc::new(image);
        let digest = &image.top.digest;
        let pinned = match &request.image {
            RequestedImage::Named(name) if name.digest().is_some() => request.image.clone(),
            RequestedImage::Named(name) => RequestedImage::Named(name.with_digest(digest.clone())),
            RequestedImage::InLayout { layout, .. } => {
                let (layout, reference) = (layout.clone(), digest.to_string());
                RequestedImage::InLayout { layout, reference }
            }
        };
        self.resolved.insert(ImageRequest { image: pinned, ..request.clone() }, image.clone());
        self.resolved.insert(request, image);
    }

    fn options(&self, platform: &Platform, syntax_warnings: Vec<parser::Diagnostic>) -> Options {
        let request = &self.request;
        let grants = request.entitlements.iter().map(|e| match e {
            Entitlement::NetworkHost => "network.host".to_owned(),
            Entitlement::SecurityInsecure => "security.insecure".to_owned(),
        });
        Options {
            target: request.target.clone(),
            build_args: request.build_args.clone(),
            labels: request.labels.clone(),
            build_platform: Platform::host(),
            target_platform: platform.clone(),
            platform_requested: !request.platforms.is_empty(),
            main_context: self.input.main_context.clone(),
            named_contexts: self.input.named_contexts.clone(),
            no_cache: match &request.no_cache {
                NoCache::Never => lower::NoCache::Never,
                NoCache::Always => lower::NoCache::Always,
                NoCache::Stages(stages) => lower::NoCache::Stages(stages.clone()),
            },
            network: match request.network {
                NetworkMode::Default => llb::NetworkMode::Default,
                NetworkMode::None => llb::NetworkMode::None,
                NetworkMode::Host => llb::NetworkMode::Host,
            },
            extra_hosts: request
                .extra_hosts
                .iter()
                .map(|(name, address)| (name.clone(), address.to_string()))
                .collect(),
            shm_size: request.shm_size,
            ulimits: request
                .ulimits
                .iter()
                .map(|u| llb::Rlimit { name: u.name.clone(), soft: u.soft, hard: u.hard })
                .collect(),
            hostname: request.hostname.clone(),
            cgroup_parent: request.cgroup_parent.clone(),
            entitlements: grants.collect(),
            multi_platform: request.platforms.len() > 1,
            syntax_warnings,
            ..Options::default()
        }
    }

    fn tell_warnings(&self, plans: &[PlatformPlan]) {
        for (number, PlatformPlan { platform, .. }) in plans.iter().enumerate() {
            if plans[..number].iter().any(|plan| plan.platform == *platform) {
                self.steps.warn(format!("duplicate platform result requested \"{platform}\""));
            }
        }
        let mut told = BTreeSet::new();
        for warning in plans.iter().flat_map(|p| &p.lowered.warnings) {
            // Several platforms have the same warnings.
            if told.insert(format!("{warning:?}")) {
                self.steps.event(Event::Lint(warning.clone()));
            }
        }
    }

    fn tell_notes(&self, plans: &[PlatformPlan]) {
        let notes: BTreeSet<&String> = plans.iter().flat_map(|plan| &plan.lowered.notes).collect();
        notes.into_iter().for_each(|note| self.steps.warn(note.clone()));
    }

    fn dockerfile_error(&self, diagnostics: Vec<parser::Diagnostic>) -> BuildError {
        BuildError::Dockerfile {
            name: self.input.name.clone(),
            text: self.input.text.clone(),
            diagnostics,
        }
    }
}

/// How many processes may run at once. Without a wish: one a core, at least 4, and more while
/// cores idle because the processes mostly wait.
fn slots(jobs: Option<usize>) -> Slots {
    if let Some(jobs) = jobs {
        return Slots::strict(jobs);
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Slots::elastic(cores.max(4), move || runnable().is_some_and(|running| running <= cores))
}

/// Threads that want a core right now, this one not counted.
fn runnable() -> Option<usize> {
    let load = std::fs::read_to_string("/proc/loadavg").ok()?;
    let (running, _) = load.split_whitespace().nth(3)?.split_once('/')?;
    Some(running.parse::<usize>().ok()?.saturating_sub(1))
}

/// Builds of this process, to tell apart those that start at the same instant.
static BUILDS: AtomicU64 = AtomicU64::new(0);

/// A name that no other build of this machine has.
fn unique_id() -> String {
    let since =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let count = BUILDS.fetch_add(1, Ordering::Relaxed);
    format!("{:x}-{:x}-{count:x}", since.as_nanos(), std::process::id())
}

/// `$MYBUILD_ROOT`, else `/var/lib/mybuild` for root, else `$XDG_DATA_HOME/mybuild`.
fn default_root(machine: &Machine) -> Result<PathBuf, BuildError> {
    let environment =
        |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    if let Some(root) = environment("MYBUILD_ROOT") {
        return Ok(root);
    }
    if !machine.host().rootless() {
        return Ok(PathBuf::from("/var/lib/mybuild"));
    }
    let data = environment("XDG_DATA_HOME")
        .or_else(|| environment("HOME").map(|h| h.join(".local/share")));
    data.map(|d| d.join("mybuild")).ok_or_else(|| BuildError::Input {
        message: "no place for the store: neither HOME nor XDG_DATA_HOME is set".to_owned(),
        hint: Some("name one with `--root DIR`".to_owned()),
    })
}
