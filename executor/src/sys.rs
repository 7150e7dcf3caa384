//! The raw system calls that rustix has no safe form of. The one module of the crate with
//! `unsafe`: this file and those in its folder.

mod filter;
mod outcome;
mod process;

use std::ffi::{c_char, c_int};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::mount::MountAttrFlags;

pub(crate) use self::filter::{
    announced_call, answer_call, attach_device_program, install_filter, load_device_program,
};
use self::outcome::{check, check_long};
pub(crate) use self::process::{
    child_signal, default_signals, execve, exit_now, fork, fork_sibling, kill_all_others,
    start_program,
};

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
