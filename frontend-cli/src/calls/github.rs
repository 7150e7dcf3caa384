//! Findings as commands to a GitHub Actions runner, which shows them beside the lines.
//!
//! <https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-commands>

use parser::{Diagnostic, Severity};

use super::check::Report;
use super::sarif::Region;

/// A command a line.
pub(super) fn commands(report: &Report<'_>) -> String {
    report.diagnostics.iter().map(|found| command(report, found)).collect()
}

fn command(report: &Report<'_>, found: &Diagnostic) -> String {
    let level = match found.severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
        Severity::Note => "notice",
    };
    let mut properties = vec![("file", report.path.to_owned())];
    if let Some(region) = Region::of(report.text, found) {
        properties
            .extend([("line", region.start.0.to_string()), ("endLine", region.end.0.to_string())]);
        // The runner takes columns only within a line.
        if region.start.0 == region.end.0 {
            properties.extend([
                ("col", region.start.1.to_string()),
                ("endColumn", region.end.1.to_string()),
            ]);
        }
    }
    properties.extend(found.rule.map(|rule| ("title", rule.to_owned())));
    let properties: Vec<String> =
        properties.iter().map(|(name, value)| format!("{name}={}", property(value))).collect();
    let hint = found.hint.as_ref().map(|hint| format!("\n{hint}")).unwrap_or_default();
    let message = data(&format!("{}{hint}", found.message));
    format!("::{level} {}::{message}\n", properties.join(","))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}
