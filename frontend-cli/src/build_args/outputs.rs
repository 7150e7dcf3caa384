//! All outputs of a build, and the names and annotations of its image.

use std::collections::BTreeMap;

use engine::request::{Output, Times};
use oci::Reference;
use parser::suggest::{Case, did_you_mean};

use super::tag::tag;
use super::{output, times};
use crate::cli::BuildArgs;
use crate::environment::Environment;
use crate::error::UsageError;

/// Outputs, and what they say about the image.
#[derive(Default)]
pub(super) struct Outputs {
    pub(super) outputs: Vec<Output>,
    pub(super) tags: Vec<Reference>,
    pub(super) annotations: BTreeMap<String, String>,
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
    let has_image = result.outputs.iter().any(|output| matches!(output, Output::Image { .. }));
    if args.load && !result.outputs.is_empty() && !has_image {
        result.outputs.push(Output::Image { names: Vec::new() });
    }
    for text in &args.annotations {
        let (key, value) = annotation(text)?;
        result.annotations.insert(key, value);
    }
    Ok(result)
}

/// What an annotation can be put on.
const LEVELS: [&str; 4] = ["manifest", "index", "manifest-descriptor", "index-descriptor"];

/// `[LEVEL[PLATFORM],…:]KEY=VALUE`; the manifest is the one level there is.
fn annotation(text: &str) -> Result<(String, String), UsageError> {
    let invalid = |what: &str| UsageError::new(format!("`--annotation {text}`: {what}"));
    let (key, value) = text.split_once('=').ok_or_else(|| invalid("want KEY=VALUE"))?;
    let is_level = |level: &str| {
        let name = level.split_once('[').map_or(level, |(name, _)| name);
        LEVELS.contains(&name)
    };
    let key = match key.split_once(':') {
        Some(("manifest", key)) => key,
        Some((levels, _)) if levels.split(',').all(is_level) => {
            return Err(invalid("only the level `manifest` is supported, without a platform"));
        }
        Some((levels, _)) => {
            let meant = did_you_mean(levels, LEVELS, Case::Sensitive);
            return Err(invalid(&format!("unknown level `{levels}`{meant}"))
                .with_hint("a key with a colon is written `manifest:KEY=VALUE`"));
        }
        None => key,
    };
    if key.is_empty() {
        return Err(invalid("the key is empty"));
    }
    Ok((key.to_owned(), value.to_owned()))
}
