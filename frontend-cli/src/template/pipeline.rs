//! What is between `{{` and `}}`: values, functions, pipes.

use serde_json::Value;

use super::function::{FUNCTIONS, Function, apply, printed};
use super::{Data, TemplateError, error};

/// Words of Go's templates that are not supported.
const CONTROL: [&str; 6] = ["define", "template", "block", "break", "continue", "return"];

/// Fields whose keys are data, so that a missing one is no mistake.
const MAPS: [&str; 4] = ["Labels", "Volumes", "ExposedPorts", "Annotations"];

/// Nesting of groups; more is no template that somebody wrote.
pub(super) const DEPTH_MAX: usize = 32;

pub(super) type Pipeline = Vec<Call>;

/// A function with its operands, or an operand alone.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Call {
    pub(super) function: Option<Function>,
    pub(super) operands: Vec<Operand>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Operand {
    /// `.A.B`; nothing is the whole data.
    Field(Vec<String>),
    Literal(Value),
    Group(Pipeline),
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Field(Vec<String>),
    Word(String),
    Literal(Value),
    Pipe,
    Open,
    Close,
}

pub(super) fn parse_action(text: &str) -> Result<Pipeline, TemplateError> {
    let tokens = tokens(text)?;
    let mut tokens = tokens.into_iter().peekable();
    let pipeline = parse_pipeline(&mut tokens, 0)?;
    match tokens.next() {
        None => Ok(pipeline),
        Some(_) => Err(error(format!("`{{{{{text}}}}}`: `)` without `(`"))),
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, TemplateError> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, length) = match first {
            '|' => (Token::Pipe, 1),
            '(' => (Token::Open, 1),
            ')' => (Token::Close, 1),
            '"' | '`' => literal(rest, first)?,
            _ => {
                let end = rest.find(|c: char| c.is_whitespace() || "|()\"`".contains(c));
                let word = &rest[..end.unwrap_or(rest.len())];
                (word_token(word)?, word.len())
            }
        };
        tokens.push(token);
        rest = rest[length..].trim_start();
    }
    Ok(tokens)
}

/// A string in quotes, and how long it is in the template.
fn literal(text: &str, quote: char) -> Result<(Token, usize), TemplateError> {
    let mut value = String::new();
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            c if escaped => {
                escaped = false;
                value.push(match c {
                    'n' => '\n',
                    't' => '\t',
                    'r' => '\r',
                    '"' | '\\' | '\'' => c,
                    other => return Err(error(format!("unknown escape `\\{other}` in {text}"))),
                });
            }
            '\\' if quote == '"' => escaped = true,
            c if c == quote => return Ok((Token::Literal(Value::from(value)), at + 1)),
            c => value.push(c),
        }
    }
    Err(error(format!("{text}: a quote is not closed")))
}

fn word_token(word: &str) -> Result<Token, TemplateError> {
    if let Some(path) = word.strip_prefix('.') {
        let names: Vec<&str> = path.split('.').filter(|_| !path.is_empty()).collect();
        return match names.iter().all(|name| is_name(name)) {
            true => Ok(Token::Field(names.into_iter().map(str::to_owned).collect())),
            false => Err(error(format!("`{word}` is not a field"))),
        };
    }
    if let Ok(number) = word.parse::<i64>() {
        return Ok(Token::Literal(number.into()));
    }
    match word {
        "true" => Ok(Token::Literal(true.into())),
        "false" => Ok(Token::Literal(false.into())),
        _ if CONTROL.contains(&word) => Err(error(format!("`{word}` is not supported"))),
        _ if word.starts_with('$') => Err(error(format!("`{word}`: variables are not supported"))),
        _ => Ok(Token::Word(word.to_owned())),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn parse_pipeline(
    tokens: &mut std::iter::Peekable<std::vec::IntoIter<Token>>,
    depth: usize,
) -> Result<Pipeline, TemplateError> {
    if depth > DEPTH_MAX {
        return Err(error("groups nest too deep"));
    }
    let mut pipeline = vec![Call { function: None, operands: Vec::new() }];
    while let Some(token) = tokens.next_if(|token| *token != Token::Close) {
        let first = pipeline.len() == 1;
        let call = pipeline.last_mut().expect("there is always one");
        match token {
            Token::Pipe if call.function.is_none() && call.operands.is_empty() => {
                return Err(error("nothing before `|`"));
            }
            Token::Pipe => pipeline.push(Call { function: None, operands: Vec::new() }),
            Token::Word(word) if call.function.is_none() && call.operands.is_empty() => {
                let found = FUNCTIONS.iter().find(|(name, _)| *name == word);
                call.function = Some(found.ok_or_else(|| unknown_function(&word))?.1);
            }
            Token::Word(word) => return Err(error(format!("`{word}` is not a value"))),
            Token::Field(path) => call.operands.push(Operand::Field(path)),
            Token::Literal(value) => call.operands.push(Operand::Literal(value)),
            Token::Open => {
                call.operands.push(Operand::Group(parse_pipeline(tokens, depth + 1)?));
                if tokens.next() != Some(Token::Close) {
                    return Err(error("`(` without `)`"));
                }
            }
            Token::Close => unreachable!("the loop ends before it"),
        }
        let call = pipeline.last().expect("there is always one");
        if call.function.is_none()
            && (call.operands.len() > 1 || !first && !call.operands.is_empty())
        {
            return Err(error("a value cannot be called like a function"));
        }
    }
    match pipeline.last() {
        Some(call) if call.function.is_none() && call.operands.is_empty() => {
            Err(error("an empty action"))
        }
        _ => Ok(pipeline),
    }
}

fn unknown_function(word: &str) -> TemplateError {
    let names: Vec<&str> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
    error(format!("no function `{word}`; there are {}", names.join(", ")))
}

/// A value and the key it stands at.
pub(super) struct Evaluated {
    pub(super) key: String,
    pub(super) value: Value,
}

/// `None` is Go's `<no value>`: a key that a map does not have.
pub(super) fn evaluate(
    pipeline: &Pipeline,
    data: Data<'_>,
) -> Result<Option<Evaluated>, TemplateError> {
    let mut result: Option<Evaluated> = None;
    for (number, call) in pipeline.iter().enumerate() {
        let mut operands: Vec<Option<Evaluated>> = Vec::new();
        for operand in &call.operands {
            operands.push(match operand {
                Operand::Field(path) => field(data.value, path)?,
                Operand::Literal(value) => Some(computed(value.clone())),
                Operand::Group(pipeline) => evaluate(pipeline, data)?,
            });
        }
        // The result of the call before is the last operand.
        if number > 0 {
            operands.push(result.take());
        }
        result = match call.function {
            Some(function) => {
                let operands: Vec<Evaluated> = operands
                    .into_iter()
                    .map(|o| o.unwrap_or_else(|| computed(Value::Null)))
                    .collect();
                Some(computed(apply(function, &operands, data)?))
            }
            None => operands.pop().expect("a call without function is a value"),
        };
    }
    Ok(result)
}

fn computed(value: Value) -> Evaluated {
    Evaluated { key: String::new(), value }
}

fn field(data: &Value, path: &[String]) -> Result<Option<Evaluated>, TemplateError> {
    let mut value = data;
    let mut key = "";
    for name in path {
        let parent = key;
        key = name;
        match value.get(name) {
            Some(found) => value = found,
            None if MAPS.contains(&parent) => return Ok(None),
            None => return Err(no_field(path, name, value)),
        }
    }
    Ok(Some(Evaluated { key: key.to_owned(), value: value.clone() }))
}

fn no_field(path: &[String], name: &str, parent: &Value) -> TemplateError {
    let path = path.join(".");
    match parent.as_object() {
        Some(known) => {
            let known: Vec<&str> = known.keys().map(String::as_str).collect();
            error(format!("`.{path}`: no field `{name}`; there are {}", known.join(", ")))
        }
        None => error(format!("`.{path}`: nothing is below `{}`", printed(parent))),
    }
}
