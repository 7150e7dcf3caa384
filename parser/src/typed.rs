//! From a node of the tree to a typed instruction.

mod copy;
mod healthcheck;
mod run;

use std::collections::HashMap;

use crate::command;
use crate::diagnostic::{Diagnostic, Severity};
use crate::directive;
use crate::flag::{self, FlagError, Flags, Takes};
use crate::instruction::{Arg, CommandLine, Instruction, KeyValue, Kind, Onbuild, Stage};
use crate::quote::quote;
use crate::span::{Span, Text};
use crate::suggest::{Case, did_you_mean};
use crate::tree::Node;

/// What a node turns out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Typed {
    /// A `FROM`, its instructions still missing.
    Stage(Stage),
    /// Anything else.
    Instruction(Instruction),
}

/// A problem of one instruction.
#[derive(Debug)]
struct Problem {
    message: String,
    span: Span,
    hint: Option<String>,
}

type Problems = Vec<Problem>;

/// Reads `node`. Problems go to `diagnostics`; `None` means that one of them is an error.
pub fn read(node: &Node, diagnostics: &mut Vec<Diagnostic>) -> Option<Typed> {
    let mut warnings = Vec::new();
    let result = if node.command.value.eq_ignore_ascii_case("from") {
        stage(node).map(Typed::Stage)
    } else {
        kind(node, &mut warnings).map(|kind| Typed::Instruction(instruction(node, kind)))
    };
    diagnostics.extend(warnings);
    let problems = match result {
        Ok(typed) => return Some(typed),
        Err(problems) => problems,
    };
    diagnostics.extend(problems.into_iter().map(|problem| Diagnostic {
        hint: problem.hint,
        ..Diagnostic::error(problem.message, problem.span, node.lines)
    }));
    None
}

fn instruction(node: &Node, kind: Kind) -> Instruction {
    Instruction {
        kind,
        keyword: node.command.value.clone(),
        span: node.span,
        lines: node.lines,
        original: node.original.trim().to_owned(),
        skip_checks: directive::skipped_checks(&node.comments),
        comments: node.comments.clone(),
    }
}

fn kind(node: &Node, warnings: &mut Vec<Diagnostic>) -> Result<Kind, Problems> {
    let name = node.command.value.to_lowercase();
    Ok(match name.as_str() {
        "add" => Kind::Add(copy::add(node)?),
        "arg" => Kind::Arg(args(node, warnings)?),
        "cmd" => Kind::Cmd(command_line_only(node)?),
        "copy" => Kind::Copy(copy::copy(node)?),
        "entrypoint" => Kind::Entrypoint(command_line_only(node)?),
        "env" => Kind::Env(pairs(node, "ENV")?),
        "expose" => Kind::Expose(ports(node)?),
        "healthcheck" => Kind::Healthcheck(healthcheck::healthcheck(node, warnings)?),
        "label" => Kind::Label(pairs(node, "LABEL")?),
        "maintainer" => {
            let name = exactly_one(node, "MAINTAINER")?;
            no_flags(node)?;
            Kind::Maintainer(name)
        }
        "onbuild" => Kind::Onbuild(onbuild(node, warnings)?),
        "run" => Kind::Run(run::run(node)?),
        "shell" => Kind::Shell(shell(node)?),
        "stopsignal" => {
            let signal = exactly_one(node, "STOPSIGNAL")?;
            ignored_flags(node, warnings);
            Kind::Stopsignal(signal)
        }
        "user" => {
            let user = exactly_one(node, "USER")?;
            no_flags(node)?;
            Kind::User(user)
        }
        "volume" => Kind::Volume(volumes(node)?),
        "workdir" => {
            let path = exactly_one(node, "WORKDIR")?;
            no_flags(node)?;
            Kind::Workdir(path)
        }
        _ => return Err(unknown(node)),
    })
}

fn unknown(node: &Node) -> Problems {
    let name = &node.command.value;
    let suggestion = did_you_mean(name, command::names(), Case::Insensitive);
    let hint = if suggestion.is_empty() && !name.starts_with(char::is_alphabetic) {
        Some("does the line above lack its continuation character at the end?".to_owned())
    } else if suggestion.is_empty() {
        let names: Vec<_> = command::names().collect();
        Some(format!("an instruction is one of {}", names.join(", ")))
    } else {
        None
    };
    let message = format!("unknown instruction: {name}{suggestion}");
    vec![Problem { message, span: node.command.span, hint }]
}

/// `[a-z][a-z0-9-_.]*`
fn is_stage_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_' | '.'))
}

fn stage(node: &Node) -> Result<Stage, Problems> {
    let (base, alias) = match &node.arguments[..] {
        [base] => (base, None),
        [base, keyword, name] if keyword.value.eq_ignore_ascii_case("as") => {
            (base, Some((keyword, name)))
        }
        _ => return Err(problem(node, "FROM requires either one or three arguments")),
    };
    let name = alias.map(|(_, name)| Text { value: name.value.to_lowercase(), ..name.clone() });
    if let (Some((_, written)), Some(name)) = (alias, &name)
        && !is_stage_name(&name.value)
    {
        let message = format!(
            "invalid name for build stage: {}, name can't start with a number or contain symbols",
            quote(&written.value)
        );
        return Err(vec![Problem { message, span: written.span, hint: None }]);
    }
    let flags = flags(node, &[("platform", Takes::Value)])?;
    Ok(Stage {
        base: base.clone(),
        platform: flags.value("platform"),
        doc: name.as_ref().map_or_else(String::new, |n| Docs::new(&node.comments).of(&n.value)),
        name,
        name_as_written: alias.map(|(_, name)| name.value.clone()),
        keyword: node.command.value.clone(),
        as_keyword: alias.map(|(keyword, _)| keyword.value.clone()),
        span: node.span,
        lines: node.lines,
        original: node.original.trim().to_owned(),
        skip_checks: directive::skipped_checks(&node.comments),
        comments: node.comments.clone(),
        instructions: Vec::new(),
    })
}

/// What comment lines say about the names that they begin with; the first of a name counts.
struct Docs<'c>(HashMap<&'c str, &'c str>);

impl<'c> Docs<'c> {
    fn new(comments: &'c [String]) -> Self {
        let lines = comments.iter().rev();
        Self(lines.filter_map(|comment| comment.split_once(' ')).collect())
    }

    fn of(&self, name: &str) -> String {
        self.0.get(name).map_or_else(String::new, |doc| (*doc).to_owned())
    }
}

fn args(node: &Node, warnings: &mut Vec<Diagnostic>) -> Result<Vec<Arg>, Problems> {
    at_least_one(node, "ARG")?;
    ignored_flags(node, warnings);
    let docs = Docs::new(&node.comments);
    let mut args = Vec::with_capacity(node.arguments.len());
    for word in &node.arguments {
        let (name, value) = match word.value.split_once('=') {
            Some(("", _)) => return Err(problem(node, "ARG names can not be blank")),
            Some((name, value)) => (name, Some(part(word, name.len() + 1, value))),
            None => (word.value.as_str(), None),
        };
        args.push(Arg { name: part(word, 0, name), value, doc: docs.of(name) });
    }
    Ok(args)
}

/// A part of a word, `at` bytes behind its start, with its place as well as it can be told.
fn part(word: &Text, at: usize, part: &str) -> Text {
    let whole = word.span.range();
    let moved = whole.len() != word.value.len();
    let start = whole.start + at;
    let span = if moved { word.span } else { Span::new(start..start + part.len()) };
    Text { value: part.to_owned(), span }
}

fn pairs(node: &Node, command: &str) -> Result<Vec<KeyValue>, Problems> {
    no_flags(node)?;
    at_least_one(node, command)?;
    let (triples, rest) = node.arguments.as_chunks::<3>();
    if !rest.is_empty() {
        return Err(problem(node, format!("Bad input to {command}, too many arguments")));
    }
    let pair = |[key, value, separator]: &[Text; 3]| {
        if key.value.is_empty() {
            return Err(problem(node, format!("{command} names can not be blank")));
        }
        let legacy = separator.value.is_empty();
        Ok(KeyValue { key: key.clone(), value: value.clone(), legacy })
    };
    triples.iter().map(pair).collect()
}

fn ports(node: &Node) -> Result<Vec<Text>, Problems> {
    at_least_one(node, "EXPOSE")?;
    no_flags(node)?;
    let mut ports = node.arguments.clone();
    ports.sort_by(|a, b| a.value.cmp(&b.value));
    Ok(ports)
}

fn volumes(node: &Node) -> Result<Vec<Text>, Problems> {
    at_least_one(node, "VOLUME")?;
    no_flags(node)?;
    let volume = |word: &Text| match word.value.trim() {
        "" => Err(vec![Problem {
            message: "VOLUME specified can not be an empty string".to_owned(),
            span: word.span,
            hint: None,
        }]),
        path => Ok(Text { value: path.to_owned(), ..word.clone() }),
    };
    node.arguments.iter().map(volume).collect()
}

fn shell(node: &Node) -> Result<Vec<String>, Problems> {
    no_flags(node)?;
    at_least_one(node, "SHELL")?;
    match command_line(node, &node.arguments) {
        CommandLine::Exec(words) => Ok(words),
        CommandLine::Shell(_) => {
            Err(problem(node, "SHELL requires the arguments to be in JSON form"))
        }
    }
}

fn command_line_only(node: &Node) -> Result<CommandLine, Problems> {
    no_flags(node)?;
    Ok(command_line(node, &node.arguments))
}

/// The command that `words` of `node` are.
fn command_line(node: &Node, words: &[Text]) -> CommandLine {
    let words = words.iter().map(|word| word.value.clone());
    if node.json {
        CommandLine::Exec(words.collect())
    } else {
        CommandLine::Shell(words.collect::<Vec<_>>().join(" "))
    }
}

fn onbuild(node: &Node, warnings: &mut Vec<Diagnostic>) -> Result<Onbuild, Problems> {
    let Some(inner) = &node.inner else {
        return Err(problem(node, "ONBUILD requires at least one argument"));
    };
    no_flags(node)?;
    match inner.command.value.to_uppercase().as_str() {
        "ONBUILD" => {
            let message = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed";
            return Err(problem(node, message));
        }
        trigger @ ("FROM" | "MAINTAINER") => {
            return Err(problem(node, format!("{trigger} isn't allowed as an ONBUILD trigger")));
        }
        _ => {}
    }
    check_trigger(node, inner, warnings);
    Ok(Onbuild { expression: expression(node) })
}

/// The trigger as it goes into the image config.
fn expression(node: &Node) -> String {
    let blanks = ['\t', '\n', '\u{c}', '\r', ' '];
    let original = node.original.trim_start_matches(blanks);
    let trigger = original.get("ONBUILD".len()..).unwrap_or_default();
    let mut expression = trigger.trim_start_matches(blanks).to_owned();
    for heredoc in &node.heredocs {
        expression.push('\n');
        expression.push_str(&heredoc.raw);
        expression.push_str(&heredoc.name);
    }
    expression
}

/// A trigger that cannot be read fails only in builds on the image, so here it is a warning.
fn check_trigger(node: &Node, inner: &Node, warnings: &mut Vec<Diagnostic>) {
    let inner = Node { lines: node.lines, heredocs: node.heredocs.clone(), ..inner.clone() };
    let mut found = Vec::new();
    if read(&inner, &mut found).is_none() {
        warnings.extend(found.into_iter().map(|error| Diagnostic {
            severity: Severity::Warning,
            message: format!("builds on this image will fail: {}", error.message),
            ..error
        }));
    }
}

fn exactly_one(node: &Node, command: &str) -> Result<Text, Problems> {
    match &node.arguments[..] {
        [only] => Ok(only.clone()),
        _ => Err(problem(node, format!("{command} requires exactly one argument"))),
    }
}

fn at_least_one(node: &Node, command: &str) -> Result<(), Problems> {
    if node.arguments.is_empty() {
        return Err(problem(node, format!("{command} requires at least one argument")));
    }
    Ok(())
}

fn flags(node: &Node, known: &[(&str, Takes)]) -> Result<Flags, Problems> {
    let command = node.command.value.to_uppercase();
    flag::parse(known, &node.flags).map_err(|errors| {
        let problem = |(error, span): (FlagError, Span)| {
            let hint = match &error {
                FlagError::Unknown { name, .. } if name == "after" && command == "FROM" => {
                    Some(AFTER.to_owned())
                }
                FlagError::Unknown { .. } => Some(takes(&command, known)),
                _ => None,
            };
            Problem { message: error.to_string(), span, hint }
        };
        errors.into_iter().map(problem).collect()
    })
}

/// What buildah's `FROM --after=STAGE` is for can be said without it.
const AFTER: &str = "stages are only ordered by what they take from each other: let a step take \
                     something, with `COPY --from=STAGE` or `RUN --mount=from=STAGE`";

fn takes(command: &str, known: &[(&str, Takes)]) -> String {
    let names: Vec<_> = known.iter().map(|(name, _)| format!("--{name}")).collect();
    if names.is_empty() {
        format!("{command} takes no flags")
    } else {
        format!("{command} takes {}", names.join(", "))
    }
}

fn no_flags(node: &Node) -> Result<(), Problems> {
    flags(node, &[]).map(drop)
}

/// Instructions whose flags BuildKit never looks at: they do nothing, but are told.
fn ignored_flags(node: &Node, warnings: &mut Vec<Diagnostic>) {
    let Some(flag) = node.flags.first() else { return };
    let message =
        format!("flag {} of {} has no effect", flag.value, node.command.value.to_uppercase());
    let told = Diagnostic::error(message, flag.span, node.lines);
    warnings.push(Diagnostic { severity: Severity::Warning, ..told });
}

/// A problem of the instruction as a whole, with how it is written as the hint.
fn problem(node: &Node, message: impl Into<String>) -> Problems {
    let hint = command::usage(&node.command.value).map(|usage| format!("usage: {usage}"));
    vec![Problem { message: message.into(), span: node.span, hint }]
}
