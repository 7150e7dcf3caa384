//! What a test may not leave: processes, mounts, control groups.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// What there is of this process on the machine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Traces {
    children: BTreeSet<String>,
    groups: BTreeSet<String>,
    descriptors: usize,
}

impl Traces {
    pub(crate) fn of_this_process() -> Self {
        // One descriptor, the program as the sandboxes see it, is made once and kept.
        let program = std::env::current_exe().unwrap();
        let descriptors = fs::read_dir("/proc/self/fd").unwrap().flatten().filter(|entry| {
            fs::read_link(entry.path()).is_ok_and(|target| {
                target.file_name() != program.file_name()
                    && !target.to_string_lossy().contains("memfd:mybuild-init")
            })
        });
        Self {
            children: children(std::process::id()),
            groups: groups(),
            descriptors: descriptors.count(),
        }
    }

    /// `directory` is the test's own, gone by now.
    pub(crate) fn assert_nothing_new(&self, directory: &Path) {
        let now = Self::of_this_process();
        assert_eq!(self.children, now.children, "a process is left");
        assert_eq!(self.groups, now.groups, "a control group is left");
        assert_eq!(self.descriptors, now.descriptors, "a descriptor is left");
        assert!(!directory.exists(), "files are left");
        // Others mount things too; what names the directory is ours.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(!mounts.contains(directory.to_str().unwrap()), "a mount is left: {mounts}");
    }
}

/// The `stat` of every process that `of` has started.
pub(crate) fn children(of: u32) -> BTreeSet<String> {
    let stats = fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| {
        let name = entry.file_name().to_str()?.to_owned();
        name.parse::<u32>().ok()?;
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()?;
        (parent == of).then_some(stat)
    });
    stats.collect()
}

/// The control groups that carry this process's id.
pub(crate) fn groups() -> BTreeSet<String> {
    groups_of(std::process::id())
}

/// Where this process is in the hierarchies of processes and of version 2.
pub(crate) fn writable_hierarchies() -> impl Iterator<Item = PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap();
    let places: Vec<PathBuf> = own.lines().filter_map(place).collect();
    places.into_iter().filter(|place| place.is_dir())
}

fn place(line: &str) -> Option<PathBuf> {
    let (hierarchy, path) = line.split_once(':')?.1.split_once(':')?;
    let mount = match hierarchy {
        "" if Path::new("/sys/fs/cgroup/unified").exists() => "/sys/fs/cgroup/unified",
        "" => "/sys/fs/cgroup",
        "pids" => "/sys/fs/cgroup/pids",
        _ => return None,
    };
    Some(Path::new(mount).join(path.trim_start_matches('/')))
}

pub(crate) fn groups_of(pid: u32) -> BTreeSet<String> {
    let prefix = format!("mybuild-{pid}-");
    let mut found = BTreeSet::new();
    let mut ahead = vec![std::path::PathBuf::from("/sys/fs/cgroup")];
    while let Some(path) = ahead.pop() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                if entry.file_name().to_string_lossy().starts_with(&prefix) {
                    found.insert(entry.path().display().to_string());
                }
                ahead.push(entry.path());
            }
        }
    }
    found
}
