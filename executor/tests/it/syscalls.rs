//! Which system calls reach the kernel from a step.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use executor::Security;

use crate::Test;
use crate::elf;
use crate::fixture::Fixture;
use crate::say;

pub(crate) const TESTS: &[Test] = &[
    ("privileged_dangerous_calls_are_refused", dangerous_calls_are_refused),
    ("privileged_32_bit_programs_run_and_are_filtered", thirty_two_bit_programs),
    ("privileged_an_insecure_step_is_not_filtered", an_insecure_step_is_not_filtered),
    ("privileged_usual_privileges_of_root_work", usual_privileges_of_root_work),
];

const EPERM: i32 = 1;
const ENOSYS: i32 = 38;
const NEW_USER: u64 = 0x1000_0000;

/// Name, number on x86-64, arguments, the answer.
const CALLS: &[(&str, u32, [u64; 3], i32)] = &[
    ("mount", 165, [0, 0, 0], EPERM),
    ("umount2", 166, [0, 0, 0], EPERM),
    ("pivot_root", 155, [0, 0, 0], EPERM),
    ("unshare", 272, [NEW_USER, 0, 0], EPERM),
    ("setns", 308, [0, 0, 0], EPERM),
    ("clone_newuser", 56, [NEW_USER | 17, 0, 0], EPERM),
    ("clone3", 435, [0, 0, 0], ENOSYS),
    ("fsopen", 430, [0, 0, 0], EPERM),
    ("open_tree", 428, [0, 0, 0], EPERM),
    ("move_mount", 429, [0, 0, 0], EPERM),
    ("mount_setattr", 442, [0, 0, 0], EPERM),
    ("open_by_handle_at", 304, [0, 0, 0], EPERM),
    ("bpf", 321, [0, 0, 0], EPERM),
    ("perf_event_open", 298, [0, 0, 0], EPERM),
    ("userfaultfd", 323, [0, 0, 0], EPERM),
    ("io_uring_setup", 425, [1, 0, 0], EPERM),
    ("io_uring_enter", 426, [0, 0, 0], EPERM),
    ("io_uring_register", 427, [0, 0, 0], EPERM),
    ("keyctl", 250, [0, 0, 0], EPERM),
    ("add_key", 248, [0, 0, 0], EPERM),
    ("request_key", 249, [0, 0, 0], EPERM),
    ("init_module", 175, [0, 0, 0], EPERM),
    ("finit_module", 313, [0, 0, 0], EPERM),
    ("delete_module", 176, [0, 0, 0], EPERM),
    ("kexec_load", 246, [0, 0, 0], EPERM),
    ("reboot", 169, [0, 0, 0], EPERM),
    ("swapon", 167, [0, 0, 0], EPERM),
    ("settimeofday", 164, [0, 0, 0], EPERM),
    ("acct", 163, [0, 0, 0], EPERM),
    ("iopl", 172, [3, 0, 0], EPERM),
    ("quotactl", 179, [0, 0, 0], EPERM),
    ("sethostname", 170, [0, 0, 0], EPERM),
    ("syslog", 103, [3, 0, 0], EPERM),
    ("move_pages", 279, [0, 0, 0], EPERM),
    ("socket_alg", 41, [38, 5, 0], EPERM),
    ("socket_vsock", 41, [40, 1, 0], EPERM),
    ("personality", 135, [0x004_0000, 0, 0], EPERM),
    ("a_call_of_tomorrow", 900, [0, 0, 0], ENOSYS),
    ("getpid_minus_one", 39, [0, 0, 0], -1),
];

fn add_program(fixture: &Fixture, name: &str, bytes: &[u8]) {
    let dir = fixture.root().join("probe");
    fs::create_dir_all(&dir).unwrap();
    fs::write(dir.join(name), bytes).unwrap();
    fs::set_permissions(dir.join(name), fs::Permissions::from_mode(0o755)).unwrap();
}

fn dangerous_calls_are_refused(fixture: &Fixture) {
    for (name, number, arguments, _) in CALLS {
        add_program(fixture, name, &elf::x86_64(*number, *arguments));
    }
    let output = fixture.output("cd /probe; for name in *; do ./$name; echo $name $?; done");
    for (name, _, _, errno) in CALLS {
        let answer = output.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
        let answer: i32 =
            answer.unwrap_or_else(|| panic!("{name} is missing: {output}")).parse().unwrap();
        match errno {
            // The process id, negated: the call was made.
            -1 => assert!(answer != EPERM && answer != ENOSYS, "{name} gave {answer}"),
            errno => assert_eq!(answer, *errno, "{name}"),
        }
    }
}

fn thirty_two_bit_programs(fixture: &Fixture) {
    for (name, number, argument) in
        [("close", 6, 99), ("mount", 21, 0), ("unshare", 310, 0x1000_0000), ("alg", 359, 38)]
    {
        add_program(fixture, name, &elf::x86(number, [argument, 5, 0]));
    }
    let output =
        fixture.output("cd /probe; for name in *; do ./$name 2>/dev/null; echo $name $?; done");
    if output.contains("close 126") {
        say("skipped: this kernel runs no 32-bit programs");
        return;
    }
    assert_eq!(output, "alg 1\nclose 9\nmount 1\nunshare 1\n");
}

fn an_insecure_step_is_not_filtered(fixture: &Fixture) {
    add_program(fixture, "clone3", &elf::x86_64(435, [0, 0, 0]));
    add_program(fixture, "keyctl", &elf::x86_64(250, [999, 0, 0]));
    let script = "grep -E 'Seccomp:|CapInh' /proc/self/status; /probe/clone3; echo $?; /probe/keyctl; echo $?";
    let mut process = fixture.shell(script);
    process.security = Security::Insecure;
    let output = fixture.output_of(process);
    // Both are turned down by the kernel itself, for their arguments.
    assert_eq!(output, "CapInh:\t0000000000000000\nSeccomp:\t0\n22\n95\n");
}

fn usual_privileges_of_root_work(fixture: &Fixture) {
    let script = "touch /f && chown 0:0 /f && chmod 4755 /f && mkdir /jail && chroot / true && \
                  mknod /pipe p && ln /f /g && echo fine";
    assert_eq!(fixture.output(script), "fine\n");
    let node = fixture.run(fixture.shell("mknod /zero c 1 5 && head -c 1 /zero"));
    assert!(!node.status.success(), "a node that the step makes cannot be opened: {node:?}");
}
