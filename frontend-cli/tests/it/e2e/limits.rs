//! Limits of steps: they hold, are told by name and figure, and are no part of what is built.

use super::builder::Builder;
use super::skip;

/// Whether the machine lets this process limit memory by control group.
fn can_limit_memory() -> bool {
    let files = ["/sys/fs/cgroup/memory/cgroup.procs", "/sys/fs/cgroup/memory.stat"];
    let is_root = rustix::process::geteuid().is_root();
    let can = is_root && files.iter().any(|file| std::path::Path::new(file).exists());
    if !can {
        skip("no limits of memory here");
    }
    can
}

#[test]
fn privileged_a_step_killed_for_memory_says_so() {
    let Some(builder) = Builder::new() else { return };
    if !can_limit_memory() {
        return;
    }
    let eater = "FROM busybox\nRUN exec dd if=/dev/zero of=/dev/null bs=100M count=1\n";
    for words in [&["-m", "20m"][..], &["--resource", "memory=20m"], &["--opt", "memory=20971520"]]
    {
        let failed = builder.build(eater, words).fails_with(1).words();
        assert!(failed.contains(": out of memory: its limit is 20 MiB\n"), "{failed}");
        assert!(failed.contains("raise `--memory`"), "{failed}");
    }
    // With more it runs, and what limited it is no part of its key.
    assert_eq!(builder.build(eater, &["-m", "1g"]).success().ran(), ["2/2"]);
    assert!(builder.build(eater, &["-m", "900m"]).success().ran().is_empty());
    assert!(builder.build(eater, &[]).success().ran().is_empty());
    builder.assert_nothing_left();
}

#[test]
fn privileged_every_limit_arrives() {
    let Some(builder) = Builder::new() else { return };
    if !can_limit_memory() {
        return;
    }
    // What a step runs in is shown to it by the number of processors alone, so it is asked outside.
    let dockerfile = "FROM busybox\nRUN nproc\n";
    let on_one = builder.build(dockerfile, &["--cpuset-cpus", "0", "--cpuset-mems", "0"]);
    assert_eq!(on_one.success().log(), "1\n");
    let wrong = builder.build("FROM busybox\nRUN echo\n", &["--cpuset-cpus", "4000"]);
    let wrong = wrong.fails_with(1).words();
    assert!(wrong.contains("cannot limit cpuset: writing `4000` to cpuset.cpus"), "{wrong}");
    let wrong = builder.build("FROM busybox\nRUN echo\n", &["--cpu-period", "1"]);
    let wrong = wrong.fails_with(1).words();
    assert!(wrong.contains("cannot limit cpu: writing `"), "{wrong}");
    let words = ["-c", "512", "--cpu-period", "50000", "--cpu-quota", "100000"];
    builder.build("FROM busybox\nRUN echo\n", &words).success();
    builder.assert_nothing_left();
}

#[test]
fn privileged_a_step_may_write_so_much() {
    let Some(builder) = Builder::new() else { return };
    let writer = "FROM busybox\nRUN dd if=/dev/zero of=/big bs=1M count=30 2>/dev/null\n";
    let failed = builder.build(writer, &["--step-disk", "10m"]).fails_with(1).words();
    assert!(failed.contains(": it wrote more than 10 MiB\n"), "{failed}");
    assert!(failed.contains("raise `--step-disk`"), "{failed}");
    // One that would write for ever is stopped.
    let endless = "FROM busybox\nRUN exec yes >/big\n";
    let failed = builder.build(endless, &["--step-disk", "10m"]).fails_with(1).words();
    assert!(failed.contains(": it wrote more than 10 MiB\n"), "{failed}");
    assert_eq!(builder.build(writer, &["--step-disk", "40m"]).success().ran(), ["2/2"]);
    builder.assert_nothing_left();
}

#[test]
fn privileged_a_limit_of_time_is_named() {
    let Some(builder) = Builder::new() else { return };
    let busy = "FROM busybox\nRUN while :; do :; done\n";
    let failed = builder.build(busy, &["--ulimit", "cpu=1:5"]).fails_with(1).words();
    assert!(failed.contains("`--ulimit cpu` allows 1 s of processor time"), "{failed}");
}
