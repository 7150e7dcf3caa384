//! Symbolic modes, as `chmod` takes them: `u=rwX,go=rX`, `a+x`, `g=u-w`, `+t`.

/// A string that is no mode.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid mode `{0}`: want an octal number, or letters as in `u=rwX,go=rX`")]
pub struct InvalidMode(pub String);

const USER: u32 = 0o4700;
const GROUP: u32 = 0o2070;
const OTHER: u32 = 0o0007;
const ALL: u32 = USER | GROUP | OTHER;
const STICKY: u32 = 0o1000;
const READ: u32 = 0o444;
const WRITE: u32 = 0o222;
const EXECUTE: u32 = 0o111;
const SET_ID: u32 = 0o6000;

/// A parsed mode.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SymbolicMode(Vec<Change>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Set(u32),
    Clear(u32),
    /// Sets where the file is a directory or could be executed by somebody before.
    SetIfExecutable(u32),
    /// Takes the permissions of the class `from` (a shift) to those in `who`.
    Copy {
        from: u32,
        who: u32,
        action: Action,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Add,
    Remove,
    Assign,
}

impl SymbolicMode {
    /// Reads `text`. The process's umask plays no part.
    pub fn parse(text: &str) -> Result<Self, InvalidMode> {
        let invalid = || InvalidMode(text.chars().take(100).collect());
        if text.starts_with(|c: char| c.is_ascii_digit()) {
            let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
            let mode = mode.ok_or_else(invalid)?;
            return Ok(Self(vec![Change::Clear(ALL | STICKY), Change::Set(mode)]));
        }
        let mut changes = Vec::new();
        for clause in text.split(',') {
            let letters = clause.trim_start_matches(['u', 'g', 'o', 'a']);
            let who = clause[..clause.len() - letters.len()].bytes().map(class).sum_bits();
            if !letters.starts_with(['+', '-', '=']) {
                return Err(invalid());
            }
            clause_changes(who, letters, &mut changes).ok_or_else(invalid)?;
        }
        Ok(Self(changes))
    }

    /// `mode` with the changes made.
    pub fn apply(&self, mode: u32, is_directory: bool) -> u32 {
        let executable = is_directory || mode & EXECUTE != 0;
        self.0.iter().fold(mode, |now, change| match *change {
            Change::Set(bits) => now | bits,
            Change::Clear(bits) => now & !bits,
            Change::SetIfExecutable(bits) if executable => now | bits,
            Change::SetIfExecutable(_) => now,
            Change::Copy { from, who, action } => {
                let value = now >> from & 0o7;
                let spread = (value << 6 | value << 3 | value) & who;
                match action {
                    Action::Add => now | spread,
                    Action::Remove => now & !spread,
                    Action::Assign => now & !(who & 0o777) | spread,
                }
            }
        })
    }
}

trait SumBits {
    fn sum_bits(self) -> u32;
}

impl<I: Iterator<Item = u32>> SumBits for I {
    fn sum_bits(self) -> u32 {
        self.fold(0, |all, bits| all | bits)
    }
}

fn class(letter: u8) -> u32 {
    match letter {
        b'u' => USER,
        b'g' => GROUP,
        b'o' => OTHER,
        _ => ALL,
    }
}

/// The changes of one clause after its `who`: one or more of an operator and its letters.
fn clause_changes(who: u32, text: &str, changes: &mut Vec<Change>) -> Option<()> {
    let mut letters = text.bytes().peekable();
    while let Some(operator) = letters.next() {
        let action = match operator {
            b'+' => Action::Add,
            b'-' => Action::Remove,
            b'=' => Action::Assign,
            _ => return None,
        };
        let (mut named, mut conditional, mut sticky) = (0, 0, 0);
        let mut copies = Vec::new();
        while let Some(letter) = letters.next_if(|letter| !b"+-=".contains(letter)) {
            match letter {
                b'r' => named |= READ,
                b'w' => named |= WRITE,
                b'x' => named |= EXECUTE,
                b'X' if action == Action::Remove => named |= EXECUTE,
                b'X' => conditional |= EXECUTE,
                // Others have neither set-id nor sticky bits.
                b's' if who == OTHER => {}
                b's' => named |= SET_ID,
                b't' if who == OTHER => {}
                b't' => sticky = STICKY,
                b'u' => copies.push(6),
                b'g' => copies.push(3),
                b'o' => copies.push(0),
                _ => return None,
            }
        }
        let all = if who == 0 { ALL } else { who };
        let bits = named & all | sticky;
        match action {
            Action::Assign if copies.is_empty() || bits != 0 => {
                changes.push(Change::Clear(all | sticky));
                changes.push(Change::Set(bits));
            }
            Action::Assign => {}
            Action::Add => changes.push(Change::Set(bits)),
            Action::Remove => changes.push(Change::Clear(bits)),
        }
        if conditional != 0 {
            changes.push(Change::SetIfExecutable(conditional & all));
        }
        for from in copies {
            changes.push(Change::Copy { from, who: all & 0o777, action });
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_change_as_chmod_changes_them() {
        for (text, mode, directory, want) in [
            ("u=rwX,go=rX", 0o600, false, 0o644),
            ("u=rwX,go=rX", 0o700, false, 0o755),
            ("u=rwX,go=rX", 0o600, true, 0o755),
            ("a+x", 0o644, false, 0o755),
            ("+x", 0o644, false, 0o755),
            ("go-w", 0o666, false, 0o644),
            ("go=", 0o777, false, 0o700),
            ("go=u-w", 0o640, false, 0o644),
            ("g=u", 0o750, false, 0o770),
            ("o=g", 0o750, false, 0o755),
            ("u+s", 0o755, false, 0o4755),
            ("g+s", 0o755, false, 0o2755),
            ("o+s", 0o755, false, 0o755),
            ("+t", 0o777, true, 0o1777),
            ("u=rw", 0o4755, false, 0o655),
            ("a=r", 0o777, false, 0o444),
            ("=rw,+X", 0o755, false, 0o777),
            ("=rw,+X", 0o644, false, 0o666),
            ("u+w-x", 0o500, false, 0o600),
            ("0640", 0o777, false, 0o640),
            ("755", 0o4600, false, 0o755),
        ] {
            let parsed = SymbolicMode::parse(text).unwrap();
            assert_eq!(
                format!("{:o}", parsed.apply(mode, directory)),
                format!("{want:o}"),
                "{text}"
            );
        }
        for bad in ["", "u", "rwx", "u+q", "u=rw,", ",u=r", "99", "u=rw go=r", "10000"] {
            assert!(SymbolicMode::parse(bad).is_err(), "{bad}");
        }
    }
}
