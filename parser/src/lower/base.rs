//! What stages start from: images, other contexts, nothing.

use std::collections::BTreeMap;

use llb::{
    Definition, FileAction, FileActionKind, FileInput, FileOp, GitTimes, ImageSource, Input,
    LocalSource, Op, SourceOp,
};
use oci::{History, ImageConfig, Platform, Reference, RootFs};

use super::Lowering;
use super::arguments;
use super::copy::unpack_action;
use super::environment::Environment;
use super::fault::{Fallible, Fault};
use super::git::{self, GitContext};
use super::graph::SCRATCH;
use super::options::{
    BaseImage, FETCHED, ImageRequest, MAIN_CONTEXT, MainContext, NamedContext, Options,
    RequestedImage,
};
use super::remote::http_source;
use super::stage::{Override, Progress, StageId};
use crate::check::{Checks, Place};
use crate::credentials::without_credentials;
use crate::diagnostic::Diagnostic;
use crate::pragma::Pragma;
use crate::quote::quote;

/// `PATH` of an image that says nothing.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The files and config of a context or image.
#[derive(Debug, Default)]
struct Loaded {
    tree: Option<Input>,
    image: Option<ImageConfig>,
    request: Option<ImageRequest>,
}

impl<'d> Lowering<'d> {
    /// Finds what a stage without a base stage starts from. An image that is not known yet is
    /// asked for, and the stage left as it is. What is not wanted is only checked.
    pub(super) fn resolve_base(&mut self, id: StageId, wanted: bool) -> Fallible {
        let stage = &self.stages[id];
        if stage.base.is_some() || stage.progress != Progress::Waiting {
            return Ok(());
        }
        if stage.base_name == SCRATCH && stage.named_context.is_none() {
            let platform = self.options.target_platform.clone();
            let state = &mut self.stages[id].state;
            state.image = empty_image(&platform).into();
            self.stages[id].platform = Some(platform);
            self.resolved(id);
            return Ok(());
        }
        let reference = Reference::parse_normalized(&stage.base_name).map_err(|error| {
            let what = format!("failed to parse stage name {}", quote(&stage.base_name));
            let fault = Fault::from(error).context(&what);
            if let Some(hint) = &stage.unset {
                return fault.with_hint(hint.clone());
            }
            match Reference::parse_normalized(&stage.base_name.to_lowercase()) {
                Ok(lower) => fault.with_hint(format!("did you mean `{}`?", lower.familiar())),
                Err(_) => fault.with_hint("an image is written NAME, NAME:TAG or NAME@DIGEST"),
            }
        })?;
        if !wanted {
            return Ok(());
        }
        if let Some(context) = stage.named_context {
            return self.resolve_to_context(id, context);
        }
        let asked = stage.platform.clone();
        let platform = asked.clone().unwrap_or_else(|| self.options.target_platform.clone());
        let reference = reference.with_default_tag();
        if let Some(context) = self.find_context(&reference.to_string(), Some(&platform))? {
            return self.resolve_to_image_context(id, context, platform);
        }
        self.resolve_to_image(id, &reference, platform, asked.is_some())
    }

    /// What a stage starts from is known; what is not a stage is finished with that.
    fn resolved(&mut self, id: StageId) {
        let stage = &mut self.stages[id];
        stage.progress =
            if stage.is_external() { Progress::Dispatched } else { Progress::Resolved };
    }

    /// The whole stage is replaced by a context of its name.
    fn resolve_to_context(&mut self, id: StageId, context: Override<'d>) -> Fallible {
        let platform = self.stages[id].platform.clone();
        let platform = platform.unwrap_or_else(|| self.options.target_platform.clone());
        let Some(loaded) = self.load_context(id, context, &platform)? else { return Ok(()) };
        let image = loaded.image.unwrap_or_else(|| ImageConfig {
            os: platform.os.clone(),
            architecture: platform.architecture.clone(),
            variant: platform.variant.clone(),
            ..ImageConfig::default()
        });
        let stage = &mut self.stages[id];
        stage.platform = Some(image.platform());
        stage.state.tree = loaded.tree;
        stage.state.image = image.into();
        stage.image = loaded.request;
        stage.progress = Progress::Dispatched;
        Ok(())
    }

    /// The image is replaced by a context of its name.
    fn resolve_to_image_context(
        &mut self,
        id: StageId,
        context: Override<'d>,
        platform: Platform,
    ) -> Fallible {
        let Some(loaded) = self.load_context(id, context, &platform)? else { return Ok(()) };
        let stage = &mut self.stages[id];
        stage.state.tree = loaded.tree;
        stage.state.image = loaded.image.unwrap_or_else(|| empty_image(&platform)).into();
        stage.image = loaded.request;
        stage.platform = Some(platform);
        self.resolved(id);
        Ok(())
    }

    fn resolve_to_image(
        &mut self,
        id: StageId,
        reference: &Reference,
        mut platform: Platform,
        platform_named: bool,
    ) -> Fallible {
        let request = ImageRequest::of_registry(reference, platform.clone());
        let Some(image) = self.known_image(id, &request) else { return Ok(()) };
        let actual = image.config.platform();
        let build = &self.options.build_platform;
        if !platform_named
            && !self.options.platform_requested
            && (&actual.os, &actual.architecture) == (&build.os, &build.architecture)
        {
            platform = build.clone();
        }
        let reference = reference.with_digest(image.digest.clone());
        if has_layers(&image.config) {
            let name = format!("FROM {reference}");
            let name = self.step_name(id, &name, Some(&platform), &Environment::default());
            let source = ImageSource { reference, platform: platform.clone() };
            let place = self.stages[id].origin.place();
            let metadata = self.metadata(id, name, place);
            // An image does not change: there is nothing to do again.
            let metadata = llb::Metadata { ignore_cache: false, ..metadata };
            let source = Op::Source(SourceOp::Image(source));
            let vertex = self.definition.add(source, &[], metadata)?;
            self.stages[id].state.tree = Some(Input { vertex, output: 0 });
            self.check_image_platform(id, &platform, &actual);
        }
        let stage = &mut self.stages[id];
        stage.state.image = without_layers(&image.config).into();
        stage.image = Some(request);
        stage.platform = Some(platform);
        self.resolved(id);
        Ok(())
    }

    fn check_image_platform(&mut self, id: StageId, expected: &Platform, actual: &Platform) {
        if (&expected.os, &expected.architecture) != (&actual.os, &actual.architecture) {
            let stage = &self.stages[id];
            let message = format!(
                "Base image {} was pulled with platform {}, expected {} for current build",
                stage.base_name,
                quote(&actual.to_string()),
                quote(&expected.to_string()),
            );
            let place = stage.origin.place().unfiltered();
            self.reporter.report("InvalidBaseImagePlatform", place, message);
        }
    }

    /// The image if it is known; otherwise it is asked for.
    fn known_image(&mut self, id: StageId, request: &ImageRequest) -> Option<&'d BaseImage> {
        let image = self.images.get(request);
        if image.is_none() {
            self.needed.entry(request.clone()).or_insert(id);
        }
        image
    }

    /// The named context that stands in for the stage or image `name`.
    pub(super) fn find_context(
        &self,
        name: &str,
        platform: Option<&Platform>,
    ) -> Fallible<Option<Override<'d>>> {
        if ["scratch", "context"].iter().any(|reserved| name.eq_ignore_ascii_case(reserved)) {
            return Ok(None);
        }
        let reference = Reference::parse_normalized(name)
            .map_err(|error| Fault::from(error).context(&format!("invalid context name {name}")))?;
        let familiar = reference.familiar();
        let name = familiar.strip_suffix(":latest").unwrap_or(&familiar);
        let platform = platform.unwrap_or(&self.options.target_platform).to_string();
        let contexts = &self.options.named_contexts;
        let found = contexts
            .get_key_value(&format!("{name}::{platform}"))
            .or_else(|| contexts.get_key_value(name));
        Ok(found.map(|(name, context)| Override { name, context }))
    }

    /// `None` if an image must be known first.
    fn load_context(
        &mut self,
        id: StageId,
        context: Override<'d>,
        platform: &Platform,
    ) -> Fallible<Option<Loaded>> {
        let Override { name, context } = context;
        match context {
            NamedContext::Scratch => Ok(Some(Loaded::default())),
            NamedContext::Image(reference) if reference == SCRATCH => Ok(Some(Loaded::default())),
            NamedContext::Image(written) => self.load_image_context(id, name, written, platform),
            NamedContext::OciLayout { name: layout, reference } => {
                self.load_layout(id, name, (layout, reference), platform)
            }
            NamedContext::Local { name: local, exclude_patterns } => {
                let title = format!("[context {name}] load from client");
                let tree = self.add_local(local, exclude_patterns, title)?;
                Ok(Some(Loaded { tree: Some(tree), ..Loaded::default() }))
            }
            NamedContext::Git(url) => {
                let tree = self.add_git_context(url, GitContext::default())?;
                Ok(Some(Loaded { tree: Some(tree), ..Loaded::default() }))
            }
            NamedContext::Http(url) => {
                let title = format!("[context {name}] {}", without_credentials(url));
                let tree = self.add_http_context(url, title)?;
                Ok(Some(Loaded { tree: Some(tree), ..Loaded::default() }))
            }
        }
    }

    fn load_image_context(
        &mut self,
        id: StageId,
        name: &str,
        written: &str,
        platform: &Platform,
    ) -> Fallible<Option<Loaded>> {
        let reference = Reference::parse_normalized(written)?.with_default_tag();
        let request = ImageRequest::of_registry(&reference, platform.clone());
        let Some(image) = self.known_image(id, &request) else { return Ok(None) };
        let pinned = reference.with_digest(image.digest.clone());
        let source = ImageSource { reference: pinned, platform: platform.clone() };
        let source = SourceOp::Image(source);
        let title = format!("[context {name}] {written}");
        self.load_image(source, title, image, request).map(Some)
    }

    fn load_layout(
        &mut self,
        id: StageId,
        name: &str,
        (layout, reference): (&str, &str),
        platform: &Platform,
    ) -> Fallible<Option<Loaded>> {
        let request = ImageRequest {
            image: RequestedImage::InLayout {
                layout: layout.to_owned(),
                reference: reference.to_owned(),
            },
            platform: platform.clone(),
        };
        let Some(image) = self.known_image(id, &request) else { return Ok(None) };
        let source = SourceOp::OciLayout {
            name: layout.to_owned(),
            reference: image.digest.to_string(),
            platform: platform.clone(),
        };
        let title = format!("[context {name}] OCI load from client");
        self.load_image(source, title, image, request).map(Some)
    }

    fn load_image(
        &mut self,
        source: SourceOp,
        title: String,
        image: &BaseImage,
        request: ImageRequest,
    ) -> Fallible<Loaded> {
        let tree = match has_layers(&image.config) {
            true => Some(self.add_source(source, title)?),
            false => None,
        };
        Ok(Loaded { tree, image: Some(without_layers(&image.config)), request: Some(request) })
    }

    fn add_source(&mut self, source: SourceOp, title: String) -> Fallible<Input> {
        let metadata = llb::Metadata { name: title, ..llb::Metadata::default() };
        let vertex = self.definition.add(Op::Source(source), &[], metadata)?;
        Ok(Input { vertex, output: 0 })
    }

    fn add_local(&mut self, name: &str, exclude: &[String], title: String) -> Fallible<Input> {
        self.contexts_used.insert(name.to_owned());
        let source = LocalSource { exclude_patterns: exclude.to_vec(), ..LocalSource::new(name) };
        self.add_source(SourceOp::Local(source), title)
    }

    fn add_git_context(&mut self, url: &str, context: GitContext) -> Fallible<Input> {
        let title = format!("[internal] load git source {}", without_credentials(url));
        self.add_source(git::context(url, context)?, title)
    }

    /// How the main context is checked out. Where a time is asked for, files have that of the commit.
    pub(super) fn git_context(&self, keep_git_dir: bool) -> GitContext {
        let argument = self.build_args.get("BUILDKIT_CONTEXT_KEEP_GIT_DIR");
        let keep = argument.and_then(|value| crate::check::parse_bool(value));
        let is_dated = self.options.build_args.get(arguments::EPOCH).is_some_and(|v| !v.is_empty());
        GitContext {
            keep_git_dir: keep.unwrap_or(keep_git_dir),
            times: if is_dated { GitTimes::Commit } else { GitTimes::Checkout },
        }
    }

    fn add_http_context(&mut self, url: &str, title: String) -> Fallible<Input> {
        self.add_source(http_source(url, None, FETCHED), title)
    }

    /// The files of the main context.
    pub(super) fn main_tree(&mut self) -> Fallible<Option<Input>> {
        if let Some(tree) = self.main_context {
            return Ok(tree);
        }
        let options = self.options;
        let tree = match &options.main_context {
            MainContext::Empty => None,
            MainContext::Local { exclude_patterns } => {
                let title = "[internal] load build context".to_owned();
                Some(self.add_local(MAIN_CONTEXT, exclude_patterns, title)?)
            }
            MainContext::Git { url, keep_git_dir } => {
                let context = self.git_context(*keep_git_dir);
                Some(self.add_git_context(url, context)?)
            }
            MainContext::Http { url, is_archive } => {
                let url_shown = without_credentials(url);
                let title = format!("[internal] load remote build context {url_shown}");
                let archive = self.add_http_context(url, title)?;
                Some(if *is_archive { self.unpack_context(archive)? } else { archive })
            }
        };
        self.main_context = Some(tree);
        Ok(tree)
    }

    fn unpack_context(&mut self, archive: Input) -> Fallible<Input> {
        let action = FileAction {
            input: FileInput::Scratch,
            secondary: Some(FileInput::Input(0)),
            output: Some(0),
            kind: FileActionKind::Copy(unpack_action(&format!("/{FETCHED}"), "/")),
        };
        let name = "[internal] copy remote build context".to_owned();
        let metadata = llb::Metadata { name, ..llb::Metadata::default() };
        let op = Op::File(FileOp { actions: vec![action] });
        let vertex = self.definition.add(op, &[archive], metadata)?;
        Ok(Input { vertex, output: 0 })
    }

    /// Metadata of a step of a stage.
    pub(super) fn metadata(&self, id: StageId, name: String, place: Place<'_>) -> llb::Metadata {
        let stage = &self.stages[id];
        llb::Metadata {
            name,
            stage: stage.label.clone(),
            span: Some((place.span.start, place.span.end)),
            lines: Some((place.lines.start, place.lines.end)),
            ignore_cache: stage.ignore_cache || self.pragma == Some(Pragma::Always),
            max_age: match self.pragma {
                Some(Pragma::Ttl(seconds)) => Some(seconds),
                Some(Pragma::Always) | None => None,
            },
            empties_cache_mounts: stage.ignore_cache && !self.options.keep_cache_mounts,
            architectures: stage.platform.iter().map(|p| p.architecture.clone()).collect(),
            command: String::new(),
        }
    }
}

/// The main context by itself, for who looks into it before anything is lowered; no vertex of an empty one.
pub fn main_context(options: &Options) -> Result<(Definition, Option<Input>), Diagnostic> {
    let images = BTreeMap::new();
    let mut lowering = Lowering::new(options, &images, '\\', Checks::default());
    let tree = lowering.main_tree().map_err(|fault| fault.at(Place::default()))?;
    Ok((lowering.definition, tree))
}

/// The config of an image with nothing in it.
fn empty_image(platform: &Platform) -> ImageConfig {
    let mut image = ImageConfig {
        os: platform.os.clone(),
        architecture: platform.architecture.clone(),
        variant: platform.variant.clone(),
        os_version: platform.os_version.clone(),
        os_features: platform.os_features.clone(),
        ..ImageConfig::default()
    };
    image.config.working_dir = "/".to_owned();
    image.config.env.extend(default_path(&platform.os));
    image
}

/// `PATH=…` for images that have none; Windows sees to that itself.
pub(super) fn default_path(os: &str) -> Option<String> {
    (os != "windows").then(|| format!("PATH={DEFAULT_PATH}"))
}

/// What a stage takes over from its image's config: neither its layers nor its times. (The
/// history is put together at the end.)
fn without_layers(image: &ImageConfig) -> ImageConfig {
    ImageConfig { created: None, rootfs: RootFs::default(), history: Vec::new(), ..image.clone() }
}

/// Very old images name no layers in their config, but have history entries with some.
fn has_layers(image: &ImageConfig) -> bool {
    let made_layer = |entry: &History| !entry.empty_layer;
    !image.rootfs.diff_ids.is_empty() || image.history.iter().any(made_layer)
}
