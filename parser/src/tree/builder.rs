//! The node of one instruction: its command, flags and words told apart.

use super::node::Node;
use crate::json_form::{self, JsonForm};
use crate::line::Logical;
use crate::quote::quote;
use crate::span::{Span, Text};
use crate::words;

/// The most words and flags a Dockerfile may have where words are told apart.
pub const MAX_WORDS: usize = 262_144;
/// How deep `ONBUILD ONBUILD …` is followed. More than one is refused later anyway.
const MAX_ONBUILD_DEPTH: usize = 8;

/// Makes a node from a joined line.
pub(super) struct NodeBuilder<'l> {
    pub(super) logical: &'l Logical,
    pub(super) escape: char,
    /// How many words the file may still have.
    pub(super) room: usize,
}

/// Message and place of a problem.
pub(super) type Problem = (String, Span);

impl NodeBuilder<'_> {
    /// The node of `line`, a part of the joined line that lies `depth` times behind `ONBUILD`.
    pub(super) fn node(&self, line: &str, depth: usize) -> Result<Node, Problem> {
        let (command, rest) = words::split_command(line);
        let (flags, rest) = words::split_flags(rest, self.escape);
        let mut node = Node {
            command: self.logical.text(command),
            original: line.to_owned(),
            span: self.logical.text(line.trim()).span,
            ..Node::default()
        };
        node.flags = flags
            .into_iter()
            .take(self.room + 1)
            .map(|flag| Text { value: flag.value, ..self.logical.text(flag.written) })
            .collect();
        match command.to_lowercase().as_str() {
            "add" | "copy" | "volume" => self.list(&mut node, rest)?,
            "cmd" | "entrypoint" | "run" | "shell" => self.command_line(&mut node, rest)?,
            "healthcheck" => self.healthcheck(&mut node, rest)?,
            "env" => node.arguments = self.pairs("ENV", rest)?,
            "label" => node.arguments = self.pairs("LABEL", rest)?,
            "expose" | "from" => node.arguments = self.plain(rest),
            "arg" => {
                let words = words::quoted_words(rest, self.escape).into_iter();
                node.arguments = self.texts(words);
            }
            "maintainer" | "stopsignal" | "user" | "workdir" => {
                node.arguments = self.whole(rest);
            }
            "onbuild" if rest.is_empty() => {}
            "onbuild" if depth == MAX_ONBUILD_DEPTH => {
                let message = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed";
                return Err((message.to_owned(), node.span));
            }
            "onbuild" => node.inner = Some(Box::new(self.node(rest, depth + 1)?)),
            // An unknown instruction is told later; its arguments cannot be known.
            _ => node.arguments = vec![Text { span: node.span, ..Text::default() }],
        }
        if node.words() > self.room {
            return Err(self.too_many_words(line));
        }
        Ok(node)
    }

    fn too_many_words(&self, line: &str) -> Problem {
        (format!("more than {MAX_WORDS} words"), self.logical.text(line.trim()).span)
    }

    fn whole(&self, rest: &str) -> Vec<Text> {
        if rest.is_empty() { Vec::new() } else { vec![self.logical.text(rest)] }
    }

    fn plain(&self, rest: &str) -> Vec<Text> {
        self.texts(words::plain_words(rest))
    }

    /// The words, and at most one more than there is room for.
    fn texts<'w>(&self, words: impl Iterator<Item = &'w str>) -> Vec<Text> {
        words.take(self.room + 1).map(|word| self.logical.text(word)).collect()
    }

    /// A JSON array, or words.
    fn list(&self, node: &mut Node, rest: &str) -> Result<(), Problem> {
        if !self.json(node, rest)? {
            node.arguments = self.plain(rest);
        }
        Ok(())
    }

    /// A JSON array, or all as one.
    fn command_line(&self, node: &mut Node, rest: &str) -> Result<(), Problem> {
        if !self.json(node, rest)? {
            node.arguments.extend(self.whole(rest));
        }
        Ok(())
    }

    fn healthcheck(&self, node: &mut Node, rest: &str) -> Result<(), Problem> {
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (kind, command) = rest.split_at(end);
        node.arguments = self.whole(kind);
        self.command_line(node, command.trim_start())
    }

    fn json(&self, node: &mut Node, rest: &str) -> Result<bool, Problem> {
        match json_form::parse(rest) {
            JsonForm::None => Ok(false),
            JsonForm::NotStrings => {
                let message =
                    "when using JSON array syntax, arrays must be comprised of strings only";
                Err((message.to_owned(), self.logical.text(rest).span))
            }
            JsonForm::Strings(strings) => {
                let text = |(value, place): (String, std::ops::Range<usize>)| Text {
                    value,
                    ..self.logical.text(&rest[place])
                };
                node.arguments.extend(strings.into_iter().map(text));
                node.json = true;
                Ok(true)
            }
        }
    }

    /// `key=value …`, or the old form `key value` when the first word has no `=`.
    fn pairs(&self, command: &str, rest: &str) -> Result<Vec<Text>, Problem> {
        let words = words::quoted_words(rest, self.escape);
        let Some(first) = words.first() else { return Ok(Vec::new()) };
        if !first.contains('=') {
            return self.old_pair(command, rest);
        }
        let mut arguments = Vec::new();
        for word in words.into_iter().take(self.room / 3 + 1) {
            let Some((key, value)) = word.split_once('=') else {
                let message = format!(
                    "Syntax error - can't find = in {}. Must be of the form: name=value",
                    quote(word)
                );
                return Err((message, self.logical.text(word).span));
            };
            let separator = &word[key.len()..=key.len()];
            arguments.extend([key, value, separator].map(|part| self.logical.text(part)));
        }
        Ok(arguments)
    }

    fn old_pair(&self, command: &str, rest: &str) -> Result<Vec<Text>, Problem> {
        let Some(end) = rest.find(words::is_blank) else {
            let message = format!("{command} must have two arguments");
            return Err((message, self.logical.text(rest).span));
        };
        let value = rest[end..].trim_start_matches(words::is_blank);
        Ok(vec![self.logical.text(&rest[..end]), self.logical.text(value), Text::default()])
    }
}
