//! All outputs of a build, and the names and annotations of its image.

use std::path::Path;

use engine::Annotation;
use engine::request::{Compression, Destination, ImageForm, LocalMode, MediaTypes, Output, Times};
use oci::Reference;

use super::tag::tag;
use super::{output, times};
use crate::cli::BuildArgs;
use crate::destination::normal;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::image_engine::ImageEngine;

/// Outputs, and what they say about the image.
#[derive(Default)]
pub(super) struct Outputs {
    pub(super) outputs: Vec<Output>,
    pub(super) tags: Vec<Reference>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) times: Times,
    pub(super) warnings: Vec<String>,
}

pub(super) fn resolve(args: &BuildArgs, environment: &Environment) -> Result<Outputs, UsageError> {
    let tags = args.tags.iter().map(|text| tag(text)).collect::<Result<_, _>>()?;
    let annotations = super::annotations(&args.annotations)?;
    let mut result = Outputs { tags, annotations, ..Outputs::default() };
    for text in &args.outputs {
        let parsed = output::parse(text, environment)?;
        result.times = times::merge(result.times, parsed.times).map_err(|attribute| {
            UsageError::new(format!(
                "`--output {text}`: another output has a different `{attribute}`"
            ))
            .with_hint("all outputs of a build are the same image: give them the same times")
        })?;
        result.check(text, &parsed.output)?;
        result.outputs.push(parsed.output);
    }
    if args.push {
        push_images(&mut result.outputs);
    }
    check_pushes(args, &result)?;
    let has_image = result.outputs.iter().any(|output| matches!(output, Output::Image { .. }));
    if args.load
        && let Some(engine) = ImageEngine::find(environment)?
    {
        result.load_into(&engine);
    }
    if args.load && !result.outputs.is_empty() && !has_image {
        result.outputs.push(Output::image());
    }
    let is_named = result.outputs.is_empty() || result.outputs.iter().any(|o| o.form().is_some());
    if !result.tags.is_empty() && !is_named {
        let message = "`--tag` has no effect: no output is an image";
        result.warnings.push(message.to_owned());
    }
    Ok(result)
}

/// `--push`: the images among the outputs are pushed; without any, there is one more, as for buildx.
fn push_images(outputs: &mut Vec<Output>) {
    let is_image = |output: &Output| matches!(output, Output::Image { .. });
    if !outputs.iter().any(is_image) {
        outputs.push(Output::image());
    }
    for output in outputs {
        if let Output::Image { push, .. } = output {
            push.get_or_insert_default();
        }
    }
}

/// A push needs a network, and names: without a tag if it is by digest.
fn check_pushes(args: &BuildArgs, outputs: &Outputs) -> Result<(), UsageError> {
    for output in &outputs.outputs {
        let Output::Image { form, push: Some(push), .. } = output else { continue };
        if args.offline {
            return Err(UsageError::new("`--offline` and a push do not go together"));
        }
        let mut names = outputs.tags.iter().chain(&form.names).peekable();
        if names.peek().is_none() {
            return Err(UsageError::new("a push needs a name")
                .with_hint("say where to with `-t HOST/NAME:TAG`, or with `name=` in the output"));
        }
        if let Some(tagged) = names.find(|name| push.by_digest && name.tag().is_some()) {
            let name = tagged.familiar();
            return Err(UsageError::new(format!(
                "`{name}`: an image that is pushed by digest gets no tag"
            ))
            .with_hint("leave the tag out"));
        }
    }
    Ok(())
}

impl Outputs {
    /// The engine gets the image, unless an output says so already.
    fn load_into(&mut self, engine: &ImageEngine) {
        let dest = Destination::Engine(engine.to_string());
        let is_there = |output: &Output| matches!(output, Output::Docker { dest: known, .. } if *known == dest);
        if !self.outputs.iter().any(is_there) {
            let form = ImageForm { compression: Compression::NONE, ..ImageForm::default() };
            self.outputs.insert(0, Output::Docker { dest, tar: true, form });
        }
    }

    /// Whether `output`, given as `text`, goes together with what there is.
    fn check(&self, text: &str, output: &Output) -> Result<(), UsageError> {
        let invalid = |why: &str| UsageError::new(format!("`--output {text}`: {why}"));
        if output.is_stdout() && self.outputs.iter().any(Output::is_stdout) {
            return Err(UsageError::new("only one output can be standard output"));
        }
        if let Some(clash) = self.outputs.iter().find_map(|other| clash(other, output)) {
            let why = format!("another output writes to `{}`, too", clash.display());
            return Err(invalid(&why).with_hint("give each output a `dest` of its own"));
        }
        if let Output::Image { form, digest_names, .. } = output
            && digest_names.canonical
            && form.names.is_empty()
            && self.tags.is_empty()
        {
            return Err(invalid("`name-canonical` without a name"));
        }
        let is_docker = output.form().is_some_and(|form| form.media_types == MediaTypes::Docker);
        if is_docker && !self.annotations.is_empty() {
            return Err(invalid(
                "`oci-mediatypes=false`: Docker's media types have no annotations",
            )
            .with_hint("leave `oci-mediatypes` or `--annotation` out"));
        }
        Ok(())
    }
}

/// Where one output would take away what the other writes.
fn clash<'a>(one: &'a Output, other: &'a Output) -> Option<&'a Path> {
    let (first, second) = (path(one)?, path(other)?);
    let (first_place, second_place) = (normal(first), normal(second));
    let is_in = |outer: &Output, place: &Path, inner: &Path| {
        matches!(outer, Output::Local { mode: LocalMode::Delete, .. }) && inner.starts_with(place)
    };
    let clashes = first_place == second_place
        || is_in(one, &first_place, &second_place)
        || is_in(other, &second_place, &first_place);
    clashes.then_some(first)
}

fn path(output: &Output) -> Option<&Path> {
    match output {
        Output::Oci { dest: Destination::Path(path), .. }
        | Output::Docker { dest: Destination::Path(path), .. }
        | Output::Tar { dest: Destination::Path(path), .. }
        | Output::Local { dest: path, .. } => Some(path),
        _ => None,
    }
}
