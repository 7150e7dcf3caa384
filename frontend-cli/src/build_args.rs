//! What was typed after `mybuild build`, turned into what is meant: an [`engine::BuildRequest`] and
//! what to do around it. Looks at the environment and at which files exist, reads nothing.

mod action;
mod annotation;
mod arguments;
mod cache;
mod compression;
pub mod csv;
pub(crate) mod host;
mod limits;
pub mod option;
mod output;
mod outputs;
pub(crate) mod quantity;
mod refused;
mod secret;
mod ssh;
mod tag;
mod times;
mod unset;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use engine::request::{
    BuildRequest, ContextSource, DockerfileSource, Entitlement, LocalMode, NetworkMode, NoCache,
    Output, PullPolicy, TarSource,
};
use oci::Platform;

pub use action::{Action, Call, Format, Method};

use crate::cli::BuildArgs;
use crate::client::CommandLine;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::progress::Mode;
use crate::remote::{remote, url};
use crate::spelling::boolean;
use crate::ssh::Wanted;
use crate::stdin::StandardInput;
use crate::{destination, platform};

/// What `mybuild build` has to do.
#[derive(Debug, Clone)]
pub struct Build {
    /// The build. What comes from standard input is not in it yet.
    pub request: BuildRequest,
    /// What the engine asks for.
    pub client: CommandLine,
    /// The agents of `--ssh`. Their keys are not read yet.
    pub agents: Vec<Wanted>,
    /// What standard input holds, if it is to be read.
    pub standard_input: Option<StandardInput>,
    /// Build, or look only.
    pub action: Action,
    /// How to show what happens.
    pub progress: Mode,
    /// `--iidfile`
    pub iidfile: Option<PathBuf>,
    /// `--metadata-file`
    pub metadata_file: Option<PathBuf>,
    /// To be told before the build starts.
    pub warnings: Vec<String>,
}

/// Finds out what is meant, or why it cannot be.
pub fn resolve(args: &BuildArgs, environment: &Environment) -> Result<Build, UsageError> {
    let mut args = args.clone();
    for option in std::mem::take(&mut args.options) {
        option::apply(&option, &mut args)?;
    }
    for resource in std::mem::take(&mut args.resources) {
        limits::apply_resource(&resource, &mut args)?;
    }
    refused::check(&args)?;
    let (context, dockerfile, standard_input) = inputs(&args)?;
    let outputs = outputs::resolve(&args, environment)?;
    let arguments = arguments::resolve(&args, environment)?;
    let network = network(args.network.as_deref())?;
    let mut targets = stages(args.target.as_slice());
    let (inline, cache_to): (Vec<String>, _) =
        args.cache_to.iter().cloned().partition(|text| cache::is_inline(text));
    inline.iter().try_for_each(|text| cache::check_inline(text))?;
    let request = BuildRequest {
        dockerfile,
        context,
        ignore_file: args.ignore_file.clone(),
        named_contexts: named_contexts(&args.build_contexts)?,
        target: targets.next(),
        also: targets.chain(stages(&args.also)).collect(),
        build_args: arguments.all,
        labels: labels(&args.labels)?,
        unset: unset::resolve(&args)?,
        squash: args.squash,
        platforms: platforms(&args.platform, environment)?,
        keep_cache_mounts: keep_cache_mounts(&args)?,
        no_cache: no_cache(&args),
        pull: pull(args.pull.as_deref())?,
        offline: offline(&args)?,
        network,
        extra_hosts: host::parse_all(&args.add_hosts, network)?,
        shm_size: args
            .shm_size
            .as_deref()
            .map_or(Ok(0), |size| quantity::bytes("--shm-size", size))?,
        ulimits: each(&args.ulimits, quantity::ulimit)?,
        hostname: args.hostname.as_deref().map_or(Ok(String::new()), hostname)?,
        cgroup_parent: args.cgroup_parent.clone().unwrap_or_default(),
        limits: limits::resolve(&args)?,
        step_disk: args
            .step_disk
            .as_deref()
            .map(|size| quantity::bytes("--step-disk", size))
            .transpose()?,
        entitlements: granted(&args)?,
        jobs: args.jobs.as_deref().map(|jobs| quantity::positive("--jobs", jobs)).transpose()?,
        tags: outputs.tags,
        outputs: outputs.outputs,
        cache_from: each(&args.cache_from, |text| cache::source(text, environment))?,
        cache_to: each(&cache_to, |text| cache::target(text, environment))?,
        inline_cache: !inline.is_empty(),
        times: outputs.times,
        annotations: outputs.annotations,
        index: None,
    };
    check_deletes(&args, &request)?;
    let index = index(&request)?;
    let inline_cache = request.inline_cache || inline_cache(&request)?;
    let request = BuildRequest { index, inline_cache, ..request };
    let secrets = each(&args.secrets, |text| secret::parse(text, environment))?;
    Ok(Build {
        request,
        client: CommandLine { secrets, ..CommandLine::new(environment) },
        agents: ssh::parse_all(&args.ssh, environment)?,
        standard_input,
        action: action::resolve(&args)?,
        progress: progress(&args, environment)?,
        iidfile: args.iidfile.clone(),
        metadata_file: args.metadata_file.clone(),
        warnings: [arguments.warnings, outputs.warnings, refused::without_effect(&args)].concat(),
    })
}

fn each<T>(
    texts: &[String],
    parse: impl Fn(&str) -> Result<T, UsageError>,
) -> Result<Vec<T>, UsageError> {
    texts.iter().map(|text| parse(text)).collect()
}

/// Context, Dockerfile, and which of them standard input is.
fn inputs(
    args: &BuildArgs,
) -> Result<(ContextSource, DockerfileSource, Option<StandardInput>), UsageError> {
    let file = args.file.as_deref().filter(|file| !file.is_empty());
    let dockerfile = match file.and_then(url) {
        Some(url) => DockerfileSource::Url(url.to_owned()),
        None => DockerfileSource::File(file.map(PathBuf::from)),
    };
    let file_is_stdin = file == Some(OsStr::new("-"));
    if args.context == "-" {
        if file_is_stdin {
            return Err(UsageError::new("context and Dockerfile cannot both be standard input"));
        }
        return Ok((ContextSource::Empty, dockerfile, Some(StandardInput::Context)));
    }
    let context = context(&args.context)?;
    if file_is_stdin {
        let unread = DockerfileSource::File(None);
        return Ok((context, unread, Some(StandardInput::Dockerfile)));
    }
    Ok((context, dockerfile, None))
}

fn context(text: &OsStr) -> Result<ContextSource, UsageError> {
    let path = Path::new(text);
    match path.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(ContextSource::Directory(path.into())),
        _ if let Some(address) = remote(text) => Ok(ContextSource::Remote(address.to_owned())),
        Ok(metadata) if metadata.is_file() => {
            Ok(ContextSource::Archive(TarSource::Path(path.into())))
        }
        Ok(_) => Err(UsageError::new(format!(
            "context `{}` is neither a directory nor a file",
            path.display()
        ))),
        Err(error) => Err(no_context(path, &error)),
    }
}

fn no_context(path: &Path, error: &std::io::Error) -> UsageError {
    let refused = no_directory(&format!("context `{}`", path.display()), path, error);
    match refused.hint {
        Some(_) => refused,
        None => {
            refused.with_hint("the last word is the directory to build from: `mybuild -t NAME .`")
        }
    }
}

/// What is asked for, and perhaps what was meant.
fn no_directory(asked: &str, path: impl AsRef<Path>, error: &std::io::Error) -> UsageError {
    let refused = UsageError::new(format!("{asked}: {}", told(error)));
    match engine::near_path(path.as_ref()) {
        Some(near) => refused.with_hint(format!("did you mean `{}`?", near.display())),
        None => refused,
    }
}

/// What the system says, without its number.
fn told(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such directory".to_owned(),
        kind => kind.to_string(),
    }
}

fn named_contexts(texts: &[String]) -> Result<BTreeMap<String, String>, UsageError> {
    let mut result = BTreeMap::new();
    for text in texts {
        let invalid = |what: &str| UsageError::new(format!("`--build-context {text}`: {what}"));
        let (name, source) = text
            .split_once('=')
            .filter(|(name, source)| !name.is_empty() && !source.is_empty())
            .ok_or_else(|| invalid("want NAME=SOURCE"))?;
        if let Some(Err(error)) = engine::context_directory(source).map(Path::metadata) {
            return Err(no_directory(&format!("`--build-context {text}`"), source, &error));
        }
        result.insert(name.to_owned(), source.to_owned());
    }
    Ok(result)
}

/// Whether BUILDKIT_INLINE_CACHE asks for what `--cache-to type=inline` does.
fn inline_cache(request: &BuildRequest) -> Result<bool, UsageError> {
    const NAME: &str = "BUILDKIT_INLINE_CACHE";
    match request.build_args.get(NAME).filter(|value| !value.is_empty()) {
        None => Ok(false),
        Some(value) => boolean(value).ok_or_else(|| {
            UsageError::new(format!("`--build-arg {NAME}={value}`: want `true` or `false`"))
        }),
    }
}

/// What BUILDKIT_MULTI_PLATFORM says: whether the result is an index whatever the platforms.
fn index(request: &BuildRequest) -> Result<Option<bool>, UsageError> {
    const NAME: &str = "BUILDKIT_MULTI_PLATFORM";
    let Some(value) = request.build_args.get(NAME).filter(|value| !value.is_empty()) else {
        return Ok(None);
    };
    let invalid = |why: &str| UsageError::new(format!("`--build-arg {NAME}={value}`: {why}"));
    let index = boolean(value).ok_or_else(|| invalid("want `true` or `false`"))?;
    if !index && request.platforms.len() > 1 {
        return Err(invalid("several platforms make an index"));
    }
    Ok(Some(index))
}

/// Allows `mode=delete` to remove files anywhere. The engine need not know.
const LOCAL_DELETE: &str = "buildx.local.delete";

/// Fails if an output would remove what nobody means to give up.
fn check_deletes(args: &BuildArgs, request: &BuildRequest) -> Result<(), UsageError> {
    let context = match &request.context {
        ContextSource::Directory(path) => Some(path.as_path()),
        _ => None,
    };
    let is_allowed = args.allow.iter().any(|text| text == LOCAL_DELETE);
    for output in &request.outputs {
        if let Output::Local { dest, mode: LocalMode::Delete, .. } = output
            && !is_allowed
        {
            destination::check_delete(dest, context)?;
        }
    }
    Ok(())
}

/// `NAME=VALUE`; without `=` the value is empty.
fn labels(texts: &[String]) -> Result<BTreeMap<String, String>, UsageError> {
    texts
        .iter()
        .map(|text| match text.split_once('=').unwrap_or((text, "")) {
            ("", _) => Err(UsageError::new(format!("`--label {text}`: the name is empty"))),
            (name, value) => Ok((name.to_owned(), value.to_owned())),
        })
        .collect()
}

pub(crate) fn platforms(
    typed: &[String],
    environment: &Environment,
) -> Result<Vec<Platform>, UsageError> {
    const NAME: &str = "DOCKER_DEFAULT_PLATFORM";
    let default = environment.text(NAME).unwrap_or_default();
    let texts = if typed.is_empty() { vec![default.to_owned()] } else { typed.to_vec() };
    let mut result: Vec<Platform> = Vec::new();
    for text in texts.iter().flat_map(|text| text.split(',')).filter(|text| !text.is_empty()) {
        let from = if typed.is_empty() { NAME } else { "--platform" };
        result.push(platform::parse(from, text.trim())?);
    }
    Ok(result)
}

/// The names of stages in lists with commas.
fn stages(texts: &[String]) -> impl Iterator<Item = String> {
    let names = texts.iter().flat_map(|text| text.split(',')).map(str::trim);
    names.filter(|name| !name.is_empty()).map(str::to_owned)
}

fn keep_cache_mounts(args: &BuildArgs) -> Result<bool, UsageError> {
    if args.keep_cache_mounts && no_cache(args) == NoCache::Never {
        return Err(UsageError::new("`--keep-cache-mounts` does nothing alone")
            .with_hint("it goes with `--no-cache` and `--no-cache-filter`"));
    }
    Ok(args.keep_cache_mounts)
}

fn no_cache(args: &BuildArgs) -> NoCache {
    if args.no_cache {
        return NoCache::Always;
    }
    let stages: Vec<String> = stages(&args.no_cache_filter).collect();
    if stages.is_empty() { NoCache::Never } else { NoCache::Stages(stages) }
}

pub(crate) fn pull(value: Option<&str>) -> Result<PullPolicy, UsageError> {
    match value {
        None | Some("missing" | "false" | "0") => Ok(PullPolicy::Missing),
        Some("always" | "true" | "1") => Ok(PullPolicy::Always),
        Some("never") => Ok(PullPolicy::Never),
        Some("newer") => Ok(PullPolicy::Newer),
        Some(other) => Err(UsageError::new(format!("`--pull={other}`: unknown policy"))
            .with_hint("policies are always, missing, newer and never")),
    }
}

/// `--offline`, which leaves no registry to look an image up in.
fn offline(args: &BuildArgs) -> Result<bool, UsageError> {
    if args.offline && pull(args.pull.as_deref())? == PullPolicy::Always {
        return Err(UsageError::new("`--offline` and `--pull=always` do not go together")
            .with_hint("`--pull=newer` takes the store's image where there is no network"));
    }
    Ok(args.offline)
}

pub(crate) fn network(value: Option<&str>) -> Result<NetworkMode, UsageError> {
    match value {
        None | Some("" | "default") => Ok(NetworkMode::Default),
        Some("none") => Ok(NetworkMode::None),
        Some("host") => Ok(NetworkMode::Host),
        Some(other) => Err(UsageError::new(format!("`--network={other}` is not supported"))
            .with_hint("networks are default, none and host")),
    }
}

/// A host name as Linux takes it (`sethostname(2)`: at most 64 bytes).
pub(crate) fn hostname(text: &str) -> Result<String, UsageError> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if text.len() <= 64 && text.chars().all(is_good) {
        Ok(text.to_owned())
    } else {
        Err(UsageError::new(format!("`--hostname {text}` is not a host name")))
    }
}

fn not_allowed(text: &str) -> UsageError {
    UsageError::new(format!("`--allow {text}` is not supported"))
        .with_hint("entitlements are network.host, security.insecure, device, device=NAME and buildx.local.delete")
}

/// What steps may be granted.
pub(crate) fn entitlements(texts: &[String]) -> Result<Vec<Entitlement>, UsageError> {
    let grant = |text: &String| {
        Ok(match text.as_str() {
            "network.host" => Entitlement::NetworkHost,
            "security.insecure" => Entitlement::SecurityInsecure,
            "device" => Entitlement::Device(None),
            other => match other.strip_prefix("device=").filter(|name| !name.is_empty()) {
                Some(name) if !name.contains(',') => Entitlement::Device(Some(name.to_owned())),
                _ => return Err(not_allowed(other)),
            },
        })
    };
    texts.iter().filter(|text| *text != LOCAL_DELETE).map(grant).collect()
}

fn granted(args: &BuildArgs) -> Result<Vec<Entitlement>, UsageError> {
    let mut result = entitlements(&args.allow)?;
    // Who gives all steps the host's network has granted it.
    if args.network.as_deref() == Some("host") && !result.contains(&Entitlement::NetworkHost) {
        result.push(Entitlement::NetworkHost);
    }
    Ok(result)
}

/// `--annotation`
pub(crate) fn annotations(texts: &[String]) -> Result<Vec<engine::Annotation>, UsageError> {
    let mut annotations = Vec::new();
    for text in texts {
        annotations.extend(annotation::parse(text)?);
    }
    Ok(annotations)
}

pub(crate) fn progress(args: &BuildArgs, environment: &Environment) -> Result<Mode, UsageError> {
    let typed = args.progress.as_deref().filter(|kind| !kind.is_empty());
    let from_environment = environment.text("BUILDKIT_PROGRESS").filter(|kind| !kind.is_empty());
    if args.quiet {
        return match typed {
            None | Some("auto" | "quiet") => Ok(Mode::Quiet),
            Some(other) => Err(UsageError::new(format!(
                "`--quiet` and `--progress={other}` do not go together"
            ))),
        };
    }
    let lines = environment.text("BUILDKIT_TTY_LOG_LINES").and_then(|lines| lines.parse().ok());
    let tree = Mode::Tree { log_lines: lines.unwrap_or(DEFAULT_LOG_LINES) };
    match typed.or(from_environment).unwrap_or("auto") {
        // A terminal that cannot move its cursor is no better than a file.
        "auto" if environment.stderr_is_terminal && environment.text("TERM") != Some("dumb") => {
            Ok(tree)
        }
        "auto" | "plain" => Ok(Mode::Plain),
        "tty" if environment.stderr_is_terminal => Ok(tree),
        "tty" => Err(UsageError::new("`--progress=tty`: standard error is not a terminal")
            .with_hint("`--progress=plain` shows the same in lines")),
        "json" => Ok(Mode::Json),
        "rawjson" => Ok(Mode::RawJson),
        "quiet" => Ok(Mode::Quiet),
        "none" => Ok(Mode::None),
        other => Err(UsageError::new(format!("`--progress={other}`: unknown kind"))
            .with_hint("kinds are auto, tty, plain, json, rawjson, quiet and none")),
    }
}

/// Lines of output shown under each running step.
const DEFAULT_LOG_LINES: usize = 6;
