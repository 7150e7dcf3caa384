//! `--call check`: what is doubtful in a Dockerfile.

use std::fmt::Write as _;

use parser::check::find_rule;
use parser::{Diagnostic, Severity};
use serde_json::{Value, json};

use super::{bytes, github, location, object, pretty, sarif};
use crate::build_args::Format;
use crate::diagnostics::{ERROR, HINT, WARNING, excerpt, lines_of};
use crate::terminal::harmless;

/// What was found in a Dockerfile.
#[derive(Debug)]
pub struct Report<'a> {
    /// The Dockerfile's name for people.
    pub name: &'a str,
    /// Its path, for programs that look for it.
    pub path: &'a str,
    /// Its text.
    pub text: &'a str,
    /// Errors, warnings and notes.
    pub diagnostics: &'a [Diagnostic],
    /// Whether all of it was looked at.
    pub is_whole: bool,
}

impl<'a> Report<'a> {
    /// The whole report.
    pub fn write(&self, format: Format) -> String {
        match format {
            Format::Text => self.as_text(),
            Format::Json => pretty(&self.as_json()),
            Format::Sarif => pretty(&sarif::log(self)),
            Format::Github => github::commands(self),
        }
    }

    /// Those that matter so much.
    fn of(&self, severity: Severity) -> impl Iterator<Item = &'a Diagnostic> + Clone {
        self.diagnostics.iter().filter(move |found| found.severity == severity)
    }

    /// How many.
    pub fn count(&self, severity: Severity) -> usize {
        self.of(severity).count()
    }

    /// As buildx prints it; what is wrong is told as an error afterwards.
    fn as_text(&self) -> String {
        let mut out = match self.count(Severity::Warning) {
            0 if self.count(Severity::Error) > 0 => String::new(),
            _ if !self.is_whole => String::new(),
            0 => "Check complete, no warnings found.\n".to_owned(),
            1 => "Check complete, 1 warning has been found!\n".to_owned(),
            count => format!("Check complete, {count} warnings have been found!\n"),
        };
        for found in self.of(Severity::Warning).chain(self.of(Severity::Note)) {
            out.push_str(&self.finding(found));
        }
        out
    }

    fn finding(&self, found: &Diagnostic) -> String {
        let (word, style) = match found.severity {
            Severity::Error => ("ERROR", ERROR),
            Severity::Warning => ("WARNING", WARNING),
            Severity::Note => ("NOTE", HINT),
        };
        let mut out = format!("\n{style}{word}{style:#}: {}", found.rule.unwrap_or("Dockerfile"));
        if let Some(url) = url(found) {
            let _ = write!(out, " - {url}");
        }
        let _ = writeln!(out, "\n{}", harmless(&found.message));
        if let Some(hint) = &found.hint {
            let _ = writeln!(out, "{HINT}hint{HINT:#}: {}", lines_of(hint));
        }
        if found.lines.start > 0 {
            out.push_str(&excerpt(self.name, self.text, found.lines.start, found.lines.end));
        }
        out
    }

    /// BuildKit's JSON; our own notes stand beside its warnings.
    fn as_json(&self) -> Value {
        let all = |severity| self.of(severity).map(finding).collect::<Value>();
        let mut report = json!({
            "warnings": all(Severity::Warning),
            "sources": [{
                "filename": self.name,
                "data": bytes(self.text),
                "language": "Dockerfile",
            }],
        });
        if self.count(Severity::Note) > 0 {
            report["notes"] = all(Severity::Note);
        }
        if let Some(error) = self.of(Severity::Error).next() {
            report["buildError"] =
                json!({ "message": error.message, "location": location(error.lines) });
        }
        report
    }
}

/// Where the rule is explained, if it is anywhere.
pub(super) fn url(found: &Diagnostic) -> Option<String> {
    let rule = find_rule(found.rule?)?;
    Some(rule.url()).filter(|url| !url.is_empty())
}

fn finding(found: &Diagnostic) -> Value {
    let rule = found.rule.and_then(find_rule);
    object([
        ("ruleName", json!(found.rule.unwrap_or_default())),
        ("description", json!(rule.map(|rule| rule.description))),
        ("url", json!(url(found))),
        ("detail", json!(found.message)),
        ("location", location(found.lines)),
    ])
}
