//! All outputs of a build, and the names and annotations of its image.

use engine::Annotation;
use engine::request::{Output, Times};
use oci::Reference;

use super::tag::tag;
use super::{annotation, output, times};
use crate::cli::BuildArgs;
use crate::environment::Environment;
use crate::error::UsageError;

/// Outputs, and what they say about the image.
#[derive(Default)]
pub(super) struct Outputs {
    pub(super) outputs: Vec<Output>,
    pub(super) tags: Vec<Reference>,
    pub(super) annotations: Vec<Annotation>,
    pub(super) times: Times,
}

pub(super) fn resolve(args: &BuildArgs, environment: &Environment) -> Result<Outputs, UsageError> {
    let tags = args.tags.iter().map(|text| tag(text)).collect::<Result<_, _>>()?;
    let mut result = Outputs { tags, ..Outputs::default() };
    let alone = args.outputs.len() == 1 && !args.load;
    for text in &args.outputs {
        let parsed = output::parse(text, environment)?;
        // The request names and annotates the image, not one of its copies.
        if !alone && !parsed.annotations.is_empty() {
            return Err(UsageError::new(format!(
                "`--output {text}`: annotations of one output among several are not supported"
            ))
            .with_hint("use `--annotation`"));
        }
        if !parsed.names.is_empty() && (!alone || !args.tags.is_empty()) {
            return Err(UsageError::new(format!(
                "`--output {text}`: `name=` beside `--tag` or other outputs is not supported"
            ))
            .with_hint("use `--tag`"));
        }
        result.times = times::merge(result.times, parsed.times).map_err(|attribute| {
            UsageError::new(format!(
                "`--output {text}`: another output has a different `{attribute}`"
            ))
            .with_hint("all outputs of a build are the same image: give them the same times")
        })?;
        result.outputs.push(parsed.output);
        result.tags.extend(parsed.names);
        result.annotations.extend(parsed.annotations);
    }
    if result.outputs.iter().filter(|output| output::writes_stdout(output)).count() > 1 {
        return Err(UsageError::new("only one output can be standard output"));
    }
    if args.push {
        push_images(&mut result.outputs);
    }
    check_pushes(args, &result)?;
    let has_image = result.outputs.iter().any(|output| matches!(output, Output::Image { .. }));
    if args.load && !result.outputs.is_empty() && !has_image {
        result.outputs.push(Output::image());
    }
    for text in &args.annotations {
        result.annotations.extend(annotation::parse(text)?);
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
        let Output::Image { names, push: Some(push), .. } = output else { continue };
        if args.offline {
            return Err(UsageError::new("`--offline` and a push do not go together"));
        }
        let mut names = outputs.tags.iter().chain(names).peekable();
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
