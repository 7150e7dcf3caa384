//! One instruction as words.

use crate::instruction::Heredoc;
use crate::quote::quote;
use crate::span::{Lines, Span, Text};

/// One instruction.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Node {
    /// The instruction word as written.
    pub command: Text,
    /// Flags, quotes and escapes already removed.
    pub flags: Vec<Text>,
    /// Arguments. Of `ENV` and `LABEL` three for each pair: key, value, and `=` or nothing.
    pub arguments: Vec<Text>,
    /// Of `ONBUILD` the instruction after it.
    pub inner: Option<Box<Self>>,
    /// The arguments (of `HEALTHCHECK` those after the first) were a JSON array.
    pub json: bool,
    /// Here-documents that begin on the line, bodies as written.
    pub heredocs: Vec<Heredoc>,
    /// The comment lines directly above, without `#`.
    pub comments: Vec<String>,
    /// The whole line, continuations joined.
    pub original: String,
    /// Where it stands, here-documents included.
    pub span: Span,
    /// Lines it covers, here-documents included; zeros for an inner instruction.
    pub lines: Lines,
}

impl Node {
    /// The node in the notation of BuildKit's parser tests, without outer parentheses.
    pub fn dump(&self) -> String {
        let mut dump = self.command.value.to_lowercase();
        if !self.flags.is_empty() {
            let flags: Vec<_> = self.flags.iter().map(|flag| quote(&flag.value)).collect();
            dump += &format!(" [{}]", flags.join(" "));
        }
        for argument in &self.arguments {
            dump.push(' ');
            dump += &quote(&argument.value);
        }
        if let Some(inner) = &self.inner {
            dump += &format!(" ({})", inner.dump());
        }
        dump.trim().to_owned()
    }

    /// Words and flags, those of an inner instruction too.
    pub(super) fn words(&self) -> usize {
        let inner = self.inner.as_ref().map_or(0, |inner| inner.words());
        inner + self.arguments.len() + self.flags.len()
    }

    pub(super) fn takes_heredocs(&self) -> bool {
        let is = |node: &Self, name: &str| node.command.value.eq_ignore_ascii_case(name);
        let node = match &self.inner {
            Some(inner) if is(self, "onbuild") => inner,
            _ => self,
        };
        ["add", "copy", "run"].iter().any(|name| is(node, name)) && !node.json
    }
}
