//! From the description of a process to a running one.

mod mounts;
mod parcel;

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::mount::MountAttrFlags;

use self::parcel::Parcel;
use crate::cgroup::{Devices, Hierarchies, Wanted};
use crate::control::{MAX_FDS, Order, Report};
use crate::device::Granted;
use crate::emulation::{Emulating, Emulation};
use crate::emulator::Emulators;
use crate::error::SpawnError;
use crate::helper::{Helper, HostLoopback, NoHelper};
use crate::host::Host;
use crate::identity::{User, resolve_user};
use crate::init_pool::{Init, InitPool};
use crate::job::{FdIndex, Job, JobIdentities, JobRlimit, JobSecurity, JobStdio};
use crate::names;
use crate::network::{Lease, NetworkPool};
use crate::port::{self, Forward};
use crate::process::{
    BindSource, Environment, HostAddress, Limits, Mount, MountSource, Network, PortForward,
    Process, Rlimit, Role, Security, Stdio,
};
use crate::running::{Running, Streams};
use crate::seccomp::{self, Identities, Sockets};
use crate::{cgroup, demand, rlimit};

/// Runs processes, and keeps ready what they need.
#[derive(Debug)]
pub struct Executor {
    host: Host,
    hierarchies: Hierarchies,
    /// Whether a killed process left groups that could not be removed yet.
    left_busy: bool,
    pool: Arc<InitPool>,
    networks: Arc<NetworkPool>,
    emulating: Emulating,
    filter: Vec<u8>,
    /// The one that announces sockets.
    announcing_filter: Vec<u8>,
    unified_control_groups: bool,
    /// Threads that make something ready, or wait for somebody to ask for something.
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Drop for Executor {
    fn drop(&mut self) {
        let threads = self.threads.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // What it made goes with the pools; what it could not make nobody has asked for.
            drop(thread.join());
        }
        if self.left_busy {
            self.hierarchies.remove_late_leftovers();
        }
    }
}

impl Executor {
    /// Prepares to run processes on this machine; nothing is started yet but a thread. Removes control
    /// groups that a killed process left.
    pub fn new(host: Host, emulators: Emulators) -> io::Result<Self> {
        let hierarchies = Hierarchies::probe(host.rootless());
        let left_busy = hierarchies.remove_leftovers();
        let pool = Arc::new(InitPool::new(hierarchies.clone())?);
        let networks = Arc::new(NetworkPool::new(Arc::clone(&pool)));
        let emulating = Emulating::new(emulators, Arc::clone(&pool));
        let identities = if host.single_id() { Identities::Single } else { Identities::Many };
        let filter = |sockets| -> Vec<u8> {
            let program = seccomp::program(identities, sockets);
            program.iter().flat_map(|instruction| instruction.to_le_bytes()).collect()
        };
        let (filter, announcing_filter) = (filter(Sockets::Allowed), filter(Sockets::Announced));
        let unified_control_groups = cgroup::is_unified();
        let threads = Mutex::default();
        Ok(Self {
            host,
            hierarchies,
            left_busy,
            pool,
            networks,
            emulating,
            filter,
            announcing_filter,
            unified_control_groups,
            threads,
        })
    }

    /// What this machine lets us do.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// Which limits by control group can be set here: names out of `pids`, `memory`, `cpu` and
    /// `cpuset`.
    pub fn limits(&self) -> Vec<&'static str> {
        self.hierarchies.limits()
    }

    /// Whether the kernel refuses sandboxes all devices but Docker's few, so that their mounts need not
    /// refuse devices altogether.
    pub fn guards_devices(&self) -> bool {
        self.hierarchies.guards_devices()
    }

    /// The program that [`Network::Default`] goes through, or why there is none.
    pub fn network_helper(&self) -> Result<&Path, &NoHelper> {
        self.networks.helper().map(Helper::path)
    }

    /// Gets ready, in the background, for steps to come, of which `networks` at once want a network
    /// of their own. Worth calling as soon as it is certain that something will run; dropping the
    /// executor waits for what is being made.
    pub fn prepare(&self, networks: usize) {
        // Failures show when the step that needs it runs.
        let _ = self.pool.prepare();
        if networks == 0 {
            return;
        }
        let pool = Arc::clone(&self.networks);
        let thread = std::thread::Builder::new()
            .name("network-starter".to_owned())
            .spawn(move || pool.prepare(networks));
        if let Ok(thread) = thread {
            self.keep(thread);
        }
    }

    /// Remembers a thread that is to end before this does.
    fn keep(&self, thread: JoinHandle<()>) {
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
    }

    /// Starts a process; it runs when this returns.
    pub fn spawn(&self, mut process: Process) -> Result<Running, SpawnError> {
        validate(&process)?;
        let mut parcel = Parcel::default();
        let emulation = self.emulating.of(&process.architecture, process.security)?;
        process.mounts.extend(interpreter(&emulation));
        let devices = match process.security {
            Security::Sandbox => Devices::FewAnd(self.granted(&process.mounts)?),
            Security::Insecure => Devices::All,
        };
        let no_devices = match devices {
            Devices::FewAnd(_) if !self.hierarchies.guards_devices() => {
                MountAttrFlags::MOUNT_ATTR_NODEV
            }
            _ => MountAttrFlags::empty(),
        };
        let root = self.open_root(&process, no_devices)?;
        let user = resolve_user(root.as_fd(), &process.user)?;
        self.host.check_ids(user.uid, user.groups.iter().copied().chain([user.gid]))?;
        // A step without the right to change its network leaves nothing in it.
        let reusable = process.security == Security::Sandbox && process.role == Role::Step;
        let wants_host = process.extra_hosts.iter().any(|(_, at)| *at == HostAddress::Gateway);
        let loopback = if wants_host { HostLoopback::AtGateway } else { HostLoopback::Hidden };
        let lease = self.networks.lease(process.network, loopback, reusable)?;
        // What may be done to the network, or comes from outside, may come before any socket; and the
        // host's address in it is known when it is served.
        let on_demand = lease.service().is_some()
            && !wants_host
            && process.security == Security::Sandbox
            && process.ports.is_empty();
        if !on_demand {
            lease.serve()?;
        }
        let mut warnings: Vec<String> = lease.warning.iter().cloned().collect();
        if self.host.single_id() && user.uid != 0 {
            warnings.push(format!(
                "root is used instead of user {}: only one user id is mapped here",
                user.uid
            ));
        }
        let root = parcel.add(root);
        let mounts = process
            .mounts
            .into_iter()
            .map(|mount| self.open_mount(mount, no_devices, &mut parcel))
            .collect::<Result<_, _>>()?;
        let network = lease
            .fd()
            .map(|fd| fd.try_clone_to_owned().map(|fd| parcel.add(fd)))
            .transpose()
            .map_err(|error| SpawnError::setup("open the network namespace", error))?;
        let (streams, stdio) = open_streams(process.stdio, &mut parcel)
            .map_err(|error| SpawnError::setup("make pipes", error))?;
        let gateway = if wants_host { lease.gateway()? } else { None };
        let hosts = names::hosts(&process.hostname, &process.extra_hosts, gateway);
        let security = match process.security {
            Security::Insecure => JobSecurity::Insecure,
            Security::Sandbox => {
                let filter = if on_demand { &self.announcing_filter } else { &self.filter };
                JobSecurity::Sandbox { filter: parcel.blob(filter), listened: on_demand }
            }
        };
        let job = Job {
            args: process.args,
            env: with_home(process.env, &user),
            cwd: process.cwd,
            uid: if self.host.single_id() { 0 } else { user.uid },
            gid: if self.host.single_id() { 0 } else { user.gid },
            groups: user.groups,
            hostname: process.hostname,
            role: process.role,
            root,
            readonly_root: process.readonly_root,
            mounts,
            users: users(&emulation, &mut parcel)?,
            network,
            hosts: parcel.blob(hosts.as_bytes()),
            resolv_conf: parcel.blob(names::resolv_conf(lease.used()).as_bytes()),
            shm_size: process.shm_size,
            stdio,
            rlimits: process.rlimits.into_iter().map(to_job_rlimit).collect(),
            security,
            devices: no_devices.is_empty(),
            identities: self.identities(),
            show_control_group: self.unified_control_groups,
        };
        // One that is taken ends this before the process has done anything.
        let ports = forward(&process.ports, &lease)?;
        let parent = process.cgroup_parent.as_deref();
        let init = self.take_init(Wanted { limits: &process.limits, parent, devices: &devices })?;
        let started = start(&init, &job, parcel);
        let started = started.map_err(|error| explained(error, emulation, process.architecture));
        let mut along = started?.into_iter();
        // The next step's init comes into being while this one's command runs.
        let _ = self.pool.prepare();
        if on_demand {
            self.listen(&lease, along.next())?;
        }
        let streams = streams.with_terminal(along.next());
        Ok(Running::new(init, lease, ports, streams, warnings))
    }

    /// Serves the network when the process first asks for it.
    fn listen(&self, lease: &Lease, listener: Option<OwnedFd>) -> Result<(), SpawnError> {
        if let Some((service, listener)) = lease.service().zip(listener) {
            let thread = demand::watch(Arc::clone(service), listener)
                .map_err(|error| SpawnError::setup("listen to the call filter", error))?;
            self.keep(thread);
        }
        Ok(())
    }

    fn identities(&self) -> JobIdentities {
        match (self.host.rootless(), self.host.single_id()) {
            (false, _) => JobIdentities::Host,
            (true, false) => JobIdentities::Range,
            (true, true) => JobIdentities::Single,
        }
    }

    /// The devices among the mounts.
    fn granted(&self, mounts: &[Mount]) -> Result<Vec<Granted>, SpawnError> {
        if self.host.rootless() {
            return Ok(Vec::new());
        }
        let devices = mounts.iter().filter_map(|mount| match &mount.source {
            MountSource::Device(device) => Some((device, &mount.target)),
            _ => None,
        });
        let granted = devices.map(|(device, target)| match device.node() {
            Ok(node) => Ok(Granted { number: node.number, access: device.access }),
            Err(source) => {
                let origin = device.host.display().to_string();
                Err(SpawnError::MountSource { origin, target: target.clone(), source })
            }
        });
        granted.collect()
    }

    /// An init in a control group as it is wanted: the one that all are in, if that does.
    fn take_init(&self, wanted: Wanted<'_>) -> Result<Init, SpawnError> {
        let init = self
            .pool
            .take()
            .map_err(|error| SpawnError::setup("start the sandbox's first process", error))?;
        let is_usual = *wanted.devices == Devices::FewAnd(Vec::new());
        let is_other = !is_usual && self.hierarchies.guards_devices();
        if *wanted.limits != Limits::default() || wanted.parent.is_some() || is_other {
            init.set_group(self.hierarchies.group(init.pid(), wanted)?);
        }
        Ok(init)
    }
}

/// The interpreter that the machine looks for in the process's root.
fn interpreter(emulation: &Emulation) -> Option<Mount> {
    let Emulation::Interpreter(path) = emulation else { return None };
    let source = BindSource::Path { dir: path.clone(), selector: String::new() };
    let target = path.to_str()?.to_owned();
    Some(Mount { target, source: MountSource::Bind(source), readonly: true })
}

/// The user namespace in which the process's programs are led to emulators.
fn users(emulation: &Emulation, parcel: &mut Parcel) -> Result<Option<FdIndex>, SpawnError> {
    let Emulation::Namespace(namespace) = emulation else { return Ok(None) };
    let users = namespace.users().try_clone_to_owned();
    let users = users.map_err(|error| SpawnError::setup("open a user namespace", error))?;
    Ok(Some(parcel.add(users)))
}

/// A program that the kernel does not know, where no emulator was found: why not.
fn explained(error: SpawnError, emulation: Emulation, architecture: String) -> SpawnError {
    match (error, emulation) {
        (SpawnError::NotExecutable { program, source, .. }, Emulation::Nothing(why))
            if source.raw_os_error() == Some(libc::ENOEXEC) =>
        {
            SpawnError::Foreign { program, architecture, source: why }
        }
        (error, _) => error,
    }
}

/// What can be refused before anything is opened.
fn validate(process: &Process) -> Result<(), SpawnError> {
    if process.args.first().is_none_or(String::is_empty) {
        return Err(SpawnError::NoCommand);
    }
    let zero = |text: &String| text.contains('\0');
    let strings = [
        ("an argument", process.args.iter().any(zero)),
        ("the environment", process.env.0.iter().any(|(name, value)| zero(name) || zero(value))),
        ("the working directory", zero(&process.cwd)),
        ("a mount's target", process.mounts.iter().any(|mount| zero(&mount.target))),
    ];
    if let Some((what, _)) = strings.into_iter().find(|(_, found)| *found) {
        return Err(SpawnError::ZeroByte { what });
    }
    for limit in &process.rlimits {
        if rlimit::resource(&limit.name).is_none() {
            let source = io::Error::new(io::ErrorKind::InvalidInput, "unknown limit");
            return Err(SpawnError::Rlimit { name: limit.name.clone(), source });
        }
    }
    let refused = match process.network {
        Network::Default => return Ok(()),
        Network::None => "the process has no network",
        Network::Host => "the process has the host's network",
    };
    match process.ports.first() {
        Some(port) => Err(SpawnError::Port {
            port: port.host,
            source: io::Error::new(io::ErrorKind::InvalidInput, refused),
        }),
        None => Ok(()),
    }
}

fn with_home(mut env: Environment, user: &User) -> Environment {
    if !env.0.iter().any(|(name, _)| name == "HOME") {
        env.0.push(("HOME".to_owned(), user.home.clone()));
    }
    env
}

fn to_job_rlimit(limit: Rlimit) -> JobRlimit {
    JobRlimit { name: limit.name, soft: limit.soft, hard: limit.hard }
}

/// The caller's ends of the command's streams, and how the init gets the others.
fn open_streams(stdio: Stdio, parcel: &mut Parcel) -> io::Result<(Streams, JobStdio)> {
    let pipe = || rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC);
    match stdio {
        Stdio::Tty { rows, columns } => Ok((Streams::default(), JobStdio::Tty { rows, columns })),
        Stdio::Inherit => {
            let input = parcel.add(io::stdin().as_fd().try_clone_to_owned()?);
            let output = parcel.add(io::stdout().as_fd().try_clone_to_owned()?);
            let error = parcel.add(io::stderr().as_fd().try_clone_to_owned()?);
            Ok((Streams::default(), JobStdio::Streams(Some(input), output, error)))
        }
        Stdio::Piped { stdin } => {
            let (stdout, output) = pipe()?;
            let (stderr, error) = pipe()?;
            let (input, stdin) = match stdin {
                false => (None, None),
                true => {
                    let (input, stdin) = pipe()?;
                    (Some(parcel.add(input)), Some(stdin))
                }
            };
            let job = JobStdio::Streams(input, parcel.add(output), parcel.add(error));
            let streams =
                Streams { stdin, stdout: Some(stdout), stderr: Some(stderr), terminal: None };
            Ok((streams, job))
        }
    }
}

/// Sends the job and waits until the command runs; gives back what comes with [`Report::Started`].
fn start(init: &Init, job: &Job, parcel: Parcel) -> Result<Vec<OwnedFd>, SpawnError> {
    let failed = |error| SpawnError::setup("tell the sandbox what to run", error);
    let description = crate::job::write(job, &parcel.bytes).map_err(failed)?;
    let fds: Vec<BorrowedFd<'_>> =
        std::iter::once(&description).chain(&parcel.fds).map(AsFd::as_fd).collect();
    for fds in fds.chunks(MAX_FDS) {
        init.channel().send(&Order::Descriptors, fds).map_err(failed)?;
    }
    init.channel().send(&Order::Run, &[]).map_err(failed)?;
    drop(fds);
    drop(parcel);
    match init.channel().receive::<Report>().map_err(failed)? {
        Some((Report::Started, fds)) => Ok(fds),
        Some((Report::Failed(failure), _)) => Err(failure.into()),
        Some((Report::Exited(_), _)) | None => Err(SpawnError::Ended),
    }
}

fn forward(ports: &[PortForward], lease: &Lease) -> Result<Vec<Forward>, SpawnError> {
    let Some((namespace, first)) = lease.fd().zip(ports.first()) else { return Ok(Vec::new()) };
    let failed = |port: &PortForward, source| SpawnError::Port { port: port.host, source };
    let own = port::own_addresses(namespace).map_err(|error| failed(first, error))?;
    let start = |port| Forward::start(port, namespace, &own).map_err(|error| failed(port, error));
    ports.iter().map(start).collect()
}
