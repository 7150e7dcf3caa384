//! The file as a list of nodes: command, flags and words of each instruction, not yet checked
//! against what the instruction takes.

mod builder;
mod node;

use self::builder::NodeBuilder;
use crate::command;
use crate::diagnostic::Diagnostic;
use crate::directive::Directives;
use crate::heredoc::{self, Marker};
use crate::instruction::{Directive, Heredoc};
use crate::line::{Logical, MAX_LINE, Physical, Reader, strip_continuation};
use crate::pragma;
use crate::span::{Lines, Span};
use crate::words;

pub use self::builder::MAX_WORDS;
pub use self::node::Node;

/// The largest Dockerfile, in bytes.
pub const MAX_FILE: usize = 16 << 20;
/// The most instructions a Dockerfile may have.
pub const MAX_INSTRUCTIONS: usize = 65_536;
/// After so many problems the rest of the file is not looked at.
pub const MAX_PROBLEMS: usize = 100;

/// A Dockerfile's instructions in order, as words.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    /// Instructions.
    pub nodes: Vec<Node>,
    /// The escape character in force.
    pub escape: char,
    /// Directives at the head of the file.
    pub directives: Vec<Directive>,
    /// Instructions with empty lines between continued ones.
    pub empty_continuations: Vec<EmptyContinuation>,
}

/// An empty line in the middle of an instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmptyContinuation {
    /// The first empty line.
    pub span: Span,
    /// The instruction, joined.
    pub original: String,
    /// Last line of the instruction, here-documents not included.
    pub line: u32,
}

impl Tree {
    /// The tree in the notation of BuildKit's parser tests: one line for each instruction.
    pub fn dump(&self) -> String {
        let lines: Vec<_> = self.nodes.iter().map(|node| format!("({})", node.dump())).collect();
        lines.join("\n")
    }
}

/// Splits `text` into nodes. What cannot be split is left out and told.
pub(crate) fn parse(text: &str) -> (Tree, Vec<Diagnostic>) {
    let mut parser = TreeParser {
        reader: Reader::new(text),
        directives: Directives::new("#"),
        tree: Tree {
            nodes: Vec::new(),
            escape: '\\',
            directives: Vec::new(),
            empty_continuations: Vec::new(),
        },
        comments: Vec::new(),
        pragma: None,
        words: 0,
        diagnostics: Vec::new(),
    };
    if text.len() > MAX_FILE {
        let message = format!("dockerfile greater than max allowed size of {MAX_FILE} bytes");
        parser.error(message, Span::default(), Lines { start: 1, end: 1 });
    } else {
        parser.run();
    }
    (parser.tree, parser.diagnostics)
}

/// The file while it is read.
struct TreeParser<'s> {
    reader: Reader<'s>,
    directives: Directives,
    tree: Tree,
    comments: Vec<String>,
    /// The last of the comments that is for us, until an instruction takes them.
    pragma: Option<(Span, u32)>,
    /// Words and flags so far.
    words: usize,
    diagnostics: Vec<Diagnostic>,
}

impl TreeParser<'_> {
    fn run(&mut self) {
        while let Some(line) = self.reader.next() {
            self.line(line);
            if self.tree.nodes.len() > MAX_INSTRUCTIONS {
                let (span, number) = (line.span(), line.number);
                let message = format!("more than {MAX_INSTRUCTIONS} instructions");
                self.error(message, span, Lines { start: number, end: number });
                break;
            }
            if self.diagnostics.len() >= MAX_PROBLEMS {
                break;
            }
        }
        for (span, number) in std::mem::take(&mut self.reader.too_long) {
            let message = format!("dockerfile line greater than max allowed size of {MAX_LINE}");
            self.error(message, span, Lines { start: number, end: number });
        }
        if self.tree.nodes.is_empty() && self.diagnostics.is_empty() {
            let message = "file with no instructions";
            self.error(message, Span::default(), Lines { start: 1, end: 1 });
        }
        self.no_pragma("at the end of the file");
    }

    /// A line where an instruction may begin.
    fn line(&mut self, mut line: Physical<'_>) {
        if line.number == 1
            && let Some(text) = line.text.strip_prefix('\u{feff}')
        {
            line = Physical { text, offset: '\u{feff}'.len_utf8(), ..line };
        }
        let content = line.content();
        let start = content.trim_start();
        let offset = line.offset + (content.len() - start.len());
        if self.directive(start, offset, &line) {
            return;
        }
        if line.is_comment() {
            self.comment(&line);
            return;
        }
        if start.is_empty() {
            return;
        }
        let logical = self.logical(start, offset, line.number);
        self.instruction(&logical);
        self.comments.clear();
        self.pragma = None;
    }

    /// Whether the line is a directive, good or bad.
    fn directive(&mut self, line: &str, offset: usize, physical: &Physical<'_>) -> bool {
        let lines = Lines { start: physical.number, end: physical.number };
        let directive = match self.directives.line(line, offset, physical.number) {
            Ok(None) => return false,
            Ok(Some(directive)) => directive,
            Err(duplicate) => {
                self.error(duplicate.to_string(), physical.span(), lines);
                return true;
            }
        };
        if directive.name == "escape" {
            match directive.value.value.as_str() {
                "\\" => self.tree.escape = '\\',
                "`" => self.tree.escape = '`',
                other => {
                    let message = format!("invalid escape token '{other}' does not match ` or \\");
                    self.error(message, directive.value.span, lines);
                }
            }
        }
        self.tree.directives.push(directive);
        true
    }

    /// An empty comment cuts off the ones above.
    fn comment(&mut self, line: &Physical<'_>) {
        // The first byte goes, be it the `#` or a blank in front of it.
        let comment = line.text.strip_prefix(|_| true).unwrap_or_default().trim();
        if comment.is_empty() {
            self.no_pragma("above an empty comment");
            self.comments.clear();
            return;
        }
        if pragma::text(comment).is_some() {
            self.pragma = Some((line.span(), line.number));
        }
        self.comments.push(comment.to_owned());
    }

    /// Tells of a comment that is for us and `place`, where no instruction takes it.
    fn no_pragma(&mut self, place: &str) {
        if let Some((span, number)) = self.pragma.take() {
            let message = format!("a `# mybuild:` comment {place} does nothing");
            let error = Diagnostic::error(message, span, Lines { start: number, end: number });
            self.diagnostics.push(error.with_hint(pragma::HINT));
        }
    }

    /// Joins the line that begins with `start` and those that continue it.
    fn logical(&mut self, start: &str, offset: usize, number: u32) -> Logical {
        let escape = self.tree.escape;
        let mut logical = Logical::default();
        let mut stripped = strip_continuation(start, escape);
        logical.push(stripped.unwrap_or(start), offset);
        while stripped.is_some()
            && let Some(line) = self.reader.next()
        {
            if line.is_comment() {
                if pragma::text(line.text).is_some() {
                    self.pragma = Some((line.span(), line.number));
                    self.no_pragma("inside an instruction");
                }
                continue;
            }
            let content = line.content();
            if content.trim_start().is_empty() {
                logical.empty.get_or_insert(line.span());
                continue;
            }
            stripped = strip_continuation(content, escape);
            logical.push(stripped.unwrap_or(content), line.offset);
        }
        logical.lines = Lines { start: number, end: self.reader.number() };
        logical
    }

    fn instruction(&mut self, logical: &Logical) {
        let line = &logical.text;
        if let Some(span) = logical.empty {
            self.tree.empty_continuations.push(EmptyContinuation {
                span,
                original: line.clone(),
                line: logical.lines.end,
            });
        }
        let room = MAX_WORDS - self.words;
        let builder = NodeBuilder { logical, escape: self.tree.escape, room };
        let mut node = match builder.node(line, 0) {
            Ok(node) => node,
            Err((message, span)) => {
                let error = Diagnostic::error(message, span, logical.lines);
                let usage = command::usage(words::split_command(line).0);
                let hint = usage.map(|usage| format!("usage: {usage}"));
                return self.diagnostics.push(Diagnostic { hint, ..error });
            }
        };
        self.words += node.words();
        node.lines = logical.lines;
        if node.takes_heredocs() {
            self.heredocs(&mut node, logical);
        }
        node.comments = std::mem::take(&mut self.comments);
        self.tree.nodes.push(node);
    }

    /// Reads the bodies of the here-documents that begin on the node's line.
    fn heredocs(&mut self, node: &mut Node, logical: &Logical) {
        let markers = match heredoc::markers(&logical.text) {
            Ok(markers) => markers,
            Err(error) => return self.error(error.to_string(), node.span, node.lines),
        };
        for marker in markers {
            let (heredoc, terminated) = self.body(&marker);
            node.lines.end = self.reader.number();
            node.heredocs.push(heredoc);
            if !terminated {
                let span = marker_place(&logical.text, &marker.name)
                    .map_or(node.span, |range| logical.span(range));
                let error = Diagnostic::error("unterminated heredoc", span, node.lines);
                let name = &marker.name;
                let hint = format!("end it with a line of `{name}` and nothing else");
                self.diagnostics.push(error.with_hint(hint));
                break;
            }
        }
        if !node.heredocs.is_empty() {
            node.span = Span::new(node.span.range().start..self.reader.content_end());
        }
    }

    /// The lines up to the delimiter, and whether there was one.
    fn body(&mut self, marker: &Marker) -> (Heredoc, bool) {
        let start = self.reader.offset();
        let mut raw = String::new();
        let mut end = start;
        let mut terminated = false;
        for line in self.reader.by_ref() {
            let content = line.content();
            let content = if marker.chomp { content.trim_start_matches('\t') } else { content };
            if content == marker.name {
                terminated = true;
                break;
            }
            raw.push_str(line.text);
            end = line.offset + line.text.len();
        }
        let content = if marker.chomp { heredoc::chomp(&raw) } else { raw.clone() };
        let Marker { name, fd, chomp, expand } = marker.clone();
        let span = Span::new(start..end);
        (Heredoc { name, fd, content, raw, expand, chomp, span }, terminated)
    }

    fn error(&mut self, message: impl Into<String>, span: Span, lines: Lines) {
        self.diagnostics.push(Diagnostic::error(message, span, lines));
    }
}

/// Where `<<name` stands in `line`, quotes and blanks between them allowed.
fn marker_place(line: &str, name: &str) -> Option<std::ops::Range<usize>> {
    line.match_indices("<<").find_map(|(at, arrows)| {
        let after = &line[at + arrows.len()..];
        let word = after.trim_start_matches(['-', ' ', '\t', '\r', '"', '\'']);
        let end = line.len() - word.len() + name.len();
        word.starts_with(name).then_some(at..end)
    })
}
