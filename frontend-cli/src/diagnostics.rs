//! How errors and warnings look: the lines of the Dockerfile, the cause, the way out.
//!
//! Everything here makes text (with ANSI styles; the writer strips them where they are not
//! wanted) and is readable without colour.

use std::fmt::Write as _;
use std::ops::Range;
use std::path::Path;

use annotate_snippets::{AnnotationKind, Level, Origin, Renderer, Snippet};
use anstyle::{AnsiColor, Style};
use engine::{BuildError, StepFailure, StoppedStep};
use parser::credentials::{masked_credentials, without_credentials};
use parser::{Diagnostic, Severity};
use unicode_width::UnicodeWidthChar as _;

use crate::terminal::{expand_tabs, harmless};

pub(crate) const ERROR: Style = AnsiColor::BrightRed.on_default().bold();
pub(crate) const WARNING: Style = AnsiColor::Yellow.on_default().bold();
pub(crate) const HINT: Style = AnsiColor::BrightCyan.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// An error in one line, and a hint.
pub fn message(text: &str, hint: Option<&str>) -> String {
    let mut out = format!("{ERROR}error{ERROR:#}: {}\n", lines_of(text));
    if let Some(hint) = hint {
        let _ = write!(out, "\n{HINT}hint{HINT:#}: {}\n", lines_of(hint));
    }
    out
}

/// A warning in one line.
pub fn warning(text: &str) -> String {
    format!("{WARNING}warning{WARNING:#}: {}\n", lines_of(text))
}

/// Why a build ended, for a terminal of so many columns.
pub fn build_error(error: &BuildError, columns: usize) -> String {
    match error {
        BuildError::Dockerfile { name, text, diagnostics } => {
            let mut out = String::new();
            // Warnings first: what is read last is what must be mended.
            let (errors, warnings): (Vec<&Diagnostic>, Vec<&Diagnostic>) =
                diagnostics.iter().partition(|d| d.severity == Severity::Error);
            for diagnostic in warnings.into_iter().chain(errors.iter().copied()) {
                out.push_str(&dockerfile(diagnostic, name, text, columns));
                out.push('\n');
            }
            if errors.is_empty() {
                out.push_str(&message(&error.to_string(), None));
            } else {
                out.pop();
            }
            out
        }
        BuildError::Step { failure } => step_failure(failure),
        BuildError::Input(fault)
        | BuildError::Refused(fault)
        | BuildError::System(fault)
        | BuildError::Lost(fault) => message(&fault.text(), fault.hint()),
        error @ BuildError::Changed { .. } => message(&error.to_string(), None),
        BuildError::Canceled => message("canceled", None),
    }
}

/// A finding in the Dockerfile, with the place underlined.
pub fn dockerfile(diagnostic: &Diagnostic, name: &str, text: &str, columns: usize) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
        Severity::Note => Level::NOTE,
    };
    let title = harmless(&without_credentials(&diagnostic.message));
    let mut title = level.primary_title(title);
    if let Some(rule) = diagnostic.rule {
        title = title.id(rule);
    }
    let report = match diagnostic.lines.start {
        // It is about the whole file, or what was asked of it.
        0 => [title.element(Origin::path(harmless(name)))],
        _ => {
            let span = clipped(text, span_in(text, diagnostic), columns.max(COLUMNS_MIN) - MARGINS);
            let place = AnnotationKind::Primary.span(span);
            let text = masked_credentials(text);
            [title.element(Snippet::source(text).path(harmless(name)).annotation(place))]
        }
    };
    let mut out = Renderer::styled().term_width(columns.max(COLUMNS_MIN)).render(&report);
    out.push('\n');
    if let Some(hint) = &diagnostic.hint {
        let _ = write!(out, "\n{HINT}hint{HINT:#}: {}\n", lines_of(hint));
    }
    out
}

/// A finding in one line: `StageNameCasing: stage name … (line 3)`.
pub fn dockerfile_brief(diagnostic: &Diagnostic) -> String {
    let rule = diagnostic.rule.map(|rule| format!("{rule}: ")).unwrap_or_default();
    let message = harmless(&without_credentials(&diagnostic.message));
    let hint = diagnostic.hint.as_deref().map(|hint| format!(": {}", harmless(hint)));
    let (line, hint) = (diagnostic.lines.start, hint.unwrap_or_default());
    warning(&format!("{rule}{message} (line {line}){hint}"))
}

/// Narrower than this no excerpt is drawn.
const COLUMNS_MIN: usize = 40;
/// Columns beside the code: the line's number, what stands for the code that is left out.
const MARGINS: usize = 24;

/// A span whose underline takes at most so many columns. The drawing shows the lines around what is
/// underlined; an underline that fits nowhere would be wrapped, and with it what stands above.
fn clipped(text: &str, span: Range<usize>, columns: usize) -> Range<usize> {
    let last_line = text[..span.end].rfind('\n').map_or(0, |at| at + 1);
    let from = span.start.max(last_line);
    let mut width = 0;
    let too_far = text[from..span.end].char_indices().find(|(_, c)| {
        width += c.width().unwrap_or(0);
        width > columns
    });
    span.start..too_far.map_or(span.end, |(at, _)| from + at)
}

/// The span, or the instruction's lines where it is empty, moved into `text` and onto the
/// boundaries of characters.
pub(crate) fn span_in(text: &str, diagnostic: &Diagnostic) -> Range<usize> {
    let mut range = diagnostic.span.range();
    if range.is_empty() {
        range = range_of_lines(text, diagnostic.lines.start, diagnostic.lines.end);
    }
    let start = text.floor_char_boundary(range.start.min(text.len()));
    let end = text.ceil_char_boundary(range.end.clamp(start, text.len()));
    // A line break at the end would draw the underline over to the next line.
    let trimmed = text[start..end].trim_end().len();
    start..start + trimmed
}

fn range_of_lines(text: &str, first: u32, last: u32) -> Range<usize> {
    let (mut start, mut end, mut offset) = (text.len(), text.len(), 0);
    for (number, line) in (1..).zip(text.split_inclusive('\n')) {
        if number == first {
            start = offset;
        }
        offset += line.len();
        if number == last {
            end = offset;
        }
    }
    start..end.max(start)
}

/// A failed step: what it wrote last, the lines it came from, what went wrong, what to do.
fn step_failure(failure: &StepFailure) -> String {
    let mut out = log_tail(&failure.name, &failure.log_tail);
    if let (Some((name, text)), Some((first, last))) = (&failure.dockerfile, failure.lines) {
        out.push_str(&excerpt(name, text, first, last));
    }
    out.push_str(&message(&failure.fault.text(), None));
    if let Some(path) = &failure.log_path {
        let _ = write!(out, "\n{}", log_path(path));
    }
    if let Some(hint) = failure.fault.hint() {
        let _ = write!(out, "\n{HINT}hint{HINT:#}: {}\n", lines_of(hint));
    }
    out
}

/// What a step had written when the build was stopped, and where all of it is.
pub fn stopped_step(step: &StoppedStep) -> String {
    let mut out = log_tail(&step.name, &step.log_tail);
    if let Some(path) = &step.log_path {
        let _ = writeln!(out, "{}", log_path(path));
    }
    out
}

/// The last lines that a step wrote; nothing for none.
fn log_tail(name: &str, lines: &[String]) -> String {
    let mut out = String::new();
    if lines.is_empty() {
        return out;
    }
    let _ = writeln!(out, "{}:", harmless(name));
    for line in lines {
        // What a carriage return takes back on a terminal is not shown here, either.
        let line = line.trim_end_matches('\r').rsplit('\r').next().unwrap_or_default();
        let _ = writeln!(out, "  {DIM}|{DIM:#} {}", expand_tabs(&harmless(line)).trim_end());
    }
    out.push('\n');
    out
}

fn log_path(path: &Path) -> String {
    format!("{HINT}log{HINT:#}: {}\n", harmless(&path.display().to_string()))
}

/// Lines around the failing ones that an excerpt shows.
const AROUND: u32 = 2;
/// An instruction longer than this (a heredoc) is shown by its beginning.
const EXCERPT_MAX: u32 = 20;

/// The excerpt that BuildKit's users know.
pub fn excerpt(name: &str, text: &str, first: u32, last: u32) -> String {
    const RULE: &str = "--------------------";
    let text = masked_credentials(text);
    let mut out = format!("{}:{first}\n{RULE}\n", harmless(name));
    let end = last.min(first.saturating_add(EXCERPT_MAX));
    let shown = first.saturating_sub(AROUND).max(1)..=end.saturating_add(AROUND);
    for (number, line) in (1_u32..).zip(text.lines()).filter(|(number, _)| shown.contains(number)) {
        if number > end && end < last {
            let _ = writeln!(out, "     | >>> … {} more lines", last - end);
            break;
        }
        let mark = if (first..=last).contains(&number) { ">>>" } else { "   " };
        let line = expand_tabs(&harmless(line));
        let _ = writeln!(out, "{}", format!("{number:4} | {mark} {line}").trim_end());
    }
    let _ = writeln!(out, "{RULE}");
    out
}

/// Text whose lines are kept, and whose control bytes and passwords in addresses are not.
pub(crate) fn lines_of(text: &str) -> String {
    without_credentials(text.trim_end()).split('\n').map(harmless).collect::<Vec<_>>().join("\n")
}
