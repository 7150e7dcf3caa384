//! The group of one sandbox, or of many, in every hierarchy that does something for it.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use rustix::process::Pid;

use super::devices::Guard;
use super::hierarchy::{self, Hierarchy, Version, remove_orphans};
use super::name;
use super::setting::{DEFAULT_PIDS, Setting};
use crate::device::Granted;
use crate::error::SpawnError;
use crate::process::Exhausted;

/// A directory in each of some hierarchies. Dropping it removes them.
#[derive(Debug, Default)]
pub(crate) struct Group {
    members: Vec<(Hierarchy, PathBuf)>,
    unified: Option<fs::File>,
}

/// Who is to be in a group.
#[derive(Debug, Clone, Copy)]
pub(super) enum Member {
    Process(Pid),
    /// For the sake of what it will fork.
    Zygote(Pid),
}

/// What a group is to be in one hierarchy.
pub(super) struct Part<'a> {
    pub(super) settings: &'a [&'a Setting],
    pub(super) parent: Option<&'a str>,
    /// What guards devices, and which may be used besides the few.
    pub(super) guard: Option<(&'a Guard, &'a [Granted])>,
}

impl Group {
    pub(super) fn join(
        &mut self,
        hierarchy: &Hierarchy,
        member: Member,
        part: &Part<'_>,
    ) -> Result<(), SpawnError> {
        let failed = |error: io::Error| {
            let action = format!("make a control group in `{}`", hierarchy.mount.display());
            SpawnError::setup(action, error)
        };
        let base = hierarchy.place(part.parent).map_err(failed)?;
        if part.parent.is_some() {
            remove_orphans(&base);
        }
        let path = base.join(name::unique());
        fs::create_dir(&path).map_err(failed)?;
        // From here on dropping the group removes the directory.
        self.members.push((hierarchy.clone(), path.clone()));
        hierarchy.fill_in(&base, &path).map_err(failed)?;
        part.settings.iter().try_for_each(|setting| write(hierarchy, &path, setting))?;
        if let Some((guard, more)) = part.guard {
            guard.put_on(&path, more).map_err(failed)?;
        }
        let pid = match (member, hierarchy.version) {
            (Member::Process(pid), _) | (Member::Zygote(pid), Version::One) => pid,
            (Member::Zygote(_), Version::Two) => {
                self.unified = Some(fs::File::open(&path).map_err(failed)?);
                return Ok(());
            }
        };
        fs::write(path.join("cgroup.procs"), pid.as_raw_nonzero().to_string()).map_err(failed)
    }

    /// Lets it have as many processes as so many sandboxes may have together.
    pub(crate) fn make_room(&self, sandboxes: u64) {
        let limit = DEFAULT_PIDS.saturating_mul(sandboxes).to_string();
        if let Some((_, path)) = self.with("pids") {
            // As small as it was, it may still do.
            let _ = fs::write(path.join("pids.max"), &limit);
        }
    }

    /// The group of version 2 into which new members are born.
    pub(crate) fn unified(&self) -> Option<BorrowedFd<'_>> {
        self.unified.as_ref().map(AsFd::as_fd)
    }

    fn with(&self, controller: &str) -> Option<&(Hierarchy, PathBuf)> {
        self.members.iter().find(|(hierarchy, _)| hierarchy.has(controller))
    }

    /// How often a member could not be made for too many processes.
    pub(crate) fn refused_forks(&self) -> u64 {
        let count = self.with("pids").map(|(_, path)| event(&path.join("pids.events"), "max"));
        count.unwrap_or(0)
    }

    /// The limit that its members have run into, memory first; `forks` were refused before.
    pub(crate) fn exhausted(&self, forks: u64) -> Option<Exhausted> {
        if let Some((hierarchy, path)) = self.with("memory") {
            let (events, limit) = match hierarchy.version {
                Version::One => ("memory.oom_control", "memory.limit_in_bytes"),
                Version::Two => ("memory.events", "memory.max"),
            };
            if event(&path.join(events), "oom_kill") > 0 {
                return Some(Exhausted::Memory { limit: hierarchy.limit(path, limit) });
            }
        }
        let (hierarchy, path) = self.with("pids")?;
        let limit = || hierarchy.limit(path, "pids.max");
        (self.refused_forks() > forks).then(|| Exhausted::Processes { limit: limit() })
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

/// Writes one limit; one that nobody asked for may be refused.
fn write(hierarchy: &Hierarchy, group: &Path, setting: &Setting) -> Result<(), SpawnError> {
    let (file, value) = setting.file(hierarchy.version);
    match fs::write(group.join(file), value) {
        Err(error) if setting.asked => Err(SpawnError::Limit {
            what: setting.controller,
            reason: format!("writing `{value}` to {file}: {error}"),
        }),
        _ => Ok(()),
    }
}

/// How often something has happened, by a file of `NAME COUNT` lines.
fn event(file: &Path, name: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let count = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok();
    text.lines().find_map(count).unwrap_or(0)
}

impl Drop for Group {
    fn drop(&mut self) {
        for (_, path) in &self.members {
            hierarchy::remove(path, || true);
        }
    }
}
