//! How processes come about: cloned, forked, executed, with their signals.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

use super::outcome::{check, check_long};

/// Namespaces of every sandbox. The network's is joined later, the control group's made later.
const SANDBOX_NAMESPACES: c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// Be born in the group given; the C library's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Bytes of stack for the moment between `clone` and `exec`.
const CHILD_STACK: usize = 64 << 10;

/// What the child between `clone` and `exec` works from; made before, so that it allocates nothing.
struct ExecPlan<'a> {
    program: RawFd,
    argv: &'a [*const c_char],
    null: RawFd,
    keep: RawFd,
    /// Takes the errno of a failure; closed by success.
    failure: RawFd,
}

/// Starts the program open as `program`, with `null` as its standard streams and the one further
/// descriptor `keep`; gives back its process id and descriptor.
///
/// The calling thread waits until the program has been executed. It must live as long as the
/// program is to: the parent-death signal comes with the end of this thread.
pub(crate) fn start_program(
    program: BorrowedFd<'_>,
    argv: &[&CStr],
    null: BorrowedFd<'_>,
    keep: BorrowedFd<'_>,
) -> io::Result<(Pid, OwnedFd)> {
    let mut pointers: Vec<*const c_char> = argv.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let (failure, failure_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let plan = ExecPlan {
        program: program.as_raw_fd(),
        argv: &pointers,
        null: null.as_raw_fd(),
        keep: keep.as_raw_fd(),
        failure: failure_end.as_raw_fd(),
    };
    let old_mask = block_signals();
    let cloned = clone_sharing_memory(&plan);
    restore_signals(&old_mask);
    let (pid, pidfd) = cloned?;
    let pid = Pid::from_raw(pid).expect("a child's id is not zero");
    // SAFETY: the kernel has just made this descriptor for us.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    drop(failure_end);
    let mut errno = [0; size_of::<c_int>()];
    match rustix::io::read(&failure, &mut errno)? {
        0 => Ok((pid, pidfd)),
        _ => {
            rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty())?;
            Err(io::Error::from_raw_os_error(c_int::from_ne_bytes(errno)))
        }
    }
}

/// The cheap way: nothing of a large process is copied.
fn clone_sharing_memory(plan: &ExecPlan<'_>) -> io::Result<(c_int, c_int)> {
    let mut stack = vec![0_u8; CHILD_STACK];
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    // SAFETY: the top is inside `stack` and 16-byte aligned; `exec_child` and `plan` outlive the
    // child's use of this memory, because CLONE_VFORK holds this thread until it has executed the
    // program or exited; `pidfd` is where the kernel writes with CLONE_PIDFD.
    let pid = unsafe {
        let top = stack.as_mut_ptr().add(CHILD_STACK);
        let top = top.sub(top as usize % 16).cast::<c_void>();
        let plan = std::ptr::from_ref(plan).cast_mut().cast::<c_void>();
        libc::clone(exec_child, top, flags, plan, &raw mut pidfd)
    };
    check(pid).map(|pid| (pid, pidfd))
}

/// Forks this process of one thread into a sandbox's namespaces, as a member of the control group of
/// version 2 open as `group`; gives back the new process's id and descriptor, and `None` in that
/// process. Its parent is this process's parent.
pub(crate) fn fork_sibling(group: Option<BorrowedFd<'_>>) -> io::Result<Option<(Pid, OwnedFd)>> {
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_PARENT | libc::CLONE_PIDFD | SANDBOX_NAMESPACES;
    let pid = match group {
        // SAFETY: as `fork`, and the caller has one thread; without a stack the child goes on where
        // the parent does, on its own copy; `pidfd` is where the kernel writes with CLONE_PIDFD.
        None => unsafe {
            let none = std::ptr::null_mut::<c_void>();
            let flags = flags as libc::c_long;
            libc::syscall(libc::SYS_clone, flags, none, &raw mut pidfd, none, none)
        },
        Some(group) => clone_into_group(flags, &mut pidfd, group),
    };
    let Some(pid) = Pid::from_raw(check_long(pid)? as c_int) else { return Ok(None) };
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(Some((pid, unsafe { OwnedFd::from_raw_fd(pidfd) })))
}

/// The C library has no form of this call. Being born in a group is much cheaper than being moved
/// there, for which the kernel waits.
fn clone_into_group(flags: c_int, pidfd: &mut c_int, group: BorrowedFd<'_>) -> libc::c_long {
    // SAFETY: the structure is plain data, and all zeroes mean "not given".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags as u32) | CLONE_INTO_CGROUP;
    args.pidfd = std::ptr::from_mut(pidfd) as u64;
    args.cgroup = group.as_raw_fd() as u64;
    // SAFETY: as in `fork_sibling`.
    unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<libc::clone_args>()) }
}

/// Runs in the memory of the parent: nothing here allocates, locks or returns.
extern "C" fn exec_child(plan: *mut c_void) -> c_int {
    let environment = [std::ptr::null::<c_char>()];
    // SAFETY: `plan` is the `ExecPlan` of `start_program`, whose thread waits; the descriptors are a
    // copy of its table; `argv` and `environment` end with a null pointer.
    unsafe {
        let plan = &*plan.cast::<ExecPlan<'_>>();
        for stream in 0..3 {
            libc::dup2(plan.null, stream);
        }
        libc::fcntl(plan.keep, libc::F_SETFD, 0);
        libc::syscall(
            libc::SYS_execveat,
            plan.program,
            c"".as_ptr(),
            plan.argv.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
        let errno = libc::__errno_location();
        libc::write(plan.failure, errno.cast(), size_of::<c_int>());
        libc::_exit(127)
    }
}

fn block_signals() -> libc::sigset_t {
    // SAFETY: both sets are plain data, filled in by the calls.
    unsafe {
        let mut all = std::mem::zeroed();
        let mut old = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut old);
        old
    }
}

fn restore_signals(mask: &libc::sigset_t) {
    // SAFETY: `mask` comes from `block_signals`.
    unsafe {
        libc::pthread_sigmask(libc::SIG_SETMASK, mask, std::ptr::null_mut());
    }
}

/// Gives every signal its default action and blocks none: what a fresh program expects.
pub(crate) fn default_signals() {
    // SAFETY: only default actions are installed; the calls touch plain data.
    unsafe {
        // Not through the C library, which keeps two of them to itself. All zeroes, in the kernel's
        // own structure, is the default action.
        let action = [0_u64; 4];
        for signal in 1..=64 {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                action.as_ptr(),
                std::ptr::null::<c_void>(),
                8_usize,
            );
        }
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
    }
}

/// A descriptor that becomes readable when a child has ended; the signal itself is blocked.
pub(crate) fn child_signal() -> io::Result<OwnedFd> {
    // SAFETY: the set is plain data; the descriptor is ours.
    unsafe {
        let mut set = std::mem::zeroed();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
        let fd = libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK);
        check(fd).map(|fd| OwnedFd::from_raw_fd(fd))
    }
}

/// `fork`, for a process with one thread; `None` in the child.
pub(crate) fn fork() -> io::Result<Option<Pid>> {
    // SAFETY: the callers are single-threaded (the sandbox's init, and `main` before it starts
    // anything), so the child may do whatever the parent may.
    let pid = check(unsafe { libc::fork() })?;
    Ok(Pid::from_raw(pid))
}

/// Ends the process at once, running nothing.
pub(crate) fn exit_now(code: c_int) -> ! {
    // SAFETY: `_exit` has no preconditions.
    unsafe { libc::_exit(code) }
}

/// `execve`; returns only with the error.
pub(crate) fn execve(program: &CStr, argv: &[&CStr], environment: &[&CStr]) -> io::Error {
    let pointers = |strings: &[&CStr]| {
        let mut pointers: Vec<*const c_char> = strings.iter().map(|arg| arg.as_ptr()).collect();
        pointers.push(std::ptr::null());
        pointers
    };
    let (argv, environment) = (pointers(argv), pointers(environment));
    // SAFETY: all are zero-terminated and the lists end with a null pointer.
    unsafe {
        libc::execve(program.as_ptr(), argv.as_ptr(), environment.as_ptr());
    }
    io::Error::last_os_error()
}

/// Kills every process this one may kill but itself: for the first of a process namespace, all.
pub(crate) fn kill_all_others() {
    // SAFETY: only called by the init of a sandbox, whose namespace holds nothing else.
    unsafe {
        libc::kill(-1, libc::SIGKILL);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsFd;

    use super::*;

    const UNIFIED: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];

    #[test]
    fn privileged_a_fork_is_born_in_its_control_group() {
        let name = format!("mybuild-test-{}", std::process::id());
        let group =
            UNIFIED.iter().map(|base| std::path::Path::new(base).join(&name)).find(|group| {
                let unified = group.parent().is_some_and(|base| base.join("cgroup.procs").exists());
                unified && fs::create_dir(group).is_ok()
            });
        let Some(group) = group else {
            let _ = io::Write::write_all(
                &mut io::stderr(),
                b"skipped: no unified control groups to write to\n",
            );
            return;
        };
        let directory = File::open(&group).unwrap();
        // A process of one thread, as the call wants it; what it forks has this one as its parent.
        let (read, write) = rustix::pipe::pipe().unwrap();
        let Some(one) = fork().unwrap() else {
            drop(read);
            let text = match fork_sibling(Some(directory.as_fd())) {
                Ok(None) => fs::read_to_string("/proc/self/cgroup").unwrap_or_default(),
                Ok(Some((pid, _))) => format!("pid {}\n", pid.as_raw_nonzero()),
                Err(error) => error.to_string(),
            };
            let _ = rustix::io::write(&write, text.as_bytes());
            exit_now(0);
        };
        drop(write);
        let groups = std::io::read_to_string(File::from(read)).unwrap();
        rustix::process::waitpid(Some(one), rustix::process::WaitOptions::empty()).unwrap();
        let pid = groups.lines().find_map(|line| line.strip_prefix("pid ")?.parse().ok());
        let pid = pid.and_then(Pid::from_raw).expect(&groups);
        let ended = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
        assert!(ended.is_ok(), "it is this process's child");
        fs::remove_dir(&group).unwrap();
        assert!(groups.contains(&format!("0::/{name}")), "{groups}");
    }

    #[test]
    fn a_program_that_cannot_run_is_an_error() {
        let file = File::open("/etc/passwd").unwrap();
        let error = start_program(file.as_fd(), &[c"x"], file.as_fd(), file.as_fd()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EACCES));
    }
}
