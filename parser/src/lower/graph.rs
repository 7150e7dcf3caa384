//! The graph of stages: who is built on whom, who takes files from whom, who is needed.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::Lowering;
use super::arguments::Globals;
use super::environment::Environment;
use super::fault::{Fallible, Fault};
use super::outline::ArgumentsTaken;
use super::stage::{Origin, Progress, StageId, StageState};
use crate::check::Place;
use crate::diagnostic::Diagnostic;
use crate::expand::Expanded;
use crate::instruction::{Dockerfile, Instruction, Kind, Stage};
use crate::quote::quote;
use crate::suggest::{Case, did_you_mean};

/// The base that has no files.
pub(super) const SCRATCH: &str = "scratch";

impl<'d> Lowering<'d> {
    /// Expands every `FROM` and finds which earlier stage it means, if any.
    pub(super) fn add_stages(&mut self, dockerfile: &'d Dockerfile) -> Result<(), Diagnostic> {
        let declared = super::arguments::declared_globals(dockerfile);
        let known: BTreeSet<String> =
            declared.into_iter().chain(self.global_args.names()).map(str::to_owned).collect();
        for (number, stage) in dockerfile.stages.iter().enumerate() {
            self.add_stage(number, stage, &known).map_err(|fault| fault.at(Place::stage(stage)))?;
        }
        Ok(())
    }

    fn add_stage(&mut self, number: usize, stage: &'d Stage, known: &BTreeSet<String>) -> Fallible {
        let base = self.expander.word(&stage.base.value, &self.global_args)?;
        self.report_undeclared(stage, known, &base);
        let unset = base.unmatched.iter().next().map(|name| {
            let (ours, theirs) = (format!("ARG {name}=VALUE"), format!("--build-arg {name}=VALUE"));
            match known.contains(name) {
                true => format!("`{name}` has no value: write `{ours}`, or give `{theirs}`"),
                false => {
                    format!("`{name}` is not declared: write `{ours}` before the first `FROM`")
                }
            }
        });
        if base.text.is_empty() {
            let message = format!("base name ({}) should not be blank", stage.base.value);
            let fault = Fault::new(message);
            return Err(match unset {
                Some(hint) => fault.with_hint(hint),
                None => fault,
            });
        }
        let mut state = StageState::new(Origin::From(stage), base.text);
        state.unset = unset;
        let mut names = base.matched;
        if let Some(platform) = &stage.platform {
            let (platform, more) = self.expand_platform(stage, &platform.value, known)?;
            state.platform = Some(platform);
            names.extend(more);
        }
        state.taken = ArgumentsTaken::of_names(names);
        let name = stage.name.as_ref().map(|name| name.value.as_str());
        if let Some(name) = name {
            state.label = name.to_owned();
            state.named_context = self.find_context(name, state.platform.as_ref())?;
        } else {
            state.label = format!("stage-{number}");
        }
        if state.named_context.is_none() {
            state.base = self.by_name.get(&state.base_name).copied();
            state.ignore_cache = self.options.no_cache.applies_to(name.unwrap_or_default());
            state.steps_total = count_steps(stage);
            state.steps_total += usize::from(state.base.is_none() && state.base_name != SCRATCH);
        }
        if let Some(name) = name {
            self.by_name.insert(name.to_lowercase(), self.stages.len());
        }
        self.stages.push(state);
        Ok(())
    }

    fn report_undeclared(&mut self, stage: &Stage, known: &BTreeSet<String>, word: &Expanded) {
        for name in word.unmatched.iter().filter(|name| !known.contains(*name)) {
            let options = known.iter().map(String::as_str);
            let meant = did_you_mean(name, options, Case::Sensitive);
            let message = format!("FROM argument '{name}' is not declared{meant}");
            self.reporter.report("UndefinedArgInFrom", Place::stage(stage), message);
        }
    }

    /// The platform, and the variables that its value is made of.
    fn expand_platform(
        &mut self,
        stage: &Stage,
        written: &str,
        known: &BTreeSet<String>,
    ) -> Fallible<(oci::Platform, BTreeSet<String>)> {
        let word = self.expander.word(written, &self.global_args).map_err(|error| {
            Fault::from(error).context("failed to process arguments for platform ")
        })?;
        self.report_undeclared(stage, known, &word);
        self.check_platform(stage, written, &word);
        let meant = || {
            let options: Vec<&str> = self.global_args.names().collect();
            let mut meant =
                word.unmatched.iter().map(|n| did_you_mean(n, options.clone(), Case::Sensitive));
            meant.find(|text| !text.is_empty()).unwrap_or_default()
        };
        if word.text.is_empty() {
            let message = format!("empty platform value from expression {written}{}", meant());
            return Err(Fault::new(message));
        }
        let platform = word.text.parse().map_err(|error| {
            Fault::new(format!("failed to parse platform {written}: {error}{}", meant()))
        })?;
        Ok((platform, word.matched))
    }

    fn check_platform(&mut self, stage: &Stage, written: &str, word: &Expanded) {
        let place = Place::stage(stage);
        let names: Vec<&String> = word.matched.iter().collect();
        if let ([name], true) = (names.as_slice(), word.unmatched.is_empty())
            && *name == "TARGETPLATFORM"
            && self.global_args.value(name) == Some(&word.text)
        {
            let message = format!(
                "Setting platform to predefined {written} in FROM is redundant as this is the \
                 default behavior"
            );
            self.reporter.report("RedundantTargetPlatform", place, message);
        }
        let constant = word.matched.is_empty() && word.unmatched.is_empty();
        if let (true, Ok(platform)) = (constant, word.text.parse::<oci::Platform>()) {
            let name = stage.name.as_ref().map_or("", |name| &name.value);
            if !name.contains(&platform.os) && !name.contains(&platform.architecture) {
                let message = format!(
                    "FROM --platform flag should not use constant value {}",
                    quote(&word.text)
                );
                self.reporter.report("FromPlatformFlagConstDisallowed", place, message);
            }
        }
    }

    /// Whether every base would be a valid name if no build arguments were given.
    pub(super) fn check_default_bases(
        &mut self,
        dockerfile: &Dockerfile,
        predefined: &Environment,
    ) {
        let none = std::collections::BTreeMap::new();
        let arguments =
            super::arguments::add_global(predefined.clone(), dockerfile, &none, &self.expander);
        // Whatever is wrong here is found again with the arguments that were given.
        let Ok(Globals { environment: arguments, .. }) = arguments else { return };
        for stage in &dockerfile.stages {
            let Ok(base) = self.expander.word(&stage.base.value, &arguments) else { return };
            if oci::Reference::parse_normalized(&base.text).is_err() {
                let message = format!(
                    "Default value for ARG {} results in empty or invalid base image name",
                    stage.base.value
                );
                let place = Place::stage(stage).unfiltered();
                self.reporter.report("InvalidDefaultArgInFrom", place, message);
            }
        }
    }

    /// The stage that `--target` names, the last one without it.
    pub(super) fn find_target(&self, name: Option<&str>) -> Result<StageId, Diagnostic> {
        let Some(name) = name else { return Ok(self.stages.len() - 1) };
        let by_name = self.by_name.get(&name.to_lowercase()).copied();
        let by_number = || name.parse().ok().filter(|&number| number < self.stages.len());
        by_name.or_else(by_number).ok_or_else(|| {
            let names = self.stages.iter().map(|stage| stage.label.as_str());
            let meant = did_you_mean(name, names, Case::Sensitive);
            let message = format!("target stage {} could not be found{meant}", quote(name));
            let fault = Fault::new(message);
            match self.stage_names() {
                names if names.is_empty() => fault.at(Place::default()),
                names => fault.with_hint(format!("the stages are {names}")).at(Place::default()),
            }
        })
    }

    /// The stages that have names, as many of them as anybody reads.
    fn stage_names(&self) -> String {
        const MOST: usize = 10;
        let names: Vec<_> = self.stages.iter().filter_map(StageState::name).collect();
        let more = if names.len() > MOST { ", …" } else { "" };
        names[..names.len().min(MOST)].join(", ") + more
    }

    /// Finds the stages that instructions take files from.
    pub(super) fn link_stages(&mut self) -> Result<(), Diagnostic> {
        let mut only_stage = self.stages.len() == 1;
        for id in 0..self.stages.len() {
            let Origin::From(stage) = self.stages[id].origin else { continue };
            // Another context stands in for the whole stage.
            if self.stages[id].named_context.is_some() {
                continue;
            }
            only_stage &= !stage.instructions.iter().any(takes_from_outside);
            let instructions = stage.instructions.iter();
            let instructions = instructions.map(|i| (Cow::Borrowed(i), Place::instruction(i)));
            self.stages[id].commands = self.link(id, instructions.collect())?;
        }
        self.refuse_circles()?;
        if only_stage {
            self.stages[0].label.clear();
        }
        Ok(())
    }

    /// Depth first along the sources, without recursion: a file may have many stages.
    fn refuse_circles(&self) -> Result<(), Diagnostic> {
        #[derive(Clone, Copy, PartialEq)]
        enum Mark {
            New,
            OnPath,
            Done,
        }
        let mut marks = vec![Mark::New; self.stages.len()];
        for start in 0..self.stages.len() {
            // Each entry: a stage, and how many of its sources have been followed.
            let mut path = vec![(start, 0)];
            while let Some((id, followed)) = path.pop() {
                if followed == 0 && marks[id] != Mark::New {
                    continue;
                }
                marks[id] = Mark::OnPath;
                let Some(&(source, place)) = self.stages[id].sources.get(followed) else {
                    marks[id] = Mark::Done;
                    continue;
                };
                path.push((id, followed + 1));
                if marks[source] == Mark::OnPath {
                    let label = &self.stages[start].label;
                    let message = format!("circular dependency detected on stage: {label}");
                    return Err(Fault::new(message).at(place));
                }
                path.push((source, 0));
            }
        }
        Ok(())
    }

    /// Which stages the targets need, themselves included; all if all are asked for.
    fn reachable(&self, targets: &[StageId]) -> Vec<bool> {
        let mut wanted = vec![self.options.all_stages; self.stages.len()];
        let mut stack = targets.to_vec();
        let mut seen = vec![false; self.stages.len()];
        while let Some(id) = stack.pop() {
            if std::mem::replace(&mut seen[id], true) {
                continue;
            }
            wanted[id] = true;
            stack.extend(self.stages[id].base);
            stack.extend(self.stages[id].sources.iter().map(|&(source, _)| source));
        }
        wanted
    }

    /// Resolves the bases of all stages that are needed, and puts their `ONBUILD`s in place,
    /// which may need more stages. Gives the stages needed, `None` if images are missing.
    pub(super) fn resolve_stages(
        &mut self,
        targets: &[StageId],
    ) -> Result<Option<Vec<bool>>, Diagnostic> {
        loop {
            let wanted = self.reachable(targets);
            for (id, &wanted) in wanted.iter().enumerate() {
                let place = self.stages[id].origin.place();
                self.resolve_base(id, wanted).map_err(|fault| fault.at(place))?;
            }
            let mut more = false;
            let wanted_ids = wanted.iter().enumerate().filter(|(_, wanted)| **wanted);
            for (id, _) in wanted_ids {
                more |= self.add_triggers(id)?;
            }
            if !more {
                return Ok(self.needed.is_empty().then_some(wanted));
            }
        }
    }

    /// Puts the `ONBUILD`s of the base before the stage's own instructions. Says whether they
    /// take files from other stages.
    fn add_triggers(&mut self, id: StageId) -> Result<bool, Diagnostic> {
        let stage = &mut self.stages[id];
        let is_known = stage.base.is_some() || stage.progress != Progress::Waiting;
        if !is_known || std::mem::replace(&mut stage.has_triggers, true) {
            return Ok(false);
        }
        let expressions = match self.stages[id].base {
            Some(base) => self.onbuild_of(base),
            None => std::mem::take(&mut self.stages[id].state.config().on_build),
        };
        if self.stages[id].named_context.is_some() {
            return Ok(false);
        }
        let place = self.stages[id].origin.place();
        let parse =
            |expression: &String| Ok((Cow::Owned(parse_trigger(expression, place)?), place));
        let triggers = expressions.iter().map(parse).collect::<Result<Vec<_>, Diagnostic>>()?;
        let mut commands = self.link(id, triggers)?;
        for command in &mut commands {
            if let Kind::Arg(arguments) = &command.instruction.kind {
                self.trigger_arguments.extend(arguments.iter().map(|arg| arg.name.value.clone()));
            }
            command.from_onbuild = true;
        }
        let stage = &mut self.stages[id];
        stage.steps_total += commands.len();
        let more = commands.iter().any(|command| !command.sources.is_empty());
        stage.commands.splice(0..0, commands);
        Ok(more)
    }

    fn onbuild_of(&self, id: StageId) -> Vec<String> {
        let commands = self.stages[id].commands.iter();
        let expressions = commands.filter_map(|command| match &command.instruction.kind {
            Kind::Onbuild(onbuild) => Some(onbuild.expression.clone()),
            _ => None,
        });
        expressions.collect()
    }

    /// A stage that an instruction takes files from must be finished by then.
    pub(super) fn is_dispatched(&self, id: StageId) -> bool {
        self.stages[id].progress == Progress::Dispatched
    }
}

/// A lone stage goes without a name in the names of steps, unless it takes from an image.
/// (A mount from nowhere counts, too, except that `scratch` may be the stage itself.)
fn takes_from_outside(instruction: &Instruction) -> bool {
    match &instruction.kind {
        Kind::Copy(copy) => {
            copy.from.as_ref().is_some_and(|from| from.value.parse::<i64>().is_err())
        }
        Kind::Run(run) => !run.mounts.is_empty(),
        _ => false,
    }
}

fn count_steps(stage: &Stage) -> usize {
    let is_step = |instruction: &&Instruction| {
        matches!(instruction.kind, Kind::Add(_) | Kind::Copy(_) | Kind::Run(_) | Kind::Workdir(_))
    };
    stage.instructions.iter().filter(is_step).count()
}

fn parse_trigger(expression: &str, place: Place<'_>) -> Result<Instruction, Diagnostic> {
    let parsed = crate::parse::parse_onbuild(expression).map_err(|diagnostics| {
        let first = diagnostics.into_iter().next();
        first.map_or_else(|| "onbuild trigger is malformed".to_owned(), |first| first.message)
    });
    let instructions = parsed.map_err(|message| Fault::new(message).at(place))?;
    let [mut instruction] = <[Instruction; 1]>::try_from(instructions)
        .map_err(|_| Fault::new("onbuild trigger should be a single expression").at(place))?;
    (instruction.span, instruction.lines) = (place.span, place.lines);
    Ok(instruction)
}
