//! The program with a directory, a store and a user to run as.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{Read as _, Seek as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};
use tempfile::TempDir;

use super::outcome::Outcome;
use super::skip;

/// No run takes longer, in seconds.
const PATIENCE: i64 = 300;
const BUSYBOX: &str = "/bin/busybox";
/// The workspace.
const PROJECT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
/// What is kept from one run of the tests to the next.
const KEPT: &str = concat!(env!("CARGO_TARGET_TMPDIR"), "/e2e");

/// Runs the program in a directory of its own.
#[derive(Debug)]
pub(crate) struct Builder {
    directory: TempDir,
    store: PathBuf,
    program: PathBuf,
    /// User and group other than this process's own.
    user: Option<u32>,
    /// The processes it started.
    pids: Mutex<Vec<u32>>,
}

impl Builder {
    /// With a store of its own that has an image `busybox`; nothing, and a word about it, where
    /// steps cannot run.
    pub(crate) fn new() -> Option<Self> {
        let builder = Self::bare()?;
        builder.make_busybox();
        Some(builder)
    }

    /// Builds an image `busybox`.
    pub(crate) fn make_busybox(&self) {
        self.copy_busybox("base/busybox");
        self.write(
            "base/Dockerfile",
            "FROM scratch\nCOPY busybox /bin/\nRUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n\
             RUN mkdir -m 1777 /tmp\n",
        );
        self.run(&["build", "-t", "busybox", "base"]).success();
    }

    /// With an empty store of its own.
    pub(crate) fn bare() -> Option<Self> {
        if !Path::new(BUSYBOX).exists() {
            skip("a static busybox is not installed");
            return None;
        }
        let directory = tempfile::tempdir().expect("a directory");
        let store = directory.path().join("store");
        let builder = Self::at(directory, store, env!("CARGO_BIN_EXE_mybuild").into(), None);
        let probe =
            builder.build("FROM scratch\nCOPY busybox /\nRUN [\"/busybox\", \"true\"]\n", &[]);
        if probe.code != Some(0) && probe.stderr.contains("user namespace") {
            skip(&format!("this system lets nobody but root build: {}", probe.stderr));
            return None;
        }
        probe.success();
        Some(builder)
    }

    /// With a store that all tests share and that has an image `debian:12`; nothing, and a word
    /// about it, where that image or the packages to install in it are not available.
    pub(crate) fn debian() -> Option<Self> {
        static READY: OnceLock<Result<(), String>> = OnceLock::new();
        let directory = tempfile::tempdir().expect("a directory");
        let store = Path::new(KEPT).join("store");
        let builder = Self::at(directory, store, env!("CARGO_BIN_EXE_mybuild").into(), None);
        let ready = READY.get_or_init(|| {
            make_debian()?;
            builder.run(&["build", "-t", "debian:12", &debian_directory()]).success();
            Ok(())
        });
        match ready {
            Ok(()) => Some(builder),
            Err(why) => {
                skip(why);
                None
            }
        }
    }

    /// For another user, at home there.
    pub(crate) fn for_user(home: &Path, user: u32) -> Self {
        let directory = tempfile::tempdir_in(home).expect("a directory");
        let program = home.join("mybuild");
        fs::copy(env!("CARGO_BIN_EXE_mybuild"), &program).expect("room for the program");
        let builder = Self::at(directory, home.join("store"), program, Some(user));
        builder.own(builder.directory.path());
        builder
    }

    fn at(directory: TempDir, store: PathBuf, program: PathBuf, user: Option<u32>) -> Self {
        let builder = Self { directory, store, program, user, pids: Mutex::default() };
        builder.write("empty.toml", "");
        builder.make_directory("tmp");
        builder.make_directory("home");
        builder.make_directory("context");
        if Path::new(BUSYBOX).exists() {
            builder.copy_busybox("context/busybox");
        }
        builder
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn store(&self) -> &Path {
        &self.store
    }

    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Writes a file, and the directories it is in.
    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        if let Some((directory, _)) = name.rsplit_once('/') {
            self.make_directory(directory);
        }
        fs::write(self.path(name), content).expect("written");
        self.own(&self.path(name));
    }

    /// Writes what no compression makes smaller.
    pub(crate) fn write_random(&self, name: &str, size: usize) {
        let mut content = vec![0; size];
        let mut source = fs::File::open("/dev/urandom").expect("a device");
        std::io::Read::read_exact(&mut source, &mut content).expect("endless");
        self.write(name, content);
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).expect("a text file")
    }

    pub(crate) fn make_directory(&self, name: &str) {
        fs::create_dir_all(self.path(name)).expect("a directory");
        self.own(&self.path(name));
    }

    pub(crate) fn copy_busybox(&self, name: &str) {
        self.write_program(name, fs::read(BUSYBOX).expect("busybox"));
    }

    pub(crate) fn write_program(&self, name: &str, content: impl AsRef<[u8]>) {
        self.write(name, content);
        let mode = Permissions::from_mode(0o755);
        fs::set_permissions(self.path(name), mode).expect("an own file");
    }

    /// A copy of a program of the machine's outside of `/tmp`, which images have, too.
    pub(crate) fn kept_program(&self, name: &str, of: &str) -> PathBuf {
        let directory = Path::new(KEPT).join(format!("programs-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory");
        let path = directory.join(name);
        fs::copy(of, &path).expect("a program");
        path
    }

    /// Copies a directory of `testdata`.
    pub(crate) fn copy_testdata(&self, name: &str) {
        let status = Command::new("cp")
            .args(["-R", &format!("{PROJECT}/testdata/{name}"), "."])
            .current_dir(self.directory.path())
            .status();
        assert!(status.expect("cp runs").success());
    }

    fn own(&self, path: &Path) {
        if let Some(user) = self.user {
            std::os::unix::fs::chown(path, Some(user), Some(user)).expect("root may");
        }
    }

    /// Whether steps get a network of their own: as an ordinary user they do where everybody may
    /// make one.
    pub(crate) fn has_own_network(&self) -> bool {
        let mode = fs::metadata("/dev/net/tun").map_or(0, |device| device.permissions().mode());
        self.user.is_none() || mode & 0o006 == 0o006
    }

    /// The program with these words, in the builder's directory and in an environment that has
    /// nothing of this process's.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        self.command_of(&self.program, words)
    }

    /// The same with another program, which starts it.
    pub(crate) fn command_of(&self, program: impl AsRef<OsStr>, words: &[&str]) -> Command {
        let mut command = Command::new(program);
        command
            .args(words)
            .env_clear()
            .env("MYBUILD_ROOT", &self.store)
            .env("MYBUILD_CONFIG", self.path("empty.toml"))
            .env("MYBUILD_LOAD", "store")
            .env("HOME", self.path("home"))
            .env("TMPDIR", self.path("tmp"))
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        if let Some(user) = self.user {
            command.uid(user).gid(user);
        }
        command
    }

    pub(crate) fn spawn(&self, command: &mut Command) -> Child {
        let child = command.spawn().expect("the program starts");
        self.pids.lock().expect("no test panicked here").push(child.id());
        child
    }

    /// The processes that were started, by id.
    pub(crate) fn pids(&self) -> Vec<u32> {
        self.pids.lock().expect("no test panicked here").clone()
    }

    /// Runs the program to its end.
    pub(crate) fn run(&self, words: &[&str]) -> Outcome {
        self.run_command(&mut self.command(words))
    }

    pub(crate) fn run_with_input(&self, words: &[&str], input: &[u8]) -> Outcome {
        let mut file = tempfile::tempfile().expect("a file");
        file.write_all(input).expect("written");
        file.rewind().expect("a file");
        self.run_command(self.command(words).stdin(file))
    }

    pub(crate) fn run_command(&self, command: &mut Command) -> Outcome {
        let files = [(); 2].map(|()| tempfile::tempfile().expect("a file"));
        let [stdout, stderr] = files.each_ref().map(|file| file.try_clone().expect("a descriptor"));
        let mut child = self.spawn(command.stdout(stdout).stderr(stderr));
        let status = wait_for(&mut child, PATIENCE);
        let [stdout, stderr] = files.map(|mut file| {
            let mut bytes = Vec::new();
            file.rewind().expect("a file");
            file.read_to_end(&mut bytes).expect("a file");
            bytes
        });
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Outcome { code: status.code(), stdout, stderr }
    }

    /// Builds a Dockerfile with the directory `context`.
    pub(crate) fn build(&self, dockerfile: &str, words: &[&str]) -> Outcome {
        let words = [&["build", "--progress", "json", "-f", "-"][..], words, &["context"]].concat();
        self.run_with_input(&words, dockerfile.as_bytes())
    }

    /// Builds a directory.
    pub(crate) fn build_directory(&self, directory: &str, words: &[&str]) -> Outcome {
        self.run(&[&["build", "--progress", "json"][..], words, &[directory]].concat())
    }
}

/// Waits for a process; one that has not ended after so many seconds is killed and fails the test.
pub(crate) fn wait_for(child: &mut Child, seconds: i64) -> ExitStatus {
    let pid = Pid::from_child(child);
    let descriptor = pidfd_open(pid, PidfdFlags::empty()).expect("an own child");
    let patience = Timespec { tv_sec: seconds, tv_nsec: 0 };
    let ready = poll(&mut [PollFd::new(&descriptor, PollFlags::IN)], Some(&patience));
    let in_time = ready.expect("a descriptor") == 1;
    if !in_time {
        kill_process(pid, Signal::KILL).expect("an own child");
    }
    let status = child.wait().expect("an own child");
    assert!(in_time, "it has not ended after {seconds} s");
    status
}

/// Where the Debian root file system and its Dockerfile are.
pub(crate) fn debian_directory() -> String {
    format!("{PROJECT}/target/debian")
}

/// A static busybox for arm64; nothing, and a word about it, where Debian's packages
/// are not available.
pub(crate) fn arm64_busybox() -> Option<Vec<u8>> {
    static READY: OnceLock<Result<(), String>> = OnceLock::new();
    let path = format!("{PROJECT}/target/foreign/arm64/busybox");
    let ready = READY.get_or_init(|| match Path::new(&path).exists() {
        true => Ok(()),
        false => {
            check_package_site()?;
            let script = format!("{PROJECT}/scripts/foreign-busybox");
            let output = Command::new(script).arg("arm64").output().expect("a script");
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Ok(())
        }
    });
    match ready {
        Ok(()) => Some(fs::read(&path).expect("it was made")),
        Err(why) => {
            skip(why);
            None
        }
    }
}

/// Makes them if they are not there, and checks that packages are available.
fn make_debian() -> Result<(), String> {
    check_package_site()?;
    let script = format!("{PROJECT}/scripts/debian-base");
    let output = Command::new(script).output().expect("a script of the project");
    let words = String::from_utf8_lossy(&output.stderr);
    if words.contains("mmdebstrap: not found") {
        return Err("mmdebstrap is not installed".to_owned());
    }
    assert!(output.status.success(), "{words}");
    Ok(())
}

fn check_package_site() -> Result<(), String> {
    let site = package_site().ok_or("`apt-get` names no site for packages")?;
    let reaches = |address| TcpStream::connect_timeout(&address, Duration::from_secs(10)).is_ok();
    if !site.to_socket_addrs().is_ok_and(|mut addresses| addresses.any(reaches)) {
        return Err("the packages' site cannot be reached".to_owned());
    }
    Ok(())
}

/// The host, and its port, that this machine has its packages from.
fn package_site() -> Option<(String, u16)> {
    let output = Command::new("apt-get").args(["indextargets", "--format", "$(SITE)"]).output();
    let sites = String::from_utf8(output.ok()?.stdout).ok()?;
    let site = |site: &str| {
        let (scheme, rest) = site.split_once("://")?;
        let port = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let host = rest.split('/').next()?;
        match host.split_once(':') {
            Some((host, port)) => Some((host.to_owned(), port.parse().ok()?)),
            None => Some((host.to_owned(), port)),
        }
    };
    sites.lines().find_map(site)
}
