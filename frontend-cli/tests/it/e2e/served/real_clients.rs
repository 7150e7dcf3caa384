//! The real programs, where they are installed.

use std::path::PathBuf;
use std::process::Command;

use super::daemon::Daemon;
use crate::e2e::builder::Builder;
use crate::e2e::skip;

/// A program of the machine's; nothing, and a word about it, where it is not installed.
fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|p| p.exists());
    if found.is_none() {
        skip(&format!("`{name}` is not installed"));
    }
    found
}

#[test]
fn privileged_buildctl_builds_here() {
    let Some(buildctl) = program("buildctl") else { return };
    let Some(builder) = Builder::new() else { return };
    builder.write("files/Dockerfile", "FROM busybox\nCOPY a.txt /\nRUN cat /a.txt >/b.txt\n");
    builder.write("files/a.txt", "first\n");
    let daemon = Daemon::start(&builder, &[]);
    let address = format!("unix://{}", daemon.socket.display());
    let words = "build --frontend dockerfile.v0 --local context=files --local dockerfile=files \
                 --output type=oci,dest=x.tar --output type=local,dest=out";
    let mut command = Command::new(buildctl);
    command.args(["--addr", &address]).args(words.split_whitespace());
    builder.run_command(command.current_dir(builder.path(""))).success();
    assert_eq!(builder.read("out/b.txt"), "first\n");
    assert!(builder.path("x.tar").exists());
    daemon.stop();
}

#[test]
fn privileged_buildx_builds_here() {
    let Some(buildx) = program("buildx") else { return };
    let Some(builder) = Builder::new() else { return };
    builder.write("files/Dockerfile", "FROM busybox\nCOPY a.txt /\nRUN cat /a.txt >/b.txt\n");
    builder.write("files/a.txt", "first\n");
    let daemon = Daemon::start(&builder, &[]);
    let address = format!("unix://{}", daemon.socket.display());
    let run = |words: &[&str]| {
        let mut command = Command::new(&buildx);
        command.args(words).env("HOME", builder.path("home")).current_dir(builder.path(""));
        builder.run_command(&mut command).success()
    };
    run(&["create", "--name", "here", "--driver", "remote", &address]);
    run(&["--builder", "here", "build", "-o", "out", "files"]);
    assert_eq!(builder.read("out/b.txt"), "first\n");
    run(&["--builder", "here", "du"]);
    run(&["--builder", "here", "prune", "--force", "--all"]);
    daemon.stop();
}
