//! `--output`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use engine::Annotation;
use engine::request::{
    Compression, CompressionAlgorithm, Destination, Output, Push, Rewrite, Times,
};
use oci::Reference;

use super::tag::tag;
use super::{annotation, csv, times};
use crate::environment::Environment;
use crate::error::UsageError;
use crate::spelling::boolean;

/// One `--output`, and what it says about the image as a whole.
#[derive(Debug)]
pub(super) struct Parsed {
    /// Where the result goes.
    pub(super) output: Output,
    /// `name=`, for outputs that carry the image's names.
    pub(super) names: Vec<Reference>,
    /// `annotation.KEY=`, `annotation-index.KEY=`, …
    pub(super) annotations: Vec<Annotation>,
    /// `source-date-epoch=`, `rewrite-timestamp=`
    pub(super) times: Times,
}

/// Reads one `--output`: a directory, `-`, or `type=…` with its attributes.
pub(super) fn parse(text: &str, environment: &Environment) -> Result<Parsed, UsageError> {
    let fields = csv::fields(text)?;
    let output = match fields.as_slice() {
        [one] if one == text && !one.starts_with("type=") => Some(match one.as_str() {
            "-" => Output::Tar { dest: Destination::Stdout, platform_split: None },
            "" => return Err(UsageError::new("`--output` is empty")),
            dest => Output::Local { dest: dest.into(), platform_split: None },
        }),
        _ => None,
    };
    let parsed = match output {
        Some(output) => {
            Parsed { output, names: Vec::new(), annotations: Vec::new(), times: Times::default() }
        }
        None => Attributes::read(text)?.into_output()?,
    };
    if environment.stdout_is_terminal && writes_stdout(&parsed.output) {
        return Err(UsageError::new(format!(
            "`--output {text}` would write an archive to the terminal"
        ))
        .with_hint("give a file with `dest=`, or redirect standard output"));
    }
    Ok(parsed)
}

/// Whether an output is sent to standard output.
pub(super) fn writes_stdout(output: &Output) -> bool {
    matches!(
        output,
        Output::Oci { dest: Destination::Stdout, .. }
            | Output::Docker { dest: Destination::Stdout, .. }
            | Output::Tar { dest: Destination::Stdout, .. }
    )
}

/// The attributes not yet looked at. What is left in the end is refused.
struct Attributes<'a> {
    text: &'a str,
    kind: String,
    rest: BTreeMap<String, String>,
}

impl<'a> Attributes<'a> {
    fn read(text: &'a str) -> Result<Self, UsageError> {
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
            UsageError::new(format!("`--output {text}`: `type` is missing")).with_hint(TYPES)
        })?;
        Ok(Self { text, kind, rest })
    }

    fn into_output(mut self) -> Result<Parsed, UsageError> {
        let annotations = self.take_annotations()?;
        let mut times = self.epoch()?;
        let mut names = Vec::new();
        let output = match self.kind.as_str() {
            "image" | "registry" => {
                times.rewrite = self.rewrite()?;
                self.image()?
            }
            "oci" => {
                times.rewrite = self.rewrite()?;
                let (dest, tar, compression) = self.layout(&mut names)?;
                Output::Oci { dest: dest.unwrap_or(Destination::Stdout), tar, compression }
            }
            "docker" => {
                times.rewrite = self.rewrite()?;
                let (dest, tar, compression) = self.layout(&mut names)?;
                match dest {
                    Some(dest) => Output::Docker { dest, tar, compression },
                    // Without a file Docker loads the image into its own store. This is ours.
                    None if tar && compression == Compression::default() => {
                        let names = std::mem::take(&mut names);
                        Output::Image { names, store: true, push: None }
                    }
                    None => {
                        return Err(self.invalid("`dest` is missing").with_hint(
                            "without `dest` the image lands in the store, which has no layout to choose",
                        ));
                    }
                }
            }
            "local" => self.local()?,
            "tar" => {
                let platform_split = self.flag("platform-split")?;
                let dest = self.dest().unwrap_or(Destination::Stdout);
                Output::Tar { dest, platform_split }
            }
            "cacheonly" => {
                return Err(
                    self.refused("type=cacheonly", "steps are kept for later builds anyway")
                );
            }
            kind => {
                return Err(self.invalid(&format!("unknown type `{kind}`")).with_hint(TYPES));
            }
        };
        if !annotations.is_empty() && matches!(output, Output::Local { .. } | Output::Tar { .. }) {
            return Err(self.invalid("files carry no annotations"));
        }
        match self.rest.pop_first() {
            None => Ok(Parsed { output, names, annotations, times }),
            Some((key, value)) => Err(self.unknown(&key, &value)),
        }
    }

    /// `type=image`, and `type=registry`, which is the same with `push=true`.
    fn image(&mut self) -> Result<Output, UsageError> {
        let names = self.names()?;
        let is_registry = self.kind == "registry";
        let push = match self.flag("push")? {
            Some(false) if is_registry => {
                return Err(self.invalid("`push=false` and `type=registry` do not go together"));
            }
            push => push.unwrap_or(is_registry).then(|| self.push()).transpose()?,
        };
        let store = self.flag("store")?.unwrap_or(true);
        if !store && push.is_none() {
            return Err(
                self.refused("store=false", "without `push=true` the store is where images go")
            );
        }
        self.only_oci_media_types()?;
        Ok(Output::Image { names, store, push })
    }

    /// The attributes of a push.
    fn push(&mut self) -> Result<Push, UsageError> {
        let by_digest = self.flag("push-by-digest")?.unwrap_or(false);
        if self.flag("name-canonical")? == Some(true) && !by_digest {
            return Err(self.refused(
                "name-canonical=true",
                "with `push-by-digest=true` an image is called by its digest",
            ));
        }
        let insecure = self.flag("registry.insecure")?.unwrap_or(false);
        Ok(Push { by_digest, insecure, compression: self.compression()? })
    }

    /// What `type=oci` and `type=docker` have in common.
    fn layout(
        &mut self,
        names: &mut Vec<Reference>,
    ) -> Result<(Option<Destination>, bool, Compression), UsageError> {
        *names = self.names()?;
        let tar = self.flag("tar")?.unwrap_or(true);
        let dest = self.dest();
        if !tar && !matches!(dest, Some(Destination::Path(_))) {
            return Err(self.invalid("`tar=false` wants a directory in `dest`"));
        }
        self.only_oci_media_types()?;
        Ok((dest, tar, self.compression()?))
    }

    /// `type=local`.
    fn local(&mut self) -> Result<Output, UsageError> {
        match self.rest.remove("mode").as_deref() {
            None | Some("copy") => {}
            Some(mode) => {
                return Err(self.refused(&format!("mode={mode}"), "`mode=copy` is the one"));
            }
        }
        let platform_split = self.flag("platform-split")?;
        match self.dest() {
            Some(Destination::Path(dest)) => Ok(Output::Local { dest, platform_split }),
            Some(Destination::Stdout) => Err(self.invalid("a directory is wanted, not `-`")),
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

    fn names(&mut self) -> Result<Vec<Reference>, UsageError> {
        let names = self.rest.remove("name").unwrap_or_default();
        names
            .split(',')
            .filter(|name| !name.is_empty())
            .map(|name| tag(name).map_err(|error| self.invalid(&error.message)))
            .collect()
    }

    fn compression(&mut self) -> Result<Compression, UsageError> {
        let algorithm = match self.rest.remove("compression").as_deref() {
            None | Some("gzip") => CompressionAlgorithm::Gzip,
            Some("zstd") => CompressionAlgorithm::Zstd,
            Some("uncompressed") => CompressionAlgorithm::Uncompressed,
            Some(other) => {
                return Err(self.refused(
                    &format!("compression={other}"),
                    "compressions are gzip, zstd and uncompressed",
                ));
            }
        };
        let level = self.rest.remove("compression-level");
        let highest = match algorithm {
            CompressionAlgorithm::Uncompressed => None,
            CompressionAlgorithm::Gzip => Some(9),
            CompressionAlgorithm::Zstd => Some(22),
        };
        let level = match (level, highest) {
            (None, _) => None,
            (Some(_), None) => {
                return Err(self.invalid("`compression-level` without a compression"));
            }
            (Some(text), Some(highest)) => {
                Some(text.parse().ok().filter(|level| (0..=highest).contains(level)).ok_or_else(
                    || {
                        self.invalid(&format!(
                            "`compression-level={text}`: want a number from 0 to {highest}"
                        ))
                    },
                )?)
            }
        };
        let force = self.flag("force-compression")?.unwrap_or(false);
        Ok(Compression { algorithm, level, force })
    }

    fn only_oci_media_types(&mut self) -> Result<(), UsageError> {
        match self.flag("oci-mediatypes")? {
            Some(false) => Err(self.refused("oci-mediatypes=false", "images have OCI media types")),
            _ => Ok(()),
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

    fn take_annotations(&mut self) -> Result<Vec<Annotation>, UsageError> {
        let mut annotations = Vec::new();
        for (name, value) in std::mem::take(&mut self.rest) {
            match annotation::attribute(self.text, &name, &value) {
                Some(annotation) => annotations.push(annotation?),
                None => drop(self.rest.insert(name, value)),
            }
        }
        Ok(annotations)
    }

    fn unknown(&self, key: &str, value: &str) -> UsageError {
        let hint = match key {
            "dest" => "an image in the store is not a file; `type=oci` writes one",
            "compression" | "compression-level" | "force-compression" => {
                "layers are compressed where they leave the store: `push=true`, `type=oci`, `type=docker`"
            }
            "push-by-digest" | "registry.insecure" | "name-canonical" => {
                "it says something about a push: add `push=true`"
            }
            _ => return self.invalid(&format!("`{key}={value}` is not supported")),
        };
        self.invalid(&format!("`{key}={value}` is not supported")).with_hint(hint)
    }

    fn refused(&self, what: &str, hint: &str) -> UsageError {
        self.invalid(&format!("`{what}` is not supported")).with_hint(hint)
    }

    fn invalid(&self, what: &str) -> UsageError {
        UsageError::new(format!("`--output {}`: {what}", self.text))
    }
}

const TYPES: &str = "types are image, registry, oci, docker, local and tar";

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
