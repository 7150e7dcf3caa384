//! What of `/proc` and `/sys` a step does not see, or sees read-only: Docker's lists.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, mkdirat, openat2};
use rustix::io::Errno;

use super::mounts::{Builder, NO_EXEC, NO_SUID, PLAIN, READ_ONLY, attach, bind};
use crate::error::Failure;
use crate::job::JobIdentities;

const MASKED: [&str; 13] = [
    "proc/acpi",
    "proc/asound",
    "proc/interrupts",
    "proc/kcore",
    "proc/keys",
    "proc/latency_stats",
    "proc/sched_debug",
    "proc/scsi",
    "proc/timer_list",
    "proc/timer_stats",
    "sys/devices/virtual/powercap",
    "sys/firmware",
    "sys/fs/selinux",
];
const READ_ONLY_PATHS: [&str; 5] =
    ["proc/bus", "proc/fs", "proc/irq", "proc/sys", "proc/sysrq-trigger"];
const PROCESSORS: &str = "sys/devices/system/cpu";

/// Covers what is to be hidden. Every source is opened outside the tree, so nothing in an image can
/// stand in for it.
pub(super) fn hide(builder: &mut Builder<'_>) -> Result<(), Failure> {
    let covers = Covers::new(builder)?;
    for path in MASKED {
        covers.mask(builder.root.as_fd(), path)?;
    }
    for path in thermal_throttles(builder.root.as_fd()) {
        covers.mask(builder.root.as_fd(), &path)?;
    }
    for path in READ_ONLY_PATHS {
        make_read_only(builder.root.as_fd(), path)?;
    }
    Ok(())
}

/// Where the covers of masked paths come from.
struct Covers<'a> {
    /// Has the empty directory, and root's own null device.
    files: BorrowedFd<'a>,
    own_null: bool,
}

impl<'a> Covers<'a> {
    fn new(builder: &'a Builder<'_>) -> Result<Self, Failure> {
        mkdirat(&builder.files, "empty", Mode::from_raw_mode(0o555))
            .map_err(Failure::setup("make a cover for masked directories"))?;
        let own_null = builder.job.identities == JobIdentities::Host;
        Ok(Self { files: builder.files.as_fd(), own_null })
    }

    /// Covers one path; one that does not exist on this machine needs no cover.
    fn mask(&self, root: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
        let failed = Failure::mount(path);
        let cover = || {
            let Some(place) = find(root, path)? else { return Ok(()) };
            let directory = FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Directory;
            // A device on `nodev` cannot even be opened; what is masked is to read as empty.
            let null = READ_ONLY | NO_SUID | NO_EXEC;
            let cover = match (directory, self.own_null) {
                (true, _) => bind(self.files, "empty", false, PLAIN | READ_ONLY)?,
                (false, true) => bind(self.files, "null", false, null)?,
                (false, false) => bind(CWD, "/dev/null", false, null)?,
            };
            attach(cover.as_fd(), &place, "")
        };
        cover().map_err(failed)
    }
}

fn make_read_only(root: BorrowedFd<'_>, path: &str) -> Result<(), Failure> {
    let failed = Failure::mount(path);
    let cover = || {
        let Some(place) = find(root, path)? else { return Ok(()) };
        let same = bind(place.as_fd(), "", true, READ_ONLY)?;
        attach(same.as_fd(), &place, "")
    };
    cover().map_err(failed)
}

/// A path of the kernel's own file systems, or `None`.
fn find(root: BorrowedFd<'_>, path: &str) -> rustix::io::Result<Option<OwnedFd>> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS;
    match openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve) {
        Ok(place) => Ok(Some(place)),
        Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
        Err(error) => Err(error),
    }
}

/// One directory for each processor that has such counters: they tell what the neighbours do.
fn thermal_throttles(root: BorrowedFd<'_>) -> Vec<String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let Ok(processors) = openat2(root, PROCESSORS, flags, Mode::empty(), ResolveFlags::IN_ROOT)
    else {
        return Vec::new();
    };
    let Ok(entries) = rustix::fs::Dir::read_from(&processors) else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_str().ok()?.to_owned();
            let digits = name.strip_prefix("cpu")?;
            let is_one = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            is_one.then(|| format!("{PROCESSORS}/{name}/thermal_throttle"))
        })
        .collect()
}
