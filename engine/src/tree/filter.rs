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
        let filter = Self { include: Include::new(include)?, exclude: patterns(exclude)? };
        Ok((filter.include.is_some() || !filter.exclude.is_empty()).then_some(filter))
    }

    /// State of the directory that paths are relative to. It is always taken in.
    pub fn start(&self) -> State {
        let include = self.include.as_ref().map(|include| include.patterns.top());
        State {
            included: true,
            excluded: false,
            include: include.unwrap_or_default(),
            exclude: self.exclude.top(),
        }
    }

    /// State of `path`, a name directly in the directory that has `parent`.
    pub fn enter(&self, path: &[u8], parent: &State) -> State {
        let path = String::from_utf8_lossy(path);
        let (included, include) = match &self.include {
            None => (true, ignore::State::default()),
            Some(include) => {
                let matched = include.patterns.enter(&parent.include, &path);
                (matched.excluded, matched.state)
            }
        };
        let excluded = self.exclude.enter(&parent.exclude, &path);
        State { included, excluded: excluded.excluded, include, exclude: excluded.state }
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

    /// Whether what is below something left out can be taken in.
    pub fn has_exceptions(&self) -> bool {
        self.exclude.has_exceptions()
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
