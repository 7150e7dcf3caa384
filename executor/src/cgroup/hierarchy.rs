//! The mounted hierarchies of control groups, as `/proc` tells them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::name::is_orphan;

/// How long a group that is busy is waited for, and how long between two attempts.
const PATIENCE: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(1);

/// Those that limit something for us.
pub(super) const LIMITING: [&str; 4] = ["pids", "memory", "cpu", "cpuset"];
/// All of version 1 that may be of use where a parent group is named; each is in one hierarchy.
const CONTROLLERS: [&str; 14] = [
    "pids",
    "memory",
    "cpu",
    "cpuset",
    "cpuacct",
    "devices",
    "freezer",
    "blkio",
    "hugetlb",
    "net_cls",
    "net_prio",
    "perf_event",
    "rdma",
    "misc",
];

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Hierarchy {
    pub(super) version: Version,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// Where our groups go by default.
    pub(super) base: PathBuf,
    /// What groups there can limit, count or guard.
    pub(super) controllers: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

impl Hierarchy {
    /// Those in which groups can be made.
    pub(super) fn probe(rootless: bool) -> Vec<Self> {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut hierarchies = mounted(&mounts, &own, rootless);
        hierarchies.retain(Self::is_writable);
        for hierarchy in &mut hierarchies {
            if hierarchy.version == Version::Two {
                let handed_down = hand_down(&hierarchy.base);
                hierarchy.controllers.retain(|name| has(&handed_down, name));
            }
        }
        hierarchies
    }

    fn is_writable(&self) -> bool {
        rustix::fs::access(&self.base, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .is_ok()
    }

    pub(super) fn has(&self, controller: &str) -> bool {
        self.controllers.contains(&controller)
    }

    /// Where a group goes: into `parent`, counted from the hierarchy's top and made if it is missing.
    pub(super) fn place(&self, parent: Option<&str>) -> io::Result<PathBuf> {
        let Some(parent) = parent else { return Ok(self.base.clone()) };
        let mut path = self.mount.clone();
        for name in parent.split('/').filter(|name| !name.is_empty()) {
            if name == "." || name == ".." {
                let message = "`..` in a control group's name";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            let above = path.clone();
            path.push(name);
            match fs::create_dir(&path) {
                Ok(()) => self.fill_in(&above, &path)?,
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
                Err(_) => {}
            }
            if self.version == Version::Two {
                hand_down(&path);
            }
        }
        Ok(path)
    }

    /// Version 1 refuses members until both lists of a new group are filled in.
    pub(super) fn fill_in(&self, parent: &Path, group: &Path) -> io::Result<()> {
        if self.version == Version::One && self.has("cpuset") {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(group.join(file), fs::read(parent.join(file))?.trim_ascii())?;
            }
        }
        Ok(())
    }

    /// The smallest limit in `file` of `group` and of those above it, which hold for it, too.
    pub(super) fn limit(&self, group: &Path, file: &str) -> Option<u64> {
        let groups = group.ancestors().take_while(|group| group.starts_with(&self.mount));
        groups.filter_map(|group| limit(&fs::read_to_string(group.join(file)).ok()?)).min()
    }
}

/// The number in a file of limits; none for "no limit", which version 1 tells as the largest number
/// of pages.
fn limit(text: &str) -> Option<u64> {
    text.trim().parse().ok().filter(|limit| *limit < 1 << 62)
}

/// Removes the groups in `directory` of processes that are gone, and tells whether one stayed because
/// it has members: those that die with the process that started them may take a moment.
pub(super) fn remove_orphans(directory: &Path) -> bool {
    orphans(directory).filter(|group| is_busy(&fs::remove_dir(group))).count() > 0
}

/// Does so once more, and waits for members that are dying. One that has members in a namespace of
/// processes that we do not see, which version 2 calls 0, stays: so may be its maker.
pub(super) fn remove_late_orphans(directory: &Path) {
    for group in orphans(directory) {
        let members = || fs::read_to_string(group.join("cgroup.procs"));
        remove(&group, || members().is_ok_and(|list| list.lines().all(|pid| pid != "0")));
    }
}

fn orphans(directory: &Path) -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_str().is_some_and(is_orphan)).map(|it| it.path())
}

/// Removes a group. A member that has ended may be counted for a moment longer: as long as the group
/// is busy, this tries again, up to a second, if it is `worth_waiting`. What cannot be removed even
/// then is removed by the next start of the program.
pub(super) fn remove(group: &Path, worth_waiting: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while is_busy(&fs::remove_dir(group)) && Instant::now() < deadline && worth_waiting() {
        std::thread::sleep(PAUSE);
    }
}

fn is_busy(result: &io::Result<()>) -> bool {
    matches!(result, Err(error) if error.kind() == io::ErrorKind::ResourceBusy)
}

/// Version 2 gives a child only the controllers that its parent hands down; tells which it does.
fn hand_down(parent: &Path) -> String {
    let read = |file| fs::read_to_string(parent.join(file)).unwrap_or_default();
    let (available, before) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    for controller in LIMITING {
        if has(&available, controller) && !has(&before, controller) {
            // Refused where this group has processes of its own; then we do without.
            let _ = fs::write(parent.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    read("cgroup.subtree_control")
}

fn has(list: &str, controller: &str) -> bool {
    list.split_whitespace().any(|name| name == controller)
}

/// The hierarchies that `mountinfo` and `cgroup` of `/proc/self` tell of.
fn mounted(mountinfo: &str, own: &str, rootless: bool) -> Vec<Hierarchy> {
    let mut found: Vec<Hierarchy> = Vec::new();
    for line in mountinfo.lines() {
        let Some((left, right)) = line.split_once(" - ") else { continue };
        let mut left = left.split(' ').skip(3);
        let (Some(root), Some(mount)) = (left.next(), left.next()) else { continue };
        let mut right = right.split(' ');
        let (kind, options) = (right.next().unwrap_or(""), right.nth(1).unwrap_or(""));
        let (version, controllers): (_, Vec<&'static str>) = match kind {
            "cgroup" => {
                let has = |name: &&str| options.split(',').any(|option| option == *name);
                (Version::One, CONTROLLERS.into_iter().filter(has).collect())
            }
            "cgroup2" => (Version::Two, LIMITING.to_vec()),
            _ => continue,
        };
        let Some(path) = own_path(own, version, &controllers) else { continue };
        let mount = PathBuf::from(mount);
        // Root may use the whole hierarchy; anyone else at most the group it was put in.
        let own = mount.join(path.strip_prefix(root).unwrap_or(path).trim_start_matches('/'));
        let base = match (version, rootless) {
            (Version::Two, false) => mount.clone(),
            _ => own,
        };
        let new = Hierarchy { version, mount, base, controllers };
        if !found.contains(&new) {
            found.push(new);
        }
    }
    found
}

/// The path of this process in the hierarchy with these controllers.
fn own_path<'a>(own: &'a str, version: Version, controllers: &[&str]) -> Option<&'a str> {
    own.lines().find_map(|line| {
        let mut parts = line.splitn(3, ':');
        let (_, names, path) = (parts.next()?, parts.next()?, parts.next()?);
        let matches = match version {
            Version::Two => names.is_empty(),
            Version::One => names.split(',').any(|name| controllers.contains(&name)),
        };
        matches.then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 31 0:33 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd";
    const HYBRID_OWN: &str = "8:pids:/\n4:memory:/service/a\n3:cpu,cpuacct:/\n0::/\n";

    #[test]
    fn hierarchies_are_found_in_mountinfo() {
        let found = mounted(HYBRID, HYBRID_OWN, false);
        let seen: Vec<_> = found
            .iter()
            .map(|found| {
                format!("{:?} {} {:?}", found.version, found.base.display(), found.controllers)
            })
            .collect();
        assert_eq!(
            seen,
            [
                r#"One /sys/fs/cgroup/memory/service/a ["memory"]"#,
                r#"One /sys/fs/cgroup/cpu,cpuacct/ ["cpu", "cpuacct"]"#,
                r#"One /sys/fs/cgroup/pids/ ["pids"]"#
            ]
        );
        let unified = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        for (rootless, base) in [(false, "/sys/fs/cgroup"), (true, "/sys/fs/cgroup/user/1")] {
            let found = mounted(unified, "0::/user/1\n", rootless);
            assert_eq!(found[0].base, Path::new(base));
            assert_eq!(found[0].controllers, LIMITING);
        }
    }

    #[test]
    fn no_limit_is_no_number() {
        for (text, expected) in
            [("209715200\n", Some(209_715_200)), ("max\n", None), ("9223372036854771712\n", None)]
        {
            assert_eq!(limit(text), expected, "{text}");
        }
    }
}
