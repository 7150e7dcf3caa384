//! What was typed after `mybuild run`, turned into what is meant: an [`engine::run::RunRequest`].

mod mounts;
mod ports;
mod variables;

use std::collections::BTreeMap;

use engine::request::{NetworkMode, PullPolicy};
use engine::run::{ContainerName, ResourceLimits, RunRequest, Streams, signal_number};

use crate::build_args::{self, host, quantity};
use crate::cli::{RefusedRunArgs, RunArgs};
use crate::client::CommandLine;
use crate::docker_config;
use crate::environment::Environment;
use crate::error::UsageError;
use crate::progress::Mode;

/// What `mybuild run` has to do.
#[derive(Debug, Clone)]
pub struct Run {
    /// The container, but for the size of its terminal.
    pub request: RunRequest,
    /// What the engine asks for.
    pub client: CommandLine,
    /// Standard input is forwarded.
    pub interactive: bool,
    /// The container has a terminal.
    pub tty: bool,
    /// How a pull is shown.
    pub progress: Mode,
    /// What is not used, and why.
    pub warnings: Vec<String>,
}

/// Finds out what is meant, or why it cannot be. Reads the files of `--env-file`.
pub fn resolve(args: &RunArgs, environment: &Environment) -> Result<Run, UsageError> {
    refuse(&args.refused)?;
    let (image, command) = args.image_and_command.split_first().expect("the syntax wants an image");
    let mounts = mounts::resolve(&args.volumes, &args.tmpfs)?;
    let network = network(args.network.as_deref())?;
    let ports = ports::resolve(&args.ports)?;
    if network == NetworkMode::Host && !ports.is_empty() {
        return Err(UsageError::new("`--publish` and `--network=host` do not go together")
            .with_hint("with the host's network, ports of the container are the host's anyway"));
    }
    if network == NetworkMode::None && !ports.is_empty() {
        return Err(UsageError::new("`--publish` and `--network=none` do not go together")
            .with_hint("a container without a network cannot be reached; leave one of them out"));
    }
    let mut warnings = Vec::new();
    let proxies = proxies(environment, &mut warnings);
    let request = RunRequest {
        image: image.clone(),
        platform: platform(args.platform.as_deref(), environment)?,
        pull: pull(args.pull.as_deref())?,
        command: command.to_vec(),
        entrypoint: args.entrypoint.as_ref().map(|program| match program.as_str() {
            "" => Vec::new(),
            program => vec![program.to_owned()],
        }),
        proxies,
        env: variables::resolve(&args.env_files, &args.env, environment)?,
        workdir: args.workdir.as_deref().map(absolute).transpose()?,
        init: args.init,
        user: args.user.clone(),
        hostname: args.hostname.as_deref().map(build_args::hostname).transpose()?,
        network,
        ports,
        extra_hosts: host::parse_all(&args.add_hosts, network)?,
        binds: mounts.binds,
        volumes: mounts.volumes,
        tmpfs: mounts.tmpfs,
        readonly_root: args.read_only,
        shm_size: size("--shm-size", args.shm_size.as_deref())?.unwrap_or(0),
        ulimits: args
            .ulimits
            .iter()
            .map(|text| quantity::ulimit(text))
            .collect::<Result<_, _>>()?,
        limits: limits(args)?,
        stop_signal: args.stop_signal.as_deref().map(stop_signal).transpose()?,
        name: args.name.as_deref().map(|text| container_name(text, args.rm)).transpose()?,
        streams: Streams::Piped { stdin: args.interactive },
    };
    let progress = build_args::progress(
        &crate::cli::BuildArgs { quiet: args.quiet, ..Default::default() },
        environment,
    )?;
    let client = CommandLine::new(environment);
    Ok(Run { request, client, interactive: args.interactive, tty: args.tty, progress, warnings })
}

/// The proxies of Docker's configuration, in both cases, as `docker run` sets them: what the image says
/// does not count then, what the user says does.
fn proxies(environment: &Environment, warnings: &mut Vec<String>) -> Vec<(String, String)> {
    let proxies = docker_config::proxies(environment).unwrap_or_else(|error| {
        warnings.push(format!("{:#}", anyhow::Error::from(error)));
        BTreeMap::new()
    });
    let both =
        |(name, value): (String, String)| [(name.to_lowercase(), value.clone()), (name, value)];
    proxies.into_iter().flat_map(both).collect()
}

/// Fails for the first flag that cannot be honoured.
fn refuse(refused: &RefusedRunArgs) -> Result<(), UsageError> {
    const BACKGROUND: &str = "a container lives as long as the command in the foreground";
    const SANDBOX: &str = "containers have the sandbox of build steps, with Docker's defaults";
    const LIMITS: &str = "there are `--memory`, `--cpus` and `--pids-limit`";
    let given: [(&str, bool, &str); 28] = [
        ("--detach", refused.detach, "put `&` after the command; it runs in the foreground"),
        (
            "--attach",
            !refused.attach.is_empty(),
            "outputs are always attached; for the input there is `-i`",
        ),
        ("--restart", refused.restart.as_deref().is_some_and(|policy| policy != "no"), BACKGROUND),
        ("--privileged", refused.privileged, SANDBOX),
        ("--cap-add", !refused.cap_add.is_empty(), SANDBOX),
        ("--cap-drop", !refused.cap_drop.is_empty(), SANDBOX),
        ("--security-opt", !refused.security_opt.is_empty(), SANDBOX),
        ("--mount", !refused.mount.is_empty(), "there are `--volume` and `--tmpfs`"),
        ("--volumes-from", !refused.volumes_from.is_empty(), "name a directory with `--volume`"),
        ("--publish-all", refused.publish_all, "name each port with `--publish`"),
        ("--expose", !refused.expose.is_empty(), "name each port with `--publish`"),
        ("--link", !refused.link.is_empty(), "there is `--add-host`"),
        ("--dns", !refused.dns.is_empty(), "the host's name servers are used"),
        ("--device", !refused.device.is_empty(), SANDBOX),
        ("--gpus", refused.gpus.is_some(), SANDBOX),
        ("--pid", refused.pid.is_some(), SANDBOX),
        ("--ipc", refused.ipc.is_some(), SANDBOX),
        ("--userns", refused.userns.is_some(), SANDBOX),
        ("--group-add", !refused.group_add.is_empty(), "there is `--user USER:GROUP`"),
        ("--label", !refused.labels.is_empty(), "give it a name with `--name`"),
        ("--cidfile", refused.cidfile.is_some(), "give it a name with `--name`"),
        ("--health-cmd", refused.health_cmd.is_some(), BACKGROUND),
        ("--runtime", refused.runtime.is_some(), SANDBOX),
        ("--sysctl", !refused.sysctl.is_empty(), SANDBOX),
        ("--log-driver", refused.log_driver.is_some(), "redirect the output"),
        ("--memory-swap", refused.memory_swap.is_some(), LIMITS),
        ("--cpu-shares", refused.cpu_shares.is_some(), LIMITS),
        ("--cpuset-cpus", refused.cpuset_cpus.is_some(), LIMITS),
    ];
    if let Some((flag, _, hint)) = given.into_iter().find(|(_, given, _)| *given) {
        return Err(UsageError::new(format!("`{flag}` is not supported")).with_hint(hint));
    }
    if refused.detach_keys.is_some() {
        return Err(UsageError::new("`--detach-keys` is not supported").with_hint(BACKGROUND));
    }
    Ok(())
}

fn platform(
    text: Option<&str>,
    environment: &Environment,
) -> Result<Option<oci::Platform>, UsageError> {
    let typed: Vec<String> = text.map(str::to_owned).into_iter().collect();
    let platforms = build_args::platforms(&typed, environment)?;
    match platforms.as_slice() {
        [] | [_] => Ok(platforms.into_iter().next()),
        _ => Err(UsageError::new("`--platform` takes one platform here")),
    }
}

fn pull(text: Option<&str>) -> Result<PullPolicy, UsageError> {
    match text {
        None | Some("missing") => Ok(PullPolicy::Missing),
        Some("always") => Ok(PullPolicy::Always),
        Some("never") => Ok(PullPolicy::Never),
        Some(other) => Err(UsageError::new(format!("`--pull={other}` is not supported"))
            .with_hint("want missing, always or never")),
    }
}

fn network(text: Option<&str>) -> Result<NetworkMode, UsageError> {
    match text {
        None | Some("default" | "bridge") => Ok(NetworkMode::Default),
        Some("none") => Ok(NetworkMode::None),
        Some("host") => Ok(NetworkMode::Host),
        Some(other) => Err(UsageError::new(format!("`--network={other}` is not supported"))
            .with_hint("networks are default, none and host")),
    }
}

fn absolute(text: &str) -> Result<String, UsageError> {
    if text.starts_with('/') {
        return Ok(text.to_owned());
    }
    Err(UsageError::new(format!("`--workdir {text}`: the path must be absolute")))
}

fn size(flag: &str, text: Option<&str>) -> Result<Option<u64>, UsageError> {
    text.map(|text| quantity::bytes(flag, text)).transpose()
}

fn limits(args: &RunArgs) -> Result<ResourceLimits, UsageError> {
    let cpus = args.cpus.as_deref().map(|text| {
        let number: Option<f64> =
            text.parse().ok().filter(|number| (0.01..=100_000.0).contains(number));
        let invalid = || UsageError::new(format!("`--cpus {text}` is not a number of processors"));
        number.map(|number| (number * 1000.0).round() as u64).ok_or_else(invalid)
    });
    let pids = args.pids_limit.as_deref().filter(|text| *text != "-1");
    let pids =
        pids.map(|text| quantity::positive("--pids-limit", text).map(|number| number as u64));
    Ok(ResourceLimits {
        memory: size("--memory", args.memory.as_deref())?,
        milli_cpus: cpus.transpose()?,
        pids: pids.transpose()?,
    })
}

fn stop_signal(text: &str) -> Result<i32, UsageError> {
    signal_number(text).ok_or_else(|| {
        UsageError::new(format!("`--stop-signal {text}` is not a signal"))
            .with_hint("write SIGTERM, TERM or 15; real-time signals are not supported")
    })
}

/// Docker's names: a letter or digit, then also `_`, `.` and `-`.
fn container_name(text: &str, is_removed_at_end: bool) -> Result<ContainerName, UsageError> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_.-".contains(c);
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && text.len() > 1 && text.chars().all(is_plain) {
        return Ok(ContainerName { name: text.to_owned(), is_removed_at_end });
    }
    Err(UsageError::new(format!("`--name {text}` is not a valid name"))
        .with_hint("a name has two or more letters, digits, `_`, `.` and `-`"))
}
