//! Include, exclude and ignore patterns while walking: what a directory matched is not matched again
//! for every name in it, and a directory in which nothing can match is not read.

use parser::ignore::{self, InvalidPattern, Patterns};

use super::{TreeError, path};

/// Patterns of two kinds over paths relative to some directory.
#[derive(Debug, Clone)]
pub struct Filter {
    /// Only what matches is taken.
    include: Option<Include>,
    /// What matches is not taken.
    exclude: Patterns,
    /// What a path must have in it for any pattern to match, one a pattern.
    needles: Vec<Needle>,
}

#[derive(Debug, Clone)]
struct Include {
    patterns: Patterns,
    /// The same as exceptions, for the question which directories can hold a match.
    below: Patterns,
}

/// What a path matched, for the names below it.
#[derive(Debug, Clone)]
pub struct State {
    included: bool,
    excluded: bool,
    /// `None`: no pattern has matched so far.
    matched: Option<Box<Matched>>,
}

#[derive(Debug, Clone)]
struct Matched {
    include: ignore::State,
    exclude: ignore::State,
}

impl State {
    /// The path is taken in.
    pub fn taken(&self) -> bool {
        self.included && !self.excluded
    }
}

impl Filter {
    /// The patterns, in the syntax of ignore files; `None` when they let everything through.
    pub fn new(include: &[String], exclude: &[String]) -> Result<Option<Self>, TreeError> {
        let needles = include.iter().chain(exclude).filter_map(|text| Needle::of(text)).collect();
        let filter = Self { include: Include::new(include)?, exclude: patterns(exclude)?, needles };
        Ok((filter.include.is_some() || !filter.exclude.is_empty()).then_some(filter))
    }

    /// State of the directory that paths are relative to. It is always taken in.
    pub fn start(&self) -> State {
        State { included: true, excluded: false, matched: None }
    }

    /// State of `path`, a name directly in the directory that has `parent`.
    pub fn enter(&self, path: &[u8], parent: &State) -> State {
        let path = String::from_utf8_lossy(path);
        // Most paths match nothing, and most patterns can tell so at a glance.
        if parent.matched.is_none() && !self.needles.iter().any(|needle| needle.is_in(&path)) {
            return State { included: self.include.is_none(), excluded: false, matched: None };
        }
        let known = parent.matched.as_deref();
        let (included, include) = match &self.include {
            None => (true, ignore::State::default()),
            Some(include) => {
                let top = include.patterns.top();
                let parent = known.map_or(&top, |known| &known.include);
                let matched = include.patterns.enter(parent, &path);
                (matched.excluded, matched.state)
            }
        };
        let top = self.exclude.top();
        let parent = known.map_or(&top, |known| &known.exclude);
        let excluded = self.exclude.enter(parent, &path);
        let matched = Some(Box::new(Matched { include, exclude: excluded.state }));
        State { included, excluded: excluded.excluded, matched }
    }

    /// State of `path`, from the start.
    pub fn enter_path(&self, path: &[u8]) -> State {
        let mut at = Vec::with_capacity(path.len());
        path::components(path).fold(self.start(), |state, name| {
            path::push(&mut at, name);
            self.enter(&at, &state)
        })
    }

    /// Whether `path` itself is left out.
    pub fn hides(&self, path: &[u8]) -> bool {
        !self.enter_path(path).taken()
    }

    /// Whether something below `path`, which is not taken in itself, might be.
    pub fn may_take_below(&self, path: &[u8], state: &State) -> bool {
        let path = String::from_utf8_lossy(path);
        let include = self.include.as_ref();
        (!state.excluded || self.exclude.may_reinclude_below(&path))
            && (state.included || include.is_none_or(|i| i.below.may_reinclude_below(&path)))
    }

    /// The pattern that leaves `path` out.
    pub fn excluding(&self, path: &[u8]) -> Option<String> {
        self.exclude.excluding(&String::from_utf8_lossy(path)).map(str::to_owned)
    }

    /// Whether what is below something left out can be taken in.
    pub fn has_exceptions(&self) -> bool {
        self.exclude.has_exceptions()
    }
}

/// A text without which a pattern cannot match.
#[derive(Debug, Clone)]
enum Needle {
    /// Nothing is known.
    Unknown,
    /// The path ends with it.
    End(String),
    /// The path has it somewhere.
    Within(String),
}

impl Needle {
    /// `None` for an empty line.
    fn of(pattern: &str) -> Option<Self> {
        let pattern = pattern.trim();
        let text = pattern.strip_prefix('!').unwrap_or(pattern).trim();
        if text.is_empty() {
            return None;
        }
        // These may stand for something else; and a path that is not clean is cleaned first.
        if text.contains(['[', ']', '\\', '^'])
            || text.split('/').any(|n| matches!(n, "" | "." | ".."))
        {
            return Some(Self::Unknown);
        }
        // Slashes beside wildcards may be left out.
        let parts = text.split(['*', '?']).map(|part| part.trim_matches('/'));
        let end = parts.clone().next_back().filter(|part| !part.is_empty());
        if let Some(end) = end.filter(|_| !text.ends_with('/')) {
            return Some(Self::End(end.into()));
        }
        let longest = parts.max_by_key(|part| part.len()).filter(|part| !part.is_empty());
        Some(longest.map_or(Self::Unknown, |part| Self::Within(part.into())))
    }

    fn is_in(&self, path: &str) -> bool {
        match self {
            Self::Unknown => true,
            Self::End(text) => path.ends_with(text.as_str()),
            Self::Within(text) => path.contains(text.as_str()),
        }
    }
}

impl Include {
    fn new(texts: &[String]) -> Result<Option<Self>, TreeError> {
        let wanted = patterns(texts)?;
        if wanted.is_empty() {
            return Ok(None);
        }
        let plain = texts.iter().map(|text| text.trim()).filter(|text| !text.starts_with('!'));
        let exceptions: Vec<String> = plain.map(|text| format!("!{text}")).collect();
        Ok(Some(Self { patterns: wanted, below: patterns(&exceptions)? }))
    }
}

fn patterns(texts: &[String]) -> Result<Patterns, TreeError> {
    Patterns::new(texts).map_err(|error| TreeError::Filter {
        message: match &error {
            InvalidPattern::Syntax { pattern } => format!("{error}: `{pattern}`"),
            InvalidPattern::EmptyException => error.to_string(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_glance_never_hides_a_match() {
        let patterns = [
            "a", "*.tmp", "**/*.tmp", "**/x/**", "d/**", "**", "*", "?", "a/**/b", "d/", "/a",
            "./a", "a//b", "[ab]", "\\a", "^a", "!d/a", "**/d", "d/*/a", "x**", "**x", " a ",
            "d/../a",
        ];
        let paths = [
            "a",
            "b",
            "d",
            "x",
            "q.tmp",
            "d/q.tmp",
            "d/a",
            "d/x/a",
            "d/x/q.tmp",
            "a/b",
            "a/q/b",
            "x/y",
            "d/x",
            "xyz",
            "yx",
            "^a",
        ];
        for first in patterns {
            for second in patterns {
                let texts = [first.to_owned(), second.to_owned()];
                let filter = Filter::new(&[], &texts).unwrap().unwrap();
                let plain = Patterns::new(&texts).unwrap();
                for path in paths {
                    let hidden = filter.hides(path.as_bytes());
                    assert_eq!(hidden, plain.matches(path), "{first} {second} on {path}");
                }
            }
        }
    }
}
