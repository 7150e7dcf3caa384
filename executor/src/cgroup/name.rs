//! Names of our groups: `mybuild-PID-START-N` after the process that made them.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering};

const PREFIX: &str = "mybuild-";

/// A name nobody else ever has.
pub(super) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let pid = std::process::id();
    let start = start_time(pid).unwrap_or(0);
    format!("{PREFIX}{pid}-{start}-{}", COUNT.fetch_add(1, Ordering::Relaxed))
}

/// Whether a group's name says that its maker is gone.
pub(super) fn is_orphan(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(PREFIX) else { return false };
    let mut parts = rest.split('-').map(str::parse::<u64>);
    let (Some(Ok(pid)), Some(Ok(start)), Some(Ok(_)), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return false;
    };
    u32::try_from(pid).is_ok_and(|pid| start_time(pid) != Some(start))
}

/// When a process started, in clock ticks since boot: with its id, unique.
fn start_time(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in brackets may itself contain brackets and spaces.
    stat.rsplit_once(") ")?.1.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_groups_of_dead_processes_are_orphans() {
        let alive = unique();
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
}
