//! `--output`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::request::{Destination, LocalMode, Output, Rewrite, Times};
use parser::suggest::{Case, did_you_mean};

use super::{annotation, csv, times};
use crate::environment::Environment;
use crate::error::UsageError;
use crate::spelling::boolean;

mod form;
mod image;

/// One `--output`, and what it says about the image as a whole.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Where the result goes.
    pub(super) output: Output,
    /// `source-date-epoch=`, `rewrite-timestamp=`
    pub(super) times: Times,
}

/// The types that there are.
const TYPES: [&str; 7] = ["image", "registry", "oci", "docker", "local", "tar", "cacheonly"];

/// Reads one `--output`: a directory, `-`, or `type=…` with its attributes.
pub(super) fn parse(text: &str, environment: &Environment) -> Result<Parsed, UsageError> {
    let fields = csv::fields(text)?;
    let output = match fields.as_slice() {
        [one] if one == text && !one.starts_with("type=") => Some(match one.as_str() {
            "-" => Output::Tar { dest: Destination::Stdout, platform_split: None },
            "" => return Err(UsageError::new("`--output` is empty")),
            dest => {
                Output::Local { dest: dest.into(), platform_split: None, mode: LocalMode::Copy }
            }
        }),
        _ => None,
    };
    let parsed = match output {
        Some(output) => Parsed { output, times: Times::default() },
        None => Attributes::read(text, environment)?.into_output()?,
    };
    if environment.stdout_is_terminal && parsed.output.is_stdout() {
        return Err(UsageError::new(format!(
            "`--output {text}` would write an archive to the terminal"
        ))
        .with_hint("give a file with `dest=`, or redirect standard output"));
    }
    Ok(parsed)
}

/// The attributes not yet looked at. What is left in the end is refused.
struct Attributes<'a> {
    text: &'a str,
    kind: String,
    rest: BTreeMap<String, String>,
    environment: &'a Environment,
}

impl<'a> Attributes<'a> {
    fn read(text: &'a str, environment: &'a Environment) -> Result<Self, UsageError> {
        let mut rest = BTreeMap::new();
        for (key, value) in csv::pairs(text)? {
            // Annotation keys are case-sensitive, attribute names are not: `pairs` lowered both.
            rest.insert(key, value);
        }
        for (key, value) in annotations_as_written(text)? {
            rest.remove(&key.to_lowercase());
            rest.insert(key, value);
        }
        let kind = rest.remove("type").ok_or_else(|| {
            UsageError::new(format!("`--output {text}`: `type` is missing"))
                .with_hint(format!("types are {}", TYPES.join(", ")))
        })?;
        Ok(Self { text, kind, rest, environment })
    }

    fn into_output(mut self) -> Result<Parsed, UsageError> {
        let mut times = self.epoch()?;
        let output = match self.kind.as_str() {
            "image" | "registry" | "oci" | "docker" => {
                times.rewrite = self.rewrite()?;
                self.image()?
            }
            "local" => self.local()?,
            "tar" => {
                let platform_split = self.flag("platform-split")?;
                let dest = self.dest().unwrap_or(Destination::Stdout);
                Output::Tar { dest, platform_split }
            }
            "cacheonly" => Output::CacheOnly,
            kind => {
                let meant = did_you_mean(kind, TYPES, Case::Sensitive);
                return Err(self
                    .invalid(&format!("unknown type `{kind}`{meant}"))
                    .with_hint(format!("types are {}", TYPES.join(", "))));
            }
        };
        match self.rest.pop_first() {
            None => Ok(Parsed { output, times }),
            Some((key, value)) => Err(self.unknown(&key, &value)),
        }
    }

    /// `type=local`.
    fn local(&mut self) -> Result<Output, UsageError> {
        let mode = match self.rest.remove("mode").as_deref() {
            None | Some("copy") => LocalMode::Copy,
            Some("delete") => LocalMode::Delete,
            Some(mode) => {
                return Err(self.invalid(&format!("`mode={mode}`: want `copy` or `delete`")));
            }
        };
        let platform_split = self.flag("platform-split")?;
        match self.dest() {
            Some(Destination::Path(dest)) => Ok(Output::Local { dest, platform_split, mode }),
            Some(_) => Err(self.invalid("a directory is wanted, not `-`")),
            None => Err(self.invalid("`dest` is missing")),
        }
    }

    fn dest(&mut self) -> Option<Destination> {
        match self.rest.remove("dest")?.as_str() {
            "" => None,
            "-" => Some(Destination::Stdout),
            path => Some(Destination::Path(PathBuf::from(path))),
        }
    }

    fn epoch(&mut self) -> Result<Times, UsageError> {
        let Some(value) = self.rest.remove("source-date-epoch") else {
            return Ok(Times::default());
        };
        match times::epoch(&value) {
            Some(epoch) => Ok(Times { epoch, ..Times::default() }),
            None => Err(self.invalid(&format!(
                "`source-date-epoch={value}`: want seconds since 1970, or nothing for no time"
            ))),
        }
    }

    fn rewrite(&mut self) -> Result<Rewrite, UsageError> {
        let Some(value) = self.rest.remove("rewrite-timestamp") else {
            return Ok(Rewrite::default());
        };
        times::rewrite(&value).ok_or_else(|| {
            self.invalid(&format!("`rewrite-timestamp={value}`: want `true`, `false` or `all`"))
        })
    }

    fn flag(&mut self, key: &str) -> Result<Option<bool>, UsageError> {
        let Some(value) = self.rest.remove(key) else { return Ok(None) };
        match boolean(&value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.invalid(&format!("`{key}={value}`: want `true` or `false`"))),
        }
    }

    fn unknown(&self, key: &str, value: &str) -> UsageError {
        let invalid = self.invalid(&format!("`{key}={value}` is not supported"));
        let is_annotation = annotation::split_attribute(key).is_some();
        let hint = match (self.kind.as_str(), key) {
            ("local" | "tar" | "cacheonly", _) if is_annotation => "only images have annotations",
            ("image", "push-by-digest" | "registry.insecure") => {
                "it says something about a push: add `push=true`"
            }
            ("image" | "registry", "dest") => {
                "an image in the store is not a file; `type=oci` writes one"
            }
            (_, "attestation-inline" | "attestation-prefix" | "oci-artifact") => {
                "attestations are not made"
            }
            _ => return invalid,
        };
        invalid.with_hint(hint)
    }

    fn refused(&self, what: &str, hint: &str) -> UsageError {
        self.invalid(&format!("`{what}` is not supported")).with_hint(hint)
    }

    fn invalid(&self, what: &str) -> UsageError {
        UsageError::new(format!("`--output {}`: {what}", self.text))
    }
}

/// The annotations with their keys' case kept.
fn annotations_as_written(text: &str) -> Result<Vec<(String, String)>, UsageError> {
    Ok(csv::fields(text)?
        .into_iter()
        .filter_map(|field| {
            let (key, value) = field.split_once('=')?;
            annotation::split_attribute(key.trim())?;
            Some((key.trim().to_owned(), value.to_owned()))
        })
        .collect())
}
