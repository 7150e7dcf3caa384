//! What builds well and could be smaller, quicker or safer: rules of ours, which BuildKit has not.
//!
//! They give notes, and only where a Dockerfile is looked over rather than built: a build tells what
//! BuildKit tells, and what it fails for there it fails for here.

use oci::Reference;

use super::package_lists;
use super::rules::{RULES, find_rule};
use super::script::{Command, commands};
use super::secret;
use super::{Checks, Place, Reporter};
use crate::instruction::{Arg, CommandLine, Dockerfile, Instruction, Kind, Run, Stage};
use crate::quote::quote;
use crate::span::Lines;
use crate::suggest::{Case, nearest};

const MOUNT_SECRET: &str = "mount it where it is needed: `RUN --mount=type=secret,id=NAME`, and \
                            build with `--secret id=NAME,src=FILE`";

/// `FROM` or a `--from` that means the image `name`.
pub(crate) fn base_image(name: &str, reference: &Reference, place: Place<'_>, to: &mut Reporter) {
    if reference.digest().is_some() {
        return;
    }
    let familiar = reference.familiar();
    let message = match reference.tag() {
        None => format!("Base image {name} has no tag: it is whatever `latest` is at the time"),
        Some("latest") => format!("Base image {name} is whatever `latest` is at the time"),
        Some(_) => {
            let message = format!("Base image {name} has no digest: its tag may be moved");
            let hint = format!("write `{familiar}@sha256:…`");
            return to.advise("BaseImageWithoutDigest", place, message, &hint);
        }
    };
    to.advise("UnpinnedBaseImage", place, message, "name the version: `NAME:VERSION`");
}

/// Checks that are turned on or off and that there are not.
pub(crate) fn unknown_checks(dockerfile: &Dockerfile, to: &mut Reporter) {
    for directive in dockerfile.directives.iter().filter(|directive| directive.name == "check") {
        let lines = Lines { start: directive.line, end: directive.line };
        let place = Place { span: directive.value.span, lines, skipped: &[] };
        let checks = Checks::parse(&directive.value.value).unwrap_or_default();
        checks.names().for_each(|name| unknown_check(name, place, to));
    }
    for stage in &dockerfile.stages {
        let places = stage.instructions.iter().map(Place::instruction);
        for place in std::iter::once(Place::stage(stage)).chain(places) {
            place.skipped.iter().for_each(|name| unknown_check(name, place, to));
        }
    }
}

fn unknown_check(name: &str, place: Place<'_>, to: &mut Reporter) {
    if matches!(name, "" | "all") || find_rule(name).is_some() {
        return;
    }
    let known = RULES.iter().map(|rule| rule.name);
    let message = format!("There is no check {}", quote(name));
    let hint = match nearest(name, known, Case::Sensitive) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "it turns nothing on or off".to_owned(),
    };
    to.advise("UnknownCheck", place, message, &hint);
}

/// Secrets that are written in the file.
pub(crate) fn secrets(dockerfile: &Dockerfile, to: &mut Reporter) {
    let of_stages = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    for instruction in dockerfile.global_args.iter().chain(of_stages) {
        let place = Place::instruction(instruction);
        for (what, text) in literals(&instruction.kind) {
            if let Some(secret) = secret::find(text) {
                let message = format!("{what} seems to hold a secret: {secret}");
                to.advise("SecretInLiteral", place, message, MOUNT_SECRET);
            }
        }
    }
}

/// Text that is written in an instruction, and what to call it.
fn literals(kind: &Kind) -> Vec<(String, &str)> {
    match kind {
        Kind::Arg(arguments) => {
            let default = |arg: &Arg| Some(arg.value.as_ref()?.value.clone());
            let with_default = arguments.iter().filter(|arg| default(arg).is_some());
            let literal = |arg: &'_ Arg| format!("ARG {}", arg.name.value);
            with_default
                .map(|arg| (literal(arg), arg.value.as_ref().map_or("", |v| v.value.as_str())))
                .collect()
        }
        Kind::Env(pairs) => pairs
            .iter()
            .map(|pair| (format!("ENV {}", pair.key.value), pair.value.value.as_str()))
            .collect(),
        Kind::Run(run) => script(run).map(|text| ("RUN".to_owned(), text)).collect(),
        _ => Vec::new(),
    }
}

/// What a step runs, as it is written.
fn script(run: &Run) -> impl Iterator<Item = &str> {
    let words: Vec<&str> = match &run.command {
        CommandLine::Shell(line) => vec![line],
        CommandLine::Exec(words) => words.iter().map(String::as_str).collect(),
    };
    words.into_iter().chain(run.heredocs.iter().map(|heredoc| heredoc.content.as_str()))
}

/// The commands of a step that a shell runs.
fn commands_of(run: &Run) -> Vec<Command> {
    match run.command {
        CommandLine::Shell(_) => script(run).flat_map(commands).collect(),
        CommandLine::Exec(_) => Vec::new(),
    }
}

/// Lists of packages that stay in the layers of a stage.
pub(crate) fn package_lists(stage: &Stage, to: &mut Reporter) {
    for (instruction, run) in runs(&stage.instructions) {
        let commands = commands_of(run);
        if let Some((command, manager)) = package_lists::left(&commands, &run.mounts) {
            let message = format!("The package lists of `{}` stay in the layer", command.shown());
            let place = Place::instruction(instruction);
            to.advise("PackageListsLeft", place, message, manager.hint);
        }
    }
}

fn runs(instructions: &[Instruction]) -> impl Iterator<Item = (&Instruction, &Run)> {
    instructions.iter().filter_map(|instruction| match &instruction.kind {
        Kind::Run(run) => Some((instruction, run)),
        _ => None,
    })
}

/// All of the context copied before dependencies are installed that only a few of its files name.
pub(crate) fn copies(stage: &Stage, to: &mut Reporter) {
    let mut installed: Vec<String> = Vec::new();
    let mut copied: Option<&Instruction> = None;
    for instruction in &stage.instructions {
        match &instruction.kind {
            kind if takes_all(kind) => copied = copied.or(Some(instruction)),
            Kind::Run(run) => {
                let commands = commands_of(run);
                let installs = commands.iter().filter(|command| installs_dependencies(command));
                let mut new = installs.filter(|command| !installed.contains(&command.short()));
                let is_cached = run.mounts.iter().any(|m| m.written.contains("type=cache"));
                if let (Some(copy), Some(install), false) = (copied, new.next(), is_cached) {
                    report_copy(copy, &install.shown(), instruction.lines.start, to);
                    return;
                }
                installed.extend(commands.iter().map(Command::short));
            }
            _ => {}
        }
    }
}

fn report_copy(copy: &Instruction, install: &str, line: u32, to: &mut Reporter) {
    let message = format!(
        "All files are copied before `{install}` (line {line}), which thus runs again whenever \
         one of them changes"
    );
    let hint = "copy the files that list the dependencies, install these, and copy the rest then";
    to.advise("CopyBeforeInstall", Place::instruction(copy), message, hint);
}

/// Whether a `COPY` or `ADD` takes the whole context.
fn takes_all(kind: &Kind) -> bool {
    let sources = match kind {
        Kind::Copy(copy) if copy.from.is_none() => &copy.sources,
        Kind::Add(add) => &add.sources,
        _ => return false,
    };
    sources.iter().any(|source| matches!(source.value.as_str(), "." | "./" | "/" | "*" | "./*"))
}

/// Whether a command installs what some file of the sources lists.
fn installs_dependencies(command: &Command) -> bool {
    let operands: Vec<&str> = command.operands().collect();
    let from_file = command.has(&["-r", "--requirement", "--requirements"]);
    match (command.program.as_str(), operands.as_slice()) {
        ("npm", ["ci", ..] | ["install" | "i"])
        | ("yarn", [] | ["install", ..])
        | ("pnpm" | "bun", ["install" | "i"])
        | ("uv" | "pipenv", ["sync", ..])
        | ("pipenv" | "poetry" | "bundle" | "composer", ["install", ..])
        | ("go", ["mod", "download", ..])
        | ("cargo", ["fetch", ..])
        | ("dotnet", ["restore", ..])
        | ("mix", ["deps.get", ..])
        | ("gradle" | "gradlew", ["dependencies", ..]) => true,
        ("mvn" | "mvnw", goals) => goals.iter().any(|goal| goal.starts_with("dependency:")),
        ("pip" | "pip3" | "uv", operands) => operands.contains(&"install") && from_file,
        ("python" | "python3", _) => {
            command.has(&["pip"]) && operands.contains(&"install") && from_file
        }
        _ => false,
    }
}
