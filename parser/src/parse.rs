//! The ways in: a whole Dockerfile, its bytes, an image's trigger.

use crate::diagnostic::{Diagnostic, Severity};
use crate::directive;
use crate::instruction::{Directive, Dockerfile, Instruction, Kind};
use crate::span::{Lines, Span, Text};
use crate::tree::{self, Node, Tree};
use crate::typed::{self, Typed};

/// A Dockerfile as far as it was understood, and what was not.
#[derive(Debug, Clone, PartialEq)]
pub struct Parse {
    /// Directives, stages and instructions that are in order.
    pub dockerfile: Dockerfile,
    /// The escape character in force.
    pub escape: char,
    /// Problems in the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

impl Parse {
    /// Whether any problem is an error.
    pub fn has_errors(&self) -> bool {
        self.errors().next().is_some()
    }

    /// The problems that are errors.
    pub fn errors(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter().filter(|problem| problem.severity == Severity::Error)
    }
}

/// Parses a whole Dockerfile.
pub fn parse(text: &str) -> Parse {
    let (tree, diagnostics) = tree::parse(text);
    assemble(text, tree, diagnostics)
}

/// Parses a whole Dockerfile that may not be UTF-8: bytes that are not are an error, unless they
/// stand in a comment. Offsets count bytes of `bytes`.
pub fn parse_bytes(bytes: &[u8]) -> Parse {
    let Some((text, foreign)) = repair(bytes) else {
        return parse(str::from_utf8(bytes).expect("nothing was there to repair"));
    };
    let (tree, mut diagnostics) = tree::parse(&text);
    diagnostics.extend(foreign_errors(&text, &foreign, &bodies(&tree)));
    assemble(&text, tree, diagnostics)
}

/// An error for each line, comments left out, that holds one of the `foreign` offsets.
fn foreign_errors(text: &str, foreign: &[usize], bodies: &[Span]) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    let mut foreign = foreign.iter().copied().peekable();
    let mut end = 0;
    for (line, number) in text.split_inclusive('\n').zip(1..) {
        end += line.len();
        let Some(at) = foreign.next_if(|at| *at < end) else { continue };
        while foreign.next_if(|at| *at < end).is_some() {}
        let body = bodies.partition_point(|body| body.range().end <= at);
        let in_body = bodies.get(body).is_some_and(|body| body.range().contains(&at));
        if in_body || !line.trim_start().starts_with('#') {
            let lines = Lines { start: number, end: number };
            let error = Diagnostic::error("invalid UTF-8", Span::new(at..at + 1), lines);
            errors.push(error.with_hint("save the file with the encoding UTF-8"));
        }
        if errors.len() >= tree::MAX_PROBLEMS {
            break;
        }
    }
    errors
}

/// `bytes` with a question mark for each byte that is not UTF-8, and the first byte of each such
/// run; `None` when there is none.
fn repair(bytes: &[u8]) -> Option<(String, Vec<usize>)> {
    let mut text = String::with_capacity(bytes.len());
    let mut foreign = Vec::new();
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        if !chunk.invalid().is_empty() {
            foreign.push(text.len());
            text.extend(chunk.invalid().iter().map(|_| '?'));
        }
    }
    (!foreign.is_empty()).then_some((text, foreign))
}

/// Where here-documents stand: a `#` in them begins no comment.
fn bodies(tree: &Tree) -> Vec<Span> {
    tree.nodes.iter().flat_map(|node| &node.heredocs).map(|heredoc| heredoc.span).collect()
}

/// Splits a Dockerfile into nodes, or tells all that is wrong with it.
pub fn parse_tree(text: &str) -> Result<Tree, Vec<Diagnostic>> {
    let (tree, diagnostics) = tree::parse(text);
    if diagnostics.is_empty() { Ok(tree) } else { Err(diagnostics) }
}

/// Parses the text of one `ONBUILD` trigger as an image config holds it. Spans are in that text.
pub fn parse_onbuild(expression: &str) -> Result<Vec<Instruction>, Vec<Diagnostic>> {
    let (tree, mut diagnostics) = tree::parse(expression);
    let mut instructions = Vec::new();
    for node in &tree.nodes {
        match typed::read(node, &mut diagnostics) {
            Some(Typed::Instruction(instruction)) => instructions.push(instruction),
            Some(Typed::Stage(_)) => {
                let message = "FROM isn't allowed as an ONBUILD trigger";
                diagnostics.push(Diagnostic::error(message, node.span, node.lines));
            }
            None => {}
        }
    }
    if let [_, second, ..] = &tree.nodes[..] {
        let message = "onbuild trigger should be a single expression";
        diagnostics.push(Diagnostic::error(message, second.span, second.lines));
    }
    diagnostics.retain(|problem| problem.severity == Severity::Error);
    if diagnostics.is_empty() { Ok(instructions) } else { Err(diagnostics) }
}

fn assemble(text: &str, tree: Tree, diagnostics: Vec<Diagnostic>) -> Parse {
    let mut assembly =
        Assembly { dockerfile: Dockerfile::default(), diagnostics, seen_from: false };
    for node in &tree.nodes {
        assembly.add(node);
        if assembly.diagnostics.len() >= tree::MAX_PROBLEMS {
            break;
        }
    }
    let Assembly { mut dockerfile, mut diagnostics, .. } = assembly;
    diagnostics.extend(empty_continuations(&tree));
    diagnostics.extend(escape_without_effect(text));
    dockerfile.directives = directives(text, tree.directives);
    diagnostics.sort_by_key(|problem| (problem.lines.start, problem.span.start));
    Parse { dockerfile, escape: tree.escape, diagnostics }
}

/// A Dockerfile on the way.
struct Assembly {
    dockerfile: Dockerfile,
    diagnostics: Vec<Diagnostic>,
    /// A FROM has been seen, good or bad, or something that may have been one.
    seen_from: bool,
}

impl Assembly {
    fn add(&mut self, node: &Node) {
        self.seen_from |= node.command.value.eq_ignore_ascii_case("from");
        match typed::read(node, &mut self.diagnostics) {
            Some(Typed::Stage(stage)) => self.dockerfile.stages.push(stage),
            Some(Typed::Instruction(instruction)) => self.add_instruction(instruction),
            // It may have been meant to begin a stage.
            None => self.seen_from = true,
        }
    }

    fn add_instruction(&mut self, instruction: Instruction) {
        let stages = &mut self.dockerfile.stages;
        match (stages.last_mut(), &instruction.kind) {
            (Some(stage), _) => stage.instructions.push(instruction),
            (None, Kind::Arg(_)) => self.dockerfile.global_args.push(instruction),
            // What is wrong with the FROM has been told, or is about to be.
            (None, _) if self.seen_from => {}
            (None, _) => {
                self.seen_from = true;
                let message = "no build stage in current context";
                let error = Diagnostic::error(message, instruction.span, instruction.lines);
                let hint = "only ARG may stand before the first FROM";
                self.diagnostics.push(error.with_hint(hint));
            }
        }
    }
}

fn empty_continuations(tree: &Tree) -> impl Iterator<Item = Diagnostic> {
    tree.empty_continuations.iter().map(|found| {
        let lines = Lines { start: found.line, end: found.line };
        Diagnostic::warning("NoEmptyContinuation", "Empty continuation line", found.span, lines)
    })
}

fn begins_with_shebang(text: &str) -> bool {
    text.strip_prefix('\u{feff}').unwrap_or(text).starts_with("#!")
}

/// Behind a first line `#!…` the escape character cannot be changed any more.
fn escape_without_effect(text: &str) -> Option<Diagnostic> {
    let found = directive::find("escape", text).filter(|_| begins_with_shebang(text))?;
    let lines = Lines { start: found.line, end: found.line };
    let message = "the escape directive has no effect below a #! line";
    let told = Diagnostic::error(message, found.span, lines);
    Some(Diagnostic { severity: Severity::Warning, ..told })
}

/// The directives; behind a first line `#!…` only those count that do not change how to parse.
fn directives(text: &str, mut directives: Vec<Directive>) -> Vec<Directive> {
    if begins_with_shebang(text) {
        for name in ["syntax", "check"] {
            let Some(found) = directive::find(name, text) else { continue };
            let value = Text { value: found.command_line, span: found.span };
            directives.push(Directive { name: name.to_owned(), value, line: found.line });
        }
        directives.sort_by_key(|directive| directive.value.span.start);
    }
    directives
}
