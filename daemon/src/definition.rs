//! Definitions as clients write them (BuildKit's LLB), read into our own.
//!
//! An op is called by the digest of its bytes as they came; they are never written again. What is not
//! understood is refused by name: an op, a field, an attribute, a value, a capability. A step that could
//! stand in a Dockerfile becomes the very op that the Dockerfile would give, so that each finds the
//! other's result.
//!
//! Read [`read`], then `graph` (from bytes to ops in order), `exec`, `file` and `source` (from an op to
//! one of ours).

mod attributes;
mod capability;
mod exec;
mod file;
mod graph;
mod known;
mod located;
mod name;
mod op_error;
mod path;
mod source;
mod step;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use llb::{Metadata, Op};
use oci::Platform;
use prost::Message as _;

use crate::wire::pb;
use graph::{Graph, Node};
use located::Located;
use step::{Made, Output, Step, Taken, Tree};

pub use capability::CAPABILITIES;
pub use known::UnknownError;
pub use located::SourceFile;
pub use op_error::{DefinitionError, OpError};
pub(crate) use source::read as read_source;

/// Ops of a definition.
const OPS_MAX: usize = 100_000;

/// The scheme of sources that are results of this daemon's builds.
const RESULT: &str = "mybuild-result";

/// A result that later definitions of the same build may start from.
#[derive(Debug, Clone, Default)]
pub struct Kept {
    /// Its steps.
    pub definition: Arc<llb::Definition>,
    /// What of them it is; nothing for an empty tree.
    pub target: Option<llb::Input>,
}

/// The definition that gives the result called `id`.
pub fn of_result(id: &str) -> pb::Definition {
    let source = pb::SourceOp { identifier: format!("{RESULT}://{id}"), ..Default::default() };
    let source = pb::Op { op: Some(pb::op::Op::Source(source)), ..Default::default() };
    let source = source.encode_to_vec();
    let digest = oci::Digest::of(&source).to_string();
    let last = pb::Op { inputs: vec![pb::Input { digest, index: 0 }], ..Default::default() };
    pb::Definition { def: vec![source, last.encode_to_vec()], ..Default::default() }
}

/// What a definition is read with.
pub struct Reading<'a> {
    /// The platform of ops that name none.
    pub platform: Platform,
    /// What steps may ask for: `network.host`, `security.insecure`, `device`, `device=…`.
    pub entitlements: &'a BTreeSet<String>,
    /// Results that definitions may start from, by what they are called.
    pub results: &'a dyn Fn(&str) -> Option<Kept>,
}

impl Reading<'_> {
    fn allows(&self, entitlement: &str) -> Result<(), OpError> {
        match self.entitlements.contains(entitlement) {
            true => Ok(()),
            false => Err(OpError::NotAllowed { entitlement: entitlement.to_owned() }),
        }
    }
}

/// A definition that was read.
#[derive(Debug, Default)]
pub struct Definition {
    /// Its steps.
    pub steps: llb::Definition,
    /// What it gives; nothing for an empty tree.
    pub target: Option<llb::Input>,
    /// The client's own file that its steps come from, if it says so: their lines are in that.
    pub file: Option<SourceFile>,
    /// An image is to be asked for in its registry, whatever the store has.
    pub pulls: bool,
    /// SSH hosts that its repositories may be fetched from, in the form of OpenSSH's `known_hosts`.
    pub known_hosts: String,
}

/// Reads a definition. One without ops is an empty tree.
pub fn read(
    definition: &pb::Definition,
    reading: &Reading<'_>,
) -> Result<Definition, DefinitionError> {
    let Some(graph) = Graph::read(definition)? else { return Ok(Definition::default()) };
    let located = Located::of(definition);
    let mut reader = Reader {
        reading,
        located: located.as_ref(),
        read: Definition::default(),
        made: graph.nodes.iter().map(|_| Named::default()).collect(),
    };
    for &place in &graph.order {
        let named = reader.node(&graph.nodes[place])?;
        reader.made[place] = named;
    }
    let (result, output) = graph.result;
    let target = reader.made[result].tree(output);
    let error = |source| DefinitionError::Op {
        name: reader.made[result].name.clone(),
        digest: graph.nodes[result].digest.clone(),
        source,
    };
    let target = target.map_err(error)?;
    let read = reader.read;
    Ok(Definition { target, file: located.map(|located| located.file), ..read })
}

/// An op's name, and its trees by the client's numbers.
#[derive(Default)]
struct Named {
    name: String,
    trees: BTreeMap<i64, Tree>,
}

impl Named {
    fn tree(&self, output: i64) -> Result<Tree, OpError> {
        self.trees.get(&output).copied().ok_or(OpError::NoSuchOutput { output })
    }
}

struct Reader<'a> {
    reading: &'a Reading<'a>,
    located: Option<&'a Located<'a>>,
    read: Definition,
    /// What the ops so far have become, by their places.
    made: Vec<Named>,
}

impl Reader<'_> {
    fn node(&mut self, node: &Node<'_>) -> Result<Named, DefinitionError> {
        let inputs: Vec<&str> =
            node.inputs.iter().map(|&place| self.made[place].name.as_str()).collect();
        let name = name::name(&node.op, node.metadata, &inputs);
        check_capabilities(&name, node.metadata)?;
        match self.trees(node, &name) {
            Ok(trees) => Ok(Named { name, trees }),
            Err(source) => Err(DefinitionError::Op { name, digest: node.digest.clone(), source }),
        }
    }

    fn trees(&mut self, node: &Node<'_>, name: &str) -> Result<BTreeMap<i64, Tree>, OpError> {
        let given = node.inputs.iter().zip(&node.op.inputs);
        let given = given.map(|(&place, input)| self.made[place].tree(input.index));
        let given: Vec<Tree> = given.collect::<Result<_, _>>()?;
        check_constraints(node)?;
        let platform = platform(node.op.platform.as_ref(), &self.reading.platform);
        match self.make(&node.op, &given, &platform)? {
            Made::Tree(tree) => Ok(BTreeMap::from([(0, tree)])),
            Made::Step(step) => {
                let lines = self.located.and_then(|located| located.lines(&node.digest));
                self.add(*step, Metadata { lines, ..metadata(node, name, platform)? })
            }
        }
    }

    fn make(&mut self, op: &pb::Op, given: &[Tree], platform: &Platform) -> Result<Made, OpError> {
        match op.op.as_ref().ok_or(OpError::Lacks { what: "operation" })? {
            pb::op::Op::Exec(exec) => exec::step(exec, given, &platform.os, self.reading),
            pb::op::Op::Source(source) => self.source(source, platform),
            pb::op::Op::File(file) => file::step(file, given),
            pb::op::Op::Merge(merge) => self::merge(merge, given),
            pb::op::Op::Diff(diff) => self.diff(diff, given),
            pb::op::Op::Build(_) => Err(OpError::not_supported("build ops are")),
            pb::op::Op::Passthrough(_) => Err(OpError::not_supported("passthrough ops are")),
        }
    }

    fn source(&mut self, op: &pb::SourceOp, platform: &Platform) -> Result<Made, OpError> {
        let result = op.identifier.strip_prefix(RESULT).and_then(|rest| rest.strip_prefix("://"));
        if let Some(id) = result {
            return self.result(id).map(Made::Tree);
        }
        let source::Read { source, pulls, known_hosts } = source::read(op, platform)?;
        self.read.pulls |= pulls;
        if !known_hosts.is_empty() && !self.read.known_hosts.contains(&known_hosts) {
            self.read.known_hosts.push_str(&known_hosts);
            self.read.known_hosts.push('\n');
        }
        Ok(Step::simple(Op::Source(source), Vec::new()).into())
    }

    /// Takes over the steps of a result.
    fn result(&mut self, id: &str) -> Result<Tree, OpError> {
        let kept = (self.reading.results)(id);
        let kept = kept.ok_or_else(|| OpError::NoSuchResult { id: op_error::shown(id) })?;
        let moved = self.read.steps.absorb(&kept.definition)?;
        Ok(kept.target.map(|target| llb::Input { vertex: moved[&target.vertex], ..target }))
    }

    /// What the upper tree has more than the lower one; over an empty one it is all of it.
    fn diff(&mut self, op: &pb::DiffOp, given: &[Tree]) -> Result<Made, OpError> {
        let taken = Taken::of(given);
        let lower = op.lower.as_ref().ok_or(OpError::Lacks { what: "lower tree" })?;
        let upper = op.upper.as_ref().ok_or(OpError::Lacks { what: "upper tree" })?;
        let upper = taken.tree(upper.input)?;
        let Some(lower) = taken.tree(lower.input)? else { return Ok(Made::Tree(upper)) };
        let upper = match upper {
            Some(upper) => upper,
            None => self.empty()?,
        };
        Ok(Step::simple(Op::Diff, vec![lower, upper]).into())
    }

    fn empty(&mut self) -> Result<llb::Input, OpError> {
        let Step { op, inputs, .. } = file::empty();
        let metadata = Metadata { name: "nothing".to_owned(), ..Metadata::default() };
        Ok(llb::Input { vertex: self.read.steps.add(op, &inputs, metadata)?, output: 0 })
    }

    fn add(&mut self, step: Step, metadata: Metadata) -> Result<BTreeMap<i64, Tree>, OpError> {
        let vertex = self.read.steps.add(step.op, &step.inputs, metadata)?;
        let tree = |output| match output {
            Output::Own(output) => Some(llb::Input { vertex, output }),
            Output::Given(tree) => tree,
        };
        Ok(step.outputs.0.into_iter().map(|(number, output)| (number, tree(output))).collect())
    }
}

/// All trees over each other; empty ones change nothing, and of one tree alone there is nothing to do.
fn merge(op: &pb::MergeOp, given: &[Tree]) -> Result<Made, OpError> {
    let taken = Taken::of(given);
    let trees = op.inputs.iter().map(|input| taken.tree(input.input));
    let trees: Vec<llb::Input> =
        trees.filter_map(Result::transpose).collect::<Result<_, OpError>>()?;
    Ok(match trees[..] {
        [] => Made::Tree(None),
        [only] => Made::Tree(Some(only)),
        _ => Step::simple(Op::Merge, trees).into(),
    })
}

fn check_capabilities(
    name: &str,
    metadata: Option<&pb::OpMetadata>,
) -> Result<(), DefinitionError> {
    let asked = metadata.into_iter().flat_map(|metadata| &metadata.caps);
    let mut unknown =
        asked.filter(|(cap, needed)| **needed && !CAPABILITIES.contains(&cap.as_str()));
    match unknown.next() {
        None => Ok(()),
        Some((cap, _)) => {
            Err(DefinitionError::Capability { name: name.to_owned(), cap: op_error::shown(cap) })
        }
    }
}

/// There is one worker, and it has no labels to choose it by.
fn check_constraints(node: &Node<'_>) -> Result<(), OpError> {
    let filters = node.op.constraints.as_ref().map_or(&[][..], |constraints| &constraints.filter);
    match filters.first() {
        None => Ok(()),
        Some(filter) => {
            Err(OpError::not_supported(format!("the constraint `{}` is", op_error::shown(filter))))
        }
    }
}

fn platform(given: Option<&pb::Platform>, usual: &Platform) -> Platform {
    let Some(given) = given else { return usual.clone() };
    Platform {
        os_version: given.os_version.clone(),
        os_features: given.os_features.clone(),
        ..Platform::new(&given.os, &given.architecture, &given.variant)
    }
}

fn metadata(node: &Node<'_>, name: &str, platform: Platform) -> Result<Metadata, OpError> {
    let given = node.metadata;
    if given.is_some_and(|given| given.export_cache.is_some()) {
        return Err(OpError::not_supported("a step that says whether caches get it is"));
    }
    if given.is_some_and(|given| given.linux_resources.is_some()) {
        return Err(OpError::not_supported("a step with limits of its own is"));
    }
    let ignore_cache = given.is_some_and(|given| given.ignore_cache);
    let exec = match &node.op.op {
        Some(pb::op::Op::Exec(exec)) => exec.meta.as_ref(),
        _ => None,
    };
    Ok(Metadata {
        name: name.to_owned(),
        ignore_cache,
        empties_cache_mounts: ignore_cache,
        architectures: BTreeSet::from([platform.architecture]),
        command: exec.map_or(String::new(), |meta| meta.args.join(" ")),
        ..Metadata::default()
    })
}
