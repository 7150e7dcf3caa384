//! What instructions take files from: the stages, images and contexts that `--from` and `from=` name.

use std::borrow::Cow;

use super::Lowering;
use super::arguments::arguments;
use super::environment::Environment;
use super::fault::{Fallible, Fault};
use super::stage::{Command, Origin, StageId, StageState};
use crate::check::Place;
use crate::diagnostic::Diagnostic;
use crate::instruction::{Instruction, Kind, Mount};
use crate::quote::quote;
use crate::suggest::{Case, did_you_mean};

impl<'d> Lowering<'d> {
    /// Finds what the instructions of a stage take files from.
    pub(super) fn link(
        &mut self,
        id: StageId,
        instructions: Vec<(Cow<'d, Instruction>, Place<'d>)>,
    ) -> Result<Vec<Command<'d>>, Diagnostic> {
        // Most files need no variables here.
        let mut variables = match instructions.iter().any(|(i, _)| has_variable_source(i)) {
            true => Some(self.inherited_arguments(id)?),
            false => None,
        };
        let mut commands = Vec::with_capacity(instructions.len());
        for (instruction, place) in instructions {
            let sources = self.sources(id, &instruction, place, variables.as_ref());
            let sources = sources.map_err(|fault| fault.at(place))?;
            let found = sources.iter().flatten().map(|&source| (source, place));
            self.stages[id].sources.extend(found);
            if let Some(variables) = &mut variables {
                self.declare(&instruction, variables).map_err(|fault| fault.at(place))?;
            }
            commands.push(Command { instruction, sources, from_onbuild: false });
        }
        Ok(commands)
    }

    fn sources(
        &mut self,
        id: StageId,
        instruction: &Instruction,
        place: Place<'d>,
        variables: Option<&Environment>,
    ) -> Fallible<Vec<Option<StageId>>> {
        match &instruction.kind {
            Kind::Copy(copy) => match &copy.from {
                Some(from) if !from.value.is_empty() => {
                    Ok(vec![Some(self.find_source(id, &from.value, place, variables)?)])
                }
                _ => Ok(Vec::new()),
            },
            Kind::Run(run) => {
                let find = |mount| self.find_mount_source(id, mount, place, variables);
                run.mounts.iter().map(find).collect()
            }
            _ => Ok(Vec::new()),
        }
    }

    /// The stage that `COPY --from` names, by name or number, or else an image.
    fn find_source(
        &mut self,
        id: StageId,
        written: &str,
        place: Place<'d>,
        variables: Option<&Environment>,
    ) -> Fallible<StageId> {
        let from = self.expand_source(id, written, variables)?;
        if let Ok(number) = from.parse::<i64>() {
            return usize::try_from(number)
                .ok()
                .filter(|&id| self.stages.get(id).is_some_and(|stage| !stage.is_external()))
                .ok_or_else(|| self.no_stage_with(number));
        }
        Ok(self.find_stage_or_external(&from, place))
    }

    fn no_stage_with(&self, number: i64) -> Fault {
        let count = self.stages.iter().filter(|stage| !stage.is_external()).count();
        Fault::new(format!("invalid stage index {number}"))
            .with_hint(format!("stages are numbered from 0 to {}", count.saturating_sub(1)))
    }

    fn find_mount_source(
        &mut self,
        id: StageId,
        mount: &Mount,
        place: Place<'d>,
        variables: Option<&Environment>,
    ) -> Fallible<Option<StageId>> {
        let Some(written) = mount_from(mount).filter(|from| !from.is_empty()) else {
            return Ok(None);
        };
        let from = self.expand_source(id, &written, variables)?;
        Ok(Some(self.find_stage_or_external(&from, place)))
    }

    fn find_stage_or_external(&mut self, name: &str, place: Place<'d>) -> StageId {
        if let Some(&id) = self.by_name.get(&name.to_lowercase()) {
            return id;
        }
        if let Some(&id) = self.external.get(name) {
            return id;
        }
        let id = self.stages.len();
        self.stages.push(StageState::new(Origin::Source(place), name.to_owned()));
        self.external.insert(name.to_owned(), id);
        id
    }

    /// The name with its variables' values. Stages are linked before any is gone through, so only `ARG`s
    /// have a value here: those before the first `FROM` and the stage's own.
    fn expand_source<'w>(
        &mut self,
        id: StageId,
        written: &'w str,
        variables: Option<&Environment>,
    ) -> Fallible<Cow<'w, str>> {
        let Some(variables) = variables.filter(|_| is_variable(written)) else {
            return Ok(Cow::Borrowed(written));
        };
        let word = self.expander.word(written, variables)?;
        if let Some(name) = word.unmatched.iter().find(|name| is_bare(written, name)) {
            let meant = did_you_mean(name, variables.names(), Case::Sensitive);
            let message = format!("{} in `from` has no value{meant}", quote(&format!("${name}")));
            return Err(Fault::new(message).with_hint(format!(
                "only an `ARG` can be used here: write `ARG {name}=VALUE` before the first `FROM` or \
                 above this instruction"
            )));
        }
        self.stages[id].taken.note(word.matched);
        match word.text.is_empty() {
            true => Err(Fault::new(format!("{} in `from` is empty", quote(written)))),
            false => Ok(Cow::Owned(word.text)),
        }
    }

    /// What the arguments are where the stage's own instructions begin.
    fn inherited_arguments(&self, id: StageId) -> Result<Environment, Diagnostic> {
        let mut chain = Vec::new();
        let mut base = self.stages[id].base;
        while let Some(id) = base {
            chain.push(id);
            base = self.stages[id].base;
        }
        let mut variables = self.global_args.clone();
        for id in chain.into_iter().rev() {
            let Origin::From(stage) = self.stages[id].origin else { continue };
            for instruction in &stage.instructions {
                let declared = self.declare(instruction, &mut variables);
                declared.map_err(|fault| fault.at(Place::instruction(instruction)))?;
            }
        }
        Ok(variables)
    }

    /// Sets the arguments that an instruction declares, as going through it will.
    fn declare(&self, instruction: &Instruction, variables: &mut Environment) -> Fallible {
        for argument in arguments(instruction) {
            let name = &argument.name.value;
            let value = match (self.build_args.get(name), &argument.value) {
                (Some(given), _) => Some(given.clone()),
                (None, Some(default)) => {
                    Some(self.expander.word(&default.value, &*variables)?.text)
                }
                (None, None) => self.global_args.value(name).map(str::to_owned),
            };
            if let Some(value) = value {
                variables.set(name, &value);
            }
        }
        Ok(())
    }
}

fn has_variable_source(instruction: &Instruction) -> bool {
    match &instruction.kind {
        Kind::Copy(copy) => copy.from.as_ref().is_some_and(|from| is_variable(&from.value)),
        Kind::Run(run) => {
            run.mounts.iter().any(|mount| mount_from(mount).is_some_and(|from| is_variable(&from)))
        }
        _ => false,
    }
}

fn is_variable(written: &str) -> bool {
    written.contains('$')
}

/// Whether a word has `$name` or `${name}`, without anything for the case that it is not set.
fn is_bare(written: &str, name: &str) -> bool {
    let is_end = |rest: &str| !rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    let reference = format!("${name}");
    written.split(&reference).skip(1).any(is_end) || written.contains(&format!("${{{name}}}"))
}

/// `from=` of a mount whose other values may still wait for variables.
fn mount_from(mount: &Mount) -> Option<String> {
    if mount.from.is_some() {
        return mount.from.clone();
    }
    let fields = crate::csv::fields(&mount.written).ok()?;
    let from = |field: &Cow<'_, str>| {
        let (key, value) = field.split_once('=')?;
        key.eq_ignore_ascii_case("from").then(|| value.to_owned())
    };
    fields.iter().rev().find_map(from)
}
