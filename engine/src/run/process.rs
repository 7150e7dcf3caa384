//! From a request and an image to a process: Docker's rules for what the image says and what the
//! user says.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use cache::layer::{Lower, Time};
use cache::{NewContainer, NewLayer, Store};
use executor::{
    BindSource, Environment, FirstProcess, Limits, Mount, MountSource, Network, Process, Protocol,
    Rlimit, Role, Root, Stdio, Without,
};
use llb::{FileAction, FileActionKind, FileInput, FileOp, MkdirOp};
use oci::{ContainerConfig, ImageConfig};

use super::image::Image;
use super::{Bind, ResourceLimits, RunRequest, Scratch, Streams, Upper, not_made};
use crate::error::{BuildError, Fault};
use crate::file_op::{self, Job, Target};
use crate::machine::Machine;
use crate::request::NetworkMode;
use crate::step::mount_points;
use crate::tree::{self, View};

/// Docker's, for an image without one.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Microseconds that a limit of processor time is counted in.
const CPU_PERIOD: u64 = 100_000;

/// A process ready to start, and the directories it writes to.
pub(super) struct Prepared {
    pub(super) process: Process,
    pub(super) scratch: Scratch,
    pub(super) upper: Upper,
}

pub(super) fn prepare(
    machine: &Machine,
    store: &Store,
    request: &RunRequest,
    image: &Image,
) -> Result<Prepared, BuildError> {
    let mut scratch = Scratch::default();
    let config = &image.config.config;
    let cwd = working_directory(request, config);
    let arguments = arguments(request, config)?;
    let mut lowers = image.layers.clone();
    let view = tree::view_of_layers(machine.host(), &lowers)
        .map_err(|e| BuildError::System(Fault::of(e)))?;
    let mounts = mounts(store, request, config, &lowers, &view, &mut scratch)?;
    let is_mounted = mounts.iter().any(|mount| is_below(&cwd, &mount.target));
    let upper = upper(store, request, image, &arguments)?;
    let (fs, work) = upper.directories();
    if !is_mounted && !is_directory(&view, &cwd)? {
        make_directory(machine, store, &view, &cwd, &fs)?;
    }
    lowers.insert(0, mount_points::of_container(store)?);
    let root = Root::Overlay { lowers, upper: fs, work };
    let hostname = match &request.hostname {
        Some(name) => name.clone(),
        None => random_name()?,
    };
    let mut process = Process::new(root, arguments);
    process.env = Environment(environment(request, config, &hostname));
    process.cwd = cwd;
    process.architecture.clone_from(&image.config.architecture);
    process.user = request.user.clone().unwrap_or_else(|| config.user.clone());
    process.mounts = mounts;
    let first = if request.init { FirstProcess::Init } else { FirstProcess::Command };
    process.role = Role::Container { first };
    process.network = match request.network {
        NetworkMode::Default => Network::Default,
        NetworkMode::None => Network::None,
        NetworkMode::Host => Network::Host,
    };
    process.ports = request.ports.clone();
    process.hostname = hostname;
    process.extra_hosts = request.extra_hosts.clone();
    process.rlimits = request
        .ulimits
        .iter()
        .map(|limit| Rlimit {
            name: limit.name.clone(),
            soft: u64::try_from(limit.soft).ok(),
            hard: u64::try_from(limit.hard).ok(),
        })
        .collect();
    process.limits = limits(request.limits);
    process.shm_size = request.shm_size;
    process.readonly_root = request.readonly_root;
    process.stdio = match request.streams {
        Streams::Piped { stdin } => Stdio::Piped { stdin },
        Streams::Terminal { rows, columns } => Stdio::Tty { rows, columns },
    };
    Ok(Prepared { process, scratch, upper })
}

/// Where the container writes to its root.
fn upper(
    store: &Store,
    request: &RunRequest,
    image: &Image,
    arguments: &[String],
) -> Result<Upper, BuildError> {
    let Some(name) = &request.name else { return new_layer(store).map(Upper::Scratch) };
    let container = store.create_container(NewContainer {
        name: name.name.clone(),
        image: request.image.clone(),
        manifest: image.manifest.clone(),
        image_id: image.id.clone(),
        layers: image.ids.clone(),
        config: ImageConfig {
            config: own_config(request, &image.config.config),
            ..image.config.clone()
        },
        command: arguments.to_vec(),
        is_removed_at_end: name.is_removed_at_end,
    });
    container.map(|container| Upper::Kept(Box::new(container))).map_err(not_made)
}

impl Upper {
    /// Its upper directory, and the work directory that goes with it.
    fn directories(&self) -> (PathBuf, PathBuf) {
        match self {
            Self::Scratch(layer) => (layer.fs(), layer.work()),
            Self::Kept(container) => (container.container().fs(), container.container().work()),
        }
    }
}

/// The image's config with what the user has asked for: what Docker commits.
fn own_config(request: &RunRequest, config: &ContainerConfig) -> ContainerConfig {
    let mut own = config.clone();
    if let Some(entrypoint) = &request.entrypoint {
        own.entrypoint = Some(entrypoint.clone()).filter(|words| !words.is_empty());
        own.cmd = None;
    }
    if !request.command.is_empty() {
        own.cmd = Some(request.command.clone());
    }
    for (name, value) in &request.env {
        let is_it = |known: &String| known.split_once('=').is_some_and(|(known, _)| known == name);
        own.env.retain(|known| !is_it(known));
        own.env.push(format!("{name}={value}"));
    }
    if let Some(workdir) = &request.workdir {
        own.working_dir.clone_from(workdir);
    }
    if let Some(user) = &request.user {
        own.user.clone_from(user);
    }
    let ports = request.ports.iter().map(|port| match port.protocol {
        Protocol::Tcp => format!("{}/tcp", port.container),
        Protocol::Udp => format!("{}/udp", port.container),
    });
    own.exposed_ports.extend(ports.map(|port| (port, oci::Empty {})));
    own.volumes.extend(request.volumes.iter().map(|path| (path.clone(), oci::Empty {})));
    own
}

/// `ENTRYPOINT` and `CMD`, or what stands for them: an entrypoint of the user's drops the image's
/// command.
fn arguments(request: &RunRequest, config: &ContainerConfig) -> Result<Vec<String>, BuildError> {
    let image = |words: &Option<Vec<String>>| words.clone().unwrap_or_default();
    let (entrypoint, command) = match &request.entrypoint {
        Some(entrypoint) => (entrypoint.clone(), Vec::new()),
        None => (image(&config.entrypoint), image(&config.cmd)),
    };
    let command = if request.command.is_empty() { command } else { request.command.clone() };
    let arguments = [entrypoint, command].concat();
    if arguments.is_empty() {
        return Err(BuildError::input(format!("image `{}` has no command", request.image))
            .with_hint("name one after the image"));
    }
    Ok(arguments)
}

/// Docker's variables, then the image's, then the user's; the last one counts.
fn environment(
    request: &RunRequest,
    config: &ContainerConfig,
    hostname: &str,
) -> Vec<(String, String)> {
    let split = |variable: &String| {
        let (name, value) = variable.split_once('=').unwrap_or((variable, ""));
        (name.to_owned(), value.to_owned())
    };
    let own = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut variables = vec![own("PATH", PATH), own("HOSTNAME", hostname)];
    if matches!(request.streams, Streams::Terminal { .. }) {
        variables.push(own("TERM", "xterm"));
    }
    let mut environment: Vec<(String, String)> = Vec::new();
    let asked = request.proxies.iter().chain(&request.env).cloned();
    let further = config.env.iter().map(split).chain(asked);
    for (name, value) in variables.into_iter().chain(further) {
        match environment.iter_mut().find(|(known, _)| *known == name) {
            Some(known) => known.1 = value,
            None => environment.push((name, value)),
        }
    }
    environment
}

fn working_directory(request: &RunRequest, config: &ContainerConfig) -> String {
    let cwd = request.workdir.as_ref().unwrap_or(&config.working_dir);
    if cwd.starts_with('/') { cwd.clone() } else { format!("/{cwd}") }
}

fn limits(limits: ResourceLimits) -> Limits {
    let period = limits.milli_cpus.map(|_| CPU_PERIOD);
    Limits {
        memory: limits.memory,
        pids: limits.pids,
        cpu_quota: limits.milli_cpus.map(|milli| milli * CPU_PERIOD / 1000),
        cpu_period: period,
        ..Limits::default()
    }
}

/// All mounts, the shorter paths first, so that one may stand in another.
fn mounts(
    store: &Store,
    request: &RunRequest,
    config: &ContainerConfig,
    layers: &[PathBuf],
    view: &View,
    scratch: &mut Scratch,
) -> Result<Vec<Mount>, BuildError> {
    let mut mounts = Vec::new();
    for bind in &request.binds {
        let (source, propagation) = (open_bind(bind)?, bind.propagation);
        let source = MountSource::HostTree { source, propagation, without: Without::default() };
        mounts.push(Mount { target: bind.target.clone(), source, readonly: bind.readonly });
    }
    for tmpfs in &request.tmpfs {
        let source = MountSource::Tmpfs(tmpfs.options);
        mounts.push(Mount { target: tmpfs.target.clone(), source, readonly: tmpfs.readonly });
    }
    for target in config.volumes.keys().chain(&request.volumes) {
        let target = clean(target);
        if target == "/" || mounts.iter().any(|mount| clean(&mount.target) == target) {
            continue;
        }
        let layer = new_layer(store)?;
        let source = if is_directory(view, &target)? {
            MountSource::Overlay {
                lowers: layers.to_vec(),
                scratch: Some(executor::Scratch { upper: layer.fs(), work: layer.work() }),
                selector: target.clone(),
            }
        } else {
            MountSource::Bind(BindSource::Path { dir: layer.fs(), selector: String::new() })
        };
        scratch.0.push(layer);
        mounts.push(Mount { target, source, readonly: false });
    }
    mounts.sort_by_key(|mount| Path::new(&clean(&mount.target)).components().count());
    Ok(mounts)
}

/// Opens what is bound; a directory that is missing is made, as by Docker.
fn open_bind(bind: &Bind) -> Result<OwnedFd, BuildError> {
    let failed = |e: std::io::Error| {
        BuildError::input(format!(
            "failed to open `{}`, which is to be mounted: {e}",
            bind.source.display()
        ))
    };
    if !bind.source.exists() {
        std::fs::create_dir_all(&bind.source).map_err(failed)?;
    }
    let flags = rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC;
    let opened = rustix::fs::open(&bind.source, flags, rustix::fs::Mode::empty());
    opened.map_err(|errno| failed(errno.into()))
}

/// An absolute path without `.`, `..` and doubled slashes.
fn clean(path: &str) -> String {
    format!("/{}", String::from_utf8_lossy(&tree::path::clean(path.as_bytes())))
}

fn is_below(path: &str, folder: &str) -> bool {
    Path::new(path).starts_with(folder)
}

fn is_directory(view: &View, path: &str) -> Result<bool, BuildError> {
    let found = view.resolve(path.as_bytes(), true).and_then(|resolved| view.lstat(&resolved.path));
    match found {
        Ok(Some((stat, _))) => Ok(stat.kind == tree::Kind::Directory),
        Ok(None) => Ok(false),
        Err(error) => Err(BuildError::System(Fault::of(error))),
    }
}

/// Makes the working directory in the upper directory `fs`, as `WORKDIR` makes it.
fn make_directory(
    machine: &Machine,
    store: &Store,
    view: &View,
    path: &str,
    fs: &Path,
) -> Result<(), BuildError> {
    let mkdir = MkdirOp {
        path: path.to_owned(),
        mode: 0o755,
        make_parents: true,
        owner: None,
        timestamp: None,
    };
    let action = FileAction {
        input: FileInput::Input(0),
        secondary: None,
        output: Some(0),
        kind: FileActionKind::Mkdir(mkdir),
    };
    let op = FileOp { actions: vec![action] };
    let inputs = [Some(view)];
    let temporary = store.temporary_directory();
    let job = Job {
        op: &op,
        output: 0,
        inputs: &inputs,
        default_time: Time::now(),
        scratch: &temporary,
        host: machine.host(),
        is_stopped: &|| false,
    };
    let options = || machine.directory_options(Lower::none());
    let target = Target::Directory { path: fs, options: &options, previous: None };
    file_op::apply(&job, target).map_err(|e| {
        BuildError::input(format!("failed to make the working directory `{path}`")).because(e)
    })?;
    Ok(())
}

fn new_layer(store: &Store) -> Result<NewLayer, BuildError> {
    store.new_layer().map_err(|e| BuildError::system("failed to make a layer").because(e))
}

/// Twelve hexadecimal digits, like the beginning of a container's id.
fn random_name() -> Result<String, BuildError> {
    use std::io::Read as _;
    let mut bytes = [0; 6];
    let read = std::fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes));
    read.map_err(|e| BuildError::system("failed to read `/dev/urandom`").because(e))?;
    Ok(data_encoding::HEXLOWER.encode(&bytes))
}
