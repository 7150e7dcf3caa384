//! A step's output, cut into lines that are safe to show.

use std::time::Duration;

use crate::terminal;

/// A line longer than this is cut, and says so: nobody reads it, and memory is bounded.
const LINE_MAX: usize = 16 << 10;

/// Collects bytes until a line is whole. A lone carriage return starts the line again, as on a
/// terminal, so that a progress bar is one line.
#[derive(Debug, Default)]
pub(crate) struct Lines {
    partial: Vec<u8>,
    /// Bytes of it that were left out.
    cut: usize,
    /// When the partial line began, and whether a carriage return is its last byte.
    since: Duration,
    returned: bool,
}

/// A whole line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Line {
    /// When it began.
    pub(crate) at: Duration,
    /// Without control bytes.
    pub(crate) text: String,
}

impl Lines {
    /// Adds `data`, and gives back the lines that it completes.
    pub(crate) fn push(&mut self, at: Duration, data: &[u8]) -> Vec<Line> {
        let mut lines = Vec::new();
        for piece in data.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let (text, end) = match piece.split_last() {
                Some((end @ (b'\n' | b'\r'), text)) => (text, Some(*end)),
                _ => (piece, None),
            };
            self.add(at, text);
            match end {
                Some(b'\n') => {
                    lines.push(self.take(at));
                    self.returned = false;
                }
                Some(_) => self.returned = true,
                None => {}
            }
        }
        lines
    }

    fn add(&mut self, at: Duration, text: &[u8]) {
        if text.is_empty() {
            return;
        }
        if self.returned {
            self.partial.clear();
            self.cut = 0;
            self.returned = false;
        }
        if self.partial.is_empty() {
            self.since = at;
        }
        let room = LINE_MAX.saturating_sub(self.partial.len());
        let (kept, cut) = text.split_at(text.len().min(room));
        self.partial.extend_from_slice(kept);
        self.cut += cut.len();
    }

    /// What stands after the last line break, if anything.
    pub(crate) fn rest(&mut self) -> Option<Line> {
        let at = self.since;
        (!self.partial.is_empty()).then(|| self.take(at))
    }

    /// What stands after the last line break, to look at.
    pub(crate) fn unfinished(&self) -> Option<String> {
        (!self.partial.is_empty()).then(|| readable(&self.partial))
    }

    fn take(&mut self, now: Duration) -> Line {
        let partial = std::mem::take(&mut self.partial);
        let mut text = readable(&partial);
        match std::mem::take(&mut self.cut) {
            0 => {}
            cut => text.push_str(&format!("… ({cut} more bytes, which the step's log has)")),
        }
        Line { at: if partial.is_empty() { now } else { self.since }, text }
    }
}

fn readable(bytes: &[u8]) -> String {
    terminal::harmless(&String::from_utf8_lossy(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_is_cut_says_so() {
        let mut lines = Lines::default();
        let whole = "x".repeat(LINE_MAX);
        for (text, wanted) in [
            (format!("{whole}\n"), whole.clone()),
            (
                format!("{whole}yz\nnext\n"),
                format!("{whole}… (2 more bytes, which the step's log has)"),
            ),
            (format!("{whole}yz\rshort\n"), "short".to_owned()),
        ] {
            assert_eq!(lines.push(Duration::ZERO, text.as_bytes())[0].text, wanted);
        }
    }

    #[test]
    fn output_becomes_lines_however_it_arrives() {
        for (pieces, want, rest) in [
            (&["one\ntwo\n"][..], &["one", "two"][..], None),
            (&["on", "e\ntw", "o"], &["one"], Some("two")),
            (&["windows\r\nline\r\n"], &["windows", "line"], None),
            (&["windows\r", "\nline"], &["windows"], Some("line")),
            (&["10%\r20%\r", "30%\r"], &[], Some("30%")),
            (&["10%\r20%\rdone\n"], &["done"], None),
            (&["\n\n"], &["", ""], None),
            (&["\x1b[1mbold\x1b[0m\n"], &["bold"], None),
        ] {
            let mut lines = Lines::default();
            let whole: Vec<String> = pieces
                .iter()
                .flat_map(|piece| lines.push(Duration::ZERO, piece.as_bytes()))
                .map(|line| line.text)
                .collect();
            assert_eq!(whole, want, "{pieces:?}");
            assert_eq!(lines.rest().map(|line| line.text).as_deref(), rest, "{pieces:?}");
        }
    }

    #[test]
    fn a_line_without_end_takes_bounded_memory() {
        let mut lines = Lines::default();
        for _ in 0..100 {
            assert!(lines.push(Duration::ZERO, &[b'x'; 1 << 10]).is_empty());
        }
        let text = lines.rest().expect("a line").text;
        assert_eq!(text.bytes().take_while(|byte| *byte == b'x').count(), LINE_MAX);
        assert!(text.len() < LINE_MAX + 100, "{}", text.len());
    }
}
