//! What was asked for beside the Dockerfile and does nothing in it, and line ends that do harm.

use std::collections::BTreeSet;

use oci::Reference;

use super::Lowering;
use super::arguments;
use super::graph::SCRATCH;
use super::options::NoCache;
use crate::instruction::{Arg, Dockerfile, Heredoc, Instruction, Kind};
use crate::suggest::{Case, did_you_mean};

impl Lowering<'_> {
    /// One line each, in the order of what they are about.
    pub(super) fn notes(&self, dockerfile: &Dockerfile) -> Vec<String> {
        let mut notes = self.unused_arguments(dockerfile);
        notes.extend(self.unused_contexts());
        notes.extend(self.unknown_uncached_stages());
        notes.extend(carriage_returns(dockerfile));
        notes
    }

    fn unused_arguments(&self, dockerfile: &Dockerfile) -> Vec<String> {
        let mut declared = declared(dockerfile);
        declared.extend(self.trigger_arguments.iter().map(String::as_str));
        let is_unused = |name: &&String| {
            !declared.contains(name.as_str()) && !arguments::has_meaning_alone(name)
        };
        let tell = |name: &String| {
            let meant = did_you_mean(name, declared.iter().copied(), Case::Sensitive);
            format!("build argument `{name}` is not used: no `ARG` has that name{meant}")
        };
        self.options.build_args.keys().filter(is_unused).map(tell).collect()
    }

    /// A context is used where a stage, its base or a source has its name, be it needed or not.
    fn unused_contexts(&self) -> Vec<String> {
        let names =
            self.stages.iter().flat_map(|stage| [Some(stage.base_name.clone()), stage.name()]);
        let mut asked: BTreeSet<String> = names.flatten().map(|name| familiar(&name)).collect();
        // Its time may be all that is wanted of it.
        asked.extend(self.options.build_args.get(arguments::EPOCH).cloned());
        // Nothing stands in for it.
        asked.remove(SCRATCH);
        let contexts = self.options.named_contexts.keys();
        let name_of = |context: &str| context.split("::").next().unwrap_or(context).to_owned();
        let unused = contexts.map(|context| name_of(context)).filter(|name| !asked.contains(name));
        let tell = |name: String| {
            if name.eq_ignore_ascii_case(SCRATCH) {
                return format!("build context `{name}` is not used: `{SCRATCH}` is always empty");
            }
            let meant = did_you_mean(&name, asked.iter().map(String::as_str), Case::Sensitive);
            format!("build context `{name}` is not used: nothing has that name{meant}")
        };
        unused.map(tell).collect()
    }

    fn unknown_uncached_stages(&self) -> Vec<String> {
        let NoCache::Stages(asked) = &self.options.no_cache else { return Vec::new() };
        let stages: Vec<String> = self.stages.iter().filter_map(|stage| stage.name()).collect();
        let is_unknown = |name: &&String| !stages.iter().any(|s| s.eq_ignore_ascii_case(name));
        let tell = |name: &String| {
            let meant = did_you_mean(name, stages.iter().map(String::as_str), Case::Insensitive);
            format!("`--no-cache-filter {name}` does nothing: no stage has that name{meant}")
        };
        asked.iter().filter(is_unknown).map(tell).collect()
    }
}

/// A name in the form that named contexts have.
fn familiar(name: &str) -> String {
    let Ok(reference) = Reference::parse_normalized(name) else { return name.to_owned() };
    let familiar = reference.familiar();
    familiar.strip_suffix(":latest").unwrap_or(&familiar).to_owned()
}

/// Names of all `ARG`s of the file, those in `ONBUILD` too.
fn declared(dockerfile: &Dockerfile) -> BTreeSet<&str> {
    let of_stages = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    of_stages.chain(&dockerfile.global_args).flat_map(names_of).collect()
}

fn names_of(instruction: &Instruction) -> Vec<&str> {
    match &instruction.kind {
        Kind::Arg(arguments) => {
            arguments.iter().map(|Arg { name, .. }| name.value.as_str()).collect()
        }
        Kind::Onbuild(onbuild) => {
            let mut words = onbuild.expression.split_whitespace();
            let is_arg = words.next().is_some_and(|word| word.eq_ignore_ascii_case("ARG"));
            words.filter(|_| is_arg).filter_map(|word| word.split('=').next()).collect()
        }
        _ => Vec::new(),
    }
}

/// Here-documents keep their lines' ends: with a carriage return there a shell finds no command,
/// and a script no interpreter.
fn carriage_returns(dockerfile: &Dockerfile) -> Vec<String> {
    let instructions = dockerfile.stages.iter().flat_map(|stage| &stage.instructions);
    let documents = instructions.flat_map(|instruction| {
        let line = instruction.lines.start;
        heredocs(&instruction.kind).iter().map(move |heredoc| (line, heredoc))
    });
    documents
        .filter(|(_, heredoc)| heredoc.content.contains("\r\n"))
        .map(|(line, heredoc)| {
            format!(
                "lines of the here-document `{}` end with CR LF, and the CR stays (line {line}); \
                 save the Dockerfile with LF alone",
                heredoc.name
            )
        })
        .collect()
}

fn heredocs(kind: &Kind) -> &[Heredoc] {
    match kind {
        Kind::Run(run) => &run.heredocs,
        Kind::Copy(copy) => &copy.heredocs,
        Kind::Add(add) => &add.heredocs,
        _ => &[],
    }
}
