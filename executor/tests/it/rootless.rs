//! All of the other tests once more, as somebody who is not root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::fixture::Fixture;
use crate::{Test, say};

pub(crate) const TESTS: &[Test] = &[
    ("privileged_all_holds_for_a_user_with_a_range_of_ids", with_a_range),
    ("privileged_all_holds_for_a_user_with_one_id", with_one_id),
];

/// An id that no range is given to.
const NOBODY_IN_PARTICULAR: u32 = 61_234;

/// A user of the machine for the time of a test, with the range of ids that `useradd` gives.
struct User {
    name: String,
    id: u32,
}

impl User {
    /// What the names of such users begin with; the test's process follows.
    const PREFIX: &str = "mybuild-test-";

    fn new() -> Self {
        Self::remove_forgotten();
        let name = format!("{}{}", Self::PREFIX, std::process::id());
        run("useradd", &["--no-create-home", &name]);
        let user = Self { id: run("id", &["-u", &name]).parse().unwrap(), name };
        let ranges = fs::read_to_string("/etc/subuid").unwrap_or_default();
        let start = format!("{}:", user.name);
        assert!(ranges.lines().any(|line| line.starts_with(&start)), "useradd gives no range");
        user
    }

    /// Those of tests that were killed.
    fn remove_forgotten() {
        let accounts = fs::read_to_string("/etc/passwd").unwrap();
        for name in accounts.lines().filter_map(|line| line.split(':').next()) {
            let process = name.strip_prefix(Self::PREFIX);
            if process.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                run("userdel", &[name]);
            }
        }
    }
}

impl Drop for User {
    fn drop(&mut self) {
        run("userdel", &[&self.name]);
    }
}

fn run(program: &str, words: &[&str]) -> String {
    let output = Command::new(program).args(words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program}: {said}");
    String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
}

fn with_a_range(fixture: &Fixture) {
    let user = User::new();
    run_all_as(fixture, user.id);
}

fn with_one_id(fixture: &Fixture) {
    run_all_as(fixture, NOBODY_IN_PARTICULAR);
}

fn run_all_as(fixture: &Fixture, uid: u32) {
    // A copy that the user can read, and a place that is the user's own.
    let dir = fixture.directory("of-the-user");
    let program = dir.join("tests");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let temporary = dir.join("tmp");
    fs::create_dir(&temporary).unwrap();
    std::os::unix::fs::chown(&temporary, Some(uid), Some(uid)).unwrap();
    let mut ahead = Some(dir.as_path());
    while let Some(dir) =
        ahead.filter(|dir| dir.starts_with(std::env::temp_dir()) && *dir != std::env::temp_dir())
    {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
        ahead = dir.parent();
    }
    let output = Command::new("setpriv")
        .args([format!("--reuid={uid}"), format!("--regid={uid}"), "--clear-groups".to_owned()])
        .arg(&program)
        .env("TMPDIR", &temporary)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    for line in text.lines().filter(|line| line.starts_with("skipped")) {
        say(&format!("as user {uid}: {line}"));
    }
    assert!(text.lines().filter(|line| line.ends_with("... ok")).count() > 30, "{text}");
    assert_eq!(fs::read_dir(&temporary).unwrap().count(), 0, "temporary files are left");
}
