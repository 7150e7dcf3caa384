//! What is wrong or doubtful in a Dockerfile, as data. Drawing it is the command line's job.

use crate::span::{Lines, Span};

/// How much a diagnostic matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The build cannot go on.
    Error,
    /// Worth a look; the build goes on.
    Warning,
    /// Advice: it builds well, and could be smaller, quicker or safer.
    Note,
}

/// One thing to tell the user about the Dockerfile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// Name of the check (`StageNameCasing`), for warnings that can be turned off.
    pub rule: Option<&'static str>,
    /// What is wrong, lower case, no final stop (texts that BuildKit users know are kept).
    pub message: String,
    /// Where exactly: what the caret points at.
    pub span: Span,
    /// Lines of the instruction.
    pub lines: Lines,
    /// How to go on.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// An error at `span`.
    pub fn error(message: impl Into<String>, span: Span, lines: Lines) -> Self {
        Self {
            severity: Severity::Error,
            rule: None,
            message: message.into(),
            span,
            lines,
            hint: None,
        }
    }

    /// A warning of the check `rule` at `span`.
    pub fn warning(
        rule: &'static str,
        message: impl Into<String>,
        span: Span,
        lines: Lines,
    ) -> Self {
        Self {
            severity: Severity::Warning,
            rule: Some(rule),
            message: message.into(),
            span,
            lines,
            hint: None,
        }
    }

    /// The same with a hint.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}
