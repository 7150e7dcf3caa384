//! A second process: the test binary itself, asked for one test, which finds in its environment
//! that it is the child.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

const ROOT: &str = "MYBUILD_TEST_CHILD_ROOT";
const ARGUMENT: &str = "MYBUILD_TEST_CHILD_ARGUMENT";

/// In a child: the store's root and what it is to do.
pub(crate) fn role() -> Option<(PathBuf, String)> {
    let root = std::env::var_os(ROOT)?;
    Some((root.into(), std::env::var(ARGUMENT).unwrap_or_default()))
}

/// The command that runs `test` as a child.
pub(crate) fn command(test: &str, root: &std::path::Path, argument: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(ROOT, root).env(ARGUMENT, argument);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command
}

/// Runs `test` as a child to its end.
pub(crate) fn run(test: &str, root: &std::path::Path, argument: &str) -> ExitStatus {
    command(test, root, argument).output().unwrap().status
}

/// Starts `test` as a child and waits until it has said that it is ready.
pub(crate) fn start(test: &str, root: &std::path::Path, argument: &str) -> Running {
    use std::io::{BufRead as _, BufReader};
    let mut child = command(test, root, argument).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    assert!(lines.any(|line| line.ends_with("ready")), "{test} as a child never was ready");
    Running { child, _lines: Box::new(lines) }
}

/// In a child: says that it is ready, and waits for the parent to let it go on.
pub(crate) fn ready() {
    std::io::stdout().write_all(b"\nready\n").unwrap();
    let _ = std::io::stdin().read_line(&mut String::new());
}

pub(crate) struct Running {
    child: Child,
    _lines: Box<dyn Iterator<Item = String>>,
}

impl Running {
    /// Lets it go on and waits for its end.
    pub(crate) fn finish(mut self) {
        drop(self.child.stdin.take());
        assert!(self.child.wait().unwrap().success());
    }

    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
