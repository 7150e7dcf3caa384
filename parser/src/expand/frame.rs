//! A `${name…}` that is still open.

use std::borrow::Cow;

/// What is done with the word in `${name…word}` when its `}` comes.
#[derive(Debug)]
pub(super) enum Rule {
    /// `-`, `+`, `?` with or without `:`.
    Choice { operator: char, empty_is_unset: bool },
    /// Two characters after the name that are no operator.
    Unsupported { modifier: String },
    /// `#` and `%`.
    Trim { operator: char },
    /// `/pattern` so far.
    Pattern { every: bool },
    /// `/pattern/text`.
    Replace { every: bool, pattern: String },
}

/// A `${name…` that is still open.
pub(super) struct Frame<'v> {
    pub(super) name: &'v str,
    pub(super) value: Option<Cow<'v, str>>,
    pub(super) rule: Rule,
    /// Where its word begins in the output.
    pub(super) mark: usize,
    pub(super) keep_escapes: bool,
    /// Inside double quotes.
    pub(super) quoted: bool,
    /// The reference stays as it is, since the variable is unset.
    pub(super) kept: bool,
}

impl Frame<'_> {
    pub(super) fn stop(&self) -> char {
        if matches!(self.rule, Rule::Pattern { .. }) { '/' } else { '}' }
    }
}
