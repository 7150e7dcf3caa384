//! `SOURCE_DATE_EPOCH`.

use llb::SourceOp;

use super::environment::Environment;
use super::fault::{Fallible, Fault};
use super::git::{self, GitContext};
use super::graph::SCRATCH;
use super::options::{FETCHED, MAIN_CONTEXT, MainContext, NamedContext, Options, SourceTime};
use super::remote::{self, Written, http_source};
use super::{Lowering, arguments};
use crate::check::{Checks, Place};
use crate::diagnostic::Diagnostic;
use crate::instruction::{Add, Dockerfile, Kind, Stage};

const NAME: &str = arguments::EPOCH;
/// The end of the year 9999: no document and no layer has later times, nor any before 1970.
const LATEST: i64 = 253_402_300_799;

/// What has the time that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dated {
    /// What this fetches.
    Source(Box<SourceOp>),
    /// The client's main context: the newest file in it if it is an archive, none if it is a directory.
    MainContext,
    /// Nothing.
    Never,
}

impl Dated {
    fn source(source: SourceOp) -> Self {
        Self::Source(Box::new(source))
    }
}

impl Lowering<'_> {
    /// What was given, else the default in the file.
    fn epoch_value(&self) -> Option<String> {
        let default = || self.global_args.value(NAME).filter(|value| !value.is_empty());
        self.build_args.get(NAME).map(String::as_str).or_else(default).map(str::to_owned)
    }

    /// Finds out the time that is asked for, and puts it where its name stood.
    pub(super) fn resolve_epoch(&mut self, dockerfile: &Dockerfile) -> Result<(), Diagnostic> {
        let Some(value) = self.epoch_value() else { return Ok(()) };
        let epoch = self.epoch_of(&value, dockerfile);
        self.epoch = epoch.map_err(|fault| fault.at(Place::default()))?;
        let text = self.epoch.map(|seconds| seconds.to_string());
        if self.build_args.contains_key(NAME) {
            match &text {
                Some(text) => self.build_args.insert(NAME.to_owned(), text.clone()),
                None => self.build_args.remove(NAME),
            };
        }
        if self.global_args.value(NAME).is_some() {
            match &text {
                Some(text) => self.global_args.set(NAME, text),
                None => drop(self.global_args.remove(NAME)),
            }
        }
        Ok(())
    }

    fn epoch_of(&self, value: &str, dockerfile: &Dockerfile) -> Fallible<Option<i64>> {
        if value.is_empty() {
            return Ok(None);
        }
        match value.parse() {
            Ok(seconds) if (0..=LATEST).contains(&seconds) => return Ok(Some(seconds)),
            Ok(_) => {
                let fault = Fault::new(format!("invalid {NAME}: {value}"));
                return Err(fault.with_hint("give seconds since 1970, up to the year 9999"));
            }
            Err(_) => {}
        }
        // A directory has no time of its own.
        match (self.dated_source(value, dockerfile)?, self.options.source_time) {
            (Dated::Never, _)
            | (Dated::MainContext, SourceTime::NotAsked)
            | (_, SourceTime::Unknown) => Ok(None),
            (_, SourceTime::At(seconds)) => Ok(Some(seconds.clamp(0, LATEST))),
            (_, SourceTime::NotAsked) => {
                let message = format!("the time of `{value}` for {NAME} is not known");
                Err(Fault::new(message).with_hint("give seconds since 1970 instead"))
            }
        }
    }

    /// What a name means: the main context, a named one, or a stage that fetches one thing.
    fn dated_source(&self, name: &str, dockerfile: &Dockerfile) -> Fallible<Dated> {
        if name == MAIN_CONTEXT {
            return match &self.options.main_context {
                MainContext::Git { url, keep_git_dir } => {
                    git::context(url, self.git_context(*keep_git_dir)).map(Dated::source)
                }
                MainContext::Http { url, .. } => Ok(Dated::source(http_source(url, None, FETCHED))),
                MainContext::Local { .. } => Ok(Dated::MainContext),
                MainContext::Empty => Ok(Dated::Never),
            };
        }
        match self.find_context(name, None).unwrap_or(None).map(|found| found.context) {
            Some(NamedContext::Git(url)) => {
                return git::context(url, GitContext::default()).map(Dated::source);
            }
            Some(NamedContext::Http(url)) => {
                return Ok(Dated::source(http_source(url, None, FETCHED)));
            }
            Some(_) => return Ok(Dated::Never),
            None => {}
        }
        let is_meant = |stage: &&Stage| {
            stage.name.as_ref().is_some_and(|text| text.value.eq_ignore_ascii_case(name))
        };
        match dockerfile.stages.iter().find(is_meant) {
            Some(stage) => self.fetched_by(stage).map(Dated::source),
            None => Err(Fault::new(format!("invalid {NAME}: {name}")).with_hint(
                "give seconds since 1970, or `context`, or the name of a build context or a stage \
                 (it is an argument, or a variable of the environment)",
            )),
        }
    }

    /// The one thing that a stage fetches, if it does nothing else.
    fn fetched_by(&self, stage: &Stage) -> Fallible<SourceOp> {
        let mut environment = self.global_args.clone();
        environment.remove(NAME);
        if self.expander.word(&stage.base.value, &environment)?.text != SCRATCH {
            return Err(Fault::new(format!("{NAME} stage must use FROM scratch")));
        }
        let mut found = None;
        for instruction in &stage.instructions {
            match &instruction.kind {
                Kind::Arg(arguments) => {
                    for argument in arguments {
                        let (name, default) = (&argument.name.value, &argument.value);
                        let value = match (self.build_args.get(name), default) {
                            (Some(given), _) => given.clone(),
                            (None, None) => continue,
                            (None, Some(text)) => {
                                self.expander.word(&text.value, &environment)?.text
                            }
                        };
                        environment.set(name, &value);
                    }
                }
                Kind::Add(add) if found.is_none() => {
                    found = Some(self.fetched(add, &environment)?);
                }
                Kind::Add(_) => return Err(not_one_add()),
                _ => {
                    return Err(Fault::new(format!(
                        "{NAME} stage does not meet source-only requirements: unsupported {} \
                         instruction",
                        instruction.keyword
                    )));
                }
            }
        }
        found.ok_or_else(not_one_add)
    }

    fn fetched(&self, add: &Add, environment: &Environment) -> Fallible<SourceOp> {
        let ([source], []) = (add.sources.as_slice(), add.heredocs.as_slice()) else {
            return Err(Fault::new(format!(
                "{NAME} stage must contain exactly one remote ADD source"
            )));
        };
        let source = self.expander.word(&source.value, environment)?.text;
        let checksum = match &add.checksum {
            Some(text) => Some(self.expander.word(&text.value, environment)?.text),
            None => None,
        };
        match remote::classify(&source)? {
            Written::Http => {
                let checksum = checksum.as_deref().map(remote::parse_checksum).transpose()?;
                Ok(http_source(&source, checksum, &remote::file_name(&source)))
            }
            Written::Git(mut git) => {
                git.keep_git_dir = git.keep_git_dir.or(add.keep_git_dir);
                git.source.checksum = checksum.or(git.source.checksum);
                Ok(git.into_op())
            }
            Written::Path => {
                Err(Fault::new(format!("{NAME} stage source must be a single HTTP(S) or Git ADD")))
            }
        }
    }
}

fn not_one_add() -> Fault {
    Fault::new(format!("{NAME} stage must contain exactly one remote ADD"))
}

/// What must be asked for its time (of the commit, of the last change) before
/// [`lower()`](super::lower()) can go on with it in [`Options::source_time`].
pub fn epoch_source(dockerfile: &Dockerfile, options: &Options) -> Result<Dated, Diagnostic> {
    let images = std::collections::BTreeMap::new();
    let escape = super::escape_of(dockerfile);
    let mut lowering = Lowering::new(options, &images, escape, Checks::default());
    let predefined = arguments::predefined(options, "");
    let expander = lowering.expander.clone();
    lowering.global_args =
        arguments::add_global(predefined, dockerfile, &options.build_args, &expander)?.environment;
    match lowering.epoch_value() {
        Some(value) if !value.is_empty() && value.parse::<i64>().is_err() => {
            lowering.dated_source(&value, dockerfile).map_err(|fault| fault.at(Place::default()))
        }
        _ => Ok(Dated::Never),
    }
}
