//! What may help when a process has failed, by how it ended and what it said last.

use executor::ExitStatus;

/// What may help when a process ended so, having written `tail` last. The message and the log say
/// the rest.
pub(crate) fn exit_hint(status: ExitStatus, tail: &[String]) -> Option<String> {
    let hint = match status.code() {
        126 => "a program is there but cannot be run: look at its mode (`chmod +x`), its first \
                     line (`#!`) and its architecture"
            .to_owned(),
        127 => match tail.iter().rev().find_map(|line| missing_program(line)) {
            Some(program) => {
                format!(
                    "`{program}` is not in the image: install it in an earlier step, or mind PATH"
                )
            }
            None => "a program is not in the image: install it in an earlier step, or mind PATH"
                .to_owned(),
        },
        137 => "it was killed (SIGKILL): the machine may have run out of memory".to_owned(),
        _ => return None,
    };
    Some(hint)
}

/// The program in a shell's complaint: `/bin/sh: 1: make: not found`, `sh: line 3: make: command not
/// found`.
fn missing_program(line: &str) -> Option<&str> {
    let line = line.trim_end();
    let told =
        line.strip_suffix(": command not found").or_else(|| line.strip_suffix(": not found"))?;
    let program = told.rsplit_once(": ")?.1.trim();
    (!program.is_empty() && !program.contains(char::is_whitespace)).then_some(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_name_what_is_missing() {
        for (status, line, expected) in [
            (
                ExitStatus::Exited(127),
                "/bin/sh: 1: make: not found",
                Some("`make` is not in the image"),
            ),
            (ExitStatus::Exited(127), "bash: line 1: gcc: command not found", Some("`gcc` is not")),
            (ExitStatus::Exited(127), "sh: foo: not found\r", Some("`foo` is not")),
            (ExitStatus::Exited(127), "no idea", Some("a program is not in the image")),
            (ExitStatus::Exited(126), "", Some("chmod +x")),
            (ExitStatus::Signaled(9), "", Some("run out of memory")),
            (ExitStatus::Exited(1), "curl: (6) Could not resolve host: not found", None),
        ] {
            let hint = exit_hint(status, &["first".to_owned(), line.to_owned()]);
            match expected {
                Some(part) => {
                    assert!(hint.as_ref().is_some_and(|h| h.contains(part)), "{line}: {hint:?}")
                }
                None => assert_eq!(hint, None),
            }
        }
    }
}
