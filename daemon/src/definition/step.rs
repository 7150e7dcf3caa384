//! A step on its way from an op of the client's to one of ours.

use std::collections::BTreeMap;

use super::op_error::OpError;

/// A file tree that an op takes; nothing for an empty one.
pub(super) type Tree = Option<llb::Input>;

/// What an op becomes.
pub(super) enum Made {
    /// A step.
    Step(Box<Step>),
    /// Nothing: its result is a tree that is there already.
    Tree(Tree),
}

impl From<Step> for Made {
    fn from(step: Step) -> Self {
        Self::Step(Box::new(step))
    }
}

/// A step, and what its outputs are called.
pub(super) struct Step {
    pub(super) op: llb::Op,
    pub(super) inputs: Vec<llb::Input>,
    pub(super) outputs: Outputs,
}

impl Step {
    /// With one output.
    pub(super) fn simple(op: llb::Op, inputs: Vec<llb::Input>) -> Self {
        let outputs = Outputs(BTreeMap::from([(0, Output::Own(0))]));
        Self { op, inputs, outputs }
    }
}

/// Outputs by the numbers that the client gives them.
#[derive(Default)]
pub(super) struct Outputs(pub(super) BTreeMap<i64, Output>);

/// An output.
pub(super) enum Output {
    /// The step makes it; the number that it has here.
    Own(usize),
    /// It is what the step was given.
    Given(Tree),
}

impl Outputs {
    /// Adds one under the client's number.
    pub(super) fn add(&mut self, number: i64, output: Output) -> Result<(), OpError> {
        match self.0.insert(number, output) {
            None => Ok(()),
            Some(_) => Err(OpError::SameOutput { output: number }),
        }
    }
}

/// Numbers outputs from 0 without gaps, in the order of the client's numbers; -1 is none.
pub(super) fn number_outputs(given: impl Iterator<Item = i64>) -> BTreeMap<i64, usize> {
    let numbers: std::collections::BTreeSet<i64> = given.filter(|number| *number >= 0).collect();
    numbers.into_iter().enumerate().map(|(number, given)| (given, number)).collect()
}

/// The inputs that a step takes, each once, in the order in which it names them: the numbers that a
/// Dockerfile's steps have, too.
pub(super) struct Taken<'t> {
    given: &'t [Tree],
    taken: Vec<llb::Input>,
}

impl<'t> Taken<'t> {
    pub(super) fn of(given: &'t [Tree]) -> Self {
        Self { given, taken: Vec::new() }
    }

    /// The tree that the client calls `index`; -1 is an empty one.
    pub(super) fn tree(&self, index: i64) -> Result<Tree, OpError> {
        if index == -1 {
            return Ok(None);
        }
        let found = usize::try_from(index).ok().and_then(|index| self.given.get(index));
        found.copied().ok_or(OpError::NoSuchInput { index, inputs: self.given.len() })
    }

    /// Our number of the tree that the client calls `index`; nothing for an empty one.
    pub(super) fn number(&mut self, index: i64) -> Result<Option<usize>, OpError> {
        let Some(tree) = self.tree(index)? else { return Ok(None) };
        let known = self.taken.iter().position(|known| *known == tree);
        Ok(Some(known.unwrap_or_else(|| {
            self.taken.push(tree);
            self.taken.len() - 1
        })))
    }

    pub(super) fn given(&self) -> usize {
        self.given.len()
    }

    pub(super) fn finish(self) -> Vec<llb::Input> {
        self.taken
    }
}
