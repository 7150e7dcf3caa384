//! Why a build failed, as clients draw it: a status, and beside it the place in the Dockerfile.

use data_encoding::BASE64;
use engine::{BuildError, StepFailure};
use parser::{Diagnostic, Severity};
use prost::Message as _;
use prost_types::Any;
use serde_json::{Value, json};
use tonic::{Code, Status};

use crate::definition::DefinitionError;
use crate::wire::rpc;
use crate::words::Refused;

const SOURCE: &str = "github.com/moby/buildkit/errdefs.Source+json";
const EXIT: &str = "github.com/moby/buildkit/gatewayapi.ExitMessage+json";

/// A build's error.
pub(crate) fn status(error: &BuildError) -> Status {
    match error {
        BuildError::Dockerfile { name, text, diagnostics } => dockerfile(name, text, diagnostics),
        BuildError::Step { failure } => step(failure),
        BuildError::Canceled => Status::cancelled("context canceled"),
        error => {
            let (text, hint) = match error.fault() {
                Some(fault) => (fault.text(), fault.hint()),
                None => (error.to_string(), None),
            };
            plain(&with_hint(&text, hint))
        }
    }
}

/// A definition that cannot be built.
pub(crate) fn definition(error: &DefinitionError) -> Status {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(&format!(": {next}"));
        cause = next.source();
    }
    Status::invalid_argument(text)
}

/// A request that is not understood or not granted.
pub(crate) fn refused(refused: &Refused) -> Status {
    Status::invalid_argument(with_hint(&refused.message, refused.hint.as_deref()))
}

/// The status that a client has returned, with all that is said beside it.
pub(crate) fn returned(status: &rpc::Status) -> Status {
    let code = match Code::from_i32(status.code) {
        // An error is none.
        Code::Ok => Code::Unknown,
        code => code,
    };
    Status::with_details(code, status.message.clone(), status.encode_to_vec().into())
}

/// A question about a Dockerfile that is not known: clients may ask another frontend then.
pub(crate) fn unknown_call(name: &str) -> Status {
    let kind = "github.com/moby/buildkit/errdefs.Subrequest+json";
    let message = format!("unsupported request {name}");
    detailed(Code::Unimplemented, &message, vec![detail(kind, &json!({ "name": name }))])
}

fn plain(message: &str) -> Status {
    detailed(Code::Unknown, message, Vec::new())
}

fn with_hint(text: &str, hint: Option<&str>) -> String {
    hint.map_or_else(|| text.to_owned(), |hint| format!("{text} ({hint})"))
}

/// The first error counts; the others stand behind it.
fn dockerfile(name: &str, text: &str, diagnostics: &[Diagnostic]) -> Status {
    let is_error = |found: &&Diagnostic| found.severity == Severity::Error;
    let errors: Vec<&Diagnostic> = diagnostics.iter().filter(is_error).collect();
    let told = |found: &Diagnostic| {
        let message = with_hint(&found.message, found.hint.as_deref());
        match found.lines.start {
            0 => message,
            line => format!("dockerfile parse error on line {line}: {message}"),
        }
    };
    let message = errors.iter().map(|found| told(found)).collect::<Vec<_>>().join("\n");
    let lines: Vec<(u32, u32)> = errors
        .iter()
        .filter(|found| found.lines.start > 0)
        .map(|found| (found.lines.start, found.lines.end))
        .collect();
    detailed(Code::Unknown, &message, vec![source(name, text, &lines)])
}

fn step(failure: &StepFailure) -> Status {
    let mut details = Vec::new();
    if let (Some((name, text)), Some(lines)) = (&failure.dockerfile, failure.lines) {
        details.push(source(name, text, &[lines]));
    }
    if let Some(code) = failure.exit_code {
        details.push(detail(EXIT, &json!({ "Code": code })));
    }
    let message = with_hint(&failure.fault.text(), failure.fault.hint());
    detailed(Code::Unknown, &message, details)
}

fn source(name: &str, text: &str, lines: &[(u32, u32)]) -> Any {
    let ranges: Value = lines
        .iter()
        .map(|(start, end)| json!({ "start": { "line": start }, "end": { "line": end } }))
        .collect();
    let data = BASE64.encode(text.as_bytes());
    let info = json!({ "filename": name, "data": data, "language": "Dockerfile" });
    detail(SOURCE, &json!({ "info": info, "ranges": ranges }))
}

fn detail(kind: &str, value: &Value) -> Any {
    Any { type_url: kind.to_owned(), value: value.to_string().into_bytes() }
}

fn detailed(code: Code, message: &str, details: Vec<Any>) -> Status {
    let status = rpc::Status { code: code.into(), message: message.to_owned(), details };
    Status::with_details(code, message, status.encode_to_vec().into())
}
