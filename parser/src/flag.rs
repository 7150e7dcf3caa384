//! Flags of instructions: `--name`, `--name=value`.

use crate::span::{Span, Text};
use crate::suggest::{Case, did_you_mean};

/// What a flag takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Takes {
    /// Nothing, `true` or `false`.
    Switch,
    /// One value, once.
    Value,
    /// A value each time.
    Values,
}

/// Why a flag is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FlagError {
    /// Not of this instruction.
    #[error("unknown flag: --{name}{suggestion}")]
    Unknown {
        /// The name as written.
        name: String,
        /// ` (did you mean …?)` or nothing.
        suggestion: String,
    },
    /// Given twice.
    #[error("duplicate flag specified: --{name}")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// Without a value.
    #[error("missing a value on flag: --{name}")]
    MissingValue {
        /// The name.
        name: String,
    },
    /// Neither `true` nor `false`.
    #[error("expecting boolean value for flag --{name}, not: {value}")]
    NotBoolean {
        /// The name.
        name: String,
        /// The value.
        value: String,
    },
    /// Not a flag at all.
    #[error("arg should start with -- : {word}")]
    NoDashes {
        /// The word.
        word: String,
    },
}

/// At most so many refused flags are reported for one instruction.
const MAX_ERRORS: usize = 10;

/// The flags that were given, in order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Flags {
    given: Vec<(String, Option<Text>)>,
}

/// Reads the flags `written` of an instruction that has the flags `known`. Every flag that is
/// refused is in the error, with its place, up to a handful.
pub fn parse(known: &[(&str, Takes)], written: &[Text]) -> Result<Flags, Vec<(FlagError, Span)>> {
    let mut flags = Flags::default();
    let mut errors = Vec::new();
    for word in written.iter().take_while(|word| word.value != "--") {
        match flags.read(known, word) {
            Ok((name, value)) => flags.given.push((name, value)),
            Err(error) => errors.push((error, word.span)),
        }
        if errors.len() == MAX_ERRORS {
            break;
        }
    }
    if errors.is_empty() { Ok(flags) } else { Err(errors) }
}

impl Flags {
    /// The value of a flag that takes one.
    pub fn value(&self, name: &str) -> Option<Text> {
        self.values(name).pop()
    }

    /// All values of a flag.
    pub fn values(&self, name: &str) -> Vec<Text> {
        let given = self.given.iter().filter(|(given, _)| given == name);
        given.filter_map(|(_, value)| value.clone()).collect()
    }

    /// What a switch says; `None` where it was not given.
    pub fn switch(&self, name: &str) -> Option<bool> {
        let (_, value) = self.given.iter().find(|(given, _)| given == name)?;
        Some(!value.as_ref().is_some_and(|value| value.value.eq_ignore_ascii_case("false")))
    }

    /// The names given, each once, in order of first use.
    pub fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        for (name, _) in &self.given {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    fn read(
        &self,
        known: &[(&str, Takes)],
        word: &Text,
    ) -> Result<(String, Option<Text>), FlagError> {
        let Some(flag) = word.value.strip_prefix("--") else {
            return Err(FlagError::NoDashes { word: word.value.clone() });
        };
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        let Some((_, takes)) = known.iter().find(|(known, _)| *known == name) else {
            let suggestion = did_you_mean(name, known.iter().map(|(n, _)| *n), Case::Sensitive);
            return Err(FlagError::Unknown { name: name.to_owned(), suggestion });
        };
        let name = name.to_owned();
        if *takes != Takes::Values && self.given.iter().any(|(given, _)| *given == name) {
            return Err(FlagError::Duplicate { name });
        }
        match (takes, value) {
            (Takes::Switch, Some("")) | (Takes::Value | Takes::Values, None) => {
                Err(FlagError::MissingValue { name })
            }
            (Takes::Switch, Some(value)) if !is_boolean(value) => {
                Err(FlagError::NotBoolean { name, value: value.to_owned() })
            }
            (_, value) => Ok((name, value.map(|value| value_text(word, value)))),
        }
    }
}

fn is_boolean(value: &str) -> bool {
    value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("false")
}

/// The value with its place: the end of the word, unless quotes or escapes moved things about.
fn value_text(word: &Text, value: &str) -> Text {
    let Span { start, end } = word.span;
    let moved = (end - start) as usize != word.value.len();
    let start = if moved { start } else { end - value.len() as u32 };
    Text { value: value.to_owned(), span: Span { start, end } }
}
