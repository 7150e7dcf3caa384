//! Programs of other architectures.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use executor::{Emulators, Executor, Host, Process, Security, SpawnError};

use super::elf;
use super::fixture::{Fixture, chain, listing};

pub(crate) const TESTS: &[super::Test] = &[
    (
        "privileged_foreign_programs_run_by_the_chosen_emulator",
        privileged_foreign_programs_run_by_the_chosen_emulator,
    ),
    (
        "privileged_a_step_with_an_emulator_has_roots_rights_over_its_files",
        privileged_a_step_with_an_emulator_has_roots_rights_over_its_files,
    ),
    (
        "privileged_an_emulator_that_cannot_be_used_is_told",
        privileged_an_emulator_that_cannot_be_used_is_told,
    ),
];

/// What the test's emulator ends with, whatever program it is given: the errno of a call that fails so.
const EMULATED: i32 = libc::EBADF;

/// A program of this machine that ends with [`EMULATED`].
fn emulator(fixture: &Fixture) -> PathBuf {
    const CLOSE: u32 = 3;
    let path = fixture.directory("emulators").join("emulator");
    write_program(&path, &elf::x86_64(CLOSE, [u64::MAX, 0, 0]));
    path
}

fn write_program(path: &Path, content: &[u8]) {
    fs::write(path, content).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Something in the root that begins as a program for arm64 does.
fn add_foreign(fixture: &Fixture) {
    let mut program = elf::x86_64(0, [0; 3]);
    program[18] = 183;
    write_program(&fixture.root().join("bin/foreign"), &program);
}

fn with_emulator(path: &Path) -> Executor {
    let chosen = [("arm64".to_owned(), path.to_owned())].into();
    Executor::new(Host::probe(), Emulators::new(chosen).unwrap()).unwrap()
}

fn for_arm64(mut process: Process) -> Process {
    process.architecture = "arm64".to_owned();
    process
}

/// How the process ended; nothing, and a word about it, where the kernel has one table for all.
fn status(executor: &Executor, process: Process) -> Option<i32> {
    match executor.spawn(process) {
        Ok(running) => Some(running.wait().unwrap().code()),
        Err(error @ SpawnError::Emulator { .. })
            if chain(&error).contains("for a sandbox alone") =>
        {
            super::say(&format!("SKIPPED: {}", chain(&error)));
            None
        }
        Err(error) => panic!("{}", chain(&error)),
    }
}

fn privileged_foreign_programs_run_by_the_chosen_emulator(fixture: &Fixture) {
    add_foreign(fixture);
    let executor = with_emulator(&emulator(fixture));
    let own = for_arm64(fixture.process(&["foreign"]));
    let Some(code) = status(&executor, own) else { return };
    assert_eq!(code, EMULATED, "as the command");
    let left = listing(&fixture.upper());
    fixture.output_of(fixture.process(&["true"]));
    assert_eq!(left, listing(&fixture.upper()), "no more than a step without one");
    // Programs of the machine's own run as ever, and start foreign ones.
    let child = for_arm64(fixture.shell(&format!("foreign; [ $? = {EMULATED} ] && exit 3")));
    assert_eq!(status(&executor, child), Some(3), "as a child");
    // Nothing of it is there for other steps, nor for the machine.
    let refused = executor.spawn(fixture.process(&["foreign"])).unwrap_err();
    assert!(chain(&refused).contains("a program for another architecture"), "{refused}");
    let outside = std::process::Command::new(fixture.root().join("bin/foreign")).status();
    assert_eq!(outside.unwrap_err().raw_os_error(), Some(libc::ENOEXEC));
}

fn privileged_a_step_with_an_emulator_has_roots_rights_over_its_files(fixture: &Fixture) {
    let executor = with_emulator(&emulator(fixture));
    let script = "set -e; [ $(id -u) = 0 ]; echo x > /own; chmod 4755 /own; mkdir -p /var/new; \
                  cd /var/new; [ \"$(pwd)\" = /var/new ]; echo 5 > /proc/self/oom_score_adj; \
                  ! mount -t tmpfs none /tmp 2>/dev/null; exit 4";
    let Some(code) = status(&executor, for_arm64(fixture.shell(script))) else { return };
    assert_eq!(code, 4);
    let made = fs::metadata(fixture.upper().join("own")).unwrap();
    assert_eq!(made.permissions().mode() & 0o7777, 0o4755);
    if !fixture.executor.host().single_id() {
        let script = "set -e; echo x > /given; chown 1000:3000 /given; \
                      [ \"$(stat -c %u:%g /given)\" = 1000:3000 ]; exit 5";
        assert_eq!(status(&executor, for_arm64(fixture.shell(script))), Some(5));
        let mut user = for_arm64(fixture.shell("[ \"$(id -u):$(id -g)\" = 1000:1000 ] && exit 6"));
        user.user = "app".to_owned();
        assert_eq!(status(&executor, user), Some(6));
    }
}

fn privileged_an_emulator_that_cannot_be_used_is_told(fixture: &Fixture) {
    add_foreign(fixture);
    let text = fixture.directory("emulators").join("text");
    fs::write(&text, "#!/bin/sh\n").unwrap();
    for (path, expected) in [
        (&*text, "is not a statically linked program of this machine"),
        (Path::new("/nosuch/emulator"), "failed to read `/nosuch/emulator`: No such file"),
    ] {
        let executor = with_emulator(path);
        let error = executor.spawn(for_arm64(fixture.process(&["foreign"]))).unwrap_err();
        let told = chain(&error);
        assert!(told.contains("programs for arm64 cannot be run: ") && told.contains(expected));
    }
    // Where none was chosen and none is known, it is told of a program that needs one, no other.
    let mut process = fixture.process(&["foreign"]);
    process.architecture = "pdp11".to_owned();
    let error = fixture.refusal(process);
    assert!(
        error.contains("nothing here runs programs for pdp11: no emulator is known for it"),
        "{error}"
    );
    let mut process = fixture.process(&["true"]);
    process.architecture = "pdp11".to_owned();
    fixture.output_of(process);
    let executor = with_emulator(&emulator(fixture));
    let mut process = for_arm64(fixture.process(&["foreign"]));
    process.security = Security::Insecure;
    let error = chain(&executor.spawn(process).unwrap_err());
    assert!(error.contains("needs one that the machine has registered"), "{error}");
}
