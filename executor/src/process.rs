//! What to run: the description of one process and its sandbox.

use std::fmt;
use std::net::{AddrParseError, IpAddr};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::device::Device;

/// One process to run, with everything it may see.
///
/// [`Process::new`] gives Docker's defaults; the fields say how to differ.
#[derive(Debug)]
pub struct Process {
    /// The program and its arguments; a program without a slash is looked up in `PATH` of `env`.
    pub args: Vec<String>,
    /// The whole environment; nothing of the caller's is added, but `HOME` when it is missing.
    pub env: Environment,
    /// Working directory, an absolute path in the root; it must exist.
    pub cwd: String,
    /// `""` (root), `user`, `uid`, `user:group` or `uid:gid`, by the root's own `/etc/passwd`.
    pub user: String,
    /// The root file system.
    pub root: Root,
    /// Further mounts, made in this order.
    pub mounts: Vec<Mount>,
    /// Whether it is a step of a build or somebody's container.
    pub role: Role,
    /// What of the network it sees.
    pub network: Network,
    /// Ports of the host led into the sandbox; refused with [`Network::Host`] and [`Network::None`].
    pub ports: Vec<PortForward>,
    /// Host name; the default is constant, so that it cannot make results differ.
    pub hostname: String,
    /// Lines added to `/etc/hosts`.
    pub extra_hosts: Vec<(String, HostAddress)>,
    /// How much it is trusted.
    pub security: Security,
    /// Limits beyond the defaults; asking for more than the caller may have is an error.
    pub rlimits: Vec<Rlimit>,
    /// Bytes of `/dev/shm`, unless a mount takes its place; 0 means 64 MiB.
    pub shm_size: u64,
    /// Whether the root is read-only for the process.
    pub readonly_root: bool,
    /// The architecture of its programs as images name it (`arm64`), empty for the machine's own.
    /// Where the machine does not run that by itself, an emulator does, if there is one; the process
    /// may then be in a user namespace.
    pub architecture: String,
    /// Where its input and output go.
    pub stdio: Stdio,
    /// A control group, relative to the hierarchy's root, under which the step's own is made.
    pub cgroup_parent: Option<String>,
    /// Limits by control group.
    pub limits: Limits,
}

impl Process {
    /// A process with Docker's defaults: root, `/`, its own network, 14 capabilities.
    pub fn new(root: Root, args: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self {
            args: args.into_iter().map(Into::into).collect(),
            env: Environment::default(),
            cwd: "/".to_owned(),
            user: String::new(),
            root,
            mounts: Vec::new(),
            role: Role::Step,
            network: Network::Default,
            ports: Vec::new(),
            hostname: "buildkitsandbox".to_owned(),
            extra_hosts: Vec::new(),
            security: Security::Sandbox,
            rlimits: Vec::new(),
            shm_size: 0,
            readonly_root: false,
            architecture: String::new(),
            stdio: Stdio::Piped { stdin: false },
            cgroup_parent: None,
            limits: Limits::default(),
        }
    }
}

/// What a process is started for. It decides what its sandbox has that is not said elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// A step of a build, with what BuildKit gives it: process 1 is ours, `/etc/hosts` and
    /// `/etc/resolv.conf` are read-only.
    Step,
    /// A container, with what `docker run` gives it: `/etc/hostname`, `/etc/hosts` and
    /// `/etc/resolv.conf` can be written, and in a network of its own every port can be listened on
    /// and every group may ping.
    Container {
        /// What its process 1 is.
        first: FirstProcess,
    },
}

impl Role {
    pub(crate) fn first(self) -> FirstProcess {
        match self {
            Self::Step => FirstProcess::Init,
            Self::Container { first } => first,
        }
    }
}

/// Who is process 1 of a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum FirstProcess {
    /// The command: it reaps its orphans or not, and ignores the signals it has no handler for.
    Command,
    /// Ours, which reaps. Its `/proc/1/fd` shows the command's streams.
    Init,
}

/// Where the root file system comes from.
#[derive(Debug, Clone)]
pub enum Root {
    /// Layers under a writable directory.
    ///
    /// The mount is `volatile`: the kernel does not flush `upper` when it is unmounted, so the
    /// caller syncs it to keep it. It leaves `work/work` and `work/incompat` behind; `work` must be
    /// empty and on the file system of `upper`.
    Overlay {
        /// Read-only layers, the bottom one first; at most [`MAX_LAYERS`](crate::MAX_LAYERS).
        lowers: Vec<PathBuf>,
        /// Takes what the process writes.
        upper: PathBuf,
        /// The kernel's scratch directory.
        work: PathBuf,
    },
    /// A plain directory, written in place.
    Directory(PathBuf),
}

/// One mount beyond those every sandbox has.
#[derive(Debug)]
pub struct Mount {
    /// Absolute path in the sandbox. Missing directories (and the file, for a file) are made, and
    /// removed again when the process has ended; they stay where the command is process 1.
    pub target: String,
    /// What is mounted there.
    pub source: MountSource,
    /// Whether it is read-only.
    pub readonly: bool,
}

/// What a [`Mount`] shows.
#[derive(Debug)]
pub enum MountSource {
    /// A directory or file of the host, or something beneath a directory.
    Bind(BindSource),
    /// Layers merged into one tree, or something beneath it.
    Overlay {
        /// The bottom one first.
        lowers: Vec<PathBuf>,
        /// Takes the writes, which the caller throws away; without it the tree is read-only.
        scratch: Option<Scratch>,
        /// Path inside the merged tree; `""` or `/` is its root.
        selector: String,
    },
    /// A file or directory of the host with all that is mounted beneath it; read-only means all of
    /// it.
    HostTree {
        /// It, open.
        source: OwnedFd,
        /// Whether later mounts beneath it are seen.
        propagation: Propagation,
        /// What does not work in it.
        without: Without,
    },
    /// An empty file system in memory.
    Tmpfs(Tmpfs),
    /// A file in memory that never touches the disk.
    File {
        /// Its bytes.
        content: Secret,
        /// Its permissions.
        mode: u32,
        /// Its owner.
        uid: u32,
        /// Its group.
        gid: u32,
    },
    /// A device of the host.
    Device(Device),
    /// A listening unix socket of the host; the caller sets its owner and mode.
    Socket(PathBuf),
}

/// Whether what is mounted beneath a [`MountSource::HostTree`] later is seen on the other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Propagation {
    /// Nothing is.
    #[default]
    Private,
    /// The sandbox sees what the host mounts.
    Slave,
    /// Each sees what the other mounts.
    Shared,
}

/// What does not work in a [`MountSource::HostTree`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Without {
    /// Programs do not run as their owner.
    pub setuid: bool,
    /// Devices cannot be opened.
    pub devices: bool,
    /// Programs cannot be executed.
    pub programs: bool,
}

/// An empty file system in memory, by the options of the kernel's `tmpfs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Tmpfs {
    /// Limit in bytes; 0 is the kernel's default, half of the memory.
    pub size: u64,
    /// Limit in inodes; the default is the kernel's.
    pub inodes: Option<u64>,
    /// Permissions of its top; the default is 1777.
    pub mode: Option<u32>,
    /// Owner of its top; the default is root.
    pub uid: Option<u32>,
    /// Group of its top; the default is root.
    pub gid: Option<u32>,
    /// Whether its programs cannot be executed.
    pub noexec: bool,
    /// Whether its devices cannot be opened, even where a control group guards them.
    pub nodev: bool,
}

/// The source of a bind mount.
#[derive(Debug)]
pub enum BindSource {
    /// An open file or directory.
    Fd(OwnedFd),
    /// A path found beneath a directory; links in it never lead out.
    Path {
        /// A directory the caller trusts.
        dir: PathBuf,
        /// Path in it; `""` or `/` is the directory itself.
        selector: String,
    },
}

/// Directories for writes nobody keeps; both empty, on one file system.
#[derive(Debug, Clone)]
pub struct Scratch {
    /// Takes the writes.
    pub upper: PathBuf,
    /// The kernel's scratch directory.
    pub work: PathBuf,
}

/// Names and values, some of them secret: the values are never printed.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Environment(pub Vec<(String, String)>);

impl fmt::Debug for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

/// Bytes that are never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub Vec<u8>);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secret({} bytes)", self.0.len())
    }
}

/// What of the network a process sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Network {
    /// A network of its own that reaches out through a user-mode helper; the host's where there is
    /// no helper ([`NetworkUsed`] tells).
    Default,
    /// A loopback interface and nothing else.
    None,
    /// The host's network.
    Host,
}

/// What became of [`Network::Default`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NetworkUsed {
    /// Its own, through `pasta`.
    Pasta,
    /// Its own, through `slirp4netns`.
    Slirp4netns,
    /// Its own, loopback only.
    None,
    /// The host's.
    Host,
}

/// What a name in `/etc/hosts` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostAddress {
    /// This address.
    Ip(IpAddr),
    /// The host, with what listens on its loopback; Docker's `host-gateway`. With [`Network::None`]
    /// the name is left out.
    Gateway,
}

impl fmt::Display for HostAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ip(address) => address.fmt(f),
            Self::Gateway => f.write_str("host-gateway"),
        }
    }
}

impl FromStr for HostAddress {
    type Err = AddrParseError;

    /// An address, or `host-gateway`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "host-gateway" => Ok(Self::Gateway),
            address => address.parse().map(Self::Ip),
        }
    }
}

/// A port of the host led to one in the sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortForward {
    /// Address to listen on; `None` is every one of the host's, of either version.
    pub address: Option<IpAddr>,
    /// Port to listen on; 0 lets the kernel choose ([`Running::ports`](crate::Running::ports)).
    pub host: u16,
    /// Port in the sandbox.
    pub container: u16,
    /// TCP or UDP.
    pub protocol: Protocol,
}

/// A transport protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

/// How much a process is trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Security {
    /// Docker's defaults.
    Sandbox,
    /// All capabilities of the caller, no call filter, nothing masked.
    Insecure,
}

/// A resource limit by its name in `ulimit` (`nofile`, `nproc`, …).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rlimit {
    /// Lower-case name without `RLIMIT_`.
    pub name: String,
    /// The limit in force; `None` is unlimited.
    pub soft: Option<u64>,
    /// How far the process may raise it; `None` is unlimited.
    pub hard: Option<u64>,
}

/// Limits by control group; they need a writable hierarchy ([`Host::limits`](crate::Host::limits)).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Processes and threads; the default is 8192 where it is possible, counted for all processes
    /// together that have no limits of their own and run at once. A number is an error where it cannot.
    pub pids: Option<u64>,
    /// Bytes of memory.
    pub memory: Option<u64>,
    /// Bytes of memory and swap together.
    pub memory_and_swap: Option<u64>,
    /// Microseconds of processor time in each period.
    pub cpu_quota: Option<u64>,
    /// The period in microseconds; the default is 100 000.
    pub cpu_period: Option<u64>,
    /// Relative weight as in `--cpu-shares`, 1024 being usual.
    pub cpu_shares: Option<u64>,
    /// Processors it may run on, such as `0-2,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes it may use.
    pub cpuset_mems: Option<String>,
}

/// Where input and output go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdio {
    /// Pipes to the caller; without `stdin` the input is empty.
    Piped {
        /// Whether there is a pipe for the input too.
        stdin: bool,
    },
    /// The caller's own.
    Inherit,
    /// A terminal in the sandbox, whose other end the caller gets.
    Tty {
        /// Height in lines.
        rows: u16,
        /// Width in columns.
        columns: u16,
    },
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ExitStatus {
    /// By itself, with this code.
    Exited(i32),
    /// By this signal.
    Signaled(i32),
    /// By the kernel, because its control group used more memory than its limit.
    OomKilled,
}

/// A limit by control group that a process has run into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Exhausted {
    /// The kernel has killed one of its processes for want of memory.
    Memory {
        /// Bytes that it could have, if its control group is what kept it from more.
        limit: Option<u64>,
    },
    /// It could start no further process or thread.
    Processes {
        /// How many it could have; without limits of its own, together with others of this program.
        limit: Option<u64>,
    },
}

impl ExitStatus {
    /// Whether it exited with 0.
    pub fn success(self) -> bool {
        self == Self::Exited(0)
    }

    /// The code a shell would show: 128 and the signal's number for a killed process.
    pub fn code(self) -> i32 {
        match self {
            Self::Exited(code) => code,
            Self::Signaled(signal) => 128 + signal,
            Self::OomKilled => 137,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_secret_is_printed() {
        let mut process = Process::new(Root::Directory(PathBuf::new()), ["program"]);
        process.env.0.push(("TOKEN".to_owned(), "hidden".to_owned()));
        process.mounts.push(Mount {
            target: "/run/secrets/key".to_owned(),
            source: MountSource::File {
                content: Secret(b"hidden".to_vec()),
                mode: 0o400,
                uid: 0,
                gid: 0,
            },
            readonly: true,
        });
        let shown = format!("{process:?}");
        assert!(shown.contains("TOKEN") && !shown.contains("hidden"), "{shown}");
        assert!(!shown.contains("104, 105"), "{shown}");
    }
}
