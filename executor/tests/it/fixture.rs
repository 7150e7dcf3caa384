//! A root made of a static busybox, and short ways to run something in it.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use executor::{
    Emulators, Executor, ExitStatus, Host, Network, Process, Root, Running, SpawnError,
};
use tempfile::TempDir;

const BUSYBOX: &str = "/bin/busybox";
const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n";
const GROUP: &str = "root:x:0:\napp:x:1000:\nextra:x:3000:app\n";
const APPLETS: &str = "cat chmod chown chroot cp cut dd echo env false find grep head hostname id ip kill \
                       ln ls mkdir mknod mount mv nc nohup nproc ps pwd readlink rm rmdir sed setsid \
                       sh sleep sort stat stty sync tail test touch tr true tty umount uname wc";

/// One test's root, directories and executor.
pub(crate) struct Fixture {
    pub(crate) executor: Executor,
    dir: TempDir,
    steps: Cell<u32>,
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let executor = Executor::new(Host::probe(), Emulators::default()).unwrap();
        let fixture = Self { executor, dir, steps: Cell::new(0) };
        let root = fixture.root();
        for name in ["bin", "etc", "tmp", "root", "home/app", "proc", "sys", "dev", "var/deep/er"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
        fs::copy(BUSYBOX, root.join("bin/busybox")).expect("a static busybox is installed");
        for applet in APPLETS.split_whitespace() {
            symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("etc/passwd"), PASSWD).unwrap();
        fs::write(root.join("etc/group"), GROUP).unwrap();
        fixture
    }

    /// Everything of this test is in it.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    /// The read-only layer that every step sees; a test may change it before its first step.
    pub(crate) fn root(&self) -> PathBuf {
        self.dir.path().join("root")
    }

    /// A fresh directory outside the root.
    pub(crate) fn directory(&self, name: &str) -> PathBuf {
        let path = self.dir.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    }

    /// What the latest step wrote.
    pub(crate) fn upper(&self) -> PathBuf {
        self.dir.path().join(format!("step-{}/upper", self.steps.get()))
    }

    /// A process on the root, without a network, with a fresh upper directory.
    pub(crate) fn process(&self, args: &[&str]) -> Process {
        self.process_on(vec![self.root()], args)
    }

    pub(crate) fn process_on(&self, lowers: Vec<PathBuf>, args: &[&str]) -> Process {
        self.steps.set(self.steps.get() + 1);
        let step = format!("step-{}", self.steps.get());
        let upper = self.directory(&format!("{step}/upper"));
        let work = self.directory(&format!("{step}/work"));
        let mut process = Process::new(Root::Overlay { lowers, upper, work }, args.iter().copied());
        process.network = Network::None;
        process.env.0.push(("PATH".to_owned(), "/bin".to_owned()));
        process
    }

    pub(crate) fn shell(&self, script: &str) -> Process {
        self.process(&["sh", "-c", script])
    }

    pub(crate) fn spawn(&self, process: Process) -> Running {
        self.executor.spawn(process).unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    pub(crate) fn run(&self, process: Process) -> Outcome {
        let mut running = self.spawn(process);
        let (stdout, stderr) = (running.stdout(), running.stderr());
        let read = |fd: Option<_>| {
            let mut bytes = Vec::new();
            if let Some(fd) = fd {
                File::from(fd).read_to_end(&mut bytes).unwrap();
            }
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let (stdout, stderr) = std::thread::scope(|scope| {
            let stderr = scope.spawn(|| read(stderr));
            (read(stdout), stderr.join().unwrap())
        });
        Outcome { status: running.wait().unwrap(), stdout, stderr }
    }

    /// The output of a script that has to succeed.
    pub(crate) fn output(&self, script: &str) -> String {
        self.output_of(self.shell(script))
    }

    pub(crate) fn output_of(&self, process: Process) -> String {
        let outcome = self.run(process);
        assert!(outcome.status.success(), "{outcome:?}");
        outcome.stdout
    }

    /// The error of a process that cannot be started, with its causes.
    pub(crate) fn refusal(&self, process: Process) -> String {
        match self.executor.spawn(process) {
            Ok(_) => panic!("the process was started"),
            Err(error) => chain(&error),
        }
    }
}

/// An error and its causes as the user sees them.
pub(crate) fn chain(error: &SpawnError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

/// Everything under a directory: names, kinds, modes, sizes, link targets.
pub(crate) fn listing(dir: &Path) -> Vec<String> {
    let mut lines = Vec::new();
    let mut ahead = vec![dir.to_owned()];
    while let Some(path) = ahead.pop() {
        for entry in fs::read_dir(&path).unwrap() {
            let path = entry.unwrap().path();
            let meta = fs::symlink_metadata(&path).unwrap();
            let target = fs::read_link(&path).unwrap_or_default();
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            let size = if meta.is_dir() { 0 } else { meta.len() };
            let mode = meta.permissions().mode();
            lines.push(format!("{name} {mode:o} {size} {}", target.display()));
            if meta.is_dir() {
                ahead.push(path);
            }
        }
    }
    lines.sort();
    lines
}
