//! The Dockerfile's way to a definition: parsed, and lowered for each platform.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use llb::{Definition, Input as VertexInput};
use oci::Platform;
use parser::check::{Checks, warnings_of_broken, warnings_without_images};
use parser::lower::{self, ImageRequest, Lowered, Options, RequestedImage};
use registry::Registries;

use crate::client::Client;
use crate::error::{BuildError, StepFailure};
use crate::progress::event::Event;
use crate::progress::steps::Steps;
use crate::request::{BuildRequest, Entitlement, NetworkMode, NoCache};
use crate::source::git::Repositories;
use crate::source::http::HttpFiles;
use crate::source::image::{Images, ResolvedImage};
use crate::source::input::Input;

/// A request, and what was read for it.
pub(crate) struct Session {
    pub(crate) request: BuildRequest,
    pub(crate) client: Arc<dyn Client>,
    pub(crate) input: Input,
    pub(crate) images: Arc<Images>,
    pub(crate) registries: Arc<Registries>,
    pub(crate) http: Arc<HttpFiles>,
    pub(crate) git: Arc<Repositories>,
    pub(crate) steps: Arc<Steps>,
    pub(crate) resolved: HashMap<ImageRequest, Arc<ResolvedImage>>,
    pub(crate) build_id: String,
}

/// What lowering gave for one platform.
pub(crate) struct PlatformPlan {
    pub(crate) platform: Platform,
    pub(crate) lowered: Lowered,
    /// The result in the common definition; `None` for an empty image.
    pub(crate) target: Option<VertexInput>,
    /// What else is built, in the common definition.
    pub(crate) also: Vec<VertexInput>,
}

/// Which stages are lowered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// What the target needs.
    Target,
    /// What is looked over: the target, or all of the file where none is named. With advice.
    Checks,
}

impl Session {
    /// The Dockerfile as it is written.
    pub(crate) fn parse(&self) -> Result<parser::Parse, BuildError> {
        parser::frontend::check(&self.input.text, &self.request.build_args)
            .map_err(|foreign| self.dockerfile_error(vec![foreign]))?;
        let parsed = parser::parse(&self.input.text);
        match parsed.has_errors() {
            true => Err(self.dockerfile_error(self.broken(&parsed))),
            false => Ok(parsed),
        }
    }

    /// What is doubtful in a Dockerfile up to what is wrong in it, and what that is.
    fn broken(&self, parsed: &parser::Parse) -> Vec<parser::Diagnostic> {
        let checks = Checks::of(&parsed.dockerfile, &self.request.build_args).unwrap_or_default();
        let mut all = warnings_of_broken(&parsed.dockerfile, checks, &parsed.diagnostics);
        all.extend(parsed.errors().cloned());
        all
    }

    /// What is doubtful in a Dockerfile whose images are not known.
    pub(crate) fn doubts(&self) -> Result<Vec<parser::Diagnostic>, BuildError> {
        let parsed = self.parse()?;
        let checks = Checks::of(&parsed.dockerfile, &self.request.build_args).unwrap_or_default();
        Ok(warnings_without_images(&parsed.dockerfile, checks, &parsed.diagnostics))
    }

    /// Parses and lowers for every platform, resolving the images that lowering asks for.
    pub(crate) async fn lower(
        &mut self,
        scope: Scope,
    ) -> Result<(Definition, Vec<PlatformPlan>), BuildError> {
        let parsed = self.parse()?;
        let platforms = match self.request.platforms.as_slice() {
            [] => vec![Platform::host()],
            asked => asked.to_vec(),
        };
        let mut definition = Definition::default();
        let mut plans = Vec::new();
        let mut source_time = None;
        for platform in platforms {
            let mut options = Options {
                all_stages: scope == Scope::Checks && self.request.target.is_none(),
                advice: scope == Scope::Checks,
                ..self.options(&platform, parsed.diagnostics.clone())
            };
            if source_time.is_none() {
                source_time = Some(self.source_time(&parsed.dockerfile, &options).await?);
            }
            options.source_time = source_time.unwrap_or_default();
            let lowered = self.lower_for(&parsed.dockerfile, &options).await?;
            let moved = definition.absorb(&lowered.definition).expect("a definition stays one");
            let moved = |t: VertexInput| VertexInput { vertex: moved[&t.vertex], output: t.output };
            let target = lowered.target.map(moved);
            let also = lowered.also.iter().copied().map(moved).collect();
            plans.push(PlatformPlan { platform, lowered, target, also });
        }
        Ok((definition, plans))
    }

    pub(crate) async fn lower_for(
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
        let mut fault = match error {
            BuildError::Input(fault) | BuildError::Refused(fault) | BuildError::System(fault) => {
                fault
            }
            other => return other,
        };
        let Some(asked) = asked else { return BuildError::Input(fault) };
        if !asked.is_base {
            let message = format!("no stage is called `{}`, and as an image", asked.name);
            fault = fault.within(message);
        }
        if let Some(near) = asked.near.clone().or_else(|| self.images.near(&asked.name)) {
            fault = fault.with_hint(format!("did you mean `{near}`?"));
        }
        BuildError::Step {
            failure: Box::new(StepFailure {
                name: format!("[internal] load metadata for {}", asked.name),
                fault,
                exit_code: None,
                span: Some((asked.span.start, asked.span.end)),
                lines: Some((asked.lines.start, asked.lines.end)),
                dockerfile: Some((self.input.name.clone(), self.input.text.clone())),
                log_tail: Vec::new(),
                log_path: None,
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

    pub(crate) fn options(
        &self,
        platform: &Platform,
        syntax_warnings: Vec<parser::Diagnostic>,
    ) -> Options {
        let request = &self.request;
        let grants = request.entitlements.iter().map(|e| match e {
            Entitlement::NetworkHost => "network.host".to_owned(),
            Entitlement::SecurityInsecure => "security.insecure".to_owned(),
            Entitlement::Device(None) => "device".to_owned(),
            Entitlement::Device(Some(name)) => format!("device={name}"),
        });
        Options {
            target: request.target.clone(),
            also: request.also.clone(),
            build_args: request.build_args.clone(),
            labels: request.labels.clone(),
            unset: request.unset.clone(),
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
            keep_cache_mounts: request.keep_cache_mounts,
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
            multi_platform: request.is_index(),
            syntax_warnings,
            ..Options::default()
        }
    }

    pub(crate) fn tell_warnings(&self, plans: &[PlatformPlan]) {
        for (number, PlatformPlan { platform, .. }) in plans.iter().enumerate() {
            if plans[..number].iter().any(|plan| plan.platform == *platform) {
                self.steps.warn(format!("Duplicate platform result requested \"{platform}\""));
            }
        }
        for (number, (plan, warnings)) in plans.iter().zip(new_warnings(plans)).enumerate() {
            for warning in warnings {
                match number {
                    0 => self.steps.event(Event::Lint(warning)),
                    _ => self.steps.warn(of_platform(&plan.platform, &warning)),
                }
            }
        }
    }

    pub(crate) fn tell_notes(&self, plans: &[PlatformPlan]) {
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

/// The checks' warnings are those about the first platform, as BuildKit's are; what is to be said of
/// another one besides says which that is.
fn of_platform(platform: &Platform, warning: &parser::Diagnostic) -> String {
    let rule = warning.rule.map(|rule| format!("{rule}: ")).unwrap_or_default();
    format!("{platform}: {rule}{} (line {})", warning.message, warning.lines.start)
}

/// The warnings about all platforms.
pub(crate) fn warnings_of(plans: &[PlatformPlan]) -> Vec<parser::Diagnostic> {
    new_warnings(plans).into_iter().flatten().collect()
}

/// For each platform the warnings that those before it have not. What one has twice, it has twice.
fn new_warnings(plans: &[PlatformPlan]) -> Vec<Vec<parser::Diagnostic>> {
    let mut all: Vec<parser::Diagnostic> = Vec::new();
    let mut new = Vec::new();
    for plan in plans {
        let mut known = all.clone();
        let mut is_new = |warning: &&parser::Diagnostic| {
            let at = known.iter().position(|known| known == *warning);
            at.map(|at| known.swap_remove(at)).is_none()
        };
        let own = plan.lowered.warnings.iter().filter(&mut is_new).cloned().collect::<Vec<_>>();
        all.extend(own.iter().cloned());
        new.push(own);
    }
    new
}
