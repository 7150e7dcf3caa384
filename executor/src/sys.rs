//! The raw system calls that rustix has no safe form of. The one file of the crate with `unsafe`.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::mount::MountAttrFlags;
use rustix::process::Pid;

/// Namespaces of every sandbox. The network's is joined later, the control group's made later.
const SANDBOX_NAMESPACES: c_int =
    libc::CLONE_NEWNS | libc::CLONE_NEWPID | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

/// Be born in the group given; the C library's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// `_IOWR('!', 0, struct seccomp_notif)` and `_IOWR('!', 1, struct seccomp_notif_resp)`.
const SECCOMP_IOCTL_NOTIF_RECV: libc::Ioctl = 0xc050_2100;
const SECCOMP_IOCTL_NOTIF_SEND: libc::Ioctl = 0xc018_2101;

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

/// Closes every descriptor from `first` on.
pub(crate) fn close_from(first: u32) -> io::Result<()> {
    // SAFETY: the callers hold no descriptor above `first` that they still use.
    check_long(unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) }).map(drop)
}

/// What [`mount_setattr`] changes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Change {
    Set(MountAttrFlags),
    /// And how what is mounted elsewhere shows beneath it: `MS_PRIVATE` or `MS_SLAVE`, or 0 as before.
    Propagate(MountAttrFlags, u64),
    Clear(MountAttrFlags),
}

/// Changes the flags of a mount, or of the whole tree beneath it.
pub(crate) fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    change: Change,
) -> io::Result<()> {
    let (set, clear, propagation) = match change {
        Change::Set(flags) => (flags, MountAttrFlags::empty(), 0),
        Change::Propagate(flags, how) => (flags, MountAttrFlags::empty(), how),
        Change::Clear(flags) => (MountAttrFlags::empty(), flags, 0),
    };
    let attributes = libc::mount_attr {
        attr_set: set.bits().into(),
        attr_clr: clear.bits().into(),
        propagation,
        userns_fd: 0,
    };
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is empty and the structure is as long as said.
    check_long(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    })
    .map(drop)
}

/// Namespaces that [`unshare`] makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unshare {
    Network,
    ControlGroup,
    /// That of the processes forked from now on, the first of which is its process 1.
    Processes,
    /// The file-system view of this thread and its mounts.
    Mounts,
    UserAndMounts,
}

/// Moves this thread (for users: this single-threaded process) to a new namespace.
pub(crate) fn unshare(what: Unshare) -> io::Result<()> {
    let flags = match what {
        Unshare::Network => libc::CLONE_NEWNET,
        Unshare::ControlGroup => libc::CLONE_NEWCGROUP,
        Unshare::Processes => libc::CLONE_NEWPID,
        Unshare::Mounts => libc::CLONE_FS | libc::CLONE_NEWNS,
        Unshare::UserAndMounts => libc::CLONE_NEWUSER | libc::CLONE_NEWNS,
    };
    // SAFETY: none of these flags takes away memory or descriptors of the thread.
    check(unsafe { libc::unshare(flags) }).map(drop)
}

/// Gives the process the usual view of the machine, whatever `setarch` gave its caller: the name of
/// the machine and the layout of memory.
pub(crate) fn usual_personality() -> io::Result<()> {
    const PER_LINUX: libc::c_ulong = 0;
    // SAFETY: what is mapped stays as it is; only coming programs are loaded in the usual way.
    check(unsafe { libc::personality(PER_LINUX) }).map(drop)
}

/// Gives the process an empty session keyring; kernels without keys, or with none left, are fine.
pub(crate) fn join_new_keyring() {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: a null name asks for an anonymous keyring.
    unsafe {
        libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, std::ptr::null::<c_char>());
    }
}

/// Installs a call filter for this thread, as `seccomp::program` makes it; gives back the descriptor
/// by which it announces calls if it is to be `listened` to.
pub(crate) fn install_filter(program: &[u64], listened: bool) -> io::Result<Option<OwnedFd>> {
    let length = u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    // `struct sock_filter` is eight bytes in the order of our numbers on little-endian machines.
    let filter = libc::sock_fprog {
        len: length,
        filter: program.as_ptr().cast_mut().cast::<libc::sock_filter>(),
    };
    let install = |flags: libc::c_ulong| {
        // SAFETY: `filter` points to `len` instructions, which the kernel copies and checks.
        check_long(unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const filter,
            )
        })
    };
    let listener = if listened { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER } else { 0 };
    // With the second flag a call that somebody answers is not broken off by a signal.
    let killable = if listened { libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV } else { 0 };
    // Without the first flag older kernels slow every program down for a side channel that the
    // namespace boundary does not depend on.
    let result = install(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | killable | listener)
        .or_else(|_| install(libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW | listener))
        .or_else(|_| install(listener))?;
    // SAFETY: with a listener the result is its descriptor, which nobody else has.
    Ok(listened.then(|| unsafe { OwnedFd::from_raw_fd(result as RawFd) }))
}

/// Loads a program that answers which devices a control group of version 2 may use, an instruction
/// (`struct bpf_insn`) in each number.
pub(crate) fn load_device_program(program: &[u64]) -> io::Result<OwnedFd> {
    const PROGRAM_LOAD: c_int = 5;
    const CGROUP_DEVICE: u64 = 15;
    let length = (program.len() as u64) << 32;
    // Kind and length, the instructions, a licence; what is not given is zero.
    let request = [CGROUP_DEVICE | length, program.as_ptr() as u64, c"".as_ptr() as u64];
    let fd = bpf(PROGRAM_LOAD, &request)?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// Has `program` asked about every use of a device by members of `group`, besides the programs of the
/// groups above.
pub(crate) fn attach_device_program(
    group: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
) -> io::Result<()> {
    const PROGRAM_ATTACH: c_int = 8;
    const CGROUP_DEVICE: u64 = 6;
    const ALLOW_MULTI: u64 = 2 << 32;
    let number = |fd: BorrowedFd<'_>| fd.as_raw_fd() as u64;
    let request = [number(group) | number(program) << 32, CGROUP_DEVICE | ALLOW_MULTI];
    bpf(PROGRAM_ATTACH, &request).map(drop)
}

/// `request` is the start of `union bpf_attr` on little-endian machines.
fn bpf(command: c_int, request: &[u64]) -> io::Result<libc::c_long> {
    // SAFETY: the kernel reads as many bytes as said, and what they point to outlives the call.
    check_long(unsafe {
        libc::syscall(libc::SYS_bpf, command, request.as_ptr(), size_of_val(request))
    })
}

/// A call that waits for an answer, by its number in the listener; see [`install_filter`].
pub(crate) fn announced_call(listener: BorrowedFd<'_>) -> io::Result<u64> {
    // Number, process, flags and the call itself; the kernel wants it zeroed.
    let mut call = [0_u64; 10];
    // SAFETY: the structure is as long as the request says.
    check(unsafe {
        libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_RECV, call.as_mut_ptr())
    })?;
    Ok(call[0])
}

/// Lets an announced call take its course, or fail with `errno`.
pub(crate) fn answer_call(
    listener: BorrowedFd<'_>,
    number: u64,
    errno: Option<c_int>,
) -> io::Result<()> {
    const CONTINUE: u64 = 1;
    // Number, result, error in the low half of the last word and flags in its high half.
    let last = match errno {
        None => CONTINUE << 32,
        Some(errno) => u64::from((-errno) as u32),
    };
    let answer = [number, 0, last];
    // SAFETY: the structure is as long as the request says.
    check(unsafe { libc::ioctl(listener.as_raw_fd(), SECCOMP_IOCTL_NOTIF_SEND, answer.as_ptr()) })
        .map(drop)
}

/// Brings the loopback interface of this thread's network up.
pub(crate) fn bring_loopback_up() -> io::Result<()> {
    // SAFETY: `request` is plain data with a zero-terminated name; the socket is closed on return.
    unsafe {
        let socket = check(libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0))?;
        let socket = OwnedFd::from_raw_fd(socket);
        let mut request: libc::ifreq = std::mem::zeroed();
        request.ifr_name[0] = b'l' as c_char;
        request.ifr_name[1] = b'o' as c_char;
        request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &raw const request))
            .map(drop)
    }
}

fn check(result: c_int) -> io::Result<c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn check_long(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Kills every process this one may kill but itself: for the first of a process namespace, all.
pub(crate) fn kill_all_others() {
    // SAFETY: only called by the init of a sandbox, whose namespace holds nothing else.
    unsafe {
        libc::kill(-1, libc::SIGKILL);
    }
}

/// Takes over the descriptor a program was started with; it is closed on the next `exec`.
pub(crate) fn adopt(fd: RawFd) -> io::Result<OwnedFd> {
    check(
        // SAFETY: this only asks about a number and fails for one that is not open.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) },
    )?;
    // SAFETY: it is open, and the one place that knows its number gives it up here.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The descriptor of that number, whether it is open or not, as the target of a `dup2`; it
/// is not closed on drop.
pub(crate) fn numbered(fd: RawFd) -> ManuallyDrop<OwnedFd> {
    // SAFETY: the number is never -1; it is only named to be replaced, and kept from being dropped
    // by the callers' `ManuallyDrop`.
    ManuallyDrop::new(unsafe { OwnedFd::from_raw_fd(fd) })
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
