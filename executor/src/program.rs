//! This program, as a sandbox sees it.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use rustix::fs::{
    CWD, MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, fstat, memfd_create, openat, stat,
};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_fd, fsmount, fsopen,
};

use crate::init::file_system;

/// The name by which this program knows that it is to be what sandboxes come from.
pub(crate) const INIT_NAME: &CStr = c"mybuild-init";

/// This program as nobody can change it: what the sandbox sees as its first process's program is not
/// the file on the host.
pub(crate) fn own_program() -> io::Result<&'static OwnedFd> {
    static PROGRAM: Mutex<Option<&'static OwnedFd>> = Mutex::new(None);
    let mut program = PROGRAM.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(program) = *program {
        return Ok(program);
    }
    let shown = own_program_read_only().map_or_else(copy_own_program, Ok)?;
    let kept: &'static OwnedFd = Box::leak(Box::new(shown));
    *program = Some(kept);
    Ok(kept)
}

/// Through an overlay that has no place for writes: another file with the same pages, for which
/// nothing is copied. `None` where the kernel makes no such mount of the program's directory.
fn own_program_read_only() -> Option<OwnedFd> {
    let path = std::fs::read_link("/proc/self/exe").ok()?;
    let directory = open_directory(path.parent()?)?;
    // One layer alone is none for the kernel.
    let empty = file_system("tmpfs", &[], &[], MountAttrFlags::MOUNT_ATTR_RDONLY).ok()?;
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).ok()?;
    fsconfig_set_fd(&context, "lowerdir+", &directory).ok()?;
    fsconfig_set_fd(&context, "lowerdir+", &empty).ok()?;
    fsconfig_create(&context).ok()?;
    let attributes = MountAttrFlags::MOUNT_ATTR_RDONLY | MountAttrFlags::MOUNT_ATTR_NOSUID;
    let shown = fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, attributes).ok()?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let program = openat(&shown, path.file_name()?, flags, Mode::empty()).ok()?;
    let (own, seen) = (stat("/proc/self/exe").ok()?, fstat(&program).ok()?);
    let identity = |of: &rustix::fs::Stat| {
        (of.st_size, of.st_mode, of.st_mtime, of.st_mtime_nsec, of.st_ctime, of.st_ctime_nsec)
    };
    (identity(&own) == identity(&seen)).then_some(program)
}

fn open_directory(path: &Path) -> Option<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    openat(CWD, path, flags, Mode::empty()).ok()
}

/// In sealed memory.
fn copy_own_program() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let memory = match memfd_create("mybuild-init", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 every one is executable.
        Err(Errno::INVAL) => memfd_create("mybuild-init", flags)?,
        other => other?,
    };
    let mut memory = File::from(memory);
    let mut program = File::open("/proc/self/exe")?;
    io::copy(&mut program, &mut memory)?;
    fcntl_add_seals(
        &memory,
        SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE,
    )?;
    Ok(memory.into())
}
