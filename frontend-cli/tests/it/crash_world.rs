//! What the crash tests build, by the real program, and how a build is killed and looked after.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::WaitOptions;
use tempfile::TempDir;

/// A static program that is a whole userland.
const BUSYBOX: &str = "/bin/busybox";
/// How long what a killed build leaves behind may take to end.
const GRACE: Duration = Duration::from_secs(2);
/// What takes longer hangs.
const HANG: Duration = Duration::from_secs(60);

/// The locks that belong to a store as a whole; those of steps go with their holders.
const LOCKS: [&str; 4] = ["database", "index", "room", "slots"];

/// Times of files that steps make would differ from build to build, so all of them are set.
const DOCKERFILE: &str = r#"
FROM base AS tools
COPY busybox /bin/busybox
RUN ln -s busybox /bin/cat && busybox touch -hd @1600000000 /bin/cat && busybox touch -d @1600000000 /bin
RUN --mount=type=cache,target=/cache date > /cache/last; echo cached > /kept; busybox touch -d @1600000000 /kept
ADD archive.tar /unpacked/

FROM base AS other
COPY tree /tree
COPY tree/sub /made/on/the/way/
RUN i=0; while [ $i -lt 200 ]; do echo $i > /made-$i; i=$((i+1)); done

# A base without /proc would get one, with the time of its making.
FROM base
COPY --from=tools /unpacked /unpacked
COPY --from=other /tree /tree
COPY --from=other /made/on/the/way /there/too/
COPY --from=tools /bin /bin
RUN echo last > /last; busybox touch -d @1600000000 /last
WORKDIR /deep/down
ENV is=done
"#;

/// A directory with inputs of builds, and what the program needs to be left alone in.
pub(crate) struct World {
    directory: TempDir,
}

impl World {
    /// `None`, said aloud, where the tests cannot be run.
    #[expect(clippy::print_stderr, reason = "a skipped test says so")]
    pub(crate) fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            eprintln!("SKIPPED: only root may look into the processes of steps");
            return None;
        }
        if !Path::new(BUSYBOX).exists() {
            eprintln!("SKIPPED: no `{BUSYBOX}` here");
            return None;
        }
        // In memory where that is possible: a commit syncs the whole file system, which on a disk
        // is everybody's.
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir());
        let world = Self { directory: directory.unwrap() };
        for name in ["context/tree/sub", "many/many", "tmp"] {
            std::fs::create_dir_all(world.path(name)).unwrap();
        }
        std::fs::write(world.path("empty.toml"), "").unwrap();
        Some(world)
    }

    /// With the inputs of [`World::build`].
    pub(crate) fn with_inputs() -> Option<Self> {
        let world = Self::new()?;
        let context = world.path("context");
        std::fs::copy(BUSYBOX, context.join("busybox")).unwrap();
        std::fs::write(context.join("Dockerfile"), DOCKERFILE).unwrap();
        for n in 0..50 {
            std::fs::write(context.join(format!("tree/{n}")), format!("file {n}\n")).unwrap();
        }
        std::fs::write(context.join("tree/sub/file"), "deeper\n").unwrap();
        let (tree, archive) = (context.join("tree"), context.join("archive.tar"));
        must_succeed(Command::new("tar").arg("-C").arg(tree).arg("-cf").arg(archive).arg("."));
        world.make_base();
        Some(world)
    }

    /// As [`World::with_inputs`], and so many names in the tree that an edited one gets a layer over
    /// the layer before.
    pub(crate) fn with_many_inputs() -> Option<Self> {
        let world = Self::with_inputs()?;
        let more = world.path("context/tree/more");
        std::fs::create_dir(&more).unwrap();
        for n in 0..1100 {
            std::fs::write(more.join(n.to_string()), "").unwrap();
        }
        Some(world)
    }

    /// An OCI layout in `base`: busybox and 400 files in one layer.
    pub(crate) fn make_base(&self) {
        let context = self.path("many");
        std::fs::create_dir_all(context.join("bin")).unwrap();
        std::fs::copy(BUSYBOX, context.join("bin/busybox")).unwrap();
        std::os::unix::fs::symlink("busybox", context.join("bin/sh")).unwrap();
        for name in ["dev", "proc", "sys"] {
            std::fs::create_dir(context.join(name)).unwrap();
        }
        for n in 1..=400 {
            std::fs::write(context.join(format!("many/{n}")), content_of(n)).unwrap();
        }
        let dockerfile = "FROM scratch\nCOPY . /\nENV PATH=/bin\n";
        std::fs::write(context.join("Dockerfile"), dockerfile).unwrap();
        std::fs::write(context.join(".dockerignore"), "Dockerfile\n.dockerignore\n").unwrap();
        let output = format!("type=oci,tar=false,dest={}", self.path("base").display());
        let mut command = self.mybuild(&self.path("base-store"));
        must_succeed(command.args(["-q", "-o", &output]).arg(&context));
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The program, with nothing of this process's environment but `PATH`.
    pub(crate) fn mybuild(&self, root: &Path) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mybuild"));
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("MYBUILD_ROOT", root)
            .env("MYBUILD_CONFIG", self.path("empty.toml"))
            .env("TMPDIR", self.path("tmp"))
            .env("SOURCE_DATE_EPOCH", "1700000000")
            .current_dir(self.directory.path())
            .stdin(Stdio::null());
        command
    }

    /// A build with a step of every kind, in the store at `root`, with `base` as its base.
    pub(crate) fn build(&self, root: &Path, output: &Path) -> Command {
        self.build_in("context", root, output)
    }

    /// The same with another context.
    pub(crate) fn build_in(&self, context: &str, root: &Path, output: &Path) -> Command {
        let mut command = self.mybuild(root);
        let base = format!("base=oci-layout://{}", self.path("base").display());
        let output = format!("type=oci,dest={}", output.display());
        command.args(["--progress", "plain", "--build-context", &base, "-o", &output]);
        command.arg("-t").arg("app").arg(self.path(context));
        command
    }

    /// That the store is whole, by its own checker.
    pub(crate) fn check_store(&self, root: &Path, about: &str) {
        let output = run(self.mybuild(root).args(["fsck", "--full"]));
        assert!(output.status.success(), "{about}: {}", told(&output));
    }

    /// That nothing is left of builds in the store at `root`, all of which are over.
    pub(crate) fn check_leftovers(&self, root: &Path, about: &str) {
        for bucket in ["tmp-v1", "leases-v1"] {
            assert_eq!(names(&root.join(bucket)), BTreeSet::new(), "{about}: {bucket}");
        }
        for directory in [root.to_owned(), root.join("index-v1")] {
            let is_temporary = |name: &&OsString| name.as_encoded_bytes().starts_with(b".");
            let found = names(&directory);
            assert_eq!(found.iter().find(is_temporary), None, "{about}: {}", directory.display());
        }
        let locks = names(&root.join("locks-v1"));
        let is_known = |name: &OsString| LOCKS.iter().any(|lock| name == lock);
        assert!(locks.iter().all(is_known), "{about}: {locks:?}");
        assert_eq!(names(&self.path("tmp")), BTreeSet::new(), "{about}");
        let works = names(&root.join("layers-v1"))
            .into_iter()
            .filter(|layer| root.join("layers-v1").join(layer).join("work").exists());
        assert_eq!(works.collect::<Vec<_>>(), Vec::<OsString>::new(), "{about}");
    }

    /// That no process sees a mount of this world.
    pub(crate) fn check_mounts(&self, about: &str) {
        let place = self.directory.path().to_str().unwrap();
        for process in std::fs::read_dir("/proc").unwrap() {
            // A process may be gone by now.
            let path = process.unwrap().path().join("mountinfo");
            let Ok(mounts) = std::fs::read_to_string(&path) else { continue };
            let ours = mounts.lines().find(|line| line.contains(place));
            assert_eq!(ours, None, "{about}: {}", path.display());
        }
    }
}

/// What file `n` of the base image holds.
pub(crate) fn content_of(n: usize) -> Vec<u8> {
    format!("file {n} of many\n").repeat(1 + n * 7 % 300).into_bytes()
}

/// `command`, started by another program, which is given `words` before it.
pub(crate) fn run_by(program: &str, words: &[&str], command: &Command) -> Command {
    let mut outer = Command::new(program);
    outer.args(words).arg(command.get_program()).args(command.get_args()).env_clear();
    for (name, value) in command.get_envs() {
        outer.env(name, value.unwrap_or_default());
    }
    outer.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    outer
}

/// The names in a directory.
pub(crate) fn names(directory: &Path) -> BTreeSet<OsString> {
    let entries = std::fs::read_dir(directory).unwrap_or_else(|e| panic!("{directory:?}: {e}"));
    entries.map(|entry| entry.unwrap().file_name()).collect()
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

pub(crate) fn must_succeed(command: &mut Command) -> Output {
    let output = run(command);
    assert!(output.status.success(), "{command:?}: {}", told(&output));
    output
}

pub(crate) fn told(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\n{}{}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Whether a program is there; said aloud if not.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
pub(crate) fn has_strace() -> bool {
    let found = Command::new("strace").arg("-V").stdout(Stdio::null()).status().is_ok();
    if !found {
        eprintln!("SKIPPED: no `strace` here");
    }
    found
}

/// How many points a sweep has: few in every run, all when asked for.
pub(crate) fn points(few: usize, all: usize) -> usize {
    if std::env::var_os("MYBUILD_TEST_FULL").is_some() { all } else { few }
}

const COMMAND: &str = "MYBUILD_TEST_WARDEN_COMMAND";
const AFTER: &str = "MYBUILD_TEST_WARDEN_AFTER_US";

/// A process between the test and a build that inherits the build's orphans: the test binary
/// itself, asked for the one test `name`, which calls [`warden`] first of all.
///
/// The build is killed `after` this long, if at all.
pub(crate) fn under_warden(name: &str, command: &Command, after: Option<Duration>) -> Output {
    let words: Vec<&str> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    let mut warden = Command::new(std::env::current_exe().unwrap());
    warden.args(["--exact", name, "--nocapture", "--test-threads=1"]).env_clear();
    for (name, value) in command.get_envs() {
        warden.env(name, value.unwrap_or_default());
    }
    if let Some(after) = after {
        warden.env(AFTER, after.as_micros().to_string());
    }
    warden.env(COMMAND, serde_json::to_string(&words).unwrap());
    warden.current_dir(command.get_current_dir().unwrap()).stdin(Stdio::null());
    run(&mut warden)
}

/// In a process started by [`under_warden`]: does its work and is true. Fails if anything of the
/// build outlives it.
#[expect(clippy::zombie_processes, reason = "it is waited for, as everything that is left of it")]
pub(crate) fn warden() -> bool {
    let Ok(words) = std::env::var(COMMAND) else { return false };
    let words: Vec<String> = serde_json::from_str(&words).unwrap();
    let after = std::env::var(AFTER).ok().map(|us| Duration::from_micros(us.parse().unwrap()));
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let mut child = Command::new(&words[0])
        .args(&words[1..])
        .env_remove(COMMAND)
        .env_remove(AFTER)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    if let Some(after) = after {
        std::thread::sleep(after);
        child.kill().unwrap();
    }
    // What is not the child is an orphan, and there may be some before the child ends.
    let mut deadline = Instant::now() + HANG;
    let mut child_is_alive = true;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Err(_) => return true,
            Ok(Some((pid, _))) if pid.as_raw_nonzero().get().cast_unsigned() == child.id() => {
                child_is_alive = false;
                deadline = Instant::now() + GRACE;
            }
            Ok(Some(_)) => {}
            Ok(None) if Instant::now() > deadline => {
                end_children();
                panic!("alive too long: child {child_is_alive}");
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Tells of the children of this process and kills them.
#[expect(clippy::print_stderr, reason = "it shows why the test failed")]
fn end_children() {
    let me = std::process::id().to_string();
    for process in std::fs::read_dir("/proc").unwrap() {
        let path = process.unwrap().path();
        let Ok(stat) = std::fs::read_to_string(path.join("stat")) else { continue };
        // The name in parentheses may hold anything.
        let parent = stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1));
        if parent == Some(&me) {
            let words = std::fs::read(path.join("cmdline")).unwrap_or_default();
            eprintln!("left: {stat} {}", String::from_utf8_lossy(&words));
            let pid = path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
        }
    }
}
