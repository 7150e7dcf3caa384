//! Which devices a sandbox may open: Docker's short list, held by the kernel for all members of a
//! group.
//!
//! A node that a step makes with `mknod` is a file like any other, and the mounts of a sandbox need
//! not refuse devices, which tools that make root file systems take amiss. Version 2 asks a program of
//! ours at each use of a device; version 1 has lists.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;

use super::hierarchy::{Hierarchy, Version};
use super::name;
use crate::device::Granted;
use crate::sys;

/// Character devices that may be used, by major and minor number. Nodes may be made for any.
const ALLOWED: [(u32, Option<u32>); 9] = [
    // null, zero, full, random, urandom
    (1, Some(3)),
    (1, Some(5)),
    (1, Some(7)),
    (1, Some(8)),
    (1, Some(9)),
    // The terminal that a process has, the maker of terminals, and those that it makes.
    (5, Some(0)),
    (5, Some(2)),
    (136, None),
    // Network interfaces in memory, for processes that may make them.
    (10, Some(200)),
];

/// What holds a group to the list.
#[derive(Debug, Clone)]
pub(super) enum Guard {
    /// Version 2: the program that answers.
    Program(Arc<OwnedFd>),
    /// Version 1.
    List,
}

impl Guard {
    /// What works in this hierarchy: tried on a group that is removed again.
    pub(super) fn find(hierarchy: &Hierarchy) -> Option<Self> {
        let guard = match hierarchy.version {
            Version::Two => Self::Program(Arc::new(sys::load_device_program(&program(&[])).ok()?)),
            Version::One if hierarchy.has("devices") => Self::List,
            Version::One => return None,
        };
        let trial = hierarchy.base.join(name::unique());
        fs::create_dir(&trial).ok()?;
        let put_on = guard.put_on(&trial, &[]);
        // What cannot be removed now is removed by the next start of the program.
        let _ = fs::remove_dir(&trial);
        put_on.ok().map(|()| guard)
    }

    /// Holds `group` to the list and `more`.
    pub(super) fn put_on(&self, group: &Path, more: &[Granted]) -> io::Result<()> {
        match self {
            Self::Program(few) => {
                let group = File::open(group)?;
                if more.is_empty() {
                    return sys::attach_device_program(group.as_fd(), few.as_fd());
                }
                let longer = sys::load_device_program(&program(more))?;
                sys::attach_device_program(group.as_fd(), longer.as_fd())
            }
            Self::List => {
                fs::write(group.join("devices.deny"), "a")?;
                lines(more).try_for_each(|line| fs::write(group.join("devices.allow"), line))
            }
        }
    }
}

/// The list in the words of version 1.
fn lines(more: &[Granted]) -> impl Iterator<Item = String> {
    let more = more.iter().map(|Granted { number, access }| {
        let kind = if number.is_block { 'b' } else { 'c' };
        let (read, write) =
            (if access.read { "r" } else { "" }, if access.write { "w" } else { "" });
        format!("{kind} {}:{} {read}{write}m", number.major, number.minor)
    });
    let nodes = ["c *:* m", "b *:* m"].map(str::to_owned);
    let devices = ALLOWED.iter().map(|(major, minor)| match minor {
        Some(minor) => format!("c {major}:{minor} rwm"),
        None => format!("c {major}:* rwm"),
    });
    nodes.into_iter().chain(devices).chain(more)
}

/// Operations of the kernel's virtual machine (`bpf_common.h`, `bpf.h`).
mod operation {
    pub(super) const LOAD_WORD: u8 = 0x61;
    pub(super) const AND: u8 = 0x57;
    pub(super) const SHIFT_RIGHT: u8 = 0x77;
    pub(super) const SET: u8 = 0xb7;
    pub(super) const COPY: u8 = 0xbf;
    pub(super) const JUMP_UNLESS_EQUAL: u8 = 0x55;
    pub(super) const EXIT: u8 = 0x95;
}

/// Registers: the answer, the question (`struct bpf_cgroup_dev_ctx`), and its parts.
const ANSWER: u8 = 0;
const QUESTION: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
/// What is asked for beyond what is allowed.
const BEYOND: u8 = 6;

const MAKE_NODE: u32 = 1;
const READ: u32 = 2;
const WRITE: u32 = 4;
const BLOCK_DEVICE: u32 = 1;
const CHARACTER_DEVICE: u32 = 2;

/// The list and `more` as a program of version 2, one instruction in each number: it answers 1 or 0.
fn program(more: &[Granted]) -> Vec<u64> {
    use operation::*;
    let mut program = vec![
        instruction(LOAD_WORD, (KIND, QUESTION), 0, 0),
        instruction(LOAD_WORD, (MAJOR, QUESTION), 4, 0),
        instruction(LOAD_WORD, (MINOR, QUESTION), 8, 0),
        // The first word has the kind of device below, what is asked for above.
        instruction(COPY, (ACCESS, KIND), 0, 0),
        instruction(SHIFT_RIGHT, (ACCESS, 0), 0, 16),
        instruction(AND, (KIND, 0), 0, 0xffff),
    ];
    program.extend(when(&[(ACCESS, MAKE_NODE)]));
    for (major, minor) in ALLOWED {
        let minor = minor.map(|minor| (MINOR, minor));
        let device = [(KIND, CHARACTER_DEVICE), (MAJOR, major)];
        program.extend(when(&device.into_iter().chain(minor).collect::<Vec<_>>()));
    }
    for Granted { number, access } in more {
        let allowed =
            MAKE_NODE | if access.read { READ } else { 0 } | if access.write { WRITE } else { 0 };
        program.push(instruction(COPY, (BEYOND, ACCESS), 0, 0));
        program.push(instruction(AND, (BEYOND, 0), 0, (MAKE_NODE | READ | WRITE) & !allowed));
        let kind = if number.is_block { BLOCK_DEVICE } else { CHARACTER_DEVICE };
        let device = [(BEYOND, 0), (KIND, kind), (MAJOR, number.major), (MINOR, number.minor)];
        program.extend(when(&device));
    }
    program.extend(answer(0));
    program
}

/// Answers yes if each register has its value, and goes on otherwise.
fn when(conditions: &[(u8, u32)]) -> impl Iterator<Item = u64> {
    let end = conditions.len() as i16 + 2;
    let jump = move |(at, (register, value)): (i16, &(u8, u32))| {
        instruction(operation::JUMP_UNLESS_EQUAL, (*register, 0), end - at - 1, *value)
    };
    let jumps: Vec<u64> = (0..).zip(conditions).map(jump).collect();
    jumps.into_iter().chain(answer(1))
}

fn answer(value: u32) -> [u64; 2] {
    [instruction(operation::SET, (ANSWER, 0), 0, value), instruction(operation::EXIT, (0, 0), 0, 0)]
}

/// `struct bpf_insn`, little end first.
fn instruction(operation: u8, (to, from): (u8, u8), offset: i16, value: u32) -> u64 {
    let offset = u64::from(offset.cast_unsigned());
    u64::from(operation) | u64::from(to | from << 4) << 8 | offset << 16 | u64::from(value) << 32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{DeviceAccess, DeviceNumber};

    /// Runs the program as the kernel would.
    fn asked(more: &[Granted], access: u32, kind: u32, major: u32, minor: u32) -> u64 {
        use operation::*;
        let question = [access << 16 | kind, major, minor].map(u64::from);
        let program = program(more);
        let mut registers = [0_u64; 7];
        let mut at = 0;
        loop {
            let word = program[at];
            let [code, registers_named, ..] = word.to_le_bytes();
            let (to, from) = (usize::from(registers_named & 15), usize::from(registers_named >> 4));
            let (offset, value) = ((word >> 16) as u16 as usize, word >> 32);
            at += 1;
            match code {
                LOAD_WORD => registers[to] = question[offset / 4],
                AND => registers[to] &= value,
                SHIFT_RIGHT => registers[to] >>= value,
                SET => registers[to] = value,
                COPY => registers[to] = registers[from],
                JUMP_UNLESS_EQUAL if registers[to] != value => at += offset,
                JUMP_UNLESS_EQUAL => {}
                EXIT => return registers[0],
                other => panic!("operation {other:#x}"),
            }
        }
    }

    #[test]
    fn the_program_knows_the_list() {
        let (read, write, block, character) = (READ, WRITE, BLOCK_DEVICE, CHARACTER_DEVICE);
        for (access, kind, major, minor, expected) in [
            (MAKE_NODE, block, 8, 0, 1),
            (MAKE_NODE, character, 1, 1, 1),
            (MAKE_NODE | read, block, 8, 0, 0),
            (read, character, 1, 3, 1),
            (read | write, character, 1, 9, 1),
            (read | write, character, 136, 77, 1),
            (write, character, 10, 200, 1),
            // Memory, the host's console, disks.
            (read, character, 1, 1, 0),
            (write, character, 5, 1, 0),
            (read, block, 254, 0, 0),
            (read, block, 1, 3, 0),
        ] {
            let answer = asked(&[], access, kind, major, minor);
            assert_eq!(answer, expected, "{access} {kind} {major}:{minor}");
            assert_eq!(asked(&MORE, access, kind, major, minor), expected);
        }
    }

    const MORE: [Granted; 2] = [
        Granted {
            number: DeviceNumber { is_block: false, major: 10, minor: 229 },
            access: DeviceAccess { read: true, write: true },
        },
        Granted {
            number: DeviceNumber { is_block: true, major: 7, minor: 1 },
            access: DeviceAccess { read: true, write: false },
        },
    ];

    #[test]
    fn more_devices_are_granted_with_what_may_be_done() {
        for (access, kind, major, minor, expected) in [
            (READ | WRITE, CHARACTER_DEVICE, 10, 229, 1),
            (READ, BLOCK_DEVICE, 7, 1, 1),
            (MAKE_NODE | READ, BLOCK_DEVICE, 7, 1, 1),
            (WRITE, BLOCK_DEVICE, 7, 1, 0),
            (READ | WRITE, BLOCK_DEVICE, 7, 1, 0),
            (READ, BLOCK_DEVICE, 7, 2, 0),
            (READ, BLOCK_DEVICE, 10, 229, 0),
        ] {
            assert_eq!(asked(&MORE, access, kind, major, minor), expected, "{access} {kind}");
            let without = u64::from(access == MAKE_NODE);
            assert_eq!(asked(&[], access, kind, major, minor), without);
        }
        let lines: Vec<_> = lines(&MORE).collect();
        assert_eq!(lines[lines.len() - 2..], ["c 10:229 rwm", "b 7:1 rm"]);
    }

    #[test]
    fn the_lists_of_version_1_say_the_same() {
        let lines: Vec<_> = lines(&[]).collect();
        assert_eq!(lines[..4], ["c *:* m", "b *:* m", "c 1:3 rwm", "c 1:5 rwm"]);
        assert_eq!(lines.len(), ALLOWED.len() + 2);
        assert!(lines.contains(&"c 136:* rwm".to_owned()));
    }
}
