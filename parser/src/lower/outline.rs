//! What a target takes from whoever builds it: arguments, secrets, SSH agents, cache mounts.
//!
//! Arguments are noted while the stages are lowered; the rest is read off the finished graph.

use std::collections::{BTreeMap, BTreeSet};

use llb::{Definition, Input, MountKind, Op};

use super::Lowering;
use super::stage::{Origin, StageId};
use crate::instruction::Arg;
use crate::span::Lines;

/// The parameters of a target, each kind in the order of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outline {
    /// The target's name, empty where it has none.
    pub name: String,
    /// What the comment above it says.
    pub description: String,
    /// Build arguments that have a meaning for it.
    pub arguments: Vec<Argument>,
    /// Secrets that its steps mount.
    pub secrets: Vec<Mounted>,
    /// SSH agents that its steps mount.
    pub ssh: Vec<Mounted>,
    /// Cache mounts of its steps.
    pub caches: Vec<Mounted>,
}

/// A build argument.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Argument {
    /// Its name.
    pub name: String,
    /// The value that it has in this build, empty for none.
    pub value: String,
    /// What the comment above it says.
    pub description: String,
    /// Lines of the `ARG`.
    pub lines: Lines,
}

/// Something that steps mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// What it is called.
    pub id: String,
    /// The step fails without it.
    pub required: bool,
    /// Lines of the first step that mounts it.
    pub lines: Lines,
}

/// The `ARG`s before the first `FROM`, each with the arguments that its default is made of.
#[derive(Debug, Clone, Default)]
pub(super) struct GlobalArguments(BTreeMap<String, (Argument, BTreeSet<String>)>);

impl GlobalArguments {
    /// Adds one. One that is made of its own earlier value is made of the same parts.
    pub(super) fn note(
        &mut self,
        arg: &Arg,
        value: Option<&str>,
        lines: Lines,
        mut parts: BTreeSet<String>,
    ) {
        let name = &arg.name.value;
        if parts.remove(name)
            && let Some((_, old)) = self.0.get(name)
        {
            parts.extend(old.iter().cloned());
        }
        self.0.insert(name.clone(), (described(arg, value, lines), parts));
    }
}

/// What a stage says about arguments.
#[derive(Debug, Clone, Default)]
pub(super) struct ArgumentsTaken {
    /// Those with a meaning of their own there.
    declared: BTreeMap<String, Argument>,
    /// Names of all that count there, global ones too.
    used: BTreeSet<String>,
}

impl ArgumentsTaken {
    /// Names in `FROM`.
    pub(super) fn of_names(used: BTreeSet<String>) -> Self {
        Self { declared: BTreeMap::new(), used }
    }

    /// Names in `--from`.
    pub(super) fn note(&mut self, names: BTreeSet<String>) {
        self.used.extend(names);
    }

    /// An `ARG`. One that only takes a global value over is the global one.
    pub(super) fn declare(&mut self, arg: &Arg, value: Option<&str>, lines: Lines, global: bool) {
        let name = &arg.name.value;
        self.used.insert(name.clone());
        if !global {
            self.declared.insert(name.clone(), described(arg, value, lines));
        }
    }
}

fn described(arg: &Arg, value: Option<&str>, lines: Lines) -> Argument {
    Argument {
        name: arg.name.value.clone(),
        value: value.unwrap_or_default().to_owned(),
        description: arg.doc.clone(),
        lines,
    }
}

impl Lowering<'_> {
    /// The parameters of `target`, whose files are `tree`.
    pub(super) fn outline(&self, target: StageId, tree: Option<Input>) -> Outline {
        let (name, description) = match self.stages[target].origin {
            Origin::From(stage) => (stage.name.as_ref(), stage.doc.clone()),
            Origin::Source(_) => (None, String::new()),
        };
        let name = name.map(|name| name.value.clone()).unwrap_or_default();
        let mut outline = Outline { name, description, ..Outline::default() };
        outline.arguments = self.arguments_of(target);
        add_mounts(&self.definition, tree, &mut outline);
        outline
    }

    /// The arguments of a stage and of those that it needs; of two of one name, the first.
    fn arguments_of(&self, target: StageId) -> Vec<Argument> {
        let mut found = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut waiting = vec![target];
        while let Some(id) = waiting.pop() {
            if !seen.insert(id) {
                continue;
            }
            let stage = &self.stages[id];
            for argument in self.arguments_in(&stage.taken) {
                found.entry(argument.name.clone()).or_insert(argument);
            }
            // The base comes first.
            waiting.extend(stage.sources.iter().map(|&(source, _)| source).rev());
            waiting.extend(stage.base);
        }
        let mut all: Vec<Argument> = found.into_values().collect();
        all.sort_by_key(|argument| argument.lines.start);
        all
    }

    fn arguments_in(&self, taken: &ArgumentsTaken) -> Vec<Argument> {
        let mut found = Vec::new();
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<&String> = taken.used.iter().collect();
        while let Some(name) = waiting.pop() {
            if !seen.insert(name) {
                continue;
            }
            if let Some(own) = taken.declared.get(name) {
                found.push(own.clone());
            } else if let Some((global, parts)) = self.declared_globals.0.get(name) {
                found.push(global.clone());
                waiting.extend(parts);
            }
        }
        found
    }
}

fn add_mounts(definition: &Definition, tree: Option<Input>, outline: &mut Outline) {
    let targets: Vec<_> = tree.iter().map(|input| input.vertex).collect();
    for vertex in definition.reachable(&targets) {
        let vertex = definition.vertex(vertex);
        let Op::Exec(exec) = &vertex.op else { continue };
        let (start, end) = vertex.metadata.lines.unwrap_or_default();
        let lines = Lines { start, end };
        for secret in &exec.secret_env {
            add(&mut outline.secrets, &secret.id, !secret.optional, lines);
        }
        for mount in &exec.mounts {
            match &mount.kind {
                MountKind::Secret { id, optional, .. } => {
                    add(&mut outline.secrets, id, !optional, lines);
                }
                MountKind::Ssh { id, optional, .. } => add(&mut outline.ssh, id, !optional, lines),
                MountKind::Cache { id, .. } => {
                    let id = id.strip_prefix('/').unwrap_or(id);
                    add(&mut outline.caches, id, false, lines);
                }
                MountKind::Bind | MountKind::Tmpfs { .. } => {}
            }
        }
    }
    for list in [&mut outline.secrets, &mut outline.ssh, &mut outline.caches] {
        list.sort_by_key(|mounted| mounted.lines.start);
    }
}

/// Adds what is mounted, or that it is required after all.
fn add(list: &mut Vec<Mounted>, id: &str, required: bool, lines: Lines) {
    match list.iter_mut().find(|known| known.id == id) {
        Some(known) => {
            known.required |= required;
            if lines.start < known.lines.start {
                known.lines = lines;
            }
        }
        None => list.push(Mounted { id: id.to_owned(), required, lines }),
    }
}
