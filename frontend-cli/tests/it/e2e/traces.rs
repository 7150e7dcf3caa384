//! What a build may not leave: processes, mounts, control groups, temporary files.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use super::builder::Builder;

/// A process that is to end.
#[derive(Debug)]
pub(crate) struct Watched {
    what: String,
    descriptor: OwnedFd,
}

/// All that descends from a process, as it is now.
pub(crate) fn descendants(of: u32) -> Vec<Watched> {
    let parents: Vec<(u32, u32, String)> = processes().filter_map(parent).collect();
    let mut family = vec![of];
    let mut index = 0;
    while let Some(&ancestor) = family.get(index) {
        family.extend(parents.iter().filter(|(_, up, _)| *up == ancestor).map(|(pid, ..)| *pid));
        index += 1;
    }
    let watch = |pid: &u32| {
        let pid = Pid::from_raw(i32::try_from(*pid).ok()?)?;
        let descriptor = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        let words = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        Some(Watched { what: String::from_utf8_lossy(&words).replace('\0', " "), descriptor })
    };
    family[1..].iter().filter_map(watch).collect()
}

impl Watched {
    /// Fails the test if the process has not ended after so many milliseconds.
    pub(crate) fn assert_ends_within(&self, milliseconds: i64) {
        let patience = Timespec { tv_sec: 0, tv_nsec: milliseconds * 1_000_000 };
        let ready = poll(&mut [PollFd::new(&self.descriptor, PollFlags::IN)], Some(&patience));
        assert_eq!(ready, Ok(1), "`{}` lives on", self.what);
    }

    pub(crate) fn is_called(&self, word: &str) -> bool {
        self.what.contains(word)
    }
}

fn processes() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .expect("a proc file system")
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn parent(pid: u32) -> Option<(u32, u32, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let up = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()?;
    Some((pid, up, stat))
}

impl Builder {
    /// Fails the test if anything of this builder's runs is left on the machine.
    pub(crate) fn assert_nothing_left(&self) {
        self.assert_no_process_or_mount_left();
        let groups = self.control_groups();
        assert!(groups.is_empty(), "left by one of {:?}: {groups:?}", self.pids());
        for directory in [self.path("tmp"), self.store().join("tmp-v1")] {
            let left: Vec<_> = fs::read_dir(&directory).expect("a directory").flatten().collect();
            assert!(left.is_empty(), "left: {left:?}");
        }
    }

    /// That alone: what a killed process cannot do any more is done by the next one.
    pub(crate) fn assert_no_process_or_mount_left(&self) {
        let directory = self.path("").display().to_string();
        let directory = directory.trim_end_matches('/');
        for pid in processes().filter(|pid| *pid != std::process::id()) {
            // A process that is gone by now has no files to read.
            let read = |file: &str| fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
            for file in ["mountinfo", "cmdline", "environ"] {
                let content = String::from_utf8_lossy(&read(file)).into_owned();
                assert!(!content.contains(directory), "left in {file} of {pid}: {content}");
            }
        }
    }

    /// The control groups that were made by processes of this builder.
    pub(crate) fn control_groups(&self) -> Vec<PathBuf> {
        let prefixes: Vec<String> =
            self.pids().iter().map(|pid| format!("mybuild-{pid}-")).collect();
        let is_ours = |name: &str| prefixes.iter().any(|prefix| name.starts_with(prefix));
        let mut found = Vec::new();
        let mut ahead = vec![PathBuf::from("/sys/fs/cgroup")];
        while let Some(path) = ahead.pop() {
            for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    if is_ours(&entry.file_name().to_string_lossy()) {
                        found.push(entry.path());
                    }
                    ahead.push(entry.path());
                }
            }
        }
        found
    }
}
