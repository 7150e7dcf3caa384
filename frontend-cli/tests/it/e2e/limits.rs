//! Limits of steps: they hold, are told by name and figure, and are no part of what is built.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};

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
    let dockerfile = "FROM busybox\nRUN nproc\n";
    let on_one = builder.build(dockerfile, &["--cpuset-cpus", "0", "--cpuset-mems", "0"]);
    assert_eq!(on_one.success().log(), "1\n");
    let wrong = builder.build("FROM busybox\nRUN echo\n", &["--cpuset-cpus", "4000"]);
    let wrong = wrong.fails_with(1).words();
    assert!(wrong.contains("cannot limit cpuset: writing `4000` to cpuset.cpus"), "{wrong}");
    assert!(wrong.contains("hint: `--cpuset-cpus` and `--cpuset-mems` name"), "{wrong}");
    let wrong = builder.build("FROM busybox\nRUN echo\n", &["--cpu-period", "1"]);
    let wrong = wrong.fails_with(1).words();
    assert!(wrong.contains("cannot limit cpu: writing `"), "{wrong}");
    assert!(wrong.contains("`--cpu-period` and `--cpu-shares` set it"), "{wrong}");
    for (words, flag) in
        [(["--memory", "1"], "`--memory`"), (["--ulimit", "nofile=3"], "`--ulimit")]
    {
        let wrong = builder.build("FROM busybox\nRUN echo\n", &words).fails_with(1).words();
        let hint = wrong.split("hint: ").nth(1).unwrap_or_default();
        assert!(hint.contains(flag), "{words:?}: {wrong}");
    }
    // Of the others a step sees nothing: its group says what they are.
    builder.write("context/Dockerfile", "FROM busybox\nRUN echo ready; sleep 1000\n");
    let limits = ["-c", "513", "--cpu-period", "49000", "--cpu-quota", "98000"];
    let words = [&["build", "--progress", "json"][..], &limits, &["context"]].concat();
    let mut child = builder.spawn(builder.command(&words).stdout(Stdio::null()));
    let mut told = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    let is_ready = |line: std::io::Result<String>| line.expect("text").contains(r#""text":"ready"#);
    assert!(told.any(is_ready), "the step runs");
    let of_version_1 =
        [("cpu.shares", "513"), ("cpu.cfs_period_us", "49000"), ("cpu.cfs_quota_us", "98000")];
    let of_version_2 = [("cpu.weight", "20"), ("cpu.max", "98000 49000")];
    let groups = Path::new("/sys/fs/cgroup");
    assert!(has_group(groups, &of_version_1) || has_group(groups, &of_version_2));
    kill_process(Pid::from_child(&child), Signal::INT).expect("an own child");
    told.for_each(drop);
    assert_eq!(child.wait().expect("an own child").code(), Some(130));
    builder.assert_nothing_left();
}

/// Whether a control group below `directory` has these values in its files.
fn has_group(directory: &Path, wanted: &[(&str, &str)]) -> bool {
    let is_so = |(file, value): &(&str, &str)| {
        std::fs::read_to_string(directory.join(file)).is_ok_and(|found| found.trim_end() == *value)
    };
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut below = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    wanted.iter().all(is_so) || below.any(|entry| has_group(&entry.path(), wanted))
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

#[test]
fn privileged_an_image_of_more_layers_than_one_mount_takes_runs_as_it_builds() {
    const LAYERS: usize = 410;
    let Some(builder) = Builder::new() else { return };
    builder.write("context/small", "");
    let copies: String = (0..LAYERS).map(|n| format!("COPY small /many/{n}\n")).collect();
    let changes = "COPY small /gone\nCOPY small /d/old\nCOPY small /e/old\nCOPY small /f\n\
                   RUN rm -r /gone /d /f /e/* && mkdir /d /f && touch /d/new /f/new\n";
    builder.build(&format!("FROM busybox\n{changes}{copies}"), &["-t", "many"]).success();
    let look = "ls /many | wc -l; ls -d /gone /d/* /e/* /f/* 2>/dev/null";
    let expected = format!("{LAYERS}\n/d/new\n/f/new\n");
    let built = builder.build(&format!("FROM many\nRUN {look} || true\n"), &[]).success();
    assert_eq!(built.log(), expected);
    let look = format!("{look} || true");
    let ran = builder.run(&["run", "--network=none", "many", "/bin/sh", "-c", &look]).success();
    assert_eq!(ran.text(), expected);
    builder.assert_nothing_left();
}

#[test]
fn privileged_a_refused_thread_is_no_bug() {
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/Dockerfile", "FROM scratch\nCOPY busybox /\n");
    let bases = ["/sys/fs/cgroup/pids", "/sys/fs/cgroup"].map(std::path::Path::new);
    let groups = bases.map(|base| base.join(format!("mybuild-test-{}", std::process::id())));
    let made = groups.iter().find(|group| {
        let is_group = group.parent().is_some_and(|base| base.join("cgroup.procs").exists());
        is_group && std::fs::create_dir(group).is_ok()
    });
    let Some(group) = made.filter(|group| std::fs::write(group.join("pids.max"), "1").is_ok())
    else {
        made.map(std::fs::remove_dir);
        return skip("no limits on processes here");
    };
    let mut shell = std::process::Command::new("/bin/sh");
    let command = builder.command(&["build", "context"]);
    shell
        .args(["-c", "echo $$ >\"$0\"/cgroup.procs; exec \"$@\""])
        .arg(group)
        .arg(command.get_program())
        .args(command.get_args())
        .env_clear()
        .envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))))
        .current_dir(command.get_current_dir().expect("the builder's"));
    let refused = builder.run_command(&mut shell).fails_with(1).words();
    std::fs::remove_dir(group).expect("nothing is left in it");
    assert!(refused.starts_with("error: the system lets this program start no further thread"));
    assert_eq!(refused.lines().count(), 1, "{refused}");
}
