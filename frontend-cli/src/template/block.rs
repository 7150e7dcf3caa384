//! What repeats or chooses: `{{range}}`, `{{if}}` and `{{with}}`, each up to its `{{end}}`.

use serde_json::Value;

use super::pipeline::{DEPTH_MAX, Pipeline, evaluate, parse_action};
use super::{Data, Part, TemplateError, error, render_parts};

/// A word that says where a block begins, turns or ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Word {
    Begin(Kind),
    Else,
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    If,
    With,
    Range,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::If => "if",
            Self::With => "with",
            Self::Range => "range",
        }
    }
}

impl Word {
    /// The word that an action begins with, and what stands behind it.
    pub(super) fn of(action: &str) -> Option<(Self, &str)> {
        let action = action.trim();
        let end = action.find(|c: char| !c.is_alphanumeric()).unwrap_or(action.len());
        let (word, rest) = action.split_at(end);
        let word = match word {
            "if" => Self::Begin(Kind::If),
            "with" => Self::Begin(Kind::With),
            "range" => Self::Begin(Kind::Range),
            "else" => Self::Else,
            "end" => Self::End,
            _ => return None,
        };
        Some((word, rest.trim()))
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct Block {
    kind: Kind,
    pub(super) operand: Pipeline,
    body: Vec<Part>,
    otherwise: Option<Vec<Part>>,
}

impl Block {
    /// The parts that look at what the block itself looks at.
    pub(super) fn parts_with_the_same_data(&self) -> impl Iterator<Item = &[Part]> {
        let body = Some(&self.body).filter(|_| self.kind == Kind::If);
        body.into_iter().chain(&self.otherwise).map(Vec::as_slice)
    }

    pub(super) fn render(&self, data: Data<'_>, out: &mut String) -> Result<(), TemplateError> {
        let value = evaluate(&self.operand, data)?.map_or(Value::Null, |found| found.value);
        if !is_true(&value) {
            return render_parts(self.otherwise.as_deref().unwrap_or_default(), data, out);
        }
        let mut with = |value| render_parts(&self.body, Data { value, ..data }, out);
        match (self.kind, &value) {
            (Kind::If, _) => with(data.value),
            (Kind::With, value) => with(value),
            (Kind::Range, Value::Array(items)) => items.iter().try_for_each(with),
            (Kind::Range, Value::Object(map)) => map.values().try_for_each(with),
            (Kind::Range, _) => Err(error("`range` wants a list or a map")),
        }
    }
}

/// What is empty or zero is false.
fn is_true(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => !map.is_empty(),
    }
}

/// The parts of a template on their way into blocks.
#[derive(Default)]
pub(super) struct Blocks {
    parts: Vec<Part>,
    /// Those whose `end` is still to come, the innermost last.
    open: Vec<Block>,
}

impl Blocks {
    pub(super) fn push(&mut self, part: Part) {
        match self.open.last_mut() {
            None => self.parts.push(part),
            Some(block) => block.otherwise.as_mut().unwrap_or(&mut block.body).push(part),
        }
    }

    pub(super) fn word(&mut self, word: Word, operand: &str) -> Result<(), TemplateError> {
        match word {
            Word::Begin(kind) => {
                if self.open.len() == DEPTH_MAX {
                    return Err(error("blocks nest too deep"));
                }
                let operand = parse_action(operand)?;
                self.open.push(Block { kind, operand, body: Vec::new(), otherwise: None });
            }
            Word::Else if !operand.is_empty() => {
                let word = operand.split_whitespace().next().unwrap_or_default();
                return Err(error(format!("`else {word}` is not supported")));
            }
            Word::Else => {
                let block = self.open.last_mut().ok_or_else(|| error("`else` without a block"))?;
                if block.otherwise.replace(Vec::new()).is_some() {
                    return Err(error(format!("a second `else` of one `{}`", block.kind.name())));
                }
            }
            Word::End => {
                let block = self.open.pop().ok_or_else(|| error("`end` without a block"))?;
                self.push(Part::Block(block));
            }
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Vec<Part>, TemplateError> {
        match self.open.last() {
            Some(block) => Err(error(format!("`{}` without `end`", block.kind.name()))),
            None => Ok(self.parts),
        }
    }
}
