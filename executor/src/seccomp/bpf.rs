//! A small compiler from ranges of call numbers to classic BPF.

/// What the kernel does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Allow,
    /// The call does nothing and gives this errno; 0 is a pretended success.
    Errno(u16),
    /// The call waits until the filter's listener has decided about it.
    Notify,
}

/// How one call is judged: by the low half of one argument, or always the same.
///
/// Only the low half is looked at because the kernel itself takes these arguments as 32-bit values:
/// comparing 64 bits would let a call with rubbish in the high half slip through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Check {
    argument: u8,
    mask: u32,
    cases: Vec<(u32, Verdict)>,
    otherwise: Verdict,
}

impl Check {
    pub(super) fn always(verdict: Verdict) -> Self {
        Self { argument: 0, mask: 0, cases: Vec::new(), otherwise: verdict }
    }

    /// `hit` when `argument & mask` is one of `values`, else `miss`.
    pub(super) fn when(
        argument: u8,
        mask: u32,
        values: &[u32],
        hit: Verdict,
        miss: Verdict,
    ) -> Self {
        Self::cases(argument, mask, values.iter().map(|value| (*value, hit)), miss)
    }

    /// What `argument & mask` is among `cases`.
    pub(super) fn cases(
        argument: u8,
        mask: u32,
        cases: impl IntoIterator<Item = (u32, Verdict)>,
        otherwise: Verdict,
    ) -> Self {
        Self { argument, mask, cases: cases.into_iter().collect(), otherwise }
    }
}

/// The rules of one architecture: starts of ranges, ascending, the first at 0.
pub(super) struct Section {
    pub(super) audit: u32,
    pub(super) ignored_bit: u32,
    pub(super) rules: Vec<(u32, Check)>,
}

const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER_OR_EQUAL: u16 = 0x35;
const RETURN: u16 = 0x06;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const RET_ALLOW: u32 = 0x7fff_0000;
const RET_USER_NOTIF: u32 = 0x7fc0_0000;
const RET_ERRNO: u32 = 0x0005_0000;
const RET_KILL_PROCESS: u32 = 0x8000_0000;

fn instruction(code: u16, on_true: u8, on_false: u8, operand: u32) -> u64 {
    u64::from(code)
        | u64::from(on_true) << 16
        | u64::from(on_false) << 24
        | u64::from(operand) << 32
}

/// One program: pick the architecture, then search the number. A call by an architecture that the
/// filter does not know kills the process, as there is no telling what it asked for.
pub(super) fn compile(sections: &[Section]) -> Vec<u64> {
    let mut program = vec![instruction(LOAD, 0, 0, ARCHITECTURE)];
    for section in sections {
        let mut body = vec![instruction(LOAD, 0, 0, NUMBER)];
        if section.ignored_bit != 0 {
            body.push(instruction(AND, 0, 0, !section.ignored_bit));
        }
        body.extend(search(&section.rules));
        program.push(instruction(JUMP_EQUAL, 1, 0, section.audit));
        program.push(instruction(JUMP, 0, 0, length(&body)));
        program.extend(body);
    }
    program.push(instruction(RETURN, 0, 0, RET_KILL_PROCESS));
    program
}

/// Binary search over the starts of the ranges.
fn search(rules: &[(u32, Check)]) -> Vec<u64> {
    if let [(_, check)] = rules {
        return judge(check);
    }
    let (low, high) = rules.split_at(rules.len() / 2);
    let below = search(low);
    let mut program = vec![
        instruction(JUMP_GREATER_OR_EQUAL, 0, 1, high[0].0),
        // A conditional jump reaches 255 instructions only; this one reaches everywhere.
        instruction(JUMP, 0, 0, length(&below)),
    ];
    program.extend(below);
    program.extend(search(high));
    program
}

fn judge(check: &Check) -> Vec<u64> {
    if check.cases.is_empty() {
        return vec![answer(check.otherwise)];
    }
    // Classic BPF loads 32 bits; on a little-endian machine the low half comes first.
    let mut program = vec![instruction(LOAD, 0, 0, ARGUMENTS + 8 * u32::from(check.argument))];
    if check.mask != !0 {
        program.push(instruction(AND, 0, 0, check.mask));
    }
    for (value, verdict) in &check.cases {
        program.push(instruction(JUMP_EQUAL, 0, 1, *value));
        program.push(answer(*verdict));
    }
    program.push(answer(check.otherwise));
    program
}

fn answer(verdict: Verdict) -> u64 {
    let operand = match verdict {
        Verdict::Allow => RET_ALLOW,
        Verdict::Errno(errno) => RET_ERRNO | u32::from(errno),
        Verdict::Notify => RET_USER_NOTIF,
    };
    instruction(RETURN, 0, 0, operand)
}

fn length(program: &[u64]) -> u32 {
    u32::try_from(program.len()).expect("a filter has at most 4096 instructions")
}
