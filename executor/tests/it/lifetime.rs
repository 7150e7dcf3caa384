//! When sandboxes end, and what ends with them.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio as ProcessStdio};
use std::time::{Duration, Instant};

use executor::{Emulators, Executor, ExitStatus, Host};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::fixture::Fixture;
use crate::{Test, leftovers, say};

/// With this argument the test program starts a sandbox and waits for ever.
pub(crate) const HOLD: &str = "--hold-a-sandbox";

pub(crate) const TESTS: &[Test] = &[
    ("privileged_a_kill_takes_less_than_half_a_second", a_kill_is_quick),
    ("privileged_background_processes_end_with_the_step", background_processes_end),
    ("privileged_orphans_are_reaped", orphans_are_reaped),
    ("privileged_dropping_ends_the_sandbox", dropping_ends_the_sandbox),
    ("privileged_signals_reach_the_process", signals_reach_the_process),
    ("privileged_nothing_outlives_a_killed_parent", nothing_outlives_a_killed_parent),
    ("privileged_a_group_whose_last_member_dies_late_goes_too", late_groups_go),
    ("privileged_steps_run_at_the_same_time", steps_run_at_the_same_time),
    ("privileged_a_step_outlives_the_thread_that_started_it", outlives_its_thread),
    ("privileged_a_step_is_cheap", a_step_is_cheap),
];

fn read_line(fd: &OwnedFd) -> String {
    let mut line = String::new();
    BufReader::new(File::from(fd.try_clone().unwrap())).read_line(&mut line).unwrap();
    line
}

/// Whether the process has ended within ten seconds.
fn ends(process: &OwnedFd) -> bool {
    let mut ready = [PollFd::new(process, PollFlags::IN)];
    let timeout = Timespec { tv_sec: 10, tv_nsec: 0 };
    poll(&mut ready, Some(&timeout)).unwrap() == 1
}

fn a_kill_is_quick(fixture: &Fixture) {
    let script = "for i in 1 2 3 4 5 6 7 8; do setsid sh -c 'trap \"\" TERM INT HUP; sleep 1000' & done; \
                  echo ready; wait";
    let mut running = fixture.spawn(fixture.shell(script));
    assert_eq!(read_line(&running.stdout().unwrap()), "ready\n");
    let started = Instant::now();
    running.kill();
    assert_eq!(running.wait().unwrap(), ExitStatus::Signaled(9));
    let taken = started.elapsed();
    assert!(taken < Duration::from_millis(500), "{taken:?}");
    assert_eq!(running.wait().unwrap(), ExitStatus::Signaled(9), "the answer stays");
}

fn background_processes_end(fixture: &Fixture) {
    let script =
        "nohup sleep 1000 >/dev/null 2>&1 & setsid sh -c 'sleep 1000 & sleep 1000' & echo started";
    let started = Instant::now();
    let outcome = fixture.run(fixture.shell(script));
    assert_eq!(outcome.stdout, "started\n");
    assert!(started.elapsed() < Duration::from_secs(5));
}

fn orphans_are_reaped(fixture: &Fixture) {
    let script = "for i in 1 2 3 4 5; do (true &) ; done; n=0; \
                  while [ $n -lt 1000 ] && ps -o stat,comm | grep -q '^Z'; do sleep 0.01; n=$((n+1)); done; \
                  ps -o stat,comm | grep '^Z' || echo none";
    assert_eq!(fixture.output(script), "none\n");
}

fn dropping_ends_the_sandbox(fixture: &Fixture) {
    let running = fixture.spawn(fixture.shell("sleep 1000"));
    let process = pidfd_open(running.pid(), PidfdFlags::empty()).unwrap();
    drop(running);
    assert!(ends(&process));
}

fn signals_reach_the_process(fixture: &Fixture) {
    let script = "trap 'echo got it; exit 7' TERM; echo ready; while true; do sleep 0.01; done";
    let mut running = fixture.spawn(fixture.shell(script));
    let stdout = running.stdout().unwrap();
    assert_eq!(read_line(&stdout), "ready\n");
    running.signal(15).unwrap();
    assert_eq!(read_line(&stdout), "got it\n");
    assert_eq!(running.wait().unwrap(), ExitStatus::Exited(7));
    running.signal(15).unwrap();
}

/// The other process of the test below.
pub(crate) fn hold() {
    let fixture = Fixture::new();
    let mut running = fixture.spawn(fixture.shell("setsid sleep 1000 & echo ready; sleep 1000"));
    assert_eq!(read_line(&running.stdout().unwrap()), "ready\n");
    say(&format!("{}", running.pid().as_raw_nonzero()));
    std::io::stdout().flush().unwrap();
    // Killed here.
    running.wait().unwrap();
}

fn nothing_outlives_a_killed_parent(fixture: &Fixture) {
    let temporary = fixture.directory("of-the-other");
    let mut other = Command::new(std::env::current_exe().unwrap())
        .arg(HOLD)
        .env("TMPDIR", &temporary)
        .stdout(ProcessStdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(other.stdout.take().unwrap());
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let init: i32 = line.trim().parse().unwrap();
    let children = leftovers::children(other.id());
    let id = |stat: &String| stat.split(' ').next().unwrap().parse().unwrap();
    let children: Vec<i32> = children.iter().map(id).collect();
    assert!(children.len() > 1 && children.contains(&init), "{init} in {children:?}");
    let open = |pid: &i32| pidfd_open(Pid::from_raw(*pid).unwrap(), PidfdFlags::empty()).unwrap();
    let processes: Vec<OwnedFd> = children.iter().map(open).collect();
    other.kill().unwrap();
    other.wait().unwrap();
    assert!(processes.iter().all(ends), "the sandbox, or what it came from, is still there");
    // Whatever holds its output is gone too: this ends only then.
    output.read_to_end(&mut Vec::new()).unwrap();
    drop(Executor::new(Host::probe(), Emulators::default()).unwrap());
    let left = leftovers::groups_of(other.id());
    assert!(left.is_empty(), "the next start removes its groups: {left:?}");
}

/// What a killed program started may still be dying when the next one starts.
fn late_groups_go(fixture: &Fixture) {
    // A process id beyond the largest: nobody's.
    let name = "mybuild-4194999-1-0";
    let groups = leftovers::writable_hierarchies().map(|hierarchy| hierarchy.join(name));
    let groups: Vec<_> = groups.filter(|group| fs::create_dir(group).is_ok()).collect();
    if groups.is_empty() && fixture.executor.host().rootless() {
        return say("SKIPPED: control groups are not the user's to make here");
    }
    assert!(!groups.is_empty(), "there is a hierarchy to make groups in");
    let mut sleeper = Command::new("sleep").arg("1000").spawn().unwrap();
    for group in &groups {
        fs::write(group.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    }
    let executor = Executor::new(Host::probe(), Emulators::default()).unwrap();
    assert!(groups.iter().all(|group| group.exists()), "who lives stays in its group");
    sleeper.kill().unwrap();
    drop(executor);
    sleeper.wait().unwrap();
    let left: Vec<_> = groups.iter().filter(|group| group.exists()).collect();
    assert!(left.is_empty(), "left: {left:?}");
}

fn steps_run_at_the_same_time(fixture: &Fixture) {
    // Each waits for a file that the other makes.
    let shared = fixture.directory("shared");
    let process = |mine: &str, other: &str| {
        let script = format!("touch /s/{mine}; while ! test -e /s/{other}; do :; done");
        let mut process = fixture.shell(&script);
        process.mounts.push(executor::Mount {
            target: "/s".to_owned(),
            source: executor::MountSource::Bind(executor::BindSource::Path {
                dir: shared.clone(),
                selector: String::new(),
            }),
            readonly: false,
        });
        process
    };
    let one = fixture.spawn(process("a", "b"));
    let two = fixture.spawn(process("b", "a"));
    assert!(one.wait().unwrap().success() && two.wait().unwrap().success());
}

fn outlives_its_thread(fixture: &Fixture) {
    let mut process = fixture.shell("cat; echo done");
    process.stdio = executor::Stdio::Piped { stdin: true };
    let executor = &fixture.executor;
    let mut running = std::thread::scope(|scope| {
        scope.spawn(|| executor.spawn(process).unwrap()).join().unwrap()
    });
    let (stdin, stdout) = (running.stdin().unwrap(), running.stdout().unwrap());
    File::from(stdin).write_all(b"in\n").unwrap();
    let mut text = String::new();
    File::from(stdout).read_to_string(&mut text).unwrap();
    assert_eq!(text, "in\ndone\n");
    assert!(running.wait().unwrap().success());
    assert!(running.pidfd().as_fd().try_clone_to_owned().is_ok());
}

/// Not a benchmark: it only fails when something has become an order of magnitude dearer.
fn a_step_is_cheap(fixture: &Fixture) {
    let mut times: Vec<Duration> = (0..30)
        .map(|_| {
            let process = fixture.process(&["true"]);
            let started = Instant::now();
            let running = fixture.spawn(process);
            assert!(running.wait().unwrap().success());
            started.elapsed()
        })
        .collect();
    times.sort_unstable();
    say(&format!("a step takes {:?} at best, {:?} in the middle", times[0], times[15]));
    assert!(times[0] < Duration::from_millis(250), "{times:?}");
}
