//! Limits by control group.

use executor::{Exhausted, ExitStatus, Limits};

use crate::fixture::Fixture;
use crate::{Test, say};

pub(crate) const TESTS: &[Test] = &[
    ("privileged_processes_are_limited", processes_are_limited),
    ("privileged_memory_is_limited", memory_is_limited),
    ("privileged_a_parent_group_is_used", a_parent_group_is_used),
    ("privileged_a_limit_of_the_parent_holds", a_limit_of_the_parent_holds),
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
    let running = fixture.spawn(process);
    assert!(!running.wait().unwrap().success());
    assert_eq!(running.exhausted(), Some(Exhausted::Processes { limit: Some(20) }));
    drop(running);
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
    for line in groups.lines() {
        let (controllers, group) = line.split_once(':').unwrap().1.split_once(':').unwrap();
        // One that a service manager keeps to itself has a name and no controllers.
        let is_used = !controllers.starts_with("name=") && is_mounted(controllers);
        let is_below = group.starts_with(&format!("/{name}/below/mybuild-"));
        assert!(is_below || !is_used, "{controllers} in {groups}");
    }
    running.kill();
    running.wait().unwrap();
    drop(running);
    remove_groups(&[&format!("{name}/below"), &name]);
    let mut process = fixture.shell("true");
    process.cgroup_parent = Some("../../x".to_owned());
    assert!(fixture.refusal(process).contains("`..` in a control group's name"));
}

/// What limits the parent limits the step, whichever controller it is.
fn a_limit_of_the_parent_holds(fixture: &Fixture) {
    if !can_limit(fixture, "memory") {
        return;
    }
    let name = format!("mybuild-test-limit-{}", std::process::id());
    let bases = ["/sys/fs/cgroup/memory", "/sys/fs/cgroup"];
    let files = ["memory.limit_in_bytes", "memory.max"];
    let (base, file) = bases
        .iter()
        .zip(files)
        .find(|(base, _)| std::path::Path::new(base).join("cgroup.procs").exists())
        .expect("memory is limited somewhere");
    let group = std::path::Path::new(base).join(&name);
    std::fs::create_dir(&group).unwrap();
    std::fs::write(group.join(file), (20 << 20).to_string()).unwrap();
    let mut process = fixture.process(&["dd", "if=/dev/zero", "of=/x", "bs=100M", "count=1"]);
    process.cgroup_parent = Some(name.clone());
    let running = fixture.spawn(process);
    assert_eq!(running.wait().unwrap(), ExitStatus::OomKilled);
    assert_eq!(running.exhausted(), Some(Exhausted::Memory { limit: Some(20 << 20) }));
    drop(running);
    remove_groups(&[&name]);
}

/// The caller made these; they are the caller's to remove.
fn remove_groups(groups: &[&str]) {
    let mounts = std::fs::read_dir("/sys/fs/cgroup").unwrap().flatten().map(|mount| mount.path());
    for base in mounts.chain(["/sys/fs/cgroup".into()]) {
        for group in groups {
            let _ = std::fs::remove_dir(base.join(group));
        }
    }
}

/// Whether the hierarchy with these controllers (none for the unified one) is there to be used.
fn is_mounted(controllers: &str) -> bool {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    mounts.lines().filter_map(|line| line.split_once(" - ")).any(|(_, right)| match controllers {
        "" => right.starts_with("cgroup2 "),
        names => right.starts_with("cgroup ") && names.split(',').all(|name| right.contains(name)),
    })
}
