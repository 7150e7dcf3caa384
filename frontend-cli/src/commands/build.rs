//! `mybuild build`

use engine::{BuildError, BuildRequest, Engine, EngineOptions, Outcome, Plan};
use tokio_util::sync::CancellationToken;

use crate::build_args::{Action, Build};
use crate::exit::Exit;
use crate::progress::{Display, Findings, Mode};
use crate::{diagnostics, interrupt, result_files, stdin, terminal, ui};

pub(super) async fn run(
    mut build: Build,
    options: EngineOptions,
    debug: bool,
) -> anyhow::Result<Exit> {
    if !matches!(build.progress, Mode::Quiet | Mode::None) {
        build.warnings.iter().for_each(|warning| ui::warning(warning));
    }
    for path in build.iidfile.iter().chain(&build.metadata_file) {
        result_files::remove_stale(path)?;
    }
    // Until the signals are ours, Ctrl-C ends a program that waits for standard input.
    let _spool = match build.standard_input {
        Some(kind) => Some(stdin::read(kind, std::io::stdin().lock(), &mut build.request)?),
        None => None,
    };
    let display = Display::start(match (build.action, build.progress) {
        // Looking up images is quick: a tree that comes and goes would only flicker.
        (Action::Check { .. } | Action::Print(_), Mode::Tree { .. }) => Mode::None,
        (_, progress) => progress,
    });
    let cancel = CancellationToken::new();
    interrupt::cancel_on_signals(cancel.clone(), display.progress())?;
    let engine = Engine::open(&options)?;
    match build.action {
        Action::Build => make(build, &engine, display, cancel, debug).await,
        Action::Check { ignore_status } => {
            let (_, findings) = plan(build.request, &engine, display, cancel).await?;
            Ok(report_check(&findings, ignore_status)?)
        }
        Action::Print(format) => {
            let (plan, _) = plan(build.request, &engine, display, cancel).await?;
            ui::data(plan.print(format).as_bytes())?;
            Ok(Exit::Success)
        }
    }
}

async fn make(
    build: Build,
    engine: &Engine,
    display: Display,
    cancel: CancellationToken,
    debug: bool,
) -> anyhow::Result<Exit> {
    let result = engine.build(build.request, display.progress(), cancel).await;
    let findings = display.finish();
    let for_people = matches!(build.progress, Mode::Tree { .. } | Mode::Plain);
    if for_people {
        ui::error(&warnings(&findings, debug || build.progress == Mode::Plain));
    }
    let outcome = result?;
    if let Some(path) = &build.metadata_file {
        let metadata = format!("{:#}\n", result_files::metadata(&outcome));
        result_files::write(path, metadata.as_bytes())?;
    }
    if let Some(path) = &build.iidfile {
        result_files::write(path, result_files::image_id(&outcome).as_str().as_bytes())?;
    }
    if build.progress == Mode::Quiet {
        ui::data(format!("{}\n", result_files::image_id(&outcome)).as_bytes())?;
    } else if for_people {
        ui::error(&summary(&outcome));
    }
    Ok(Exit::Success)
}

/// The last line: what came out of it.
fn summary(outcome: &Outcome) -> String {
    let id = result_files::image_id(outcome);
    match outcome.names.as_slice() {
        [] => format!("built {id}\n"),
        names => format!("built {id} as {}\n", names.join(", ")),
    }
}

/// What is doubtful in the Dockerfile: with its lines, or a line each.
fn warnings(findings: &Findings, expanded: bool) -> String {
    let mut text = String::new();
    for diagnostic in &findings.diagnostics {
        match &findings.dockerfile {
            Some((name, source)) if expanded => {
                let columns = terminal::size_of_stderr().columns;
                text.push_str(&diagnostics::dockerfile(diagnostic, name, source, columns));
                text.push('\n');
            }
            _ => text.push_str(&diagnostics::dockerfile_brief(diagnostic)),
        }
    }
    if !expanded && !text.is_empty() {
        text.push_str("(`--debug` shows the lines)\n");
    }
    text
}

/// Lowers without building.
async fn plan(
    request: BuildRequest,
    engine: &Engine,
    display: Display,
    cancel: CancellationToken,
) -> anyhow::Result<(Plan, Findings)> {
    let planned = tokio::select! {
        planned = engine.plan(request, display.progress()) => planned,
        () = cancel.cancelled() => Err(BuildError::Canceled),
    };
    let mut findings = display.finish();
    let plan = planned?;
    // Whether they were also told as events is the engine's affair; each is reported once.
    for warning in &plan.warnings {
        if !findings.diagnostics.contains(warning) {
            findings.diagnostics.push(warning.clone());
        }
    }
    Ok((plan, findings))
}

/// `--check`: findings on standard output, since they are what was asked for.
fn report_check(findings: &Findings, ignore_status: bool) -> std::io::Result<Exit> {
    let text = match findings.diagnostics.len() {
        0 => "check complete, nothing found\n".to_owned(),
        count => {
            let s = if count == 1 { "" } else { "s" };
            format!("{}check complete, {count} warning{s}\n", warnings(findings, true))
        }
    };
    ui::styled_data(&text)?;
    Ok(if findings.diagnostics.is_empty() || ignore_status { Exit::Success } else { Exit::Failed })
}
