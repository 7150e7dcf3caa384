//! Whole builds against BuildKit's recorded answers.

use std::process::Command;

/// `scripts/conformance` ends with it where nothing can be compared.
const SKIPPED: i32 = 77;

#[test]
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn privileged_recorded_cases_build_as_in_buildkit() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/conformance");
    let binary = env!("CARGO_BIN_EXE_mybuild");
    let output = Command::new(script).args(["--binary", binary]).output().expect("python3 runs");
    let said = String::from_utf8_lossy(&output.stdout);
    match output.status.code() {
        Some(0) => {}
        Some(SKIPPED) => eprintln!("{said}"),
        _ => panic!("{said}{}", String::from_utf8_lossy(&output.stderr)),
    }
}
