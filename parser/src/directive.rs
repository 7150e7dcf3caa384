//! Parser directives: `# name=value` lines before anything else in the file.

use std::collections::BTreeSet;

use nom::bytes::complete::{tag, take_while};
use nom::character::complete::{alpha1, alphanumeric0};
use nom::combinator::{recognize, rest};
use nom::sequence::terminated;
use nom::{IResult, Parser};

use crate::instruction::Directive;
use crate::span::{Span, Text};

const NAMES: [&str; 3] = ["syntax", "escape", "check"];

/// The second directive of one name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("only one {name} parser directive can be used")]
pub struct DuplicateDirective {
    /// The directive's name.
    pub name: String,
}

/// Reads directives line by line until the first line that is none.
#[derive(Debug)]
pub(crate) struct Directives {
    prefix: &'static str,
    seen: BTreeSet<String>,
    done: bool,
}

impl Directives {
    /// Directives behind `prefix`, which is `#` in Dockerfiles.
    pub(crate) fn new(prefix: &'static str) -> Self {
        Self { prefix, seen: BTreeSet::new(), done: false }
    }

    /// The directive on `line`, the one with this number, which begins at `offset` of the source.
    pub(crate) fn line(
        &mut self,
        line: &str,
        offset: usize,
        number: u32,
    ) -> Result<Option<Directive>, DuplicateDirective> {
        let found = if self.done { None } else { parse_line(line, self.prefix) };
        let Some((name, value)) = found.filter(|(name, _)| NAMES.contains(&name.as_str())) else {
            self.done = true;
            return Ok(None);
        };
        if !self.seen.insert(name.clone()) {
            return Err(DuplicateDirective { name });
        }
        let start = offset + (value.as_ptr() as usize - line.as_ptr() as usize);
        let span = Span::new(start..start + value.len());
        let value = Text { value: value.to_owned(), span };
        Ok(Some(Directive { name, value, line: number }))
    }
}

/// Name in lower case and value of a line that looks like a directive of any name.
pub(crate) fn parse_line<'a>(line: &'a str, prefix: &str) -> Option<(String, &'a str)> {
    let line = line.strip_prefix(prefix)?.trim_start();
    let (value, name) = name_and_equals(line).ok()?;
    Some((name.to_lowercase(), trim_value(value)?))
}

fn name_and_equals(line: &str) -> IResult<&str, &str> {
    let name = recognize((alpha1, alphanumeric0));
    let equals = (take_while(is_blank), tag("="));
    let (value, name) = terminated(name, equals).parse(line)?;
    let (_, value) = rest(value)?;
    Ok((value, name))
}

/// The value without blanks around it. It is never empty: of blanks alone the last one stays.
fn trim_value(value: &str) -> Option<&str> {
    let trimmed = value.trim_matches(is_blank);
    if trimmed.is_empty() {
        value.len().checked_sub(1).map(|last| &value[last..])
    } else {
        Some(trimmed)
    }
}

fn is_blank(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\u{c}' | '\r' | ' ')
}

/// Which frontend a build file asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The value up to the first blank: for `syntax` an image reference.
    pub value: String,
    /// The whole value.
    pub command_line: String,
    /// Line, 1-based; 0 where the value is a JSON member.
    pub line: u32,
    /// Where the whole value stands.
    pub span: Span,
}

/// The frontend that `text` names, in whatever language it is written: `# syntax=`, `// syntax=`
/// or a JSON object's `syntax` member. A first line `#!…` is skipped.
pub fn detect_syntax(text: &str) -> Option<Found> {
    find("syntax", text)
        .or_else(|| find_behind("//", "syntax", text))
        .or_else(|| find_in_json("syntax", text))
}

/// The directive `name` of a Dockerfile. A first line `#!…` is skipped.
pub fn find(name: &str, text: &str) -> Option<Found> {
    find_behind("#", name, text)
}

fn find_behind(prefix: &'static str, name: &str, text: &str) -> Option<Found> {
    let (body, first_line) = skip_shebang(text);
    let mut directives = Directives::new(prefix);
    for (line, number) in body.split_inclusive('\n').zip(first_line..) {
        let offset = line.as_ptr() as usize - text.as_ptr() as usize;
        let directive = directives.line(line, offset, number).ok()??;
        if directive.name == name {
            let Text { value: command_line, span } = directive.value;
            let value = command_line.split(' ').next().unwrap_or_default().to_owned();
            return Some(Found { value, command_line, line: number, span });
        }
    }
    None
}

fn find_in_json(name: &str, text: &str) -> Option<Found> {
    let (body, first_line) = skip_shebang(text);
    // Looked at only when it can be an object, since most files are Dockerfiles.
    if !body.trim_start().starts_with('{') {
        return None;
    }
    let members: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).ok()?;
    let value = members.get(name)?.as_str()?.to_owned();
    Some(Found { command_line: value.clone(), value, line: first_line - 1, span: Span::default() })
}

/// The text behind a byte order mark and a `#!` line, and the number of its first line.
fn skip_shebang(text: &str) -> (&str, u32) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if text.starts_with("#!") {
        (text.split_once('\n').map_or("", |(_, rest)| rest), 2)
    } else {
        (text, 1)
    }
}

/// The names of the checks that the first `check=…` among `comments` turns off.
pub(crate) fn skipped_checks(comments: &[String]) -> Vec<String> {
    let check = comments.iter().find_map(|comment| match parse_line(comment, "") {
        Some((name, value)) if name == "check" => Some(value),
        _ => None,
    });
    let options = check.and_then(|value| value.split(' ').next()).unwrap_or_default();
    options
        .split(';')
        .filter_map(|option| option.split_once('='))
        .filter(|(key, _)| key.trim() == "skip")
        .flat_map(|(_, rules)| rules.split(','))
        .map(|rule| rule.trim().to_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{parse_line, skipped_checks};

    #[test]
    fn a_directive_is_a_word_an_equals_sign_and_a_value() {
        let cases = [
            ("# escape=`", Some(("escape", "`"))),
            ("#EScape \t= x  ", Some(("escape", "x"))),
            ("#a1=b = c\r\n", Some(("a1", "b = c"))),
            ("#a=  ", Some(("a", " "))),
            ("#a=", None),
            ("#1a=b", None),
            ("#a b=c", None),
            ("a=b", None),
        ];
        for (line, want) in cases {
            let found = parse_line(line, "#");
            assert_eq!(found.as_ref().map(|(n, v)| (n.as_str(), *v)), want, "{line:?}");
        }
    }

    #[test]
    fn the_first_check_comment_names_the_checks_to_skip() {
        let comments = ["doc", "check=skip=A, B;error=true // why", "check=skip=C"];
        let comments = comments.map(str::to_owned);
        assert_eq!(skipped_checks(&comments), ["A", ""]);
        assert_eq!(skipped_checks(&["check = error=true;skip=all".to_owned()]), ["all"]);
    }
}
