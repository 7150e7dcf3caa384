//! From the bytes of a definition to its ops, inputs before those who take them.

use std::collections::HashMap;

use prost::Message as _;

use super::known::{self, UnknownError};
use super::{DefinitionError, OPS_MAX};
use crate::wire::pb;

/// Fields of all ops together. One takes two bytes at least, and much more when it is read.
const FIELDS_MAX: usize = 500_000;

/// An op as it came.
pub(super) struct Node<'d> {
    /// Digest of its bytes: what others call it.
    pub(super) digest: String,
    pub(super) op: pb::Op,
    pub(super) metadata: Option<&'d pb::OpMetadata>,
    /// Places of the ops that it takes outputs of, one an input.
    pub(super) inputs: Vec<usize>,
}

/// The ops that a definition's result needs.
pub(super) struct Graph<'d> {
    pub(super) nodes: Vec<Node<'d>>,
    /// Places in `nodes`, inputs before those who take them.
    pub(super) order: Vec<usize>,
    /// The op that makes the result, and the number of its output.
    pub(super) result: (usize, i64),
}

impl<'d> Graph<'d> {
    /// Reads all ops; nothing for a definition without any, which is an empty tree.
    pub(super) fn read(definition: &'d pb::Definition) -> Result<Option<Self>, DefinitionError> {
        if definition.def.is_empty() {
            return Ok(None);
        }
        let mut nodes = decode(definition)?;
        link(&mut nodes)?;
        let last = nodes.last().expect("there is an op");
        let (&[result], [input]) = (&last.inputs[..], &last.op.inputs[..]) else {
            return Err(DefinitionError::NoResult);
        };
        if last.op.op.is_some() {
            return Err(DefinitionError::NoResult);
        }
        let (result, index) = (result, input.index);
        let order = order(&nodes, result)?;
        Ok(Some(Self { nodes, order, result: (result, index) }))
    }
}

fn decode(definition: &pb::Definition) -> Result<Vec<Node<'_>>, DefinitionError> {
    if definition.def.len() > OPS_MAX {
        return Err(DefinitionError::TooLarge { what: "ops", limit: OPS_MAX });
    }
    let mut left = FIELDS_MAX;
    let read = |bytes: &'_ Vec<u8>| {
        let digest = oci::Digest::of(bytes).to_string();
        known::check(bytes, &mut left).map_err(|source| match source {
            UnknownError::TooMany => {
                DefinitionError::TooLarge { what: "fields", limit: FIELDS_MAX }
            }
            source => DefinitionError::Unknown { digest: digest.clone(), source },
        })?;
        let op = pb::Op::decode(&bytes[..])
            .map_err(|source| DefinitionError::Malformed { digest: digest.clone(), source })?;
        let metadata = definition.metadata.get(&digest);
        Ok(Node { digest, op, metadata, inputs: Vec::new() })
    };
    definition.def.iter().map(read).collect()
}

/// Finds the ops that inputs name.
fn link(nodes: &mut [Node<'_>]) -> Result<(), DefinitionError> {
    let places = nodes.iter().enumerate().map(|(place, node)| (node.digest.clone(), place));
    let places: HashMap<String, usize> = places.collect();
    for node in nodes {
        let find = |input: &pb::Input| {
            places.get(&input.digest).copied().ok_or_else(|| DefinitionError::NoSuchOp {
                digest: node.digest.clone(),
                input: input.digest.chars().take(100).collect(),
            })
        };
        node.inputs = node.op.inputs.iter().map(find).collect::<Result<_, _>>()?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    New,
    Begun,
    Done,
}

/// What `result` needs and `result` itself. Without recursion: graphs can be deep.
fn order(nodes: &[Node<'_>], result: usize) -> Result<Vec<usize>, DefinitionError> {
    let mut visits = vec![Visit::New; nodes.len()];
    let mut order = Vec::new();
    // An op, and which of its inputs comes next.
    let mut stack = vec![(result, 0)];
    visits[result] = Visit::Begun;
    while let Some((place, next)) = stack.last_mut() {
        let Some(&input) = nodes[*place].inputs.get(*next) else {
            visits[*place] = Visit::Done;
            order.push(*place);
            stack.pop();
            continue;
        };
        *next += 1;
        match visits[input] {
            Visit::Done => {}
            // Digests make this impossible; who trusts that is one mistake away from a loop.
            Visit::Begun => {
                let digest = nodes[input].digest.clone();
                return Err(DefinitionError::Cycle { digest });
            }
            Visit::New => {
                visits[input] = Visit::Begun;
                stack.push((input, 0));
            }
        }
    }
    Ok(order)
}
