//! Limits by control group.

use executor::{ExitStatus, Limits};

use crate::fixture::Fixture;
use crate::{Test, say};

pub(crate) const TESTS: &[Test] = &[
    ("privileged_processes_are_limited", processes_are_limited),
    ("privileged_memory_is_limited", memory_is_limited),
    ("privileged_a_parent_group_is_used", a_parent_group_is_used),
    (
        "privileged_as_many_processes_as_the_steps_together_may_have_are_allowed",
        as_many_processes_as_steps_are_allowed,
    ),
];

fn can_limit(fixture: &Fixture, what: &str) -> bool {
    let can = fixture.executor.limits().contains(&what);
    if !can {
        say(&format!("skipped: no limits for {what} here"));
    }
    can
}

fn processes_are_limited(fixture: &Fixture) {
    let many = "i=0; while test $i -lt 60; do sleep 1000 & i=$((i+1)); done; echo all";
    let mut process = fixture.shell(many);
    process.limits = Limits { pids: Some(20), ..Limits::default() };
    if !can_limit(fixture, "pids") {
        let refusal = fixture.refusal(process);
        assert!(refusal.starts_with("cannot limit pids: "), "{refusal}");
        return;
    }
    let outcome = fixture.run(process);
    assert!(!outcome.stdout.contains("all") && outcome.stderr.contains("fork"), "{outcome:?}");
    let outcome = fixture.run(fixture.shell(many));
    assert_eq!(outcome.stdout, "all\n");
}

fn memory_is_limited(fixture: &Fixture) {
    if !can_limit(fixture, "memory") {
        return;
    }
    let mut process = fixture.shell("dd if=/dev/zero of=/x bs=100M count=1");
    process.limits = Limits { memory: Some(20 << 20), ..Limits::default() };
    let limited = fixture.run(process);
    assert!(!limited.status.success(), "{limited:?}");
    let mut process = fixture.process(&["dd", "if=/dev/zero", "of=/x", "bs=100M", "count=1"]);
    process.limits = Limits { memory: Some(20 << 20), ..Limits::default() };
    assert_eq!(fixture.run(process).status, ExitStatus::OomKilled);
}

/// The limit on processes that holds for `pid`.
fn process_limit(pid: rustix::process::Pid) -> Option<u64> {
    let groups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid.as_raw_nonzero())).ok()?;
    let limit = |base: &str, group: &str| {
        std::fs::read_to_string(format!("{base}{group}/pids.max")).ok()?.trim().parse().ok()
    };
    groups.lines().find_map(|line| {
        let group = line.splitn(3, ':').nth(2)?;
        ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].iter().find_map(|base| limit(base, group))
    })
}

fn as_many_processes_as_steps_are_allowed(fixture: &Fixture) {
    const ONE: u64 = 8192;
    if !can_limit(fixture, "pids") {
        return;
    }
    let running = [(); 3].map(|()| fixture.spawn(fixture.shell("sleep 1000")));
    for step in &running {
        let limit = process_limit(step.pid()).expect("there is a limit by default");
        assert!(limit >= 3 * ONE && limit.is_multiple_of(ONE), "{limit}");
    }
}

fn a_parent_group_is_used(fixture: &Fixture) {
    if !can_limit(fixture, "pids") {
        return;
    }
    let name = format!("mybuild-test-{}", std::process::id());
    let mut process = fixture.shell("sleep 1000");
    process.cgroup_parent = Some(format!("/{name}/below"));
    let running = fixture.spawn(process);
    let groups =
        std::fs::read_to_string(format!("/proc/{}/cgroup", running.pid().as_raw_nonzero()));
    let groups = groups.unwrap();
    assert!(groups.contains(&format!("{name}/below/mybuild-")), "{groups}");
    running.kill();
    running.wait().unwrap();
    drop(running);
    for base in std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten() {
        // The caller made these; they are the caller's to remove.
        for group in [format!("{name}/below"), name.clone()] {
            let _ = std::fs::remove_dir(base.path().join(group));
        }
    }
    let mut process = fixture.shell("true");
    process.cgroup_parent = Some("../../x".to_owned());
    assert!(fixture.refusal(process).contains("`..` in a control group's name"));
}
