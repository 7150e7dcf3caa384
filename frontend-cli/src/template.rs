//! The part of Go's templates that people write after `--format`: fields, a few functions, pipes,
//! and what repeats or chooses.
//!
//! [`Template::parse`] finds every mistake that can be told without data; what is not supported
//! (variables, `define`, …) is refused by name. [`Template::render`] fills in JSON data and prints it
//! as Go does: lists in brackets, maps as `map[key:value]`.

mod block;
mod function;
mod pipeline;

use serde_json::Value;

use block::{Block, Blocks, Word};
use function::printed;
use pipeline::{Operand, Pipeline, evaluate, parse_action};

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
    Block(Block),
}

impl Template {
    /// Parses `{{…}}` in `text`; the rest is printed as it is.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut blocks = Blocks::default();
        let mut rest = text;
        let mut trim = false;
        while let Some((before, action)) = rest.split_once("{{") {
            let (action, trim_before) = match action.strip_prefix("- ") {
                Some(action) => (action, true),
                None => (action, false),
            };
            push_text(&mut blocks, before, trim, trim_before);
            let end = end_of_action(action).ok_or_else(|| error("`{{` without `}}`"))?;
            let inside = &action[..end];
            rest = &action[end + 2..];
            let (inside, trim_after) = match inside.strip_suffix(" -") {
                Some(inside) => (inside, true),
                None => (inside, false),
            };
            trim = trim_after;
            let is_comment = inside.trim().starts_with("/*") && inside.trim().ends_with("*/");
            match Word::of(inside) {
                _ if is_comment => {}
                Some((word, operand)) => blocks.word(word, operand)?,
                None => blocks.push(Part::Action(parse_action(inside)?)),
            }
        }
        push_text(&mut blocks, rest, trim, false);
        Ok(Self { parts: blocks.finish()? })
    }

    /// The fields of the data that the template names, each with what is below it. What is in a block
    /// that looks at something else is not among them.
    pub fn fields(&self) -> Vec<Vec<String>> {
        let mut found = Vec::new();
        fields_of_parts(&self.parts, &mut found);
        found
    }

    /// Fills in the data.
    pub fn render(&self, data: Data<'_>) -> Result<String, TemplateError> {
        let mut out = String::new();
        render_parts(&self.parts, data, &mut out)?;
        Ok(out)
    }
}

fn fields_of_parts(parts: &[Part], found: &mut Vec<Vec<String>>) {
    for part in parts {
        match part {
            Part::Text(_) => {}
            Part::Action(pipeline) => fields_of_pipeline(pipeline, found),
            Part::Block(block) => {
                fields_of_pipeline(&block.operand, found);
                block.parts_with_the_same_data().for_each(|parts| fields_of_parts(parts, found));
            }
        }
    }
}

fn fields_of_pipeline(pipeline: &Pipeline, found: &mut Vec<Vec<String>>) {
    for operand in pipeline.iter().flat_map(|call| &call.operands) {
        match operand {
            Operand::Field(path) => found.push(path.clone()),
            Operand::Group(pipeline) => fields_of_pipeline(pipeline, found),
            Operand::Literal(_) => {}
        }
    }
}

fn render_parts(parts: &[Part], data: Data<'_>, out: &mut String) -> Result<(), TemplateError> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Action(pipeline) => out.push_str(&match evaluate(pipeline, data)? {
                Some(result) => printed(&result.value),
                None => "<no value>".to_owned(),
            }),
            Part::Block(block) => block.render(data, out)?,
        }
    }
    Ok(())
}

fn error(message: impl Into<String>) -> TemplateError {
    TemplateError(message.into())
}

fn push_text(blocks: &mut Blocks, text: &str, trim_start: bool, trim_end: bool) {
    let text = if trim_start { text.trim_start() } else { text };
    let text = if trim_end { text.trim_end() } else { text };
    if !text.is_empty() {
        blocks.push(Part::Text(text.to_owned()));
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
            ("{{range .Tags}}<{{.}}>{{end}}", "<a:1><b:2>"),
            ("{{range .Tags}}{{println .}}{{end}}", "a:1\nb:2\n"),
            ("{{range .Config.Labels}}{{.}},{{else}}none{{end}}", "2,1,"),
            ("{{range .Config.Volumes}}{{.}}{{else}}none {{.ID}}{{end}}", "none sha256:abc"),
            ("{{if .Tags}}{{len .Tags}} tags{{else}}none{{end}}", "2 tags"),
            ("{{if .Config.Labels.nosuch}}there{{else}}not {{.Size}}{{end}}", "not 1234"),
            ("{{with .Config}}{{.Cmd}}{{end}}", "[/bin/sh -c echo]"),
            ("{{range .Tags -}} x {{- end}}", "xx"),
            ("{{range .Tags}}{{if .}}y{{end}}{{end}}", "yy"),
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
            ("{{define \"x\"}}y{{end}}", "`define` is not supported"),
            ("{{if .ID}}", "`if` without `end`"),
            ("{{end}}", "`end` without a block"),
            ("{{else}}", "`else` without a block"),
            ("{{if .ID}}{{else}}{{else}}{{end}}", "a second `else`"),
            ("{{if .ID}}{{else if .Size}}{{end}}", "`else if` is not supported"),
            ("{{range}}{{end}}", "an empty action"),
            ("{{range .Size}}{{end}}", "`range` wants a list or a map"),
            ("{{range $k, $v := .Tags}}{{end}}", "variables are not supported"),
            ("{{range .Tags}}{{.x}}{{end}}", "nothing is below"),
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
        assert!(Template::parse(&"{{if .}}".repeat(10_000)).is_err());
    }

    #[test]
    fn the_fields_that_are_used_can_be_listed() {
        let template = Template::parse(
            "{{.A.B}} {{json (index .C 0)}} {{range .D}}{{.E}}{{else}}{{.F}}{{end}}{{.}}",
        )
        .unwrap();
        let fields: Vec<String> = template.fields().iter().map(|path| path.join(".")).collect();
        assert_eq!(fields, ["A.B", "C", "D", "F", ""]);
    }
}
