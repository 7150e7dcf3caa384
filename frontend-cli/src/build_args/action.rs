//! What is done with a build's inputs: `--call`, `--check` and `--print`.

use engine::GraphFormat;

use super::csv;
use crate::cli::BuildArgs;
use crate::error::UsageError;
use crate::spelling::boolean;

/// What is done with the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// It is built.
    Build,
    /// Something about it is told.
    Call(Call),
    /// Its Dockerfile is mended.
    Fix {
        /// In its file, rather than only shown.
        write: bool,
    },
    /// Its instruction graph is printed.
    Print(GraphFormat),
}

/// What is asked about a build, and how it is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// What.
    pub method: Method,
    /// How it is written.
    pub format: Format,
    /// Findings do not make it fail.
    pub ignore_status: bool,
}

/// What is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// What is doubtful in the Dockerfile.
    Check,
    /// What the target takes from whoever builds it.
    Outline,
    /// What can be built.
    Targets,
    /// Which methods there are.
    Describe,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// BuildKit's JSON.
    Json,
    /// Static Analysis Results Interchange Format 2.1.0, of findings.
    Sarif,
    /// Commands to a GitHub Actions runner, of findings.
    Github,
}

pub(super) fn resolve(args: &BuildArgs) -> Result<Action, UsageError> {
    let print = args.print.as_deref().map(graph_format).transpose()?;
    let check = check(args.check.as_deref(), args.write)?;
    let call = call(args.call.as_deref())?.map(Action::Call);
    match (print, check, call) {
        (None, None, None) => Ok(Action::Build),
        (Some(format), None, None) => Ok(Action::Print(format)),
        (None, Some(Action::Call(_)), Some(call)) => Ok(call),
        (None, Some(action), None) | (None, None, Some(action)) => Ok(action),
        (None, Some(_), Some(_)) => {
            Err(UsageError::new("`--check=fix` and `--call` do not go together"))
        }
        (Some(_), ..) => Err(UsageError::new("`--print` and `--check` do not go together")),
    }
}

/// What `--check` asks for, if anything.
fn check(value: Option<&str>, write: bool) -> Result<Option<Action>, UsageError> {
    let check = Call { method: Method::Check, format: Format::Text, ignore_status: false };
    let action = match value {
        Some("fix") => return Ok(Some(Action::Fix { write })),
        None => None,
        Some(value) => match boolean(value) {
            Some(on) => on.then_some(Action::Call(check)),
            None => {
                return Err(UsageError::new(format!("`--check={value}` is not supported"))
                    .with_hint(
                        "`--check` tells what is doubtful, `--check=fix` mends what it can",
                    ));
            }
        },
    };
    if write {
        return Err(UsageError::new("`--write` goes with `--check=fix` alone"));
    }
    Ok(action)
}

fn graph_format(text: &str) -> Result<GraphFormat, UsageError> {
    match text {
        "dag" | "dag=text" => Ok(GraphFormat::Text),
        "dag=dot" => Ok(GraphFormat::Dot),
        "dag=json" => Ok(GraphFormat::Json),
        _ => Err(UsageError::new(format!("`--print={text}` is not supported"))
            .with_hint("what can be printed is dag, dag=text, dag=dot and dag=json")),
    }
}

/// Reads `METHOD[,format=FORMAT][,ignorestatus]`. `None`: it is to be built.
fn call(text: Option<&str>) -> Result<Option<Call>, UsageError> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
    let refused = |hint: &str| {
        Err(UsageError::new(format!("`--call={text}` is not supported")).with_hint(hint))
    };
    let (mut method, mut format, mut ignore_status) = (None, Format::Text, false);
    for field in csv::fields(text)? {
        match field.split_once('=') {
            None if field == "ignorestatus" && method.is_some() => ignore_status = true,
            None if method.is_none() => method = Some(field),
            Some(("method", value)) if method.is_none() => method = Some(value.to_owned()),
            Some(("format", value)) => match formats(value) {
                Some(named) => format = named,
                None => return refused("formats are text, json, sarif and github"),
            },
            Some(("ignorestatus", value)) if boolean(value).is_some() => {
                ignore_status = boolean(value) == Some(true);
            }
            _ => return refused("a call is METHOD[,format=FORMAT][,ignorestatus]"),
        }
    }
    let method = match method.as_deref() {
        None | Some("build") if format == Format::Text && !ignore_status => return Ok(None),
        Some("check" | "lint") => Method::Check,
        Some("outline") => Method::Outline,
        Some("targets") => Method::Targets,
        Some("subrequests.describe") => Method::Describe,
        None | Some("build") => {
            return refused("a format and a status are of what is told instead of building");
        }
        Some(_) => {
            return refused("methods are build, check, outline, targets and subrequests.describe");
        }
    };
    if matches!(format, Format::Sarif | Format::Github) && method != Method::Check {
        return refused("only `check` is written as sarif or github");
    }
    Ok(Some(Call { method, format, ignore_status }))
}

fn formats(name: &str) -> Option<Format> {
    Some(match name {
        "text" => Format::Text,
        "json" => Format::Json,
        "sarif" => Format::Sarif,
        "github" => Format::Github,
        _ => return None,
    })
}
