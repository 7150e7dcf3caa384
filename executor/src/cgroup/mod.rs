//! Control groups of steps: limits where a hierarchy lets us set them, nothing where it does not, and
//! a guard over devices.
//!
//! Version 2, version 1 and both at once are written through their files. Groups are named after the
//! process that made them, so that a later run can tell which belong to nobody.

mod devices;
mod group;
mod hierarchy;
mod name;
mod setting;

use rustix::process::Pid;

use devices::Guard;
use group::{Member, Part};
use hierarchy::{Hierarchy, LIMITING, Version};
use setting::{Setting, settings};

use crate::device::Granted;
use crate::error::SpawnError;
use crate::process::Limits;

pub(crate) use group::Group;

/// The hierarchies in which groups can be made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hierarchies {
    hierarchies: Vec<Hierarchy>,
    /// What guards devices, and the mount of the hierarchy where it does.
    guard: Option<(std::path::PathBuf, Guard)>,
}

/// What a group is to be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    pub(crate) limits: &'a Limits,
    /// A group to be in, counted from the top of each hierarchy.
    pub(crate) parent: Option<&'a str>,
    pub(crate) devices: &'a Devices,
}

/// Which devices may be used by the members of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Devices {
    /// Docker's few and these, where there is something that guards them.
    FewAnd(Vec<Granted>),
    All,
}

impl Hierarchies {
    pub(crate) fn probe(rootless: bool) -> Self {
        let hierarchies = Hierarchy::probe(rootless);
        // In a user namespace no device can be opened but by mounts from outside.
        let guard = if rootless { None } else { find_guard(&hierarchies) };
        Self { hierarchies, guard }
    }

    pub(crate) fn limits(&self) -> Vec<&'static str> {
        let all = self.hierarchies.iter().flat_map(|hierarchy| hierarchy.controllers.clone());
        let mut limits: Vec<_> = all.filter(|name| LIMITING.contains(name)).collect();
        limits.sort_unstable();
        limits
    }

    /// Whether the members of our groups can open only devices that harm nobody.
    pub(crate) fn guards_devices(&self) -> bool {
        self.guard.is_some()
    }

    /// Removes the groups of processes that are gone; tells whether one has members that may still be
    /// dying.
    pub(crate) fn remove_leftovers(&self) -> bool {
        let bases = self.hierarchies.iter().map(|hierarchy| &hierarchy.base);
        bases.filter(|base| hierarchy::remove_orphans(base)).count() > 0
    }

    /// Removes those whose members were still dying.
    pub(crate) fn remove_late_leftovers(&self) {
        self.hierarchies
            .iter()
            .for_each(|hierarchy| hierarchy::remove_late_orphans(&hierarchy.base));
    }

    /// The group of the sandboxes that come from the zygote `pid`, with a limit on processes if there
    /// can be one: what one sandbox may have, until [`Group::make_room`] says that there are more. With
    /// version 1 the zygote itself becomes a member, so that what it forks is one; with version 2 what
    /// it forks is put there at birth.
    pub(crate) fn group_of_zygote(&self, pid: Pid) -> Result<Group, SpawnError> {
        let mut group = Group::default();
        let settings = settings(&Limits::default());
        for hierarchy in &self.hierarchies {
            let settings = belonging(&settings, hierarchy);
            let guard = self.guard(hierarchy);
            if settings.is_empty() && guard.is_none() {
                continue;
            }
            let part =
                Part { settings: &settings, parent: None, guard: guard.map(|g| (g, &[][..])) };
            match group.join(hierarchy, Member::Zygote(pid), &part) {
                // A machine that refuses is one without limits by default.
                Err(_) if guard.is_none() => {}
                joined => joined?,
            }
        }
        Ok(group)
    }

    /// Moves `pid` to a new group: in each hierarchy where something is wanted of it, in all of them
    /// under a parent, whose limits may be in any.
    pub(crate) fn group(&self, pid: Pid, wanted: Wanted<'_>) -> Result<Group, SpawnError> {
        let settings = settings(wanted.limits);
        let mut group = Group::default();
        for hierarchy in &self.hierarchies {
            let settings = belonging(&settings, hierarchy);
            let guard = self.guard(hierarchy);
            // Who is to have all devices has to leave the group that is guarded.
            if settings.is_empty() && guard.is_none() && wanted.parent.is_none() {
                continue;
            }
            let guard = match wanted.devices {
                Devices::FewAnd(more) => guard.map(|guard| (guard, &more[..])),
                Devices::All => None,
            };
            let part = Part { settings: &settings, parent: wanted.parent, guard };
            group.join(hierarchy, Member::Process(pid), &part)?;
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

    /// What guards devices in this hierarchy.
    fn guard(&self, hierarchy: &Hierarchy) -> Option<&Guard> {
        let (mount, guard) = self.guard.as_ref()?;
        (*mount == hierarchy.mount).then_some(guard)
    }
}

/// Version 2 first: there a sandbox is born in its group, and in version 1 it has to be moved, for
/// which the kernel waits.
fn find_guard(hierarchies: &[Hierarchy]) -> Option<(std::path::PathBuf, Guard)> {
    [Version::Two, Version::One].into_iter().find_map(|version| {
        let mut hierarchies = hierarchies.iter().filter(|found| found.version == version);
        hierarchies.find_map(|found| Some((found.mount.clone(), Guard::find(found)?)))
    })
}

fn belonging<'a>(settings: &'a [Setting], hierarchy: &Hierarchy) -> Vec<&'a Setting> {
    settings.iter().filter(|setting| hierarchy.has(setting.controller)).collect()
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
