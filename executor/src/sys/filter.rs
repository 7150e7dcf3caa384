//! The programs that the kernel asks: which calls a process may make, which devices a group may use.

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use super::outcome::{check, check_long};

/// `_IOWR('!', 0, struct seccomp_notif)` and `_IOWR('!', 1, struct seccomp_notif_resp)`.
const SECCOMP_IOCTL_NOTIF_RECV: libc::Ioctl = 0xc050_2100;
const SECCOMP_IOCTL_NOTIF_SEND: libc::Ioctl = 0xc018_2101;

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
