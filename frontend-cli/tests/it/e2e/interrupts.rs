//! A build that is stopped from outside.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use super::builder::{Builder, wait_for};
use super::traces::{Watched, descendants};
use crate::crash_world::has_strace;

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
    wait_for_words(&mut child, r#""text":"running"#);
    let family = descendants(child.id());
    assert!(family.iter().any(|process| process.is_called("sleep 1000")), "{family:?}");
    (child, family)
}

/// Waits until the program says so.
fn wait_for_words(child: &mut Child, words: &str) {
    let stderr = child.stderr.as_mut().expect("a pipe");
    let said =
        BufReader::new(stderr).lines().map_while(Result::ok).any(|line| line.contains(words));
    assert!(said, "it never says {words}");
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

/// A step that writes 60 lines, and then what `rest` writes, and does not end.
fn writes(rest: &str) -> String {
    format!(
        "FROM busybox\nRUN for n in $(seq 60); do echo \"line $n\"; done; echo running; \
         while :; do {rest}; done\n"
    )
}

#[test]
fn privileged_an_interrupted_step_shows_what_it_wrote() {
    let Some(builder) = Builder::new() else { return };
    builder.write("context/Dockerfile", writes("sleep 1000"));
    let child = builder.spawn(&mut builder.command(&["build", "-q", "context"]));
    // Nothing is shown meanwhile.
    let sleeps = |process: &Watched| process.is_called("sleep 1000") && !process.is_called("echo");
    while !descendants(child.id()).iter().any(sleeps) {
        thread::sleep(Duration::from_millis(10));
    }
    send(&child, Signal::INT);
    let output = child.wait_with_output().expect("an own child");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(130), "{told}");
    assert!(told.contains("  | line 60\n  | running\n"), "{told}");
    let log = told.lines().find_map(|line| line.strip_prefix("log: ")).expect(&told);
    let log = fs::read_to_string(log).expect("the log is there");
    assert!(log.starts_with("line 1\n") && log.ends_with("line 60\nrunning\n"), "{log}");
    builder.assert_nothing_left();
}

#[test]
fn privileged_a_step_that_writes_without_end_is_interrupted_at_once() {
    let Some(builder) = Builder::new() else { return };
    builder.write("context/Dockerfile", writes("echo more"));
    let words = ["build", "--progress", "plain", "context"];
    let mut child = builder.spawn(builder.command(&words).stdout(Stdio::null()));
    let mut lines = BufReader::new(child.stderr.take().expect("a pipe")).lines();
    assert!(lines.any(|line| line.expect("text").ends_with(" more")), "the step writes");
    let family = descendants(child.id());
    let reader = thread::spawn(move || lines.map_while(Result::ok).last());
    send(&child, Signal::INT);
    // What the step comes from ends with the builder, which shows first what was written.
    for process in family.iter().filter(|process| !process.is_called("mybuild-init")) {
        process.assert_ends_within(SOON);
    }
    assert_eq!(wait_for(&mut child, 60).code(), Some(130));
    assert_eq!(reader.join().expect("no panic").as_deref(), Some("error: canceled"));
    builder.assert_nothing_left();
}

#[test]
fn privileged_a_build_ends_when_nobody_reads_what_it_shows() {
    let Some(builder) = Builder::new() else { return };
    builder.write("context/Dockerfile", writes("echo more; sleep 0.01"));
    for progress in ["plain", "json", "rawjson"] {
        let words = ["build", "--progress", progress, "context"];
        let mut child = builder.spawn(builder.command(&words).stdout(Stdio::null()));
        let mut reader = BufReader::new(child.stderr.take().expect("a pipe"));
        let mut line = String::new();
        reader.read_line(&mut line).expect("it writes");
        drop(reader);
        assert_eq!(wait_for(&mut child, 60).code(), Some(141), "{progress}");
        builder.assert_nothing_left();
    }
}

/// Stops a process as soon as it has a file in this directory open, whether that has a name or not.
/// Says how many bytes are in it then; nothing if it was closed meanwhile.
fn stop_at_file(child: &Child, directory: &Path) -> Option<u64> {
    let open = PathBuf::from(format!("/proc/{}/fd", child.id()));
    let found = || {
        let mut files = fs::read_dir(&open).expect("it lives").flatten().map(|file| file.path());
        files.find(|file| {
            fs::read_link(file).is_ok_and(|file| file.starts_with(directory) && file != directory)
        })
    };
    let begin = Instant::now();
    while found().is_none() {
        assert!(begin.elapsed() < Duration::from_secs(60), "nothing is written");
        thread::sleep(Duration::from_millis(1));
    }
    send(child, Signal::STOP);
    Some(fs::metadata(found()?).ok()?.len())
}

/// The files of a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("a directory").flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn privileged_an_export_that_is_cut_off_leaves_no_file() {
    const SIZE: u64 = 512 << 20;
    let Some(builder) = Builder::bare() else { return };
    let large = fs::File::create(builder.path("context/large")).expect("a file");
    large.set_len(SIZE).expect("a file");
    let dockerfile = "FROM scratch\nCOPY large /\n";
    builder.build(dockerfile, &["-t", "large"]).success();
    builder.write("context/Dockerfile", dockerfile);
    builder.make_directory("out");
    for kind in ["oci", "docker"] {
        for (signal, code) in [(Signal::INT, Some(130)), (Signal::KILL, None)] {
            let output = format!("type={kind},compression=uncompressed,dest=out/image.tar");
            let words = ["build", "--progress", "json", "-o", &output, "context"];
            let cut_off = || {
                let mut child = builder.spawn(builder.command(&words).stdout(Stdio::null()));
                let size = stop_at_file(&child, &builder.path("out"));
                send(&child, signal);
                send(&child, Signal::CONT);
                assert_eq!(child.wait().expect("an own child").code(), code);
                size.is_some_and(|size| size < SIZE)
            };
            // On a busy machine the signal may come when the file is whole.
            let is_whole = |image: &Path| fs::metadata(image).is_ok_and(|image| image.len() > SIZE);
            let image = builder.path("out/image.tar");
            let is_cut_off = (0..10).any(|_| {
                let in_time = cut_off() && !is_whole(&image);
                if is_whole(&image) {
                    fs::remove_file(&image).expect("an own file");
                }
                in_time
            });
            assert!(is_cut_off, "{kind}, {signal:?}");
            assert_eq!(names(&builder.path("out")), [""; 0], "{kind}, {signal:?}");
        }
    }
    builder.run(&["images"]).success();
}

/// What a slow disk has not taken by then is done again; the program does not wait for it.
#[test]
fn privileged_an_interrupt_does_not_wait_for_the_disk() {
    const SLOW: Duration = Duration::from_secs(60);
    if !has_strace() {
        return;
    }
    let Some(builder) = Builder::bare() else { return };
    builder.write("context/file", "content\n");
    builder.write("context/Dockerfile", "FROM scratch\nCOPY file /\n");
    let words = ["build", "--progress", "json", "-t", "never", "context"];
    let ours = builder.command(&words);
    let mut command = Command::new("strace");
    // It watches from aside, so that the child is the program.
    command.args(["-D", "-f", "-qq", "-e", "trace=syncfs", "-o", "/dev/null", "-e"]);
    command.arg(format!("inject=syncfs:delay_enter={}s", SLOW.as_secs()));
    command.arg(ours.get_program()).args(ours.get_args());
    command.env_clear().envs(ours.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.current_dir(builder.path("")).stdin(Stdio::null()).stdout(Stdio::null());
    let mut child = builder.spawn(command.stderr(Stdio::piped()));
    wait_for_words(&mut child, "naming to");
    let begin = Instant::now();
    send(&child, Signal::INT);
    let status = child.wait().expect("an own child");
    assert!(begin.elapsed() < SLOW / 4, "{:?}", begin.elapsed());
    assert_eq!(status.code(), Some(130));
    // What was not committed is made again.
    builder.build_directory("context", &["-t", "again"]).success();
    for bucket in ["tmp-v1", "leases-v1"] {
        assert_eq!(names(&builder.store().join(bucket)), [""; 0]);
    }
    builder.run(&["fsck", "--full"]).success();
}
