//! Limits as what is written to a group's files.

use super::hierarchy::Version;
use crate::process::Limits;

/// For one step: enough for any build, and a quarter of the usual number of process ids.
pub(super) const DEFAULT_PIDS: u64 = 8192;
/// Microseconds in which processor time is counted, when the caller says nothing.
const DEFAULT_PERIOD: u64 = 100_000;

/// One limit: what it sets, and whether the caller asked for it or it is only our default.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) controller: &'static str,
    version_one: (&'static str, String),
    version_two: (&'static str, String),
    pub(super) asked: bool,
}

impl Setting {
    /// The file of a group, and what it is to have.
    pub(super) fn file(&self, version: Version) -> (&'static str, &str) {
        let (file, value) = match version {
            Version::One => &self.version_one,
            Version::Two => &self.version_two,
        };
        (file, value)
    }
}

/// In the order in which they are written: what is allowed depends on what is there already.
pub(super) fn settings(limits: &Limits) -> Vec<Setting> {
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
    let period = limits.cpu_period.unwrap_or(DEFAULT_PERIOD);
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

#[cfg(test)]
mod tests {
    use super::*;

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
