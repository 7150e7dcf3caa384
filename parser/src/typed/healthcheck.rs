//! `HEALTHCHECK`.

use std::num::IntErrorKind;

use super::{Problem, Problems, command_line, flags, ignored_flags, problem};
use crate::diagnostic::Diagnostic;
use crate::duration;
use crate::flag::{Flags, Takes};
use crate::instruction::{CommandLine, Healthcheck};
use crate::quote::quote;
use crate::span::Text;
use crate::tree::Node;

const FLAGS: [(&str, Takes); 5] = [
    ("interval", Takes::Value),
    ("retries", Takes::Value),
    ("start-interval", Takes::Value),
    ("start-period", Takes::Value),
    ("timeout", Takes::Value),
];

/// A millisecond; anything shorter but zero is refused.
const SHORTEST: i64 = 1_000_000;

pub(super) fn healthcheck(
    node: &Node,
    warnings: &mut Vec<Diagnostic>,
) -> Result<Healthcheck, Problems> {
    let Some((kind, command)) = node.arguments.split_first() else {
        return Err(problem(node, "HEALTHCHECK requires at least one argument"));
    };
    match kind.value.to_uppercase().as_str() {
        "NONE" if !command.is_empty() => Err(problem(node, "HEALTHCHECK NONE takes no arguments")),
        "NONE" => {
            ignored_flags(node, warnings);
            Ok(Healthcheck::None)
        }
        "CMD" => probe(node, command),
        other => {
            flags(node, &FLAGS)?;
            let message = format!("Unknown type {} in HEALTHCHECK (try CMD)", quote(other));
            Err(vec![Problem { message, span: kind.span, hint: None }])
        }
    }
}

fn probe(node: &Node, command: &[Text]) -> Result<Healthcheck, Problems> {
    let flags = flags(node, &FLAGS)?;
    if command.is_empty() {
        return Err(problem(node, "Missing command after HEALTHCHECK CMD"));
    }
    let command: CommandLine = command_line(node, command);
    Ok(Healthcheck::Cmd {
        command,
        interval: interval(&flags, "interval")?,
        timeout: interval(&flags, "timeout")?,
        start_period: interval(&flags, "start-period")?,
        start_interval: interval(&flags, "start-interval")?,
        retries: retries(&flags)?,
    })
}

/// Nanoseconds; 0 for no or an empty value.
fn interval(flags: &Flags, name: &str) -> Result<i64, Problems> {
    let Some(text) = given(flags, name) else { return Ok(0) };
    let message = match duration::parse(&text.value) {
        Ok(0) => return Ok(0),
        Ok(value) if value >= SHORTEST => return Ok(value),
        Ok(_) => format!("Interval {} cannot be less than 1ms", quote(name)),
        Err(error) => error.to_string(),
    };
    let hint = Some("a duration is written like `30s` or `1m30s`".to_owned());
    Err(vec![Problem { message, span: text.span, hint }])
}

fn retries(flags: &Flags) -> Result<i64, Problems> {
    let Some(text) = given(flags, "retries") else { return Ok(0) };
    let message = match text.value.parse::<i32>() {
        Ok(retries) if retries >= 0 => return Ok(retries.into()),
        Ok(retries) => format!("--retries cannot be negative ({retries})"),
        Err(error) => {
            let reason = match error.kind() {
                IntErrorKind::PosOverflow | IntErrorKind::NegOverflow => "value out of range",
                _ => "invalid syntax",
            };
            format!("strconv.ParseInt: parsing {}: {reason}", quote(&text.value))
        }
    };
    let hint = Some("the number of retries is a whole number".to_owned());
    Err(vec![Problem { message, span: text.span, hint }])
}

fn given(flags: &Flags, name: &str) -> Option<Text> {
    flags.value(name).filter(|text| !text.value.is_empty())
}
