//! The command itself: from a fork of the init to the program of the image.

use std::ffi::{CStr, CString};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Gid, Mode, OFlags, ResolveFlags, Uid, fchown, fstat, openat, openat2};
use rustix::io::{Errno, dup2};
use rustix::process::{DumpableBehavior, Pid, Rlimit, setrlimit};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::Winsize;
use rustix::thread::{CapabilitySet, CapabilitySets};
use serde::{Deserialize, Serialize};

use super::mounts::{Tree, attach, bind};
use crate::capability;
use crate::control::{self, Channel};
use crate::error::{Failure, Step};
use crate::job::{Job, JobIdentities, JobSecurity, JobStdio, Received};
use crate::rlimit;
use crate::sys;

/// Docker's, for a process without `PATH`.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The number of the one descriptor beside the streams that stays open until the program runs.
const REPORT: i32 = 3;
/// The step dies before the builder when memory runs out.
const OOM_SCORE: &str = "500";

/// The command's standard streams.
pub(super) struct Streams {
    input: OwnedFd,
    output: OwnedFd,
    error: OwnedFd,
    terminal: Option<OwnedFd>,
}

impl Streams {
    pub(super) fn open(job: &Job, tree: &Tree, fds: &[OwnedFd]) -> Result<Self, Failure> {
        let failed = |error: io::Error| Failure::setup("open the command's streams")(error);
        match job.stdio {
            JobStdio::Streams(input, output, error) => {
                let copy = |index: usize| fds[index].try_clone().map_err(failed);
                let input = input.map_or_else(|| tree.null.try_clone().map_err(failed), copy)?;
                Ok(Self { input, output: copy(output)?, error: copy(error)?, terminal: None })
            }
            JobStdio::Tty { rows, columns } => {
                Self::terminal(tree, rows, columns).map_err(|error| failed(error.into()))
            }
        }
    }

    /// A new terminal of the sandbox, which is also its console.
    fn terminal(tree: &Tree, rows: u16, columns: u16) -> rustix::io::Result<Self> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let terminal = openat(&tree.terminals, "ptmx", flags, Mode::empty())?;
        unlockpt(&terminal)?;
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(&terminal, size)?;
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let console = ioctl_tiocgptpeer(&terminal, flags)?;
        let copy = || console.try_clone().map_err(|_| Errno::MFILE);
        let (input, output) = (copy()?, copy()?);
        // The first terminal of a new file system is number 0.
        let attributes = rustix::mount::MountAttrFlags::empty();
        let mounted = bind(tree.terminals.as_fd(), "0", false, attributes)?;
        attach(mounted.as_fd(), &tree.root, "dev/console")?;
        Ok(Self { input, output, error: console, terminal: Some(terminal) })
    }
}

/// What the command's process tells the init before it runs.
#[derive(Debug, Serialize, Deserialize)]
enum Word {
    /// With it comes the listener to its call filter.
    Listener,
    /// With it comes the other end of its terminal.
    Terminal,
    /// It does not run.
    Failed(Failure),
}

/// A command that runs.
pub(super) struct Started {
    pub(super) pid: Pid,
    pub(super) listener: Option<OwnedFd>,
    pub(super) terminal: Option<OwnedFd>,
}

/// Everything the command needs that would have to be allocated.
struct Prepared {
    argv: Vec<CString>,
    environment: Vec<CString>,
    filter: Option<Vec<u64>>,
    listened: bool,
}

/// The command's process on its way.
pub(super) struct Start<'a> {
    job: &'a Job,
    prepared: &'a Prepared,
    /// To the init; whatever becomes of this process closes it.
    report: ManuallyDrop<OwnedFd>,
}

/// What can never be: the child becomes the program or fails.
pub(super) enum Never {}

/// Starts the command: `become_it` runs in its process. The failure is the child's own where it is the
/// child that fails.
pub(super) fn start(
    received: &Received,
    become_it: impl FnOnce(&mut Start<'_>) -> Result<Never, Failure>,
) -> Result<Started, Failure> {
    let prepared = prepare(received)?;
    let failed = Failure::setup::<io::Error>;
    let (report, report_end) = Channel::pair().map_err(failed("make a channel"))?;
    let Some(pid) = sys::fork().map_err(failed("start a process"))? else {
        let report = ManuallyDrop::new(report_end.into());
        let mut start = Start { job: &received.job, prepared: &prepared, report };
        let Err(failure) = become_it(&mut start);
        // Short enough to go through at once; if it cannot, the exit code still tells.
        let _ = start.tell(&Word::Failed(failure), &[]);
        sys::exit_now(127)
    };
    drop(report_end);
    let mut started = Started { pid, listener: None, terminal: None };
    while let Some((word, mut fds)) =
        report.receive::<Word>().map_err(failed("start the command"))?
    {
        match word {
            Word::Listener => started.listener = fds.pop(),
            Word::Terminal => started.terminal = fds.pop(),
            Word::Failed(failure) => return Err(failure),
        }
    }
    Ok(started)
}

fn prepare(received: &Received) -> Result<Prepared, Failure> {
    let text =
        |text: String| CString::new(text).map_err(|_| Failure::setup("read the job")(Errno::INVAL));
    let job = &received.job;
    let filter = match &job.security {
        JobSecurity::Insecure => None,
        JobSecurity::Sandbox { filter, .. } => {
            let bytes = received.blob(filter).map_err(Failure::setup("read the call filter"))?;
            let (words, _) = bytes.as_chunks::<8>();
            Some(words.iter().map(|word| u64::from_le_bytes(*word)).collect())
        }
    };
    Ok(Prepared {
        argv: job.args.iter().cloned().map(text).collect::<Result<_, _>>()?,
        environment: job
            .env
            .0
            .iter()
            .map(|(name, value)| text(format!("{name}={value}")))
            .collect::<Result<_, _>>()?,
        filter,
        listened: matches!(job.security, JobSecurity::Sandbox { listened: true, .. }),
    })
}

impl Start<'_> {
    /// Becomes the command in `tree`.
    pub(super) fn command(&mut self, tree: &Tree, fds: &[OwnedFd]) -> Result<Never, Failure> {
        // Not to be closed when this fails: by then everything may be.
        let streams = ManuallyDrop::new(Streams::open(self.job, tree, fds)?);
        if let Some(terminal) = &streams.terminal {
            self.tell(&Word::Terminal, &[terminal.as_fd()])
                .map_err(Failure::setup("pass the terminal on"))?;
        }
        enter_users(self.job, fds)?;
        let cwd = redirect(self.job, tree, &streams, &self.report)?;
        // What the number named before is closed by now, or will be before the program runs.
        self.report = sys::numbered(REPORT);
        self.set_up(cwd)?;
        execute(self.job, self.prepared)
    }

    fn tell(&self, word: &Word, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        control::send(self.report.as_fd(), word, fds)
    }

    /// Limits, directory, rights, identity: in the order in which each is still allowed.
    fn set_up(&self, cwd: OwnedFd) -> Result<(), Failure> {
        let job = self.job;
        let setup = Failure::setup::<Errno>;
        sys::join_new_keyring();
        limits(job)?;
        let entered =
            rustix::process::fchdir(&cwd).and_then(|()| rustix::process::getcwd(Vec::new()));
        drop(cwd);
        // The kernel names a directory outside the root without a leading slash.
        let inside = entered.and_then(|name| match name.to_bytes().first() {
            Some(b'/') => Ok(()),
            _ => Err(Errno::XDEV),
        });
        inside.map_err(|error| Failure::new(Step::WorkingDirectory, &*job.cwd, error))?;
        sys::close_from(REPORT as u32 + 1)
            .map_err(Failure::setup("close what the command is not to have"))?;
        let sandboxed = matches!(job.security, JobSecurity::Sandbox { .. });
        if sandboxed {
            capability::bound_to_default().map_err(setup("drop capabilities"))?;
        }
        // Before the identity changes, since only a privileged process may filter without giving up
        // set-user-id programs. What follows is on the list.
        if let Some(filter) = &self.prepared.filter {
            self.install(filter).map_err(Failure::setup("install the call filter"))?;
        }
        if job.identities != JobIdentities::Single {
            identity(job).map_err(setup("change the user"))?;
        }
        capabilities(job, sandboxed).map_err(setup("set capabilities"))
    }

    /// Installs the filter and sends its listener on.
    fn install(&self, filter: &[u64]) -> io::Result<()> {
        match sys::install_filter(filter, self.prepared.listened)? {
            Some(listener) => self.tell(&Word::Listener, &[listener.as_fd()]),
            None => Ok(()),
        }
    }
}

/// Goes where the command's programs are led to emulators. It has every right there, and keeps none
/// outside: the tree is made by now.
fn enter_users(job: &Job, fds: &[OwnedFd]) -> Result<(), Failure> {
    let Some(users) = job.users else { return Ok(()) };
    let kind = rustix::thread::LinkNameSpaceType::User;
    rustix::thread::move_into_link_name_space(fds[users].as_fd(), Some(kind))
        .map_err(Failure::setup("enter the user namespace of emulators"))
}

/// Gives the command its streams; gives back its directory. From then on the report has the number
/// [`REPORT`].
fn redirect(
    job: &Job,
    tree: &Tree,
    streams: &Streams,
    report: &OwnedFd,
) -> Result<OwnedFd, Failure> {
    let setup = Failure::setup::<Errno>;
    sys::default_signals();
    rustix::process::setsid().map_err(setup("start a session"))?;
    if streams.terminal.is_some() {
        rustix::process::ioctl_tiocsctty(&streams.input).map_err(setup("take the terminal"))?;
    }
    // Also for the files of `/proc/self` to be ours.
    rustix::process::set_dumpable_behavior(DumpableBehavior::Dumpable)
        .map_err(setup("make the command inspectable"))?;
    prefer_in_want_of_memory(tree);
    let cwd = working_directory(job, tree.root.as_fd())?;
    let streams = [&streams.input, &streams.output, &streams.error];
    // A user who is not root can open `/dev/stdout` only if the pipe behind it is his.
    for stream in streams {
        give_away(stream.as_fd(), job);
    }
    // Above everything that is still to be copied from.
    let high = |fd: BorrowedFd<'_>| rustix::io::fcntl_dupfd_cloexec(fd, REPORT + 1);
    let copies = || -> rustix::io::Result<_> {
        Ok((
            [high(streams[0].as_fd())?, high(streams[1].as_fd())?, high(streams[2].as_fd())?],
            high(report.as_fd())?,
            high(cwd.as_fd())?,
        ))
    };
    let (copies, report, high_cwd) = copies().map_err(setup("open the command's streams"))?;
    // Its number may be one of those that are renumbered.
    std::mem::forget(cwd);
    for (number, copy) in (0..).zip(&copies) {
        let mut at = sys::numbered(number);
        dup2(copy, &mut at).map_err(setup("open the command's streams"))?;
    }
    let mut report_at = sys::numbered(REPORT);
    rustix::io::dup3(&report, &mut report_at, rustix::io::DupFlags::CLOEXEC)
        .map_err(setup("open the command's streams"))?;
    Ok(high_cwd)
}

/// Writes the score through the `/proc` that we mounted; not being allowed to is no failure.
fn prefer_in_want_of_memory(tree: &Tree) {
    let file =
        openat(&tree.proc, "self/oom_score_adj", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    if let Ok(file) = file {
        let _ = rustix::io::write(&file, OOM_SCORE.as_bytes());
    }
}

fn give_away(stream: BorrowedFd<'_>, job: &Job) {
    let Ok(stat) = fstat(stream) else { return };
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_ours = matches!(job.stdio, JobStdio::Tty { .. }) || kind == FileType::Fifo;
    let own = stat.st_uid == job.uid;
    if is_ours && !own && job.identities != JobIdentities::Single {
        // One that cannot is left with what the open descriptor allows.
        let _ = fchown(stream, Some(Uid::from_raw(job.uid)), None::<Gid>);
    }
}

/// The working directory, resolved inside the root and not through `/proc`'s links to descriptors.
fn working_directory(job: &Job, root: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
    let path = if job.cwd.is_empty() { "/" } else { &*job.cwd };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    openat2(root, path, flags, Mode::empty(), resolve)
        .map_err(|error| Failure::new(Step::WorkingDirectory, path, error))
}

fn identity(job: &Job) -> rustix::io::Result<()> {
    let groups: Vec<Gid> = job.groups.iter().map(|gid| Gid::from_raw(*gid)).collect();
    rustix::thread::set_thread_groups(&groups)?;
    let gid = Gid::from_raw(job.gid);
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    let uid = Uid::from_raw(job.uid);
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

/// Root keeps what its bounds allow, anybody else nothing; nothing is inherited.
fn capabilities(job: &Job, sandboxed: bool) -> rustix::io::Result<()> {
    let current = rustix::thread::capabilities(None)?;
    let kept = match (job.uid, sandboxed) {
        (0, true) => current.permitted & capability::DEFAULT,
        (0, false) => current.permitted,
        _ => CapabilitySet::empty(),
    };
    let sets =
        CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets)
}

fn limits(job: &Job) -> Result<(), Failure> {
    rlimit::set_usual().map_err(|(name, error)| Failure::new(Step::Rlimit, name, error))?;
    for limit in &job.rlimits {
        let failed = |error: Errno| Failure::new(Step::Rlimit, &*limit.name, error);
        let resource = rlimit::resource(&limit.name).ok_or_else(|| failed(Errno::INVAL))?;
        setrlimit(resource, Rlimit { current: limit.soft, maximum: limit.hard }).map_err(failed)?;
    }
    Ok(())
}

/// Becomes the program; comes back only with the reason why not.
fn execute(job: &Job, prepared: &Prepared) -> Result<Never, Failure> {
    let program = &job.args[0];
    let argv: Vec<&CStr> = prepared.argv.iter().map(CString::as_c_str).collect();
    let environment: Vec<&CStr> = prepared.environment.iter().map(CString::as_c_str).collect();
    if program.contains('/') {
        let error = sys::execve(argv[0], &argv, &environment);
        return Err(refused(program, program, error));
    }
    let path = job.env.0.iter().rev().find(|(name, _)| name == "PATH");
    let path = path.map_or(DEFAULT_PATH, |(_, value)| value);
    let mut denied = None;
    for directory in path.split(':') {
        // An empty part is the working directory; a program found there has to be asked for by path.
        if directory.is_empty() || program.is_empty() {
            continue;
        }
        let candidate = format!("{directory}/{program}");
        let Ok(file) = CString::new(&*candidate) else { continue };
        let error = sys::execve(&file, &argv, &environment);
        match refused(program, &candidate, error) {
            Failure { step: Step::NotFound, .. } => {}
            failure if failure.errno == libc::EACCES => denied = Some(failure),
            failure => return Err(failure),
        }
    }
    Err(denied.unwrap_or_else(|| Failure::new(Step::NotFound, &**program, Errno::NOENT)))
}

/// Tells a program that is not there from one that is and cannot run.
fn refused(program: &str, file: &str, error: io::Error) -> Failure {
    let missing = matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR));
    let step = match rustix::fs::stat(file) {
        Err(_) if missing => Step::NotFound,
        _ => Step::NotExecutable,
    };
    Failure::new(step, program, error)
}
