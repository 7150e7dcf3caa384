//! Lowering: a Dockerfile and what is known about its base images become the instruction DAG and
//! the config of the image.
//!
//! Lowering asks for the images it needs, and is called again with them until it needs no more:
//! an image may carry `ONBUILD` instructions that bring new ones. Only stages that the target
//! needs ask for images and become vertices. The results follow BuildKit: config, history, names
//! of steps, messages.

mod advice;
mod arguments;
mod base;
mod config;
mod copy;
mod dispatch;
mod environment;
mod epoch;
mod expose;
mod fault;
mod git;
mod graph;
mod mode;
mod mounts;
mod name;
mod notes;
mod options;
mod outline;
mod pragmas;
mod remote;
mod run;
mod signal;
mod sources;
mod stage;
mod unset;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use llb::{Definition, Input};
use oci::{History, ImageConfig, Platform};

pub use base::main_context;
pub use epoch::{Dated, epoch_source};
pub use options::{
    BaseImage, FETCHED, ImageRequest, MAIN_CONTEXT, MainContext, NamedContext, NoCache, Options,
    RequestedImage, SourceTime, Unset,
};
pub use outline::{Argument, Mounted, Outline};
pub use remote::{Remote, remote};

use crate::check::{self, Checks, Place, Reporter};
use crate::diagnostic::Diagnostic;
use crate::expand::Expander;
use crate::ignore::Patterns;
use crate::instruction::Dockerfile;
use crate::pragma::Pragma;
use crate::span::{Lines, Span};
use crate::suggest::{Case, nearest};
use environment::Environment;
use fault::Fault;
use outline::GlobalArguments;
use stage::{StageId, StageState};

/// What came of lowering.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// Call again with these images, too.
    NeedImages(BTreeSet<ImageRequest>),
    /// All done.
    Lowered(Box<Lowered>),
}

/// A lowered Dockerfile.
#[derive(Debug, Clone)]
pub struct Lowered {
    /// The vertices. Some may not be needed for the target: see [`Definition::reachable`].
    pub definition: Definition,
    /// The files of the image, `None` for an empty one.
    pub target: Option<Input>,
    /// The files of the stages that are to be built, too.
    pub also: Vec<Input>,
    /// The image's config. The history is complete, those of the base first; times and
    /// `rootfs.diff_ids` are for the engine to fill in.
    pub config: ImageConfig,
    /// The image under the target: its layers come first.
    pub base: Option<ImageRequest>,
    /// How many entries of the history come from that image.
    pub base_history: usize,
    /// Warnings of the checks that are on, in the order of the file.
    pub warnings: Vec<Diagnostic>,
    /// What was asked for and does nothing, and the like: a line each.
    pub notes: Vec<String>,
    /// Names of the local contexts that the vertices read.
    pub contexts_used: BTreeSet<String>,
    /// Names of the stages: what `--target` may say.
    pub stages: Vec<String>,
    /// What the target takes from whoever builds it.
    pub outline: Outline,
    /// Seconds since the epoch that `SOURCE_DATE_EPOCH` asks for.
    pub source_date_epoch: Option<i64>,
}

/// Lowers a Dockerfile with the images known so far. On failure, warnings that were found before
/// the error come with it.
pub fn lower(
    dockerfile: &Dockerfile,
    options: &Options,
    images: &BTreeMap<ImageRequest, BaseImage>,
) -> Result<Outcome, Vec<Diagnostic>> {
    let checks = checks_of(dockerfile, options).map_err(|diagnostic| vec![diagnostic])?;
    let mut lowering = Lowering::new(options, images, escape_of(dockerfile), checks);
    let target = match lowering.run(dockerfile) {
        Ok(target) => target,
        Err(error) => {
            let mut diagnostics = lowering.reporter.into_warnings();
            diagnostics.push(error);
            return Err(diagnostics);
        }
    };
    if let Some(target) = target {
        Ok(Outcome::Lowered(Box::new(lowering.finish(dockerfile, target))))
    } else {
        Ok(Outcome::NeedImages(lowering.needed.into_keys().collect()))
    }
}

/// Who asks for an image, to say so when it cannot be found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its name as written, variables expanded.
    pub name: String,
    /// `FROM` asks for it, not a `--from`, which may also name a stage.
    pub is_base: bool,
    /// The nearest name of a stage or build context, if there is a near one.
    pub near: Option<String>,
    /// Where.
    pub span: Span,
    /// Lines of the instruction.
    pub lines: Lines,
}

/// Who asks for `request`, if [`lower`] with the same arguments answers that it needs it.
pub fn asked(
    dockerfile: &Dockerfile,
    options: &Options,
    images: &BTreeMap<ImageRequest, BaseImage>,
    request: &ImageRequest,
) -> Option<Asked> {
    let checks = checks_of(dockerfile, options).ok()?;
    let mut lowering = Lowering::new(options, images, escape_of(dockerfile), checks);
    lowering.run(dockerfile).ok()?;
    let stage = &lowering.stages[*lowering.needed.get(request)?];
    let place = stage.origin.place();
    let names = lowering.stages.iter().filter_map(StageState::name);
    let names: Vec<String> = names.chain(options.named_contexts.keys().cloned()).collect();
    Some(Asked {
        name: stage.base_name.clone(),
        is_base: !stage.is_external(),
        near: nearest(&stage.base_name, names.iter().map(String::as_str), Case::Sensitive),
        span: place.span,
        lines: place.lines,
    })
}

fn checks_of(dockerfile: &Dockerfile, options: &Options) -> Result<Checks, Diagnostic> {
    Checks::of(dockerfile, &options.build_args).map_err(|error| {
        let directive = dockerfile.directives.iter().find(|d| d.name == "check");
        let span = directive.map(|directive| directive.value.span).unwrap_or_default();
        let place = Place { span, ..Place::default() };
        Fault::new(format!("failed to parse check options: {error}")).at(place)
    })
}

fn escape_of(dockerfile: &Dockerfile) -> char {
    let directive = dockerfile.directives.iter().find(|d| d.name == "escape");
    directive.and_then(|d| d.value.value.chars().next()).unwrap_or('\\')
}

/// Everything on the way.
struct Lowering<'d> {
    options: &'d Options,
    images: &'d BTreeMap<ImageRequest, BaseImage>,
    definition: Definition,
    reporter: Reporter,
    /// Expands the words of instructions.
    expander: Expander,
    /// Expands names of steps. Its cap on growth is its own: a long name is no error.
    name_expander: Expander,
    /// What was given, `SOURCE_DATE_EPOCH` resolved.
    build_args: BTreeMap<String, String>,
    proxies: BTreeMap<String, String>,
    global_args: Environment,
    declared_globals: GlobalArguments,
    epoch: Option<i64>,
    stages: Vec<StageState<'d>>,
    /// Those that are to be built besides the target.
    also: Vec<StageId>,
    /// Stages by lower-case name; of two equal ones, the last.
    by_name: HashMap<String, StageId>,
    /// `--from` sources that are no stages, by what was written.
    external: HashMap<String, StageId>,
    /// Patterns of the main context's ignore file, if it has any.
    ignored: Option<Patterns>,
    /// The main context's files, once an instruction has asked for them.
    main_context: Option<Option<Input>>,
    contexts_used: BTreeSet<String>,
    /// The images that are asked for, each with the first stage that asks.
    needed: BTreeMap<ImageRequest, StageId>,
    /// Names of the `ARG`s that images bring as `ONBUILD`.
    trigger_arguments: BTreeSet<String>,
    /// What the comment above the instruction at hand asks for.
    pragma: Option<Pragma>,
    /// Bytes of variables and arguments in processes and history so far.
    carried: usize,
}

impl<'d> Lowering<'d> {
    fn new(
        options: &'d Options,
        images: &'d BTreeMap<ImageRequest, BaseImage>,
        escape: char,
        checks: Checks,
    ) -> Self {
        Self {
            options,
            images,
            definition: Definition::default(),
            reporter: Reporter::new(checks),
            expander: Expander::new(escape),
            name_expander: Expander::new(escape),
            build_args: options.build_args.clone(),
            proxies: arguments::proxies(&options.build_args),
            global_args: Environment::default(),
            declared_globals: GlobalArguments::default(),
            epoch: None,
            stages: Vec::new(),
            also: Vec::new(),
            by_name: HashMap::new(),
            external: HashMap::new(),
            ignored: None,
            main_context: None,
            contexts_used: BTreeSet::new(),
            needed: BTreeMap::new(),
            trigger_arguments: BTreeSet::new(),
            pragma: None,
            carried: 0,
        }
    }

    /// The target's stage; `None` if images are needed first.
    fn run(&mut self, dockerfile: &'d Dockerfile) -> Result<Option<StageId>, Diagnostic> {
        let Some(last) = dockerfile.stages.last() else {
            let message = "dockerfile contains no stages to build";
            return Err(Fault::new(message).at(Place::default()));
        };
        self.options.syntax_warnings.iter().for_each(|warning| self.reporter.adopt(warning));
        check::check_file(dockerfile, &mut self.reporter);
        pragmas::check(dockerfile)?;
        let last_name = last.name.as_ref().map_or("", |name| &name.value);
        let target_name = self.options.target.as_deref().filter(|name| !name.is_empty());
        let predefined = arguments::predefined(self.options, target_name.unwrap_or(last_name));
        self.check_default_bases(dockerfile, &predefined);
        let globals =
            arguments::add_global(predefined, dockerfile, &self.build_args, &self.expander)?;
        (self.global_args, self.declared_globals) = (globals.environment, globals.declared);
        self.resolve_epoch(dockerfile)?;
        self.add_stages(dockerfile)?;
        let target = self.find_target(target_name)?;
        let also = self.options.also.iter().map(|name| self.find_target(Some(name)));
        self.also = also.collect::<Result<_, _>>()?;
        self.link_stages()?;
        let targets: Vec<StageId> = [target].into_iter().chain(self.also.clone()).collect();
        let Some(wanted) = self.resolve_stages(&targets)? else { return Ok(None) };
        self.dispatch_stages(&wanted)?;
        self.advise(dockerfile, target);
        self.reporter.violation().map_or(Ok(Some(target)), Err)
    }

    fn finish(mut self, dockerfile: &Dockerfile, target: StageId) -> Lowered {
        let mut notes = self.notes(dockerfile);
        let outline = self.outline(target, self.stages[target].state.tree);
        let (history, base_history) = self.history_of(target);
        let also = self.also.iter().filter_map(|&stage| self.stages[stage].state.tree).collect();
        let state = std::mem::take(&mut self.stages[target].state);
        let mut config = std::rc::Rc::unwrap_or_clone(state.image);
        config.history = history;
        notes.extend(self.options.unset.apply(&mut config.config));
        let labels = &mut config.config.labels;
        labels.extend(self.options.labels.iter().map(|(k, v)| (k.clone(), v.clone())));
        set_platform(&mut config, self.options);
        Lowered {
            definition: self.definition,
            target: state.tree,
            also,
            config,
            base: self.stages[target].image.take(),
            base_history,
            warnings: self.reporter.into_warnings(),
            notes,
            contexts_used: self.contexts_used,
            stages: self.stages.iter().filter_map(StageState::name).collect(),
            outline,
            source_date_epoch: self.epoch,
        }
    }

    /// The history of a stage, and how much of it is its image's.
    fn history_of(&self, stage: StageId) -> (Vec<History>, usize) {
        let mut chain = vec![stage];
        while let Some(base) = self.stages[*chain.last().expect("it is never empty")].base {
            chain.push(base);
        }
        let image = self.stages[stage].image.as_ref().and_then(|image| self.images.get(image));
        let mut history = image.map(|image| image.config.history.clone()).unwrap_or_default();
        let from_image = history.len();
        for stage in chain.into_iter().rev() {
            history.extend(self.stages[stage].history.iter().cloned());
        }
        (history, from_image)
    }
}

/// The platform that was asked for wins over the base's.
fn set_platform(config: &mut ImageConfig, options: &Options) {
    let wanted = &options.target_platform;
    if options.platform_requested {
        let same = wanted.os == config.os && wanted.architecture == config.architecture;
        config.os.clone_from(&wanted.os);
        config.architecture.clone_from(&wanted.architecture);
        if !wanted.variant.is_empty() || !same {
            config.variant.clone_from(&wanted.variant);
        }
        if !wanted.os_version.is_empty() || !same {
            config.os_version.clone_from(&wanted.os_version);
        }
        if !wanted.os_features.is_empty() {
            config.os_features.clone_from(&wanted.os_features);
        }
    }
    let normal = Platform::new(&config.os, &config.architecture, &config.variant);
    (config.os, config.architecture, config.variant) =
        (normal.os, normal.architecture, normal.variant);
}
