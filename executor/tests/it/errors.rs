//! What the user is told when a process cannot be started.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use executor::ExitStatus;

use crate::Test;
use crate::fixture::Fixture;

pub(crate) const TESTS: &[Test] = &[
    ("privileged_a_program_that_cannot_run_says_why", a_program_that_cannot_run_says_why),
    ("privileged_exit_codes_and_signals_come_back", exit_codes_and_signals_come_back),
];

fn a_program_that_cannot_run_says_why(fixture: &Fixture) {
    let bin = fixture.root().join("bin");
    let add = |name: &str, content: &str, mode| {
        fs::write(bin.join(name), content).unwrap();
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(mode)).unwrap();
    };
    add("plain", "#!/bin/sh\n", 0o644);
    add("no-interpreter", "#!/no/such/thing\n", 0o755);
    add("rubbish", "\u{1}\u{2}\u{3}", 0o755);
    let cases = [
        ("missing", 127, "`missing` not found in the image"),
        ("/bin/missing", 127, "`/bin/missing` not found in the image"),
        ("/etc/passwd/x", 127, "`/etc/passwd/x` not found in the image"),
        ("plain", 126, "`plain` cannot be executed: Permission denied (os error 13)"),
        ("/bin", 126, "`/bin` cannot be executed: Permission denied (os error 13)"),
        (
            "no-interpreter",
            126,
            "`no-interpreter` cannot be executed: its interpreter is missing in the image: \
             No such file or directory (os error 2)",
        ),
        (
            "rubbish",
            126,
            "`rubbish` cannot be executed: it is a program for another architecture, or none: \
             Exec format error (os error 8)",
        ),
    ];
    for (program, code, expected) in cases {
        assert_eq!(fixture.refusal(fixture.process(&[program])), expected);
        let error = fixture.executor.spawn(fixture.process(&[program])).unwrap_err();
        assert_eq!(error.exit_code(), code, "{program}");
    }
    assert_eq!(fixture.refusal(fixture.process(&[])), "no command given");
    assert_eq!(
        fixture.refusal(fixture.process(&["true", "a\0b"])),
        "an argument contains a zero byte"
    );
    let mut process = fixture.process(&["true"]);
    process.user = "nobody-knows".to_owned();
    assert_eq!(fixture.refusal(process), "no user `nobody-knows` in the image's /etc/passwd");
}

fn exit_codes_and_signals_come_back(fixture: &Fixture) {
    for (script, expected, code) in [
        ("exit 0", ExitStatus::Exited(0), 0),
        ("exit 42", ExitStatus::Exited(42), 42),
        ("kill -TERM $$", ExitStatus::Signaled(15), 143),
        ("kill -KILL $$", ExitStatus::Signaled(9), 137),
    ] {
        let status = fixture.run(fixture.shell(script)).status;
        assert_eq!((status, status.code()), (expected, code), "{script}");
    }
    let path = "PATH is searched in order";
    let mut process = fixture.process(&["true"]);
    process.env.0 = vec![("PATH".to_owned(), "/nowhere:/etc/passwd:/bin".to_owned())];
    assert!(fixture.run(process).status.success(), "{path}");
    let mut process = fixture.process(&["true"]);
    process.env.0.clear();
    assert!(fixture.run(process).status.success(), "without PATH the usual places are searched");
}
