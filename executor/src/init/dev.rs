//! `/dev`: Docker's few devices, terminals, shared memory and message queues.
//!
//! Where no control group guards devices, the directory itself admits none, and neither does any
//! other mount of a sandbox: a node that the command makes with `mknod` cannot be opened. Only the six
//! below are mounts of their own that do.

use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, chmodat, fstat, major, makedev, minor, mkdirat, mknodat,
    openat, symlinkat,
};

use super::mounts::{Builder, NO_EXEC, NO_SUID, PLAIN, attach, bind, file_system};
use crate::error::Failure;
use crate::job::{JobIdentities, JobStdio};

const NODES: [(&str, u32, u32); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

const SHM_SIZE: u64 = 64 << 20;

/// Builds `/dev` and gives back the file system of its terminals.
pub(super) fn build(builder: &mut Builder<'_>) -> Result<OwnedFd, Failure> {
    let options = [("mode", "0755"), ("size", "65536k")];
    let dev = builder.system("tmpfs", "dev", &options, NO_SUID | builder.no_devices())?;
    nodes(builder, &dev)?;
    for (name, target) in LINKS {
        symlinkat(target, &dev, name).map_err(Failure::mount("/dev"))?;
    }
    for name in ["pts", "shm", "mqueue"] {
        mkdirat(&dev, name, Mode::from_raw_mode(0o755)).map_err(Failure::mount("/dev"))?;
    }
    let terminals = terminals(builder)?;
    let size = match builder.job.shm_size {
        0 => SHM_SIZE,
        size => size,
    };
    let memory = [("mode", "1777"), ("size", &*size.to_string())];
    let mut below = vec![
        (terminals.try_clone().map_err(Failure::mount("/dev/pts"))?, "pts"),
        (file_system("mqueue", &[], &[], PLAIN).map_err(Failure::mount("/dev/mqueue"))?, "mqueue"),
    ];
    // What the caller mounts there takes its place rather than covering it.
    if !builder.job.mounts.iter().any(|mount| mount.target == "/dev/shm") {
        let shm = file_system("tmpfs", &memory, &[], PLAIN).map_err(Failure::mount("/dev/shm"))?;
        below.push((shm, "shm"));
    }
    for (mounted, name) in below {
        attach(mounted.as_fd(), &dev, name).map_err(Failure::mount("/dev"))?;
    }
    if matches!(builder.job.stdio, JobStdio::Tty { .. }) {
        empty_file(&dev, "console")?;
    }
    if builder.insecure() && builder.job.identities == JobIdentities::Host {
        loop_devices(&dev)?;
    }
    Ok(terminals)
}

fn terminals(builder: &Builder<'_>) -> Result<OwnedFd, Failure> {
    let mut options = vec![("ptmxmode", "0666"), ("mode", "0620")];
    if builder.job.identities != JobIdentities::Single {
        options.push(("gid", "5"));
    }
    file_system("devpts", &options, &["newinstance"], NO_SUID | NO_EXEC)
        .map_err(Failure::mount("/dev/pts"))
}

/// The six devices. Root makes nodes of its own, so that changing their mode or owner does not
/// change the host's; in a user namespace only the host's are available, and they belong to nobody.
fn nodes(builder: &Builder<'_>, dev: &OwnedFd) -> Result<(), Failure> {
    for (name, number_major, number_minor) in NODES {
        let failed = |error: std::io::Error| Failure::mount(&format!("/dev/{name}"))(error);
        let node = match builder.job.identities {
            JobIdentities::Host => {
                let mode = Mode::from_raw_mode(0o666);
                let device = makedev(number_major, number_minor);
                let kind = FileType::CharacterDevice;
                mknodat(&builder.files, name, kind, mode, device)
                    // The caller's umask has taken bits away.
                    .and_then(|()| chmodat(&builder.files, name, mode, AtFlags::empty()))
                    .and_then(|()| bind(builder.files.as_fd(), name, false, NO_SUID | NO_EXEC))
            }
            _ => bind(CWD, &format!("/dev/{name}"), false, NO_SUID | NO_EXEC),
        }
        .map_err(|error| failed(error.into()))?;
        let stat = fstat(&node).map_err(|error| failed(error.into()))?;
        let device = FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice
            && (major(stat.st_rdev), minor(stat.st_rdev)) == (number_major, number_minor);
        if !device {
            return Err(failed(std::io::Error::from_raw_os_error(libc::ENODEV)));
        }
        empty_file(dev, name)?;
        attach(node.as_fd(), dev, name).map_err(|error| failed(error.into()))?;
    }
    Ok(())
}

fn empty_file(dev: &OwnedFd, name: &str) -> Result<(), Failure> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    openat(dev, name, flags, Mode::from_raw_mode(0o666)).map_err(Failure::mount("/dev"))?;
    Ok(())
}

/// What builds of disk images in an insecure step need, as BuildKit gives it.
fn loop_devices(dev: &OwnedFd) -> Result<(), Failure> {
    let mode = Mode::from_raw_mode(0o660);
    let mut nodes = vec![("loop-control".to_owned(), FileType::CharacterDevice, makedev(10, 237))];
    nodes.extend(
        (0..8).map(|index| (format!("loop{index}"), FileType::BlockDevice, makedev(7, index))),
    );
    for (name, kind, device) in nodes {
        mknodat(dev, &*name, kind, mode, device).map_err(Failure::mount("/dev"))?;
    }
    Ok(())
}
