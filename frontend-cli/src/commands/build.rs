//! `mybuild build`

use std::fmt::Write as _;
use std::sync::Arc;

use engine::{
    BuildError, Client, Destination, EngineOptions, Event, Outcome, Output, Reserve, Workspace,
};
use oci::Reference;
use tokio_util::sync::CancellationToken;

use super::{call, fix};
use crate::build_args::{Action, Build};
use crate::exit::Exit;
use crate::progress::{Display, Findings, Mode};
use crate::ssh::Agent;
use crate::{destination, diagnostics, interrupt, result_files, stdin, terminal, ui, workspace};

pub(super) async fn run(
    mut build: Build,
    options: EngineOptions,
    debug: bool,
) -> anyhow::Result<Exit> {
    prepare_results(&build)?;
    // Until the signals are ours, Ctrl-C ends a program that waits for standard input.
    if let Some(kind) = build.standard_input {
        let kept = stdin::read(kind, std::io::stdin().lock(), &mut build.request)?;
        build.client.standard_input = kept.map(Arc::new);
    }
    // Looking up images is quick: a tree that comes and goes would only flicker.
    let is_look = !matches!(build.action, Action::Build);
    let hides_tree = is_look && matches!(build.progress, Mode::Tree { .. });
    build.client.agents =
        std::mem::take(&mut build.agents).into_iter().map(Agent::open).collect::<Result<_, _>>()?;
    let cancel = CancellationToken::new();
    let display = Display::start(if hides_tree { Mode::None } else { build.progress }, &cancel);
    for message in std::mem::take(&mut build.warnings) {
        display.progress().event(Event::Warning { message });
    }
    interrupt::cancel_on_signals(cancel.clone(), display.progress())?;
    let workspace = workspace::open(&options, Reserve::Kept)?;
    workspace.ends_with(&cancel);
    let client = Arc::new(std::mem::take(&mut build.client));
    match build.action {
        Action::Build => make(build, client, &workspace, display, cancel, debug).await,
        Action::Call(call) => {
            let told =
                until(&cancel, call::ask(call.method, build.request, client, &workspace, &display));
            let told = told.await;
            let findings = display.finish();
            tell_warnings(&findings, hides_tree);
            call::tell(&call, told?, &findings)
        }
        Action::Fix { write } => {
            let file = write.then(|| fix::file(&build.request)).transpose()?;
            let fixed =
                until(&cancel, workspace.fix(build.request, client, display.progress())).await;
            let findings = display.finish();
            tell_warnings(&findings, hides_tree);
            fix::tell(&fixed?, &findings, file.as_deref())
        }
        Action::Print(format) => {
            let plan =
                until(&cancel, workspace.plan(build.request, client, display.progress())).await;
            tell_warnings(&display.finish(), hides_tree);
            ui::data(plan?.print(format).as_bytes())?;
            Ok(Exit::Success)
        }
    }
}

/// Sees that what comes out of the build has a place, and that nothing old is left there.
fn prepare_results(build: &Build) -> anyhow::Result<()> {
    let files = [("--iidfile", &build.iidfile), ("--metadata-file", &build.metadata_file)];
    let files = || files.iter().filter_map(|(flag, path)| Some((flag, path.as_ref()?)));
    for (flag, path) in files() {
        destination::check_file(&format!("{flag} {}", path.display()), path)?;
    }
    build.request.outputs.iter().try_for_each(destination::check_output)?;
    files().try_for_each(|(_, path)| result_files::remove_stale(path))
}

async fn make(
    build: Build,
    client: Arc<dyn Client>,
    workspace: &Workspace,
    display: Display,
    cancel: CancellationToken,
    debug: bool,
) -> anyhow::Result<Exit> {
    let engines = engines(&build.request.outputs);
    let result = workspace.build(build.request, client, display.progress(), cancel).await;
    let findings = display.finish();
    let for_people = matches!(build.progress, Mode::Tree { .. } | Mode::Plain);
    if for_people {
        ui::error(&warnings(&findings, debug || build.progress == Mode::Plain));
    }
    let outcome = match result {
        Err(BuildError::Canceled) if findings.unread => return Ok(Exit::Unread),
        Err(BuildError::Canceled) => {
            findings.stopped.iter().for_each(|step| ui::error(&diagnostics::stopped_step(step)));
            return Err(BuildError::Canceled.into());
        }
        ended => ended?,
    };
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
        engines.iter().for_each(|address| ui::error(&format!("loaded into {address}\n")));
    }
    Ok(Exit::Success)
}

/// The engines that get the image.
fn engines(outputs: &[Output]) -> Vec<String> {
    let address = |output: &Output| match output {
        Output::Docker { dest: Destination::Engine(address), .. } => Some(address.clone()),
        _ => None,
    };
    outputs.iter().filter_map(address).collect()
}

/// The last line: what came out of it.
fn summary(outcome: &Outcome) -> String {
    let id = result_files::image_id(outcome);
    let mut text = match outcome.names.as_slice() {
        [] => format!("built {id}\n"),
        names => format!("built {id} as {}\n", names.join(", ")),
    };
    for image in &outcome.pushed {
        let names: Vec<String> = image.names.iter().map(Reference::to_string).collect();
        let _ = writeln!(text, "pushed {} as {}", image.target.digest, names.join(", "));
    }
    text
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

/// Warnings that no progress has shown.
fn tell_warnings(findings: &Findings, is_hidden: bool) {
    if is_hidden {
        findings.warnings.iter().for_each(|warning| ui::warning(warning));
    }
}

async fn until<T>(
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, BuildError>>,
) -> Result<T, BuildError> {
    cancel.run_until_cancelled(work).await.unwrap_or(Err(BuildError::Canceled))
}
