//! All of the other tests once more, as somebody who is not root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::fixture::Fixture;
use crate::{Test, say};

pub(crate) const TESTS: &[Test] = &[
    ("privileged_all_holds_for_a_user_with_a_range_of_ids", with_a_range),
    ("privileged_all_holds_for_a_user_with_one_id", with_one_id),
];

/// An id that no range is given to.
const NOBODY_IN_PARTICULAR: u32 = 61_234;

fn with_a_range(fixture: &Fixture) {
    match user_with_a_range() {
        Some(uid) => run_all_as(fixture, uid),
        None => say("skipped: no user of this machine has a range in /etc/subuid"),
    }
}

fn with_one_id(fixture: &Fixture) {
    run_all_as(fixture, NOBODY_IN_PARTICULAR);
}

fn user_with_a_range() -> Option<u32> {
    let ranges = fs::read_to_string("/etc/subuid").ok()?;
    let users = fs::read_to_string("/etc/passwd").ok()?;
    let name = ranges.lines().next()?.split(':').next()?.to_owned();
    let line = users.lines().find(|line| line.split(':').next() == Some(&name))?;
    line.split(':').nth(2)?.parse().ok()
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
