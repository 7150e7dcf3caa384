//! Physical lines, and the logical lines that continuations join them to.

use std::ops::Range;

use crate::span::{Lines, Span, Text};

/// The longest physical line, in bytes without its line feed (BuildKit's limit).
pub const MAX_LINE: usize = 65535;

/// A line as it stands in the file, line ending included.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Physical<'s> {
    pub(crate) text: &'s str,
    /// Offset in the source.
    pub(crate) offset: usize,
    /// 1-based.
    pub(crate) number: u32,
}

impl<'s> Physical<'s> {
    /// The line without its ending.
    pub(crate) fn content(&self) -> &'s str {
        self.text.trim_end_matches(['\r', '\n'])
    }

    /// Blanks, then `#`.
    pub(crate) fn is_comment(&self) -> bool {
        self.text.trim_start().starts_with('#')
    }

    pub(crate) fn span(&self) -> Span {
        Span::new(self.offset..self.offset + self.content().len())
    }
}

/// Gives out the physical lines one by one. Lines past [`MAX_LINE`] are left out and noted.
#[derive(Debug)]
pub(crate) struct Reader<'s> {
    source: &'s str,
    offset: usize,
    number: u32,
    pub(crate) too_long: Vec<(Span, u32)>,
}

impl<'s> Reader<'s> {
    pub(crate) fn new(source: &'s str) -> Self {
        Self { source, offset: 0, number: 0, too_long: Vec::new() }
    }

    /// Number of the line given out last, 0 before the first.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    /// Offset just past the line given out last.
    pub(crate) fn offset(&self) -> usize {
        self.offset
    }

    /// Offset just past the line given out last, without its ending.
    pub(crate) fn content_end(&self) -> usize {
        self.source[..self.offset].trim_end_matches(['\r', '\n']).len()
    }
}

impl<'s> Iterator for Reader<'s> {
    type Item = Physical<'s>;

    fn next(&mut self) -> Option<Physical<'s>> {
        loop {
            let rest = &self.source[self.offset..];
            if rest.is_empty() {
                return None;
            }
            let length = rest.find('\n').map_or(rest.len(), |at| at + 1);
            let line =
                Physical { text: &rest[..length], offset: self.offset, number: self.number + 1 };
            self.offset += length;
            self.number += 1;
            if line.text.strip_suffix('\n').unwrap_or(line.text).len() <= MAX_LINE {
                return Some(line);
            }
            self.too_long.push((line.span(), line.number));
        }
    }
}

/// An instruction's physical lines joined to one, and where each piece came from.
#[derive(Debug, Default)]
pub(crate) struct Logical {
    pub(crate) text: String,
    /// Where pieces begin: (offset in `text`, offset in the source), ascending in both.
    pieces: Vec<(usize, usize)>,
    pub(crate) lines: Lines,
    /// The first empty line between continued ones.
    pub(crate) empty: Option<Span>,
}

impl Logical {
    /// Adds `piece`, which begins at `source` of the source.
    pub(crate) fn push(&mut self, piece: &str, source: usize) {
        self.pieces.push((self.text.len(), source));
        self.text.push_str(piece);
    }

    /// The place in the source of a range of the joined text.
    pub(crate) fn span(&self, range: Range<usize>) -> Span {
        let start = self.source(range.start);
        let end = if range.is_empty() { start } else { self.source(range.end - 1) + 1 };
        Span::new(start..end)
    }

    /// `slice`, which must be a part of the joined text, with its place.
    pub(crate) fn text(&self, slice: &str) -> Text {
        Text { value: slice.to_owned(), span: self.span(self.range(slice)) }
    }

    /// Where in the joined text `slice` stands, which must be a part of it.
    pub(crate) fn range(&self, slice: &str) -> Range<usize> {
        let start = (slice.as_ptr() as usize).wrapping_sub(self.text.as_ptr() as usize);
        if start <= self.text.len() { start..start + slice.len() } else { 0..0 }
    }

    fn source(&self, at: usize) -> usize {
        let index = self.pieces.partition_point(|(joined, _)| *joined <= at);
        let (joined, source) = index.checked_sub(1).map_or((0, 0), |i| self.pieces[i]);
        source + (at - joined)
    }
}

/// `line` without its continuation, `None` when it does not end in one: the escape character,
/// then blanks. An escape character in front escapes it.
pub(crate) fn strip_continuation(line: &str, escape: char) -> Option<&str> {
    let stripped = line.trim_end_matches([' ', '\t']).strip_suffix(escape)?;
    (!stripped.ends_with(escape)).then_some(stripped)
}

#[cfg(test)]
mod tests {
    use super::{Logical, Reader, strip_continuation};
    use crate::span::Span;

    #[test]
    fn an_escape_character_at_the_end_continues_the_line() {
        let cases = [
            ("a \\", Some("a ")),
            ("a\\ \t", Some("a")),
            ("\\", Some("")),
            ("\\\\", None),
            ("a\\\\\\", None),
            ("a", None),
            ("a `", None),
        ];
        for (line, want) in cases {
            assert_eq!(strip_continuation(line, '\\'), want, "{line:?}");
        }
        assert_eq!(strip_continuation("a `", '`'), Some("a "));
    }

    #[test]
    fn joined_text_knows_where_it_came_from() {
        let source = "RUN a \\\n  b\n";
        let mut line = Logical::default();
        line.push(&source[0..6], 0);
        line.push(&source[8..11], 8);
        assert_eq!(line.text, "RUN a   b");
        assert_eq!(line.span(4..5), Span::new(4..5));
        assert_eq!(line.span(8..9), Span::new(10..11));
        assert_eq!(line.span(4..9), Span::new(4..11));
        assert_eq!(line.span(6..6), Span::new(8..8));
        assert_eq!(line.text(&line.text[8..9]).span, Span::new(10..11));
    }

    #[test]
    fn the_reader_keeps_line_endings_and_counts() {
        let lines: Vec<_> = Reader::new("a\r\n\nb").map(|l| (l.text, l.offset, l.number)).collect();
        assert_eq!(lines, [("a\r\n", 0, 1), ("\n", 3, 2), ("b", 4, 3)]);
    }
}
