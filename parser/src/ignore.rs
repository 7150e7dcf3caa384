//! Ignore files: which paths of a context are left out.
//!
//! The rules are those of Docker's `.dockerignore`: Go's `filepath.Match` for each part of a path,
//! `**` for any number of parts, `!` for exceptions, and the last pattern that matches decides. A
//! pattern that matches a directory also matches everything below it.

mod glob;
mod regex;

use crate::path;
use glob::Glob;

/// Why a pattern is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPattern {
    /// A `!` with nothing behind it.
    #[error("illegal exclusion pattern: \"!\"")]
    EmptyException,
    /// Brackets that do not close, a range without an end, a lone escape character.
    #[error("syntax error in pattern")]
    Syntax {
        /// The pattern.
        pattern: String,
    },
}

/// The patterns of one ignore file, in order.
#[derive(Debug, Clone)]
pub struct Patterns {
    patterns: Vec<Pattern>,
    has_exceptions: bool,
}

#[derive(Debug, Clone)]
struct Pattern {
    glob: Glob,
    /// Written with `!`: what it matches is not left out.
    is_exception: bool,
}

/// What is known about a directory while its tree is walked: which patterns match it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    matched: Vec<bool>,
}

/// What the patterns say about one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// The path is left out.
    pub excluded: bool,
    /// For the paths below it.
    pub state: State,
}

impl Patterns {
    /// Reads patterns, one each, in the order of the file. Empty ones are skipped.
    pub fn new(patterns: &[impl AsRef<str>]) -> Result<Self, InvalidPattern> {
        let mut read = Vec::with_capacity(patterns.len());
        for pattern in patterns {
            let trimmed = pattern.as_ref().trim();
            if !trimmed.is_empty() {
                read.push(Pattern::new(&path::clean(trimmed))?);
            }
        }
        let has_exceptions = read.iter().any(|pattern| pattern.is_exception);
        Ok(Self { patterns: read, has_exceptions })
    }

    /// Whether there are no patterns.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// How many patterns there are.
    pub fn len(&self) -> usize {
        self.patterns.len()
    }

    /// Whether any pattern begins with `!`.
    pub fn has_exceptions(&self) -> bool {
        self.has_exceptions
    }

    /// Whether a pattern matches every path.
    pub fn excludes_everything(&self) -> bool {
        let everything = |pattern: &&Pattern| {
            !pattern.is_exception && matches!(pattern.glob.text(), "*" | "**" | "**/*")
        };
        self.patterns.iter().any(|pattern| everything(&pattern))
    }

    /// Whether `path`, relative and with `/`, is left out by itself or with a directory above it.
    pub fn matches(&self, path: &str) -> bool {
        let mut excluded = false;
        for pattern in &self.patterns {
            // A pattern that could only confirm what is so already need not be asked.
            if pattern.is_exception == excluded && matches_or_above(&pattern.glob, path) {
                excluded = !pattern.is_exception;
            }
        }
        excluded
    }

    /// Whether an exception could let in something at or below `path`, which may hold wildcards.
    pub fn may_let_in(&self, path: &str) -> bool {
        let relative = path.trim_start_matches('/');
        let is_open = relative.is_empty() || relative == "." || relative.contains(['*', '?', '[']);
        self.has_exceptions && (is_open || self.may_reinclude_below(relative))
    }

    /// The pattern, as read, that leaves `path` out.
    pub fn excluding(&self, path: &str) -> Option<&str> {
        let mut by = None;
        for pattern in &self.patterns {
            if pattern.is_exception == by.is_some() && matches_or_above(&pattern.glob, path) {
                by = (!pattern.is_exception).then(|| pattern.glob.text());
            }
        }
        by
    }

    /// What is known at the top of the tree.
    pub fn top(&self) -> State {
        State { matched: vec![false; self.patterns.len()] }
    }

    /// Whether `path` is left out when its directory is in state `parent`: the answer that
    /// decides what a context holds. It is that of [`Self::matches`], except that an exception
    /// for a directory does not count below it unless it had something to undo there.
    pub fn enter(&self, parent: &State, path: &str) -> Match {
        let mut excluded = false;
        let mut matched = vec![false; self.patterns.len()];
        for (number, pattern) in self.patterns.iter().enumerate() {
            let known = parent.matched.get(number).copied().unwrap_or(false);
            if known || (pattern.is_exception == excluded && pattern.glob.matches(path)) {
                matched[number] = true;
                excluded = !pattern.is_exception;
            }
        }
        Match { excluded, state: State { matched } }
    }

    /// Whether anything below the excluded directory `path` could be let in again; if not, the
    /// directory need not be visited.
    pub fn may_reinclude_below(&self, path: &str) -> bool {
        let mut exceptions = self.patterns.iter().filter(|pattern| pattern.is_exception);
        exceptions.any(|pattern| pattern.glob.may_match_below(path))
    }
}

impl Pattern {
    fn new(cleaned: &str) -> Result<Self, InvalidPattern> {
        let (is_exception, text) = match cleaned.strip_prefix('!') {
            Some("") => return Err(InvalidPattern::EmptyException),
            Some(rest) => (true, rest),
            None => (false, cleaned),
        };
        let invalid = || InvalidPattern::Syntax { pattern: text.to_owned() };
        Ok(Self { glob: Glob::new(text).ok_or_else(invalid)?, is_exception })
    }
}

fn matches_or_above(glob: &Glob, path: &str) -> bool {
    let above = path.match_indices('/').map(|(at, _)| &path[..at]);
    glob.matches(path) || above.into_iter().any(|directory| glob.matches(directory))
}

/// The first line of an ignore file that is not a pattern, counted from 1, and why.
pub fn invalid_line(text: &str) -> Option<(usize, InvalidPattern)> {
    text.lines().zip(1..).find_map(|(line, number)| {
        Patterns::new(&parse_file(line)).err().map(|error| (number, error))
    })
}

/// The patterns in the text of an ignore file.
pub fn parse_file(text: &str) -> Vec<String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(str::trim).filter(|line| !line.is_empty()).map(parse_line).collect()
}

fn parse_line(line: &str) -> String {
    let (mark, pattern) = match line.strip_prefix('!') {
        Some(rest) => ("!", rest.trim()),
        None => ("", line),
    };
    if pattern.is_empty() {
        return mark.to_owned();
    }
    let cleaned = path::clean(pattern);
    let relative = match cleaned.strip_prefix('/') {
        Some(rest) if !rest.is_empty() => rest,
        _ => &cleaned,
    };
    format!("{mark}{relative}")
}
