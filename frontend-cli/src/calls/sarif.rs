//! Findings in the Static Analysis Results Interchange Format 2.1.0.
//!
//! <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>

use parser::check::find_rule;
use parser::{Diagnostic, Severity};
use serde_json::{Value, json};

use super::check::Report;
use super::object;
use crate::diagnostics::span_in;

/// A part of the text: lines and columns from 1 on, columns in characters, the end exclusive.
pub(super) struct Region {
    pub(super) start: (usize, usize),
    pub(super) end: (usize, usize),
}

impl Region {
    /// What a finding is about; `None` for the whole file.
    pub(super) fn of(text: &str, found: &Diagnostic) -> Option<Self> {
        if found.lines.start == 0 {
            return None;
        }
        let span = span_in(text, found);
        let place = |offset: usize| {
            let before = &text[..offset];
            let line = before.rsplit('\n').next().unwrap_or_default();
            (before.matches('\n').count() + 1, line.chars().count() + 1)
        };
        Some(Self { start: place(span.start), end: place(span.end) })
    }
}

/// The whole log.
pub(super) fn log(report: &Report<'_>) -> Value {
    let mut rules: Vec<&str> = report.diagnostics.iter().filter_map(|found| found.rule).collect();
    rules.sort_unstable();
    rules.dedup();
    let results = report.diagnostics.iter().map(|found| result(report, found, &rules));
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "columnKind": "unicodeCodePoints",
            "tool": { "driver": {
                "name": "mybuild",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|name| rule(name)).collect::<Value>(),
            } },
            "results": results.collect::<Value>(),
        }],
    })
}

fn rule(name: &str) -> Value {
    let known = find_rule(name);
    object([
        ("id", json!(name)),
        ("name", json!(name)),
        ("shortDescription", known.map_or(Value::Null, |rule| json!({ "text": rule.description }))),
        ("helpUri", json!(known.map(parser::check::Rule::url).unwrap_or_default())),
    ])
}

fn result(report: &Report<'_>, found: &Diagnostic, rules: &[&str]) -> Value {
    let level = match found.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "note",
    };
    let hint = found.hint.as_ref().map(|hint| format!(" ({hint})")).unwrap_or_default();
    let region = Region::of(report.text, found).map(|region| {
        json!({
            "startLine": region.start.0,
            "startColumn": region.start.1,
            "endLine": region.end.0,
            "endColumn": region.end.1,
        })
    });
    let place = object([
        ("artifactLocation", json!({ "uri": uri(report.path) })),
        ("region", region.unwrap_or_default()),
    ]);
    object([
        ("ruleId", json!(found.rule)),
        ("ruleIndex", json!(found.rule.and_then(|rule| rules.binary_search(&rule).ok()))),
        ("level", json!(level)),
        ("message", json!({ "text": format!("{}{hint}", found.message) })),
        ("locations", json!([{ "physicalLocation": place }])),
    ])
}

/// A path as a reference to a file (RFC 3986).
fn uri(path: &str) -> String {
    let mut out = String::new();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'-' | b'_' | b'~' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
