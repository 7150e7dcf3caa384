//! Places in the source text.

use std::ops::Range;

/// A range of bytes in the Dockerfile as the user wrote it (end exclusive).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// Offset of the first byte.
    pub start: u32,
    /// Offset just past the last byte.
    pub end: u32,
}

impl Span {
    /// A span over `range`; offsets past 4 GiB do not occur, since input size is capped far below.
    pub fn new(range: Range<usize>) -> Self {
        Self { start: range.start as u32, end: range.end as u32 }
    }

    /// The span as an index range into the source.
    pub fn range(self) -> Range<usize> {
        self.start as usize..self.end as usize
    }
}

/// Lines of an instruction in the source, 1-based, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Lines {
    /// First line.
    pub start: u32,
    /// Last line, heredoc bodies included.
    pub end: u32,
}

/// A piece of text as written (not yet expanded), and where it stands.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Text {
    /// The text, with line continuations already joined.
    pub value: String,
    /// Where it came from.
    pub span: Span,
}
