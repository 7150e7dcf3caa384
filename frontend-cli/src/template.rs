//! The part of Go's templates that people write after `--format`: fields, a few functions, pipes.
//!
//! [`Template::parse`] finds every mistake that can be told without data; control words (`range`,
//! `if`, …) are refused by name. [`Template::render`] fills in JSON data and prints it as Go does:
//! lists in brackets, maps as `map[key:value]`.

use serde_json::Value;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

/// Why a template cannot be parsed or filled in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template: {0}")]
pub struct TemplateError(String);

/// What fields stand for.
#[derive(Clone, Copy)]
pub struct Data<'a> {
    /// The data: an object.
    pub value: &'a Value,
    /// What `json` prints of a value that stands at a key (empty for the whole).
    pub json: fn(&str, &Value) -> Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Action(Pipeline),
}

type Pipeline = Vec<Call>;

/// A function with its operands, or an operand alone.
#[derive(Debug, Clone, PartialEq)]
struct Call {
    function: Option<Function>,
    operands: Vec<Operand>,
}

#[derive(Debug, Clone, PartialEq)]
enum Operand {
    /// `.A.B`; nothing is the whole data.
    Field(Vec<String>),
    Literal(Value),
    Group(Pipeline),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Function {
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

const FUNCTIONS: [(&str, Function); 11] = [
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

const CONTROL: [&str; 11] = [
    "range", "if", "else", "end", "with", "define", "template", "block", "break", "continue",
    "return",
];

/// Fields whose keys are data, so that a missing one is no mistake.
const MAPS: [&str; 4] = ["Labels", "Volumes", "ExposedPorts", "Annotations"];

/// Nesting of groups; more is no template that somebody wrote.
const DEPTH_MAX: usize = 32;

impl Template {
    /// Parses `{{…}}` in `text`; the rest is printed as it is.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parts = Vec::new();
        let mut rest = text;
        let mut trim = false;
        while let Some((before, action)) = rest.split_once("{{") {
            let (action, trim_before) = match action.strip_prefix("- ") {
                Some(action) => (action, true),
                None => (action, false),
            };
            push_text(&mut parts, before, trim, trim_before);
            let end = end_of_action(action).ok_or_else(|| error("`{{` without `}}`"))?;
            let inside = &action[..end];
            rest = &action[end + 2..];
            let (inside, trim_after) = match inside.strip_suffix(" -") {
                Some(inside) => (inside, true),
                None => (inside, false),
            };
            trim = trim_after;
            let is_comment = inside.trim().starts_with("/*") && inside.trim().ends_with("*/");
            if !is_comment {
                parts.push(Part::Action(parse_action(inside)?));
            }
        }
        push_text(&mut parts, rest, trim, false);
        Ok(Self { parts })
    }

    /// The fields of the data that the template names, each with what is below it.
    pub fn fields(&self) -> Vec<Vec<String>> {
        fn of_pipeline(pipeline: &Pipeline, found: &mut Vec<Vec<String>>) {
            for operand in pipeline.iter().flat_map(|call| &call.operands) {
                match operand {
                    Operand::Field(path) => found.push(path.clone()),
                    Operand::Group(pipeline) => of_pipeline(pipeline, found),
                    Operand::Literal(_) => {}
                }
            }
        }
        let mut found = Vec::new();
        for part in &self.parts {
            if let Part::Action(pipeline) = part {
                of_pipeline(pipeline, &mut found);
            }
        }
        found
    }

    /// Fills in the data.
    pub fn render(&self, data: Data<'_>) -> Result<String, TemplateError> {
        let mut out = String::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.push_str(text),
                Part::Action(pipeline) => out.push_str(&match evaluate(pipeline, data)? {
                    Some(result) => printed(&result.value),
                    None => "<no value>".to_owned(),
                }),
            }
        }
        Ok(out)
    }
}

fn error(message: impl Into<String>) -> TemplateError {
    TemplateError(message.into())
}

fn push_text(parts: &mut Vec<Part>, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        parts.push(Part::Text(text.to_owned()));
    }
}

/// Where the `}}` of an action is; one in quotes does not count.
fn end_of_action(text: &str) -> Option<usize> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some('"') if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with("}}") => return Some(at),
            None => {}
        }
    }
    None
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

fn parse_action(text: &str) -> Result<Pipeline, TemplateError> {
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
struct Evaluated {
    key: String,
    value: Value,
}

/// `None` is Go's `<no value>`: a key that a map does not have.
fn evaluate(pipeline: &Pipeline, data: Data<'_>) -> Result<Option<Evaluated>, TemplateError> {
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

fn apply(
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
        _ => Err(error(format!("`index`: {key} is no key of {}", printed(value)))),
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
fn printed(value: &Value) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn render(template: &str) -> Result<String, TemplateError> {
        let value = json!({
            "ID": "sha256:abc",
            "Tags": ["a:1", "b:2"],
            "Size": 1234,
            "Config": {
                "Cmd": ["/bin/sh", "-c", "echo"],
                "Labels": {"x": "1", "dotted.name": "2"},
                "ExposedPorts": {"80/tcp": {}},
                "Volumes": {},
            },
        });
        Template::parse(template)?.render(Data { value: &value, json: |_, value| value.clone() })
    }

    #[test]
    fn templates_print_what_go_prints() {
        for (template, wanted) in [
            ("plain", "plain"),
            ("{{.ID}}", "sha256:abc"),
            ("a {{ .ID }} b {{.Size}}", "a sha256:abc b 1234"),
            ("a {{- .ID -}} b", "asha256:abcb"),
            ("{{.Tags}}", "[a:1 b:2]"),
            ("{{.Config.Cmd}}", "[/bin/sh -c echo]"),
            ("{{.Config.Labels}}", "map[dotted.name:2 x:1]"),
            ("{{.Config.ExposedPorts}}", "map[80/tcp:{}]"),
            ("{{.Config.Volumes}}", "map[]"),
            ("{{.Config.Labels.nosuch}}", "<no value>"),
            ("{{index .Config.Labels \"dotted.name\"}}", "2"),
            ("{{index .Config.Labels \"nosuch\"}}|", "|"),
            ("{{index .Tags 1}}", "b:2"),
            ("{{json .Config.Cmd}}", r#"["/bin/sh","-c","echo"]"#),
            ("{{.Config.Cmd | json}}", r#"["/bin/sh","-c","echo"]"#),
            ("{{json .ID}}", r#""sha256:abc""#),
            ("{{join .Tags \", \"}}", "a:1, b:2"),
            ("{{len .Tags}} {{len .ID}}", "2 10"),
            ("{{upper .ID | lower}}", "sha256:abc"),
            ("{{index (split .ID \":\") 1}}", "abc"),
            ("{{truncate .ID 6}}", "sha256"),
            ("{{title \"two words\"}}", "Two Words"),
            ("{{print .Size \"}}\"}}", "1234}}"),
            ("{{/* nothing */}}x", "x"),
            (r#"{{"a\tb"}}"#, "a\tb"),
            ("{{`raw\\n`}}", "raw\\n"),
        ] {
            assert_eq!(render(template).as_deref(), Ok(wanted), "{template}");
        }
    }

    #[test]
    fn mistakes_are_told_by_name() {
        for (template, wanted) in [
            ("{{.ID", "`{{` without `}}`"),
            ("{{}}", "an empty action"),
            ("{{range .Tags}}x{{end}}", "`range` is not supported"),
            ("{{if .ID}}", "`if` is not supported"),
            ("{{$x := .ID}}", "`$x`: variables are not supported"),
            ("{{nosuch .ID}}", "no function `nosuch`"),
            ("{{.ID .Size}}", "cannot be called"),
            ("{{(.ID}}", "`(` without `)`"),
            ("{{.ID)}}", "`)` without `(`"),
            ("{{\"open}}", "`{{` without `}}`"),
            ("{{.ID | }}", "an empty action"),
            ("{{.ID..x}}", "`.ID..x` is not a field"),
            ("{{.Nosuch}}", "no field `Nosuch`; there are Config, ID, Size, Tags"),
            ("{{.Config.Nosuch}}", "`.Config.Nosuch`: no field `Nosuch`"),
            ("{{.ID.x}}", "nothing is below"),
            ("{{index .Tags 2}}", "2 is out of range"),
            ("{{join .ID}}", "`join` wants a list and a separator"),
        ] {
            let error = render(template).expect_err(template).to_string();
            assert!(error.contains(wanted), "{template}: {error}");
        }
    }

    #[test]
    fn deep_groups_are_refused_not_followed() {
        let deep = format!("{{{{{}{}}}}}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(Template::parse(&deep).is_err());
    }

    #[test]
    fn the_fields_that_are_used_can_be_listed() {
        let template = Template::parse("{{.A.B}} {{json (index .C 0)}} {{.}}").unwrap();
        let wanted: Vec<Vec<String>> = vec![vec!["A".into(), "B".into()], vec!["C".into()], vec![]];
        assert_eq!(template.fields(), wanted);
    }
}
