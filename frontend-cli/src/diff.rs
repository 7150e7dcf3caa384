//! How a text differs from an edited one, in the form that `patch` reads.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};

use crate::terminal::harmless;

const REMOVED: Style = AnsiColor::Red.on_default();
const ADDED: Style = AnsiColor::Green.on_default();
/// Lines around a change.
const AROUND: usize = 3;

/// A line of either text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'t> {
    Same(&'t str),
    Removed(&'t str),
    Added(&'t str),
}

/// The differences of two texts; nothing where there are none.
pub fn unified(name: &str, old: &str, new: &str) -> String {
    let lines = compare(old, new);
    let mut out = String::new();
    for hunk in hunks(&lines) {
        if out.is_empty() {
            let name = harmless(name);
            let _ = write!(out, "--- {name}\n+++ {name}\n");
        }
        write_hunk(&lines, hunk, &mut out);
    }
    out
}

/// Line by line: edits change lines where they stand, and remove empty ones. What only one text has
/// at its end is removed or added.
fn compare<'t>(old: &'t str, new: &'t str) -> Vec<Line<'t>> {
    let mut lines = Vec::new();
    let (mut old, mut new) = (old.lines().peekable(), new.lines().peekable());
    loop {
        match (old.next(), new.peek().copied()) {
            (None, None) => return lines,
            (None, Some(added)) => {
                lines.push(Line::Added(added));
                new.next();
            }
            (Some(before), Some(after)) if before == after => {
                lines.push(Line::Same(before));
                new.next();
            }
            (Some(before), after) => {
                lines.push(Line::Removed(before));
                let is_gone = before.trim().is_empty();
                if let Some(after) = after.filter(|_| !is_gone) {
                    lines.push(Line::Added(after));
                    new.next();
                }
            }
        }
    }
}

/// Ranges of lines that hold the changes and what is around them.
fn hunks(lines: &[Line<'_>]) -> Vec<std::ops::Range<usize>> {
    let mut hunks: Vec<std::ops::Range<usize>> = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        if matches!(line, Line::Same(_)) {
            continue;
        }
        let (start, end) = (at.saturating_sub(AROUND), (at + AROUND + 1).min(lines.len()));
        match hunks.last_mut() {
            Some(last) if last.end >= start => last.end = end,
            _ => hunks.push(start..end),
        }
    }
    hunks
}

fn write_hunk(lines: &[Line<'_>], hunk: std::ops::Range<usize>, out: &mut String) {
    let of_old = |line: &&Line<'_>| !matches!(line, Line::Added(_));
    let of_new = |line: &&Line<'_>| !matches!(line, Line::Removed(_));
    let (before, within) = (&lines[..hunk.start], &lines[hunk]);
    let _ = writeln!(
        out,
        "@@ -{},{} +{},{} @@",
        before.iter().filter(of_old).count() + 1,
        within.iter().filter(of_old).count(),
        before.iter().filter(of_new).count() + 1,
        within.iter().filter(of_new).count()
    );
    for line in within {
        let _ = match line {
            Line::Same(text) => writeln!(out, " {}", harmless(text)),
            Line::Removed(text) => writeln!(out, "{REMOVED}-{}{REMOVED:#}", harmless(text)),
            Line::Added(text) => writeln!(out, "{ADDED}+{}{ADDED:#}", harmless(text)),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::unified;

    #[test]
    fn changes_are_shown_with_what_is_around_them() {
        let old = "1\n2\n3\n4\nfive\n\n6\n7\n8\n9\n10\n11\n12\n13\nlast\n";
        let new = "1\n2\n3\n4\nFIVE\n6\n7\n8\n9\n10\n11\n12\n13\nLAST\n";
        let plain = anstream::adapter::strip_str(&unified("File", old, new)).to_string();
        let first = "@@ -2,8 +2,7 @@\n 2\n 3\n 4\n-five\n+FIVE\n-\n 6\n 7\n 8\n";
        let second = "@@ -12,4 +11,4 @@\n 11\n 12\n 13\n-last\n+LAST\n";
        assert_eq!(plain, format!("--- File\n+++ File\n{first}{second}"));
        assert_eq!(unified("File", old, old), "");
    }
}
