//! Expansion of `$name` and `${name…}` in the words of instructions.
//!
//! The rules are BuildKit's: quotes as in a shell, `${name:-word}`, `-`, `:+`, `+`, `:?`, `?`,
//! `#`, `##`, `%`, `%%`, `/pattern/text` and `//pattern/text`, words nesting to any depth. The
//! nesting is kept on a stack of our own and all text in one buffer, so that a word costs time
//! and memory in proportion to its length; what values may add is capped.

mod cursor;
mod frame;
mod machine;
mod split;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use self::machine::Machine;
use crate::pattern::PatternError;
use crate::quote::quote;

/// What the values of variables may add to one word, in bytes.
pub const MAX_WORD_GROWTH: usize = 1 << 20;
/// What the values of variables may add to all words of a build, in bytes.
pub const MAX_BUILD_GROWTH: usize = 16 << 20;

/// Where the values of variables come from.
pub trait Variables {
    /// The value of `name`, `None` where it is unset.
    fn get(&self, name: &str) -> Option<Cow<'_, str>>;
}

impl<F: Fn(&str) -> Option<String>> Variables for F {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self(name).map(Cow::Owned)
    }
}

impl Variables for BTreeMap<String, String> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

impl Variables for HashMap<String, String> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.get(name).map(|value| Cow::Borrowed(value.as_str()))
    }
}

/// Names and values; the last one of a name counts.
impl Variables for [(String, String)] {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        let last = self.iter().rev().find(|(key, _)| key == name)?;
        Some(Cow::Borrowed(last.1.as_str()))
    }
}

/// `NAME=VALUE` as in an image config; the last one of a name counts, no `=` means empty.
impl Variables for [String] {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.iter().rev().find_map(|entry| {
            let (key, value) = entry.split_once('=').unwrap_or((entry, ""));
            (key == name).then_some(Cow::Borrowed(value))
        })
    }
}

/// A word after expansion.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// The word.
    pub text: String,
    /// Variables in the word that have a value.
    pub matched: BTreeSet<String>,
    /// Variables in the word that are unset.
    pub unmatched: BTreeSet<String>,
}

/// Why a word could not be expanded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("failed to process {}: {kind}", quote(word))]
pub struct ExpandError {
    /// The whole word.
    pub word: String,
    /// Offset in the word, in bytes, at which the problem showed.
    pub at: usize,
    /// The problem.
    pub kind: ExpandErrorKind,
}

/// The problems a word may have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpandErrorKind {
    /// `${` without its `}`.
    #[error("syntax error: missing '}}'")]
    MissingBrace,
    /// `${name/pattern` without the second slash.
    #[error("syntax error: missing '/' in ${{}}")]
    MissingSlash,
    /// `${}`, `${{`, `${:`.
    #[error("syntax error: bad substitution")]
    BadSubstitution,
    /// A `'` without its partner.
    #[error("unexpected end of statement while looking for matching single-quote")]
    SingleQuote,
    /// A `"` without its partner.
    #[error("unexpected end of statement while looking for matching double-quote")]
    DoubleQuote,
    /// Something other than the known operators after the name.
    #[error("unsupported modifier ({modifier}) in substitution")]
    Modifier {
        /// What stands after the name.
        modifier: String,
    },
    /// `${name?message}` and the variable is unset, or `${name:?message}` and it is empty.
    #[error("{name}: {message}")]
    Required {
        /// The variable.
        name: String,
        /// The message in the word, or a general one.
        message: String,
    },
    /// A pattern that is not one.
    #[error("invalid pattern ({pattern}) in substitution: {source}")]
    Pattern {
        /// The pattern, variables expanded.
        pattern: String,
        /// What is wrong with it.
        source: PatternError,
    },
    /// One word grows by more than [`MAX_WORD_GROWTH`].
    #[error("variables make the word grow by more than {MAX_WORD_GROWTH} bytes")]
    WordTooLarge,
    /// All words together grow by more than [`MAX_BUILD_GROWTH`].
    #[error("variables make the words of this build grow by more than {MAX_BUILD_GROWTH} bytes")]
    BuildTooLarge,
}

/// What happens to quotes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Quotes {
    /// They quote, and go away.
    Remove,
    /// They quote, and stay.
    Keep,
    /// They are characters like any other.
    Literal,
}

/// How words are expanded. Clones share the build's cap on growth.
#[derive(Debug, Clone)]
pub struct Expander {
    escape: char,
    quotes: Quotes,
    keep_escapes: bool,
    keep_unset: bool,
    /// Bytes that values may still add.
    allowance: Arc<AtomicUsize>,
}

impl Expander {
    /// The usual rules, with the Dockerfile's escape character.
    pub fn new(escape: char) -> Self {
        Self {
            escape,
            quotes: Quotes::Remove,
            keep_escapes: false,
            keep_unset: false,
            allowance: Arc::new(AtomicUsize::new(MAX_BUILD_GROWTH)),
        }
    }

    /// The rules inside a here-document: quotes mean nothing, and `\` escapes whatever the
    /// Dockerfile's escape character is.
    #[must_use]
    pub fn for_heredoc(&self) -> Self {
        Self { escape: '\\', quotes: Quotes::Literal, ..self.clone() }
    }

    /// Quotes work but are kept in the result.
    #[must_use]
    pub fn keep_quotes(mut self) -> Self {
        self.quotes = Quotes::Keep;
        self
    }

    /// Quotes are characters like any other.
    #[must_use]
    pub fn literal_quotes(mut self) -> Self {
        self.quotes = Quotes::Literal;
        self
    }

    /// Escape characters work but are kept in the result.
    #[must_use]
    pub fn keep_escapes(mut self) -> Self {
        self.keep_escapes = true;
        self
    }

    /// References to unset variables stay as they are.
    #[must_use]
    pub fn keep_unset(mut self) -> Self {
        self.keep_unset = true;
        self
    }

    /// Expands `word` to one word (BuildKit's `ProcessWord`).
    pub fn word(
        &self,
        word: &str,
        variables: &(impl Variables + ?Sized),
    ) -> Result<Expanded, ExpandError> {
        let variables = ByReference(variables);
        Machine::new(self, word, &variables, false).run().map(|(expanded, _)| expanded)
    }

    /// Expands `word` and splits the result at blanks that are not quoted (`ProcessWords`).
    pub fn words(
        &self,
        word: &str,
        variables: &(impl Variables + ?Sized),
    ) -> Result<Vec<String>, ExpandError> {
        let variables = ByReference(variables);
        Machine::new(self, word, &variables, true).run().map(|(_, words)| words)
    }

    /// Takes `bytes` from the build's allowance; whether there were as many.
    fn spend(&self, bytes: usize) -> bool {
        let take = |left: usize| left.checked_sub(bytes);
        self.allowance.try_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

/// A sized stand-in for any `V`, so that the machine needs no type parameter of its own.
struct ByReference<'v, V: ?Sized>(&'v V);

impl<V: Variables + ?Sized> Variables for ByReference<'_, V> {
    fn get(&self, name: &str) -> Option<Cow<'_, str>> {
        self.0.get(name)
    }
}
