//! What a run of `git` and all that it starts may touch of this machine: Landlock, where the kernel has it
//! (Linux 5.13).
//!
//! It reads programs, their libraries and the system's settings, and writes only where it works. So a
//! repository that finds a fault in `git` finds no file of the user's. What the kernel does not know yet
//! is left out: servers from Linux 6.7 on, signals and abstract sockets from 6.12 on.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, PathBeneath, PathFd, Ruleset,
    RulesetAttr as _, RulesetCreated, RulesetCreatedAttr as _, RulesetError, Scope,
};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;

use crate::call::Call;
use crate::installed::find;

/// What the rules below are written for.
const RULES: ABI = ABI::V6;

/// Where systems have programs, libraries, certificates and settings. Those that are not there are left out.
const SYSTEM: [&str; 15] = [
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/opt",
    "/etc",
    "/nix/store",
    "/gnu/store",
    "/snap",
    "/var/lib/ca-certificates",
    "/run/systemd/resolve",
    "/run/nscd",
    "/proc",
];
/// Settings that are often links to what another program writes.
const LINKED: [&str; 2] = ["/etc/resolv.conf", "/etc/hosts"];
/// Devices that give bytes, or take them.
const DEVICES: [&str; 4] = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"];
/// Programs that `git` may start, wherever they are installed.
const PROGRAMS: [&str; 2] = ["ssh", "git-lfs"];

/// What stands beside a program's directory and belongs to it.
const BESIDE: [&str; 5] = ["lib", "lib64", "libexec", "share", "etc"];

/// What one run may touch.
#[derive(Debug)]
pub(crate) struct Confinement {
    /// Programs and settings.
    system: Vec<PathBuf>,
    /// What it works with and does not change.
    reads: Vec<PathBuf>,
    /// Where it works.
    writes: Vec<PathBuf>,
    /// Whether it may ask servers.
    is_remote: bool,
}

impl Confinement {
    /// What `call` needs of the machine, when `program` does it.
    pub(crate) fn of(call: &Call<'_>, program: &OsStr) -> Self {
        let programs = PROGRAMS.into_iter().filter_map(find).chain([PathBuf::from(program)]);
        let linked = LINKED.into_iter().filter_map(|path| std::fs::canonicalize(path).ok());
        let system = SYSTEM.iter().map(PathBuf::from).chain(linked);
        let system = system.chain(programs.flat_map(|at| installed(&at)));
        let ssh = call.access.and_then(|access| access.ssh.as_ref());
        let reads = call.reads.into_iter().chain(ssh.map(|ssh| ssh.known_hosts.as_path()));
        let writes = call.repository.into_iter().chain(call.work_tree);
        let owned = |paths: &mut dyn Iterator<Item = &Path>| paths.map(Path::to_owned).collect();
        Self {
            system: system.filter(|path| path.exists()).collect(),
            reads: owned(&mut { reads }),
            writes: owned(&mut { writes }),
            is_remote: call.is_remote,
        }
    }

    /// Starts `command` so that it, and whatever it starts, can touch nothing else.
    pub(crate) async fn spawn(self, mut command: Command) -> io::Result<Child> {
        let (runtime, (done, started)) = (Handle::current(), tokio::sync::oneshot::channel());
        // A thread that has confined itself stays so: it is one of its own, and ends.
        std::thread::Builder::new().name("git".to_owned()).spawn(move || {
            let _runtime = runtime.enter();
            let child = self.enter().and_then(|()| command.spawn());
            // Who does not wait for it any more lets it go.
            drop(done.send(child));
        })?;
        started.await.map_err(|_| io::Error::other("the thread that starts it has ended"))?
    }

    /// Confines this thread.
    fn enter(&self) -> io::Result<()> {
        self.rules()?.restrict_self().map(drop).map_err(io::Error::other)
    }

    fn rules(&self) -> io::Result<RulesetCreated> {
        let read = AccessFs::from_read(RULES);
        let mut rules = self.empty().map_err(io::Error::other)?;
        for path in &self.system {
            rules = allow(rules, path, read)?;
        }
        for path in &self.reads {
            rules = allow(rules, path, AccessFs::ReadFile | AccessFs::ReadDir)?;
        }
        for path in DEVICES.map(Path::new).into_iter().filter(|path| path.exists()) {
            rules = allow(rules, path, AccessFs::ReadFile | AccessFs::WriteFile)?;
        }
        for path in &self.writes {
            let devices = AccessFs::MakeChar | AccessFs::MakeBlock | AccessFs::IoctlDev;
            rules = allow(rules, path, AccessFs::from_all(RULES) & !devices & !AccessFs::Execute)?;
        }
        Ok(rules)
    }

    /// Rules that allow nothing.
    fn empty(&self) -> Result<RulesetCreated, RulesetError> {
        let servers = if self.is_remote { AccessNet::BindTcp.into() } else { BitFlags::all() };
        Ruleset::default()
            .handle_access(AccessFs::from_all(RULES))?
            .handle_access(servers)?
            .scope(Scope::AbstractUnixSocket | Scope::Signal)?
            .create()
    }
}

/// Allows `access` to `path` and to all beneath it.
fn allow(
    rules: RulesetCreated,
    path: &Path,
    access: BitFlags<AccessFs>,
) -> io::Result<RulesetCreated> {
    let is_directory = std::fs::metadata(path)?.is_dir();
    let access = if is_directory { access } else { access & AccessFs::from_file(RULES) };
    let opened = PathFd::new(path).map_err(io::Error::other)?;
    rules.add_rule(PathBeneath::new(opened, access)).map_err(io::Error::other)
}

/// The directory of a program, and those beside it that belong to what is installed there. Not all that is
/// beside it: that may be somebody's home.
fn installed(program: &Path) -> Vec<PathBuf> {
    let Ok(program) = std::fs::canonicalize(program) else { return Vec::new() };
    let Some(directory) = program.parent() else { return Vec::new() };
    let beside = BESIDE.iter().map(|name| directory.join("..").join(name));
    beside.chain([directory.to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Access;

    #[test]
    fn a_run_reads_the_system_and_writes_where_it_works() {
        let access = Access::default();
        let call = Call {
            repository: Some(Path::new("/r")),
            work_tree: Some(Path::new("/t")),
            ..Call::new(["fetch"]).remote(&access)
        };
        let all = Confinement::of(&call, OsStr::new("/bin/sh"));
        assert_eq!(all.writes, [Path::new("/r"), Path::new("/t")]);
        assert!(all.is_remote && all.reads.is_empty());
        assert!(!all.system.contains(&PathBuf::from("/")), "{all:?}");
        if let Ok(resolver) = std::fs::canonicalize("/etc/resolv.conf") {
            assert!(all.system.contains(&resolver), "{all:?}");
        }
    }

    #[tokio::test]
    async fn whatever_is_started_touches_nothing_else() {
        let root = tempfile::tempdir().unwrap();
        let path = |name: &str| root.path().join(name);
        std::fs::create_dir(path("ours")).unwrap();
        std::fs::write(path("secret"), "secret").unwrap();
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = server.local_addr().unwrap().port();
        let connect = format!("exec 3<>/dev/tcp/127.0.0.1/{port}");
        let access = Access::default();
        for (script, is_remote, succeeds) in [
            (
                "head -c 1 /etc/passwd >/dev/null && echo x >ours/file && mv ours/file ours/moved",
                false,
                true,
            ),
            ("cat secret", false, false),
            ("echo x >secret", false, false),
            ("echo x >outside", false, false),
            ("rm secret", false, false),
            ("mv ours/moved outside", false, false),
            ("ln secret ours/link", false, false),
            ("chmod 644 /etc/hostname && echo x >>/etc/hostname", false, false),
            ("cp /bin/true ours/program && ours/program", false, false),
            (
                "(echo x >outside) || (echo x >/proc/self/oom_score_adj) || sh -c 'echo x >outside'",
                false,
                false,
            ),
            (&connect, false, false),
            (&connect, true, true),
        ] {
            let ours = path("ours");
            let call = Call { repository: Some(&ours), ..Call::new([""; 0]) };
            let call = if is_remote { call.remote(&access) } else { call };
            let mut command = Command::new("/bin/bash");
            command
                .args(["-c", script])
                .current_dir(root.path())
                .stderr(std::process::Stdio::null());
            let confinement = Confinement::of(&call, OsStr::new("/bin/bash"));
            let status = confinement.spawn(command).await.unwrap().wait().await.unwrap();
            assert_eq!(status.success(), succeeds, "{script}");
        }
        assert_eq!(std::fs::read_to_string(path("secret")).unwrap(), "secret");
        assert!(!path("outside").exists() && path("ours/moved").exists());
    }
}
