//! The system calls a step may make: an allow-list compiled to classic BPF.
//!
//! [`program`] turns the names of [`profile`] into one filter for the machine's 64-bit architecture
//! and the 32-bit ones its kernel also runs. The numbers are sorted into ranges of equal answer and
//! found by binary search: the kernel runs the filter once for each call number when it is
//! installed, so a linear list would cost every step about a millisecond.
//!
//! What `socketcall` makes is not filtered: its arguments are in memory (`docs/sandbox.md`).

mod bpf;
pub(crate) mod profile;

use std::collections::BTreeMap;

use bpf::{Check, Verdict, compile};

const EPERM: u16 = 1;
const ENOSYS: u16 = 38;

/// Bits of `clone` that would make a namespace (`CLONE_NEW*`).
const CLONE_NEW_MASK: u32 = 0x7e02_0000;
/// The execution domains Docker lets a program ask for: Linux and its 32-bit view, with and without
/// `UNAME26`, and "tell me".
const PERSONALITIES: [u32; 5] = [0x0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];
/// Socket families that reach the kernel's crypto or the hypervisor.
const REFUSED_FAMILIES: [u32; 2] = [38, 40];
/// `AF_UNIX`: leads to no network.
const LOCAL_FAMILY: u32 = 1;
/// What `socketcall` is to do when it is to be `socket`.
const SOCKETCALL_SOCKET: u32 = 1;
const S_IFMT: u32 = 0o170_000;
const DEVICE_TYPES: [u32; 2] = [0o020_000, 0o060_000];

/// Looks up a call's number by its name; `None` where the architecture has no such call.
type Lookup = fn(&str) -> Option<u32>;

/// One architecture of the filter.
struct Architecture {
    /// `AUDIT_ARCH_*` as the kernel reports it.
    audit: u32,
    lookup: Lookup,
    /// Numbers beyond the table, by name.
    extra: &'static [(u32, &'static str)],
    /// A bit to ignore in numbers (x32 marks its calls with one).
    ignored_bit: u32,
}

#[cfg(target_arch = "x86_64")]
const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        audit: 0xc000_003e,
        lookup: |name| name.parse::<syscalls::x86_64::Sysno>().ok().map(|call| call.id() as u32),
        extra: profile::X32_ONLY,
        ignored_bit: 0x4000_0000,
    },
    Architecture {
        audit: 0x4000_0003,
        lookup: |name| name.parse::<syscalls::x86::Sysno>().ok().map(|call| call.id() as u32),
        extra: &[],
        ignored_bit: 0,
    },
];

#[cfg(target_arch = "aarch64")]
const ARCHITECTURES: &[Architecture] = &[
    Architecture {
        audit: 0xc000_00b7,
        lookup: |name| name.parse::<syscalls::aarch64::Sysno>().ok().map(|call| call.id() as u32),
        extra: &[],
        ignored_bit: 0,
    },
    Architecture {
        audit: 0x4000_0028,
        lookup: |name| name.parse::<syscalls::arm::Sysno>().ok().map(|call| call.id() as u32),
        extra: &[],
        ignored_bit: 0,
    },
];

/// Which identities the sandbox really has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Identities {
    /// Ids can be changed.
    Many,
    /// A user namespace with one mapped id: changing owners and ids is pretended.
    Single,
}

/// What becomes of a call for a socket that could reach a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sockets {
    Allowed,
    /// The filter's listener is asked first.
    Announced,
}

/// The filter, one instruction in each number (`struct sock_filter`, little end first).
pub(crate) fn program(identities: Identities, sockets: Sockets) -> Vec<u64> {
    let sections: Vec<_> = ARCHITECTURES
        .iter()
        .map(|architecture| {
            let rules = rules(architecture, identities, sockets);
            bpf::Section { audit: architecture.audit, ignored_bit: architecture.ignored_bit, rules }
        })
        .collect();
    compile(&sections)
}

/// What each call number is answered with, as ranges that cover every number.
fn rules(
    architecture: &Architecture,
    identities: Identities,
    sockets: Sockets,
) -> Vec<(u32, Check)> {
    let mut known: BTreeMap<u32, Check> = BTreeMap::new();
    let mut newest = 0;
    for name in words(profile::ALLOWED) {
        if let Some(number) = (architecture.lookup)(name) {
            known.insert(number, Check::always(Verdict::Allow));
            newest = newest.max(number);
        }
    }
    for (name, check) in special(identities, sockets) {
        if let Some(number) = (architecture.lookup)(name) {
            known.insert(number, check);
        }
    }
    let extra: BTreeMap<u32, Check> = architecture
        .extra
        .iter()
        .filter_map(|(number, name)| {
            let original = (architecture.lookup)(name)?;
            Some((*number, known.get(&original).cloned()?))
        })
        .collect();
    ranges(&known, newest, &extra)
}

/// Calls that are neither simply allowed nor simply refused.
fn special(identities: Identities, sockets: Sockets) -> Vec<(&'static str, Check)> {
    let mut special = vec![
        // The C library asks for `clone3` first and takes "no such call" for "use `clone`".
        ("clone3", Check::always(Verdict::Errno(ENOSYS))),
        ("clone", Check::when(0, CLONE_NEW_MASK, &[0], Verdict::Allow, Verdict::Errno(EPERM))),
        ("personality", Check::when(0, !0, &PERSONALITIES, Verdict::Allow, Verdict::Errno(EPERM))),
        ("socket", socket(sockets)),
    ];
    if sockets == Sockets::Announced {
        // Its own arguments are in memory, where a filter cannot look.
        let made = Check::when(0, !0, &[SOCKETCALL_SOCKET], Verdict::Notify, Verdict::Allow);
        special.push(("socketcall", made));
    }
    if identities == Identities::Single {
        let pretend = || Check::always(Verdict::Errno(0));
        special.extend(words(profile::PRETENDED).map(|name| (name, pretend())));
        for (name, mode) in [("mknod", 1), ("mknodat", 2)] {
            let devices =
                Check::when(mode, S_IFMT, &DEVICE_TYPES, Verdict::Errno(0), Verdict::Allow);
            special.push((name, devices));
        }
    }
    special
}

fn socket(sockets: Sockets) -> Check {
    let refused = REFUSED_FAMILIES.iter().map(|family| (*family, Verdict::Errno(EPERM)));
    match sockets {
        Sockets::Allowed => Check::cases(0, !0, refused, Verdict::Allow),
        Sockets::Announced => {
            let local = (LOCAL_FAMILY, Verdict::Allow);
            Check::cases(0, !0, refused.chain([local]), Verdict::Notify)
        }
    }
}

/// Starts of ranges of equal answer. Numbers newer than the profile do not exist for the program,
/// which then falls back; older ones it does not list are refused.
fn ranges(
    known: &BTreeMap<u32, Check>,
    newest: u32,
    extra: &BTreeMap<u32, Check>,
) -> Vec<(u32, Check)> {
    let refused = Check::always(Verdict::Errno(EPERM));
    let absent = Check::always(Verdict::Errno(ENOSYS));
    let mut ranges: Vec<(u32, Check)> = Vec::new();
    let mut push = |start: u32, check: &Check| {
        if ranges.last().is_none_or(|(_, last)| last != check) {
            ranges.push((start, check.clone()));
        }
    };
    for number in 0..=newest {
        push(number, known.get(&number).unwrap_or(&refused));
    }
    push(newest + 1, &absent);
    if let (Some((first, _)), Some((last, _))) = (extra.first_key_value(), extra.last_key_value()) {
        for number in *first..=*last {
            push(number, extra.get(&number).unwrap_or(&refused));
        }
        push(last + 1, &absent);
    }
    ranges
}

fn words(lines: &'static [&'static str]) -> impl Iterator<Item = &'static str> {
    lines.iter().flat_map(|line| line.split(' '))
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;
