//! A build that is stopped from outside.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::builder::Builder;
use super::traces::{Watched, descendants};

/// How soon the processes of a step are gone, in milliseconds.
const SOON: i64 = 500;

/// A build whose step will not end by itself, with processes that want to stay.
const STAYS: &str = "FROM busybox
RUN --mount=type=cache,target=/cached --mount=type=tmpfs,target=/memory \\
    trap '' TERM INT HUP; \\
    (setsid sh -c 'trap \"\" TERM INT HUP; while :; do sleep 1000; done' &) ; \\
    echo running; while :; do sleep 1000; done
";

/// Starts it, and waits until the step runs.
fn start(builder: &Builder) -> (Child, Vec<Watched>) {
    builder.write("context/Dockerfile", STAYS);
    let mut command = builder.command(&["build", "--progress", "json", "-t", "never", "context"]);
    let mut child = builder.spawn(command.stdout(Stdio::null()));
    let stderr = child.stderr.as_mut().expect("a pipe");
    let running = BufReader::new(stderr)
        .lines()
        .map_while(Result::ok)
        .any(|line| line.contains(r#""text":"running"#));
    assert!(running, "the step began");
    let family = descendants(child.id());
    assert!(family.iter().any(|process| process.is_called("sleep 1000")), "{family:?}");
    (child, family)
}

fn send(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).expect("an own child");
}

#[test]
fn privileged_an_interrupt_ends_a_step_at_once() {
    let Some(builder) = Builder::new() else { return };
    for signal in [Signal::INT, Signal::TERM] {
        let (mut child, family) = start(&builder);
        let begin = Instant::now();
        send(&child, signal);
        for process in &family {
            process.assert_ends_within(SOON);
        }
        assert!(begin.elapsed() < Duration::from_millis(SOON.unsigned_abs()));
        let mut rest = String::new();
        child.stderr.take().expect("a pipe").read_to_string(&mut rest).expect("text");
        assert_eq!(child.wait().expect("an own child").code(), Some(130), "{rest}");
        builder.assert_nothing_left();
    }
}

#[test]
fn privileged_a_killed_builder_leaves_nothing() {
    let Some(builder) = Builder::new() else { return };
    let (mut child, family) = start(&builder);
    send(&child, Signal::KILL);
    for process in &family {
        process.assert_ends_within(SOON);
    }
    child.wait().expect("an own child");
    builder.assert_no_process_or_mount_left();
    // Empty directories of control groups and of the store go with the next run.
    builder.build("FROM busybox\nRUN true\n", &[]).success();
    builder.assert_nothing_left();
}
