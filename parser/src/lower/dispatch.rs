//! Stage by stage, instruction by instruction.

use std::rc::Rc;

use oci::History;

use super::Lowering;
use super::base::default_path;
use super::fault::{Fallible, Fault};
use super::options::MainContext;
use super::stage::{Command, Progress, StageId};
use crate::check::{self, Place};
use crate::diagnostic::Diagnostic;
use crate::ignore::Patterns;
use crate::instruction::{Arg, Kind};
use crate::path;
use crate::pragma;
use crate::quote::quote;
use crate::suggest::{Case, did_you_mean};

/// What every entry of the history says in its comment.
const HISTORY_COMMENT: &str = "buildkit.dockerfile.v0";
/// Arguments that never become variables of a process.
const HIDDEN_ARGUMENTS: [&str; 2] = ["BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"];

impl<'d> Lowering<'d> {
    /// Puts the instructions of all wanted stages into the graph, in the order of the file.
    pub(super) fn dispatch_stages(&mut self, wanted: &[bool]) -> Result<(), Diagnostic> {
        if let MainContext::Local { exclude_patterns } = &self.options.main_context {
            let patterns = Patterns::new(exclude_patterns)
                .map_err(|error| Fault::new(error.to_string()).at(Place::default()))?;
            self.ignored = Some(patterns).filter(|patterns| !patterns.is_empty());
        }
        for id in wanted_stages(wanted) {
            if let Some(base) = self.stages[id].base {
                self.stages[base].heirs += 1;
            }
        }
        for id in wanted_stages(wanted) {
            if !self.is_dispatched(id) {
                self.stages[id].progress = Progress::Dispatched;
                self.dispatch_stage(id)?;
            }
        }
        Ok(())
    }

    fn dispatch_stage(&mut self, id: StageId) -> Result<(), Diagnostic> {
        self.inherit(id);
        self.start_from_image(id);
        for command in std::mem::take(&mut self.stages[id].commands) {
            self.stages[id].in_trigger = command.from_onbuild;
            let place = Place::instruction(&command.instruction);
            self.dispatch(id, &command).map_err(|fault| fault.at(place))?;
        }
        Ok(())
    }

    /// Takes over everything from the base stage but its `ONBUILD`s.
    fn inherit(&mut self, id: StageId) {
        let Some(base) = self.stages[id].base else { return };
        let base = &mut self.stages[base];
        let (mut state, image, platform) =
            (base.bequeath(), base.image.clone(), base.platform.clone());
        if !state.image.config.on_build.is_empty() {
            state.config().on_build.clear();
        }
        let stage = &mut self.stages[id];
        (stage.state, stage.image, stage.platform) = (state, image, platform);
    }

    /// The variables and the working directory that the image's config sets.
    fn start_from_image(&mut self, id: StageId) {
        let stage = &mut self.stages[id];
        let platform = stage.platform.get_or_insert_with(|| self.options.target_platform.clone());
        let os = platform.os.clone();
        let state = &mut stage.state;
        let is_path = |entry: &String| entry == "PATH" || entry.starts_with("PATH=");
        if !state.image.config.env.iter().any(is_path)
            && let Some(path) = default_path(&os)
        {
            state.config().env.push(path);
        }
        let image = state.image.clone();
        for entry in &image.config.env {
            let (name, value) = entry.split_once('=').unwrap_or((entry, ""));
            state.set_variable(name, value);
        }
        if !image.config.working_dir.is_empty() {
            let directory = state.directory().into_owned();
            let is_absolute = directory.starts_with('/');
            let directory = if is_absolute { directory } else { path::join("/", &directory) };
            state.set_directory(&directory);
        }
    }

    fn dispatch(&mut self, id: StageId, command: &Command<'d>) -> Fallible {
        let instruction = &*command.instruction;
        let place = Place::instruction(instruction);
        self.pragma = pragma::of(&instruction.comments).map_err(Fault::new)?;
        match &instruction.kind {
            Kind::Add(add) => self.add(id, instruction, add),
            Kind::Copy(copy) => self.copy(id, instruction, copy, command.sources.first()),
            Kind::Run(run) => self.run_step(id, instruction, run, &command.sources),
            Kind::Workdir(directory) => self.workdir(id, instruction, directory),
            Kind::Arg(arguments) => self.argument(id, place, arguments),
            Kind::Cmd(line) => self.cmd(id, instruction, line),
            Kind::Entrypoint(line) => self.entrypoint(id, instruction, line),
            Kind::Env(pairs) => self.env(id, instruction, pairs),
            Kind::Label(pairs) => self.label(id, instruction, pairs),
            Kind::Expose(ports) => self.expose(id, place, ports),
            Kind::Healthcheck(healthcheck) => self.healthcheck(id, instruction, healthcheck),
            Kind::Maintainer(author) => {
                self.maintainer(id, &author.value);
                Ok(())
            }
            Kind::Onbuild(onbuild) => {
                self.stages[id].state.config().on_build.push(onbuild.expression.clone());
                Ok(())
            }
            Kind::Shell(shell) => {
                self.shell(id, shell);
                Ok(())
            }
            Kind::Stopsignal(signal) => self.stop_signal(id, place, &signal.value),
            Kind::User(user) => self.user(id, place, &user.value),
            Kind::Volume(volumes) => self.volume(id, place, volumes),
        }
    }

    /// Adds an entry to the stage's history.
    pub(super) fn record(&mut self, id: StageId, created_by: String, makes_layer: bool) {
        self.stages[id].history.push(History {
            created_by,
            comment: HISTORY_COMMENT.to_owned(),
            empty_layer: !makes_layer,
            ..History::default()
        });
    }

    /// Expands a word of an instruction with the stage's variables.
    pub(super) fn expand(&mut self, id: StageId, place: Place<'_>, word: &str) -> Fallible<String> {
        let word = self.expander.word(word, &*self.stages[id].state.environment)?;
        self.report_undefined(id, place, word.unmatched.iter());
        Ok(word.text)
    }

    pub(super) fn report_undefined<'n>(
        &mut self,
        id: StageId,
        place: Place<'_>,
        names: impl Iterator<Item = &'n String>,
    ) {
        let state = &self.stages[id].state;
        for name in names {
            let declared = state.arguments.iter().any(|(argument, _)| argument == name);
            if declared || HIDDEN_ARGUMENTS.contains(&name.as_str()) {
                continue;
            }
            let known = state.environment.names();
            let meant = did_you_mean(name, known, Case::Sensitive);
            let meant = meant.replacen("did you mean ", "did you mean $", 1);
            let message = format!("Usage of undefined variable '${name}'{meant}");
            self.reporter.report("UndefinedVar", place, message);
        }
    }

    fn argument(&mut self, id: StageId, place: Place<'_>, arguments: &[Arg]) -> Fallible {
        let mut shown = Vec::with_capacity(arguments.len());
        for argument in arguments {
            let name = &argument.name.value;
            self.check_secret("ARG", name, place);
            let given = self.build_args.get(name).cloned();
            let is_own = given.is_some() || argument.value.is_some();
            let value = match (given, &argument.value) {
                (Some(value), _) => Some(value),
                (None, Some(default)) => Some(self.expand(id, place, &default.value)?),
                (None, None) => self.global_args.value(name).map(str::to_owned),
            };
            let is_global = !is_own && value.is_some();
            self.stages[id].taken.declare(argument, value.as_deref(), place.lines, is_global);
            let state = &mut self.stages[id].state;
            if let Some(value) = &value
                && !HIDDEN_ARGUMENTS.contains(&name.as_str())
            {
                state.set_variable(name, value);
            }
            shown.push(match &value {
                Some(value) => format!("{name}={value}"),
                None => name.clone(),
            });
            Rc::make_mut(&mut state.arguments).push((name.clone(), value.unwrap_or_default()));
        }
        self.record(id, format!("ARG {}", shown.join(" ")), false);
        Ok(())
    }

    pub(super) fn check_secret(&mut self, keyword: &str, name: &str, place: Place<'_>) {
        if check::names_a_secret(name) {
            let message = format!(
                "Do not use ARG or ENV instructions for sensitive data ({keyword} {})",
                quote(name)
            );
            self.reporter.report("SecretsUsedInArgOrEnv", place, message);
        }
    }
}

fn wanted_stages(wanted: &[bool]) -> impl Iterator<Item = StageId> + '_ {
    (0..wanted.len()).filter(|&id| wanted[id])
}
