//! The functions of templates, and how Go prints values.

use serde_json::Value;

use super::pipeline::Evaluated;
use super::{Data, TemplateError, error};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    Json,
    Index,
    Len,
    Join,
    Split,
    Lower,
    Upper,
    Title,
    Truncate,
    Print,
    Println,
}

pub(super) const FUNCTIONS: [(&str, Function); 11] = [
    ("json", Function::Json),
    ("index", Function::Index),
    ("len", Function::Len),
    ("join", Function::Join),
    ("split", Function::Split),
    ("lower", Function::Lower),
    ("upper", Function::Upper),
    ("title", Function::Title),
    ("truncate", Function::Truncate),
    ("print", Function::Print),
    ("println", Function::Println),
];

pub(super) fn apply(
    function: Function,
    operands: &[Evaluated],
    data: Data<'_>,
) -> Result<Value, TemplateError> {
    let name = FUNCTIONS.iter().find(|(_, known)| *known == function).expect("it is listed").0;
    let wrong = |wanted: &str| error(format!("`{name}` wants {wanted}"));
    let values: Vec<&Value> = operands.iter().map(|operand| &operand.value).collect();
    Ok(match (function, values.as_slice()) {
        (Function::Json, [value]) => {
            let shown = (data.json)(&operands[0].key, value);
            serde_json::to_string(&shown).expect("a JSON value is JSON").into()
        }
        (Function::Index, [value, keys @ ..]) if !keys.is_empty() => {
            let mut found = (*value).clone();
            for key in keys {
                found = element(&found, key)?;
            }
            found
        }
        (Function::Len, [value]) => match value {
            Value::Array(items) => items.len().into(),
            Value::Object(map) => map.len().into(),
            Value::String(text) => text.len().into(),
            Value::Null => 0.into(),
            _ => return Err(wrong("a list, a map or a text")),
        },
        (Function::Join, [Value::Array(items), Value::String(separator)]) => {
            items.iter().map(printed).collect::<Vec<_>>().join(separator).into()
        }
        (Function::Join, [Value::Null, Value::String(_)]) => "".into(),
        (Function::Split, [Value::String(text), Value::String(separator)])
            if !separator.is_empty() =>
        {
            text.split(separator.as_str()).collect::<Vec<_>>().into()
        }
        (Function::Lower, [value]) => printed(value).to_lowercase().into(),
        (Function::Upper, [value]) => printed(value).to_uppercase().into(),
        (Function::Title, [value]) => title(&printed(value)).into(),
        (Function::Truncate, [Value::String(text), Value::Number(length)]) => {
            let length = length.as_u64().ok_or_else(|| wrong("a length of at least 0"))?;
            text.chars()
                .take(usize::try_from(length).unwrap_or(usize::MAX))
                .collect::<String>()
                .into()
        }
        (Function::Print, values) => values.iter().map(|v| printed(v)).collect::<String>().into(),
        (Function::Println, values) => {
            let texts: Vec<String> = values.iter().map(|value| printed(value)).collect();
            format!("{}\n", texts.join(" ")).into()
        }
        (
            Function::Json | Function::Lower | Function::Upper | Function::Title | Function::Len,
            _,
        ) => {
            return Err(wrong("one value"));
        }
        (Function::Index, _) => return Err(wrong("a value and a key")),
        (Function::Join, _) => return Err(wrong("a list and a separator")),
        (Function::Split, _) => return Err(wrong("a text and a separator")),
        (Function::Truncate, _) => return Err(wrong("a text and a length")),
    })
}

fn element(value: &Value, key: &Value) -> Result<Value, TemplateError> {
    match (value, key) {
        // A key that a map of texts does not have is the empty text.
        (Value::Object(map), Value::String(key)) => {
            Ok(map.get(key).cloned().unwrap_or_else(|| "".into()))
        }
        (Value::Null, Value::String(_)) => Ok("".into()),
        (Value::Array(items), Value::Number(number)) => {
            let at = number.as_u64().and_then(|at| usize::try_from(at).ok());
            at.and_then(|at| items.get(at)).cloned().ok_or_else(|| {
                error(format!("`index`: {number} is out of range, the list has {}", items.len()))
            })
        }
        _ => Err(error(format!("`index`: {key} is not a key of {}", printed(value)))),
    }
}

fn title(text: &str) -> String {
    let mut previous = ' ';
    let upper = |c: char| {
        let starts = !previous.is_alphanumeric();
        previous = c;
        if starts { c.to_uppercase().collect::<String>() } else { c.to_string() }
    };
    text.chars().map(upper).collect()
}

/// A value as Go prints it.
pub(super) fn printed(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(printed).collect::<Vec<_>>().join(" "))
        }
        Value::Object(map) => {
            let entry = |(key, value): (&String, &Value)| match value {
                Value::Object(inner) if inner.is_empty() => format!("{key}:{{}}"),
                value => format!("{key}:{}", printed(value)),
            };
            format!("map[{}]", map.iter().map(entry).collect::<Vec<_>>().join(" "))
        }
    }
}
