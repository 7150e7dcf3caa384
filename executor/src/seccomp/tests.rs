//! The filter is run in a small interpreter of its instructions.

use super::*;

const X86_64: u32 = 0xc000_003e;
const X86: u32 = 0x4000_0003;
const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0001;
const ABSENT: u32 = 0x0005_0026;
const NOTIFY: u32 = 0x7fc0_0000;
const PRETEND: u32 = 0x0005_0000;

/// What the kernel would answer.
fn run(program: &[u64], audit: u32, number: u32, arguments: [u64; 6]) -> u32 {
    let mut data = vec![number, audit, 0, 0];
    for argument in arguments {
        data.extend([argument as u32, (argument >> 32) as u32]);
    }
    let (mut accumulator, mut at) = (0_u32, 0_usize);
    loop {
        let word = program[at];
        let (code, operand) = (word as u16, (word >> 32) as u32);
        let (on_true, on_false) = ((word >> 16) as u8 as usize, (word >> 24) as u8 as usize);
        at += 1;
        let taken = match code {
            0x20 => {
                accumulator = data[operand as usize / 4];
                continue;
            }
            0x54 => {
                accumulator &= operand;
                continue;
            }
            0x05 => {
                at += operand as usize;
                continue;
            }
            0x06 => return operand,
            0x15 => accumulator == operand,
            0x35 => accumulator >= operand,
            other => panic!("unknown instruction {other:#x}"),
        };
        at += if taken { on_true } else { on_false };
    }
}

fn native(name: &str) -> u32 {
    (ARCHITECTURES[0].lookup)(name).unwrap()
}

#[test]
fn every_call_is_judged_by_name_and_argument() {
    let program = program(Identities::Many, Sockets::Allowed);
    let namespaces = 0x1000_0000;
    let cases: &[(&str, u64, u32)] = &[
        ("read", 0, ALLOW),
        ("chroot", 0, ALLOW),
        ("ptrace", 0, ALLOW),
        ("chown", 0, ALLOW),
        ("socket", 2, ALLOW),
        ("socket", 16, ALLOW),
        ("socket", 38, REFUSE),
        ("socket", 40, REFUSE),
        ("socket", 38 | 1 << 32, REFUSE),
        ("clone", 0x11, ALLOW),
        ("clone", namespaces, REFUSE),
        ("clone3", 0, ABSENT),
        ("personality", 0x2_0008, ALLOW),
        ("personality", 0x004_0000, REFUSE),
        ("mount", 0, REFUSE),
        ("unshare", 0, REFUSE),
        ("bpf", 0, REFUSE),
        ("keyctl", 0, REFUSE),
        ("io_uring_setup", 0, REFUSE),
        ("userfaultfd", 0, REFUSE),
        ("open_by_handle_at", 0, REFUSE),
        ("file_setattr", 0, ABSENT),
    ];
    for (name, argument, expected) in cases {
        let got = run(&program, X86_64, native(name), [*argument, 0, 0, 0, 0, 0]);
        assert_eq!(got, *expected, "{name}({argument:#x})");
    }
}

#[test]
fn sockets_that_reach_a_network_are_announced() {
    let program = program(Identities::Many, Sockets::Announced);
    let socketcall = (ARCHITECTURES[1].lookup)("socketcall").unwrap();
    for (audit, number, argument, expected) in [
        (X86_64, native("socket"), 1, ALLOW),
        (X86_64, native("socket"), 2, NOTIFY),
        (X86_64, native("socket"), 10, NOTIFY),
        (X86_64, native("socket"), 16, NOTIFY),
        (X86_64, native("socket"), 2 | 1 << 32, NOTIFY),
        (X86_64, native("socket"), 38, REFUSE),
        (X86_64, native("socketpair"), 1, ALLOW),
        (X86_64, native("connect"), 1, ALLOW),
        (X86, socketcall, 1, NOTIFY),
        (X86, socketcall, 3, ALLOW),
    ] {
        let got = run(&program, audit, number, [argument, 0, 0, 0, 0, 0]);
        assert_eq!(got, expected, "{audit:#x} {number}({argument:#x})");
    }
}

#[test]
fn the_whole_list_is_allowed_and_the_rest_is_not() {
    let program = program(Identities::Many, Sockets::Allowed);
    let conditional = ["clone", "socket", "personality"];
    let allowed: Vec<u32> =
        words(profile::ALLOWED).chain(conditional).filter_map(ARCHITECTURES[0].lookup).collect();
    for number in 0..1000 {
        let answer = run(&program, X86_64, number, [0; 6]);
        let x32 = profile::X32_ONLY.iter().any(|(extra, _)| *extra == number);
        assert_eq!(answer == ALLOW, allowed.contains(&number) || x32, "number {number}");
    }
}

#[test]
fn names_are_listed_once_and_exist_somewhere() {
    let mut seen = std::collections::BTreeSet::new();
    for name in words(profile::ALLOWED) {
        assert!(seen.insert(name), "`{name}` is listed twice");
    }
    let unknown: Vec<_> = seen
        .into_iter()
        .filter(|name| ARCHITECTURES.iter().all(|arch| (arch.lookup)(name).is_none()))
        .collect();
    let arm = ["arm_fadvise64_64", "arm_sync_file_range", "breakpoint", "cacheflush", "set_tls"];
    for name in unknown {
        let elsewhere = arm.contains(&name)
            || matches!(name, "sync_file_range2" | "utimensat_time64" | "recv" | "send");
        assert!(elsewhere || name.ends_with("_time64"), "`{name}` exists nowhere");
    }
}

#[test]
fn thirty_two_bit_and_x32_programs_have_the_same_rules() {
    let program = program(Identities::Many, Sockets::Allowed);
    let x86 = |name| (ARCHITECTURES[1].lookup)(name).unwrap();
    assert_eq!(run(&program, X86, x86("mmap2"), [0; 6]), ALLOW);
    assert_eq!(run(&program, X86, x86("mount"), [0; 6]), REFUSE);
    assert_eq!(run(&program, X86, x86("socket"), [38, 0, 0, 0, 0, 0]), REFUSE);
    assert_eq!(run(&program, X86_64, 0x4000_0000 | native("read"), [0; 6]), ALLOW);
    assert_eq!(run(&program, X86_64, 0x4000_0000 | native("mount"), [0; 6]), REFUSE);
    assert_eq!(run(&program, X86_64, 0x4000_0000 | 520, [0; 6]), ALLOW);
    assert_eq!(run(&program, X86_64, 0x4000_0000 | 528, [0; 6]), REFUSE);
    assert_eq!(run(&program, X86_64, u32::MAX, [0; 6]), ABSENT);
    assert_eq!(run(&program, 0xdead, 0, [0; 6]), 0x8000_0000);
}

#[test]
fn one_mapped_id_pretends_to_change_owners() {
    let program = program(Identities::Single, Sockets::Allowed);
    let cases: &[(&str, [u64; 6], u32)] = &[
        ("chown", [0, 5, 5, 0, 0, 0], PRETEND),
        ("fchownat", [0; 6], PRETEND),
        ("setresuid", [42, 42, 42, 0, 0, 0], PRETEND),
        ("setgroups", [0; 6], PRETEND),
        ("mknod", [0, 0o020_666, 0, 0, 0, 0], PRETEND),
        ("mknodat", [0, 0, 0o060_600, 0, 0, 0], PRETEND),
        ("mknod", [0, 0o010_666, 0, 0, 0, 0], ALLOW),
        ("mknodat", [0, 0, 0o100_644, 0, 0, 0], ALLOW),
        ("chmod", [0; 6], ALLOW),
    ];
    for (name, arguments, expected) in cases {
        assert_eq!(run(&program, X86_64, native(name), *arguments), *expected, "{name}");
    }
}

#[test]
fn the_search_is_shallow() {
    let program = program(Identities::Many, Sockets::Allowed);
    assert!(program.len() < 800, "{} instructions", program.len());
}
