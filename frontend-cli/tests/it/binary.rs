//! The real program: exit codes, and what goes where.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use expect_test::{Expect, expect};

fn mybuild(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mybuild"));
    command.args(words).env_clear().env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn told(output: &Output) -> String {
    format!(
        "exit {}\n--- stdout\n{}--- stderr\n{}",
        output.status.code().map_or("by signal".to_owned(), |code| code.to_string()),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    )
}

fn check(words: &[&str], expected: Expect) {
    expected.assert_eq(&told(&mybuild(words).output().expect("mybuild runs")));
}

#[test]
fn the_version_is_data() {
    check(
        &["--version"],
        expect![[r#"
        exit 0
        --- stdout
        mybuild 0.1.0
        --- stderr
    "#]],
    );
}

#[test]
fn help_is_data_and_its_absence_is_wrong_usage() {
    for (words, code, on_stdout) in [
        (&["--help"][..], 0, true),
        (&["-h"], 0, true),
        (&["help"], 0, true),
        (&["help", "--help"], 0, true),
        (&["help", "-h"], 0, true),
        (&["build", "--help"], 0, true),
        (&["-t", "x", "--help"], 0, true),
        (&[], 2, false),
    ] {
        let output = mybuild(words).output().expect("mybuild runs");
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        assert_eq!(!output.stdout.is_empty(), on_stdout, "{words:?}");
        assert_eq!(output.stderr.is_empty(), on_stdout, "{words:?}");
        let text = String::from_utf8([output.stdout, output.stderr].concat()).expect("UTF-8");
        assert!(text.contains("mybuild [build] [OPTIONS] CONTEXT"), "{words:?}: {text}");
    }
}

#[test]
fn a_group_of_dockers_shows_the_commands_it_has_here() {
    for group in ["builder", "buildx", "container", "image", "system"] {
        for words in [&[group][..], &[group, "--help"], &[group, "-h"], &["help", group]] {
            let output = mybuild(words).output().expect("mybuild runs");
            assert!(output.status.success(), "{words:?}");
            let help = String::from_utf8(output.stdout).expect("text");
            for wanted in [&*format!("Usage: mybuild {group} COMMAND"), "\n  prune "] {
                assert!(help.contains(wanted), "{words:?}: {help}");
            }
            assert!(!help.contains("-prune"), "{help}");
        }
    }
}

#[test]
fn a_daemon_listens_only_where_its_guard_holds() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let root = directory.path().join("store");
    let pem = directory.path().join("any.pem");
    std::fs::write(&pem, "not looked at before").expect("it is written");
    let pem = pem.to_str().expect("its name is text");
    let port = ["--addr", "tcp://0.0.0.0:1"].as_slice();
    for (words, wanted) in [
        (port.to_vec(), "open to whoever reaches it"),
        ([port, &["--tlscert", pem, "--tlskey", pem]].concat(), "open to whoever reaches it"),
        (["--addr", "tcp://127.0.0.1:1", "--group", "0"].to_vec(), "`--group` does nothing"),
        (["--addr", "unix:///x", "--tlscert", pem, "--tlskey", pem].to_vec(), "does nothing"),
        (["--addr", "tcp://127.0.0.1:1", "--tlscert", pem].to_vec(), "go together"),
    ] {
        let mut command = mybuild(&["--root", root.to_str().expect("its name is text"), "serve"]);
        let output = command.args(&words).output().expect("mybuild runs");
        let told = told(&output);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {told}");
        assert!(told.contains(wanted), "{words:?}: {told}");
    }
}

#[test]
fn wrong_usage_ends_with_2() {
    check(
        &["build"],
        expect![[r#"
        exit 2
        --- stdout
        --- stderr
        error: the following required arguments were not provided:
          <CONTEXT>

        Usage: mybuild [build] [OPTIONS] CONTEXT

        For more information, try '--help'.
    "#]],
    );
    check(
        &["--bogus", "."],
        expect![[r#"
        exit 2
        --- stdout
        --- stderr
        error: unexpected argument '--bogus' found

          tip: to pass '--bogus' as a value, use '-- --bogus'

        Usage: mybuild [build] [OPTIONS] CONTEXT

        For more information, try '--help'.
    "#]],
    );
    check(
        &["nosuch"],
        expect![[r#"
        exit 2
        --- stdout
        --- stderr
        error: there is no command and no directory `nosuch`

        hint: `mybuild --help` lists the commands
    "#]],
    );
    check(
        &["--builder", "b", "."],
        expect![[r#"
        exit 2
        --- stdout
        --- stderr
        error: `--builder` is not supported

        hint: there are no builder instances: mybuild builds by itself
    "#]],
    );
    check(
        &["man", "nosuch"],
        expect![[r#"
        exit 2
        --- stdout
        --- stderr
        error: `nosuch` is not a command
    "#]],
    );
}

#[test]
fn an_unwritten_dockerfile_and_another_one_do_not_go_together() {
    let mut child = mybuild(&["-f", "x", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mybuild runs");
    child.stdin.take().expect("a pipe").write_all(b"FROM scratch\n").expect("it reads");
    let output = child.wait_with_output().expect("mybuild ends");
    assert_eq!(output.status.code(), Some(2), "{}", told(&output));
}

#[test]
fn completions_know_the_flags_with_and_without_build() {
    for shell in ["bash", "zsh", "fish"] {
        let output = mybuild(&["completions", shell]).output().expect("mybuild runs");
        assert!(output.status.success(), "{}", told(&output));
        let script = String::from_utf8(output.stdout).expect("UTF-8");
        assert!(script.matches("no-cache-filter").count() >= 2, "{shell}");
        // What is refused is not offered.
        assert!(!script.contains("security-opt"), "{shell}");
    }
}

#[test]
fn manual_pages_are_written_for_each_command() {
    for (words, title) in
        [(&["man"][..], ".TH mybuild 1"), (&["man", "build"], ".TH mybuild-build 1")]
    {
        let output = mybuild(words).output().expect("mybuild runs");
        assert!(output.status.success(), "{}", told(&output));
        assert!(String::from_utf8_lossy(&output.stdout).contains(title), "{words:?}");
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let mut child = mybuild(&["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("mybuild runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("mybuild ends");
    assert_eq!(told(&output), "exit 0\n--- stdout\n--- stderr\n");
}
