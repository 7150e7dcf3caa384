//! Which system calls reach the kernel from a step.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use executor::{Limits, Security};

use crate::Test;
use crate::elf;
use crate::fixture::Fixture;
use crate::say;

pub(crate) const TESTS: &[Test] = &[
    ("privileged_dangerous_calls_are_refused", dangerous_calls_are_refused),
    ("privileged_32_bit_programs_run_and_are_filtered", thirty_two_bit_programs),
    ("privileged_old_32_bit_programs_get_sockets", sockets_of_old_programs),
    ("privileged_nodes_work_for_harmless_devices_only", nodes_of_devices),
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

/// Old 32-bit programs have no other way to a socket, so the call is not refused; which family they
/// ask for is in memory, where no filter can look.
fn sockets_of_old_programs(fixture: &Fixture) {
    const AF_UNIX: u32 = 1;
    const AF_INET: u32 = 2;
    const AF_ALG: u32 = 38;
    let programs = [("alg", AF_ALG, 5), ("inet", AF_INET, 2), ("unix", AF_UNIX, 1)].map(
        |(name, family, kind)| {
            add_program(fixture, name, &elf::x86_socketcall(family, kind));
            name
        },
    );
    let outside = |name: &str| {
        let status = std::process::Command::new(fixture.root().join("probe").join(name)).status();
        status.ok().and_then(|status| status.code())
    };
    let Some([alg, inet, unix]) = programs
        .map(outside)
        .into_iter()
        .collect::<Option<Vec<_>>>()
        .and_then(|codes| <[i32; 3]>::try_from(codes).ok())
    else {
        say("skipped: this kernel runs no 32-bit programs");
        return;
    };
    // A descriptor, negated.
    assert!(inet > 200 && unix > 200, "this machine has sockets: {inet} {unix}");
    let output = fixture.output("cd /probe; for name in *; do ./$name; echo $name $?; done");
    let answers: Vec<i32> =
        output.lines().map(|line| line.split_once(' ').unwrap().1.parse().unwrap()).collect();
    assert!(answers[1] > 200 && answers[2] > 200, "{output}");
    // What is documented as not filtered: the kernel itself answers.
    assert_eq!(answers[0] > 200, alg > 200, "{output}, and {alg} outside");
    assert_eq!(answers[0] == EPERM, alg == EPERM, "{output}, and {alg} outside");
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
}

/// Nodes that a step makes, on its root and in `/dev`: those of Docker's list open, no others do.
fn nodes_of_devices(fixture: &Fixture) {
    if fixture.executor.host().rootless() {
        let node = fixture.run(fixture.shell("mknod /zero c 1 5; head -c 1 /zero"));
        assert!(!node.status.success(), "in a user namespace no node opens: {node:?}");
        return;
    }
    let disk = fs::metadata("/").unwrap().dev();
    let (major, minor) = (rustix::fs::major(disk), rustix::fs::minor(disk));
    let script = format!(
        "node() {{ mknod $1 $2 $3 $4 && (head -c 1 $1 >/dev/null && echo $1 opens) 2>&1; }}
         node /zero c 1 5; node /dev/urandom2 c 1 9
         node /mem c 1 1; node /kmsg c 1 11; node /console c 5 1; node /null b 1 3
         node /disk b {major} {minor}; node /dev/disk b {major} {minor}; node /fuse c 10 229; true"
    );
    let refused = |name: &str, why: &str| format!("head: {name}: {why}\n");
    let kept = ["/mem", "/kmsg", "/console", "/null", "/disk", "/dev/disk", "/fuse"];
    let expected = match fixture.executor.guards_devices() {
        true => {
            let kept = kept.map(|name| refused(name, "Operation not permitted"));
            format!("/zero opens\n/dev/urandom2 opens\n{}", kept.concat())
        }
        false => {
            say("nothing guards devices here: no node can be opened");
            let nodes = ["/zero", "/dev/urandom2"].into_iter().chain(kept);
            nodes.map(|name| refused(name, "Permission denied")).collect()
        }
    };
    for limits in [Limits::default(), Limits { pids: Some(100), ..Limits::default() }] {
        if limits.pids.is_some() && !fixture.executor.limits().contains(&"pids") {
            continue;
        }
        let mut process = fixture.shell(&script);
        process.limits = limits;
        assert_eq!(fixture.output_of(process), expected);
    }
    let mut process = fixture.shell("mknod /kmsg c 1 11 && : </kmsg && echo opens");
    process.security = Security::Insecure;
    assert_eq!(fixture.output_of(process), "opens\n");
}
