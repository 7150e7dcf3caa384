//! `--chmod`.

use super::fault::{Fallible, Fault};

/// Permissions for what is copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mode {
    /// Permission bits, up to 0o7777.
    Bits(u32),
    /// Changes to those of the source: `u=rwX,go=rX`.
    Symbolic(String),
}

/// Reads an octal number or a symbolic mode.
pub(super) fn parse(text: &str) -> Fallible<Mode> {
    let out_of_range = || {
        Fault::new(format!(
            "invalid chmod parameter: '{text}'. it should be octal string and between 0 and 07777"
        ))
        .with_hint("write `--chmod=755`, or `--chmod=u=rwX,go=rX`")
    };
    match u32::from_str_radix(text, 8) {
        // Rust would take a sign, too.
        Ok(bits) if !text.starts_with('+') => match bits {
            0..=0o7777 => Ok(Mode::Bits(bits)),
            _ => Err(out_of_range()),
        },
        _ if text.starts_with(|c: char| c.is_ascii_digit()) => Err(out_of_range()),
        _ if text.split(',').all(is_clause) => Ok(Mode::Symbolic(text.to_owned())),
        _ => Err(Fault::new(format!("invalid chmod parameter: '{text}'"))
            .with_hint(format!("`{text}` is neither octal nor like `u=rwX,go=rX`"))),
    }
}

/// Who, then operators, each with its permissions.
fn is_clause(clause: &str) -> bool {
    let actions = clause.trim_start_matches(['u', 'g', 'o', 'a']);
    actions.starts_with(['+', '-', '='])
        && actions.chars().all(|c| matches!(c, '+' | '-' | '=') || "rwxXstugo".contains(c))
}

#[cfg(test)]
mod tests {
    use super::{Mode, parse};

    #[test]
    fn modes_are_octal_or_symbolic() {
        for (text, bits) in [("0", 0), ("755", 0o755), ("07777", 0o7777)] {
            assert_eq!(parse(text).expect(text), Mode::Bits(bits));
        }
        for text in ["u=rwX,go=rX", "+x", "a-w", "u+s,+t", "g=u", "ug+rw-x", "="] {
            assert_eq!(parse(text).expect(text), Mode::Symbolic(text.to_owned()));
        }
        for text in ["64a", "10000", "u", "u=rwX,", "z=r", "", "+7", "u=a"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
