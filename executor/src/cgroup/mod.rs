//! Control groups of steps: limits where a hierarchy lets us set them, nothing where it does not.
//!
//! Version 2, version 1 and both at once are written through their files. Groups are named
//! `mybuild-PID-START-N` after the process that made them, so that a later run can tell which
//! belong to nobody.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::process::Pid;

use crate::error::SpawnError;
use crate::process::Limits;

const PREFIX: &str = "mybuild-";
/// For one step: enough for any build, and a quarter of the usual number of process ids.
const DEFAULT_PIDS: u64 = 8192;
/// A tenth of a second in all.
const REMOVE_ATTEMPTS: u32 = 100;
const REMOVE_PAUSE: Duration = Duration::from_millis(1);
const CONTROLLERS: [&str; 4] = ["pids", "memory", "cpu", "cpuset"];

/// The hierarchies in which groups can be made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hierarchies {
    hierarchies: Vec<Hierarchy>,
}

/// One mounted hierarchy, with at least one controller that we use.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    version: Version,
    /// Where it is mounted.
    mount: PathBuf,
    /// Where our groups go by default.
    base: PathBuf,
    controllers: Vec<&'static str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    One,
    Two,
}

/// The group of one sandbox in every hierarchy that limits something for it.
#[derive(Debug, Default)]
pub(crate) struct Group {
    members: Vec<(Hierarchy, PathBuf)>,
    unified: Option<fs::File>,
}

impl Hierarchies {
    pub(crate) fn probe(rootless: bool) -> Self {
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        let mut hierarchies: Vec<_> =
            mounted(&mounts, &own, rootless).into_iter().filter(Hierarchy::is_writable).collect();
        for hierarchy in &mut hierarchies {
            if hierarchy.version == Version::Two {
                hierarchy.delegate();
            }
        }
        // A controller is in one hierarchy only; those that have none of ours are of no use.
        hierarchies.retain(|hierarchy| !hierarchy.controllers.is_empty());
        Self { hierarchies }
    }

    pub(crate) fn limits(&self) -> Vec<&'static str> {
        let mut limits: Vec<_> =
            self.hierarchies.iter().flat_map(|hierarchy| hierarchy.controllers.clone()).collect();
        limits.sort_unstable();
        limits
    }

    /// Removes the groups of processes that are gone. Nothing lives in them: a sandbox dies with
    /// the process that started it.
    pub(crate) fn remove_leftovers(&self) {
        for hierarchy in &self.hierarchies {
            let Ok(entries) = fs::read_dir(&hierarchy.base) else { continue };
            for entry in entries.flatten() {
                if entry.file_name().to_str().is_some_and(is_orphan) {
                    // A group that still has members stays, and with it the proof that we are wrong.
                    let _ = fs::remove_dir(entry.path());
                }
            }
        }
    }

    /// The group of the sandboxes that come from the zygote `pid`, with a limit on processes if there
    /// can be one: what one sandbox may have, until [`Group::make_room`] says that there are more. With
    /// version 1 the zygote itself becomes a member, so that what it forks is one; with version 2 what
    /// it forks is put there at birth.
    pub(crate) fn group_of_zygote(&self, pid: Pid) -> Group {
        let mut group = Group::default();
        let settings = settings(&Limits::default());
        for hierarchy in &self.hierarchies {
            let mine = |setting: &&Setting| hierarchy.controllers.contains(&setting.controller);
            let settings: Vec<_> = settings.iter().filter(mine).collect();
            if !settings.is_empty() {
                // A machine that refuses is one without limits by default.
                let _ = group.join(hierarchy, Member::Zygote(pid), &settings, None);
            }
        }
        group
    }

    /// Moves `pid` to a new group with these limits.
    pub(crate) fn group(
        &self,
        pid: Pid,
        limits: &Limits,
        parent: Option<&str>,
    ) -> Result<Group, SpawnError> {
        let settings = settings(limits);
        let mut group = Group::default();
        for hierarchy in &self.hierarchies {
            let mine = |setting: &&Setting| hierarchy.controllers.contains(&setting.controller);
            let settings: Vec<_> = settings.iter().filter(mine).collect();
            if !settings.is_empty() {
                group.join(hierarchy, Member::Process(pid), &settings, parent)?;
            }
        }
        let known = self.limits();
        match settings.iter().find(|setting| setting.asked && !known.contains(&setting.controller))
        {
            None => Ok(group),
            Some(setting) => Err(SpawnError::Limit {
                what: setting.controller,
                reason: "this machine lets us use no control group for it".to_owned(),
            }),
        }
    }
}

impl Hierarchy {
    fn is_writable(&self) -> bool {
        rustix::fs::access(&self.base, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
            .is_ok()
    }

    /// The group `parent`, counted from the hierarchy's top, made if it is missing.
    fn beneath(&self, parent: &str) -> io::Result<PathBuf> {
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
        }
        Ok(path)
    }

    /// Version 1 refuses members until both lists of a new group are filled in.
    fn fill_in(&self, parent: &Path, group: &Path) -> io::Result<()> {
        if self.version == Version::One && self.controllers.contains(&"cpuset") {
            for file in ["cpuset.cpus", "cpuset.mems"] {
                fs::write(group.join(file), fs::read(parent.join(file))?.trim_ascii())?;
            }
        }
        Ok(())
    }

    /// Version 2 gives a child only the controllers its parent hands down.
    fn delegate(&mut self) {
        let handed_down =
            || fs::read_to_string(self.base.join("cgroup.subtree_control")).unwrap_or_default();
        let available =
            fs::read_to_string(self.base.join("cgroup.controllers")).unwrap_or_default();
        let before = handed_down();
        for controller in CONTROLLERS {
            let has = |list: &str| list.split_whitespace().any(|name| name == controller);
            if has(&available) && !has(&before) {
                // Refused where this group has processes of its own; then we do without.
                let _ =
                    fs::write(self.base.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        let after = handed_down();
        self.controllers.retain(|name| after.split_whitespace().any(|given| given == *name));
    }
}

/// Who is to be in a group.
#[derive(Debug, Clone, Copy)]
enum Member {
    Process(Pid),
    /// For the sake of what it will fork.
    Zygote(Pid),
}

impl Group {
    fn join(
        &mut self,
        hierarchy: &Hierarchy,
        member: Member,
        settings: &[&Setting],
        parent: Option<&str>,
    ) -> Result<(), SpawnError> {
        let action = || format!("make a control group in `{}`", hierarchy.mount.display());
        let base = match parent {
            None => hierarchy.base.clone(),
            Some(parent) => {
                hierarchy.beneath(parent).map_err(|error| SpawnError::setup(action(), error))?
            }
        };
        let path = base.join(group_name());
        fs::create_dir(&path).map_err(|error| SpawnError::setup(action(), error))?;
        // From here on dropping the group removes the directory.
        self.members.push((hierarchy.clone(), path.clone()));
        hierarchy.fill_in(&base, &path).map_err(|error| SpawnError::setup(action(), error))?;
        for setting in settings {
            let (file, value) = setting.file(hierarchy.version);
            let written = fs::write(path.join(file), &value);
            match written {
                Err(error) if setting.asked => {
                    return Err(SpawnError::Limit {
                        what: setting.controller,
                        reason: format!("writing `{value}` to {file}: {error}"),
                    });
                }
                _ => {}
            }
        }
        let pid = match (member, hierarchy.version) {
            (Member::Process(pid), _) | (Member::Zygote(pid), Version::One) => pid,
            (Member::Zygote(_), Version::Two) => {
                self.unified =
                    Some(fs::File::open(&path).map_err(|e| SpawnError::setup(action(), e))?);
                return Ok(());
            }
        };
        fs::write(path.join("cgroup.procs"), pid.as_raw_nonzero().to_string())
            .map_err(|error| SpawnError::setup(action(), error))
    }

    /// Lets it have as many processes as so many sandboxes may have together.
    pub(crate) fn make_room(&self, sandboxes: u64) {
        let limit = DEFAULT_PIDS.saturating_mul(sandboxes).to_string();
        for (hierarchy, path) in &self.members {
            if hierarchy.controllers.contains(&"pids") {
                // As small as it was, it may still do.
                let _ = fs::write(path.join("pids.max"), &limit);
            }
        }
    }

    /// The group of version 2 into which new members are born.
    pub(crate) fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    /// Whether the kernel has killed a member for want of memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        self.members.iter().any(|(hierarchy, path)| {
            let file = match hierarchy.version {
                Version::One => "memory.oom_control",
                Version::Two => "memory.events",
            };
            let text = fs::read_to_string(path.join(file)).unwrap_or_default();
            text.lines()
                .any(|line| line.strip_prefix("oom_kill ").is_some_and(|count| count.trim() != "0"))
        })
    }

    /// Kills every member at once, where the kernel can.
    pub(crate) fn kill(&self) {
        for (hierarchy, path) in &self.members {
            if hierarchy.version == Version::Two {
                // Killing the init does the same; this only saves its members from noticing.
                let _ = fs::write(path.join("cgroup.kill"), "1");
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        for (_, path) in &self.members {
            // A member that has just ended may be counted for a moment longer. What cannot be
            // removed even then is removed by the next start of the program.
            for _ in 0..REMOVE_ATTEMPTS {
                match fs::remove_dir(path) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
                        std::thread::sleep(REMOVE_PAUSE);
                    }
                    _ => break,
                }
            }
        }
    }
}

/// One limit: what it sets, and whether the caller asked for it or it is only our default.
#[derive(Debug)]
struct Setting {
    controller: &'static str,
    version_one: (&'static str, String),
    version_two: (&'static str, String),
    asked: bool,
}

impl Setting {
    fn file(&self, version: Version) -> (&'static str, String) {
        match version {
            Version::One => self.version_one.clone(),
            Version::Two => self.version_two.clone(),
        }
    }
}

fn settings(limits: &Limits) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut add = |controller, one: (&'static str, String), two: (&'static str, String)| {
        settings.push(Setting { controller, version_one: one, version_two: two, asked: true });
    };
    let pids = limits.pids.unwrap_or(DEFAULT_PIDS).to_string();
    add("pids", ("pids.max", pids.clone()), ("pids.max", pids));
    if let Some(memory) = limits.memory {
        let memory = memory.to_string();
        add("memory", ("memory.limit_in_bytes", memory.clone()), ("memory.max", memory));
    }
    if let Some(both) = limits.memory_and_swap {
        // Version 2 counts swap apart from memory.
        let swap = both.saturating_sub(limits.memory.unwrap_or(0)).to_string();
        let one = ("memory.memsw.limit_in_bytes", both.to_string());
        add("memory", one, ("memory.swap.max", swap));
    }
    let period = limits.cpu_period.unwrap_or(100_000);
    if limits.cpu_period.is_some() {
        let one = ("cpu.cfs_period_us", period.to_string());
        add("cpu", one, ("cpu.max", format!("max {period}")));
    }
    if let Some(quota) = limits.cpu_quota {
        let one = ("cpu.cfs_quota_us", quota.to_string());
        add("cpu", one, ("cpu.max", format!("{quota} {period}")));
    }
    if let Some(shares) = limits.cpu_shares {
        add("cpu", ("cpu.shares", shares.to_string()), ("cpu.weight", weight(shares).to_string()));
    }
    if let Some(cpus) = &limits.cpuset_cpus {
        add("cpuset", ("cpuset.cpus", cpus.clone()), ("cpuset.cpus", cpus.clone()));
    }
    if let Some(nodes) = &limits.cpuset_mems {
        add("cpuset", ("cpuset.mems", nodes.clone()), ("cpuset.mems", nodes.clone()));
    }
    settings[0].asked = limits.pids.is_some();
    settings
}

/// Shares (2 to 262144) as version 2 counts them (1 to 10000), as every container runtime does.
fn weight(shares: u64) -> u64 {
    1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142
}

fn group_name() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let pid = std::process::id();
    let start = start_time(pid).unwrap_or(0);
    format!("{PREFIX}{pid}-{start}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether a group's name says that its maker is gone.
fn is_orphan(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let mut parts = rest.split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(start)), Some(Ok(_)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    u32::try_from(pid).is_ok_and(|pid| start_time(pid) != Some(start))
}

/// When a process started, in clock ticks since boot: with its id, a name nobody else ever has.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may itself contain brackets and spaces.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

/// Hierarchies that have a controller we use, as `mountinfo` and `cgroup` of `/proc/self` tell.
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
            "cgroup2" => (Version::Two, CONTROLLERS.to_vec()),
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
        if !new.controllers.is_empty() && !found.contains(&new) {
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

/// Whether the machine has only the unified hierarchy, which a sandbox can mount for itself.
pub(crate) fn is_unified() -> bool {
    let Ok(fd) = rustix::fs::open(
        "/sys/fs/cgroup",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    ) else {
        return false;
    };
    rustix::fs::fstatfs(&fd).is_ok_and(|stat| stat.f_type as u32 == 0x6367_7270)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 / /sys/fs/cgroup/pids rw,relatime shared:9 - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd";
    const HYBRID_OWN: &str = "8:pids:/\n4:memory:/service/a\n0::/\n";

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
                r#"One /sys/fs/cgroup/pids/ ["pids"]"#
            ]
        );
        let unified = "31 23 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate";
        for (rootless, base) in [(false, "/sys/fs/cgroup"), (true, "/sys/fs/cgroup/user/1")] {
            let found = mounted(unified, "0::/user/1\n", rootless);
            assert_eq!(found[0].base, Path::new(base));
            assert_eq!(found[0].controllers, CONTROLLERS);
        }
    }

    #[test]
    fn only_groups_of_dead_processes_are_orphans() {
        let alive = group_name();
        let pid = std::process::id();
        for (name, orphan) in [
            (alive.as_str(), false),
            (&format!("mybuild-{pid}-1-0"), true),
            ("mybuild-4194999-77-3", true),
            ("mybuild-x-1-0", false),
            ("mybuild-1-2", false),
            ("somebody-else", false),
        ] {
            assert_eq!(is_orphan(name), orphan, "{name}");
        }
    }

    #[test]
    fn limits_become_files_of_both_versions() {
        let limits = Limits {
            pids: Some(5),
            memory: Some(100),
            memory_and_swap: Some(150),
            cpu_quota: Some(50_000),
            cpu_shares: Some(1024),
            ..Limits::default()
        };
        let files = |version| {
            settings(&limits)
                .iter()
                .map(|setting| setting.file(version))
                .map(|(file, value)| format!("{file}={value}"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        assert_eq!(
            files(Version::One),
            "pids.max=5 memory.limit_in_bytes=100 memory.memsw.limit_in_bytes=150 \
             cpu.cfs_quota_us=50000 cpu.shares=1024"
        );
        assert_eq!(
            files(Version::Two),
            "pids.max=5 memory.max=100 memory.swap.max=50 cpu.max=50000 100000 cpu.weight=39"
        );
    }
}
