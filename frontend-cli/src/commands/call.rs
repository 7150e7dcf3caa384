//! `mybuild build --call` and `--check`.

use std::sync::Arc;

use engine::{
    BuildError, BuildRequest, Checked, Client, ContextSource, DockerfileSource, Workspace,
};
use parser::lower::Outline;
use parser::{Diagnostic, Dockerfile, Severity};

use crate::build_args::{Call, Format, Method};
use crate::calls::check::Report;
use crate::calls::{describe, outline, targets};
use crate::exit::Exit;
use crate::progress::{Display, Findings};
use crate::ui;

/// What was asked for.
pub(super) enum Told {
    /// Findings, and the path of the Dockerfile as it was given, if it was.
    Check(Checked, Option<String>),
    Outline(Box<Outline>),
    Targets(Dockerfile),
    Describe,
}

/// Finds out what is asked for.
pub(super) async fn ask(
    method: Method,
    request: BuildRequest,
    client: Arc<dyn Client>,
    workspace: &Workspace,
    display: &Display,
) -> Result<Told, BuildError> {
    let progress = display.progress();
    Ok(match method {
        Method::Check => {
            let path = path(&request);
            let found = match workspace.check(request, client, progress).await {
                Err(BuildError::Dockerfile { diagnostics: found, .. }) => {
                    Checked { found, stopped_by: None }
                }
                checked => checked?,
            };
            Told::Check(found, path)
        }
        Method::Outline => {
            Told::Outline(Box::new(workspace.outline(request, client, progress).await?))
        }
        Method::Targets => Told::Targets(workspace.dockerfile(request, client, progress).await?),
        Method::Describe => Told::Describe,
    })
}

/// The Dockerfile's path as it was given.
fn path(request: &BuildRequest) -> Option<String> {
    let path = match (&request.dockerfile, &request.context) {
        (DockerfileSource::File(Some(path)), _) => path.clone(),
        (DockerfileSource::File(None), ContextSource::Directory(context)) => {
            context.join("Dockerfile")
        }
        _ => return None,
    };
    let path = path.strip_prefix("./").unwrap_or(&path);
    Some(path.to_str()?.to_owned())
}

/// Writes it on standard output.
pub(super) fn tell(call: &Call, told: Told, findings: &Findings) -> anyhow::Result<Exit> {
    let (name, text) = findings.dockerfile.as_ref().map_or(("", ""), |(name, text)| (name, text));
    let written = match (told, call.format) {
        (Told::Check(found, path), format) => {
            let path = path.as_deref().unwrap_or(name);
            let (diagnostics, is_whole) = (&found.found[..], found.stopped_by.is_none());
            let report = Report { name, path, text, diagnostics, is_whole };
            let told = tell_report(&report, format, call)?;
            return found.stopped_by.map_or(Ok(told), |error| Err(error.into()));
        }
        (Told::Outline(told), Format::Json) => outline::json(&told, text),
        (Told::Outline(told), _) => outline::text(&told),
        (Told::Targets(told), Format::Json) => targets::json(&told.stages, text),
        (Told::Targets(told), _) => targets::text(&told.stages),
        (Told::Describe, Format::Json) => describe::json(),
        (Told::Describe, _) => describe::text(),
    };
    ui::data(written.as_bytes())?;
    Ok(Exit::Success)
}

/// Findings on standard output, since they are what was asked for. What is wrong is an error, too.
fn tell_report(report: &Report<'_>, format: Format, call: &Call) -> anyhow::Result<Exit> {
    ui::styled_data(&report.write(format))?;
    let is_error = |found: &&Diagnostic| found.severity == Severity::Error;
    let errors: Vec<_> = report.diagnostics.iter().filter(is_error).cloned().collect();
    if !errors.is_empty() {
        let (name, text) = (report.name.to_owned(), report.text.to_owned());
        return Err(BuildError::Dockerfile { name, text, diagnostics: errors }.into());
    }
    let is_clean = report.count(Severity::Warning) == 0;
    Ok(if is_clean || call.ignore_status { Exit::Success } else { Exit::Failed })
}
