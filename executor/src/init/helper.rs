//! A program that serves a network namespace, kept in a process namespace of its own: whatever
//! becomes of it and of us, it ends with its init.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::dup2;
use rustix::process::{Pid, WaitOptions, waitpid};

use super::mounts::{attach, bind, file_system};
use crate::control::{Channel, HELPER_NAMESPACE, HELPER_READY_FD, Order, Report};
use crate::error::{Failure, Step};
use crate::sys;

/// Starts the program `args`, whose descriptors are where its messages go and the namespace it is
/// to serve; reports its start when it is ready, and keeps it until the parent is gone.
pub(super) fn run(
    channel: &Channel,
    args: &[String],
    says_ready: bool,
    fds: Vec<OwnedFd>,
) -> Result<(), Failure> {
    let [output, namespace] = <[OwnedFd; 2]>::try_from(fds)
        .map_err(|_| Failure::setup("start a network helper")(rustix::io::Errno::INVAL))?;
    show_namespace(&namespace)?;
    sys::default_signals();
    let (ready, ready_end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(Failure::setup("make a pipe"))?;
    let argv: Vec<CString> = args.iter().filter_map(|arg| CString::new(&**arg).ok()).collect();
    let argv: Vec<&CStr> = argv.iter().map(CString::as_c_str).collect();
    let child = match sys::fork().map_err(Failure::setup("start a process"))? {
        Some(child) => child,
        None => execute(&argv, &output, says_ready.then_some(&ready_end)),
    };
    drop((ready_end, output, namespace));
    wait_until_ready(child, &ready, &args[0])?;
    channel.send(&Report::Started, &[]).map_err(Failure::setup("report a network helper"))?;
    while let Ok(Some(_)) = channel.receive::<Order>() {}
    Ok(())
}

/// Gives the namespace a path, in this process's own mounts: helpers give up the right to look into
/// other processes before they open it.
fn show_namespace(namespace: &OwnedFd) -> Result<(), Failure> {
    let place = || {
        let memory = file_system("tmpfs", &[], &[], super::mounts::PLAIN)?;
        let (directory, name) = HELPER_NAMESPACE.rsplit_once('/').expect("it is a path");
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        openat(&memory, name, flags, Mode::from_raw_mode(0o600))?;
        attach(memory.as_fd(), CWD, directory)?;
        let namespace = bind(namespace.as_fd(), "", false, rustix::mount::MountAttrFlags::empty())?;
        attach(namespace.as_fd(), &memory, name)
    };
    place().map_err(Failure::setup("show the network namespace to its helper"))
}

/// Without `ready` the pipe ends here, and the end of the program is what is waited for.
fn execute(argv: &[&CStr], output: &OwnedFd, ready: Option<&OwnedFd>) -> ! {
    let redirected = dup2(output, &mut sys::numbered(1))
        .and_then(|()| dup2(output, &mut sys::numbered(2)))
        .and_then(|()| match ready {
            Some(ready) => dup2(ready, &mut sys::numbered(HELPER_READY_FD)),
            None => Ok(()),
        });
    let first_to_close = HELPER_READY_FD + i32::from(ready.is_some());
    if redirected.is_ok() && sys::close_from(first_to_close as u32).is_ok() {
        sys::execve(argv[0], argv, &[]);
    }
    sys::exit_now(127)
}

/// A helper is ready when it has said so on its descriptor, or when it has gone to the background.
fn wait_until_ready(child: Pid, ready: &OwnedFd, program: &str) -> Result<(), Failure> {
    let mut byte = [0];
    if matches!(rustix::io::read(ready, &mut byte), Ok(1)) {
        return Ok(());
    }
    let ended = waitpid(Some(child), WaitOptions::empty())
        .map_err(Failure::setup("wait for a network helper"))?;
    match ended.and_then(|(_, status)| status.exit_status()) {
        Some(0) => Ok(()),
        _ => Err(Failure::new(Step::Setup, format!("start `{program}`"), rustix::io::Errno::IO)),
    }
}
