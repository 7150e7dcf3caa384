//! The graph of vertices.

use std::collections::{BTreeSet, HashMap};

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use crate::encode;
use crate::op::Op;

/// A vertex of one [`Definition`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VertexId(NodeIndex);

impl VertexId {
    /// A small number, unique in its definition.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// An output of another vertex, taken as an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Input {
    /// The vertex.
    pub vertex: VertexId,
    /// Number of its output.
    pub output: usize,
}

/// What a vertex is called and where it came from. Never part of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metadata {
    /// What the user sees: `[build 2/5] RUN make`.
    pub name: String,
    /// Stage the vertex belongs to, empty if none.
    pub stage: String,
    /// Bytes of the Dockerfile it came from.
    pub span: Option<(u32, u32)>,
    /// Lines of the Dockerfile it came from, 1-based, both included.
    pub lines: Option<(u32, u32)>,
    /// Runs even if a result is known.
    pub ignore_cache: bool,
    /// Runs even if a result is known that is as old, in seconds, or older.
    pub max_age: Option<u64>,
    /// The folders of its cache mounts are emptied before the build.
    pub empties_cache_mounts: bool,
    /// What its programs may be built for (`arm64`), as images name it; none where that is not known.
    pub architectures: BTreeSet<String>,
    /// The command as the user wrote it, for error messages (`/bin/sh -c make`).
    pub command: String,
}

/// One step of the build.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vertex {
    /// What it does.
    pub op: Op,
    /// Its name and origin.
    pub metadata: Metadata,
    /// Digest over the op's canonical bytes and the inputs' digests.
    pub digest: oci::Digest,
}

/// Why a graph is not a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GraphError {
    /// An op refers to an input that the vertex does not have.
    #[error("`{name}` refers to input {input}, but has {inputs}")]
    NoSuchInput {
        /// The vertex.
        name: String,
        /// The input asked for.
        input: usize,
        /// How many there are.
        inputs: usize,
    },
    /// The outputs of an op are not numbered 0, 1, 2, …, or one number is given twice.
    #[error("`{name}` has no one output {output}")]
    OutputNumbers {
        /// The vertex.
        name: String,
        /// The number that is missing or given twice.
        output: usize,
    },
    /// An input names an output that its vertex does not have.
    #[error("`{name}` takes output {output} of `{from}`, which has {outputs}")]
    NoSuchOutput {
        /// The vertex.
        name: String,
        /// The output asked for.
        output: usize,
        /// The vertex it is asked of.
        from: String,
        /// How many outputs that has.
        outputs: usize,
    },
}

/// A graph of vertices without cycles: inputs exist before the vertex that takes them.
#[derive(Debug, Clone, Default)]
pub struct Definition {
    graph: StableDiGraph<Vertex, Edge>,
    /// Vertices by digest: adding an equal one twice gives the first.
    by_digest: std::collections::HashMap<oci::Digest, VertexId>,
}

#[derive(Debug, Clone, Copy)]
struct Edge {
    /// Which input of the target this is.
    input: usize,
    /// Which output of the source.
    output: usize,
}

impl Definition {
    /// Adds a vertex; an equal one (same op, same inputs) is not added twice. Equal steps with
    /// different names keep the first one's name.
    pub fn add(
        &mut self,
        op: Op,
        inputs: &[Input],
        metadata: Metadata,
    ) -> Result<VertexId, GraphError> {
        self.check(&op, inputs, &metadata)?;
        let input_digests: Vec<(&oci::Digest, usize)> =
            inputs.iter().map(|i| (&self.graph[i.vertex.0].digest, i.output)).collect();
        let digest = encode::vertex_digest(&op, &input_digests);
        if let Some(&known) = self.by_digest.get(&digest) {
            let first = &mut self.graph[known.0].metadata;
            first.ignore_cache |= metadata.ignore_cache;
            first.max_age = first.max_age.into_iter().chain(metadata.max_age).min();
            first.empties_cache_mounts |= metadata.empties_cache_mounts;
            first.architectures.extend(metadata.architectures);
            return Ok(known);
        }
        let id = VertexId(self.graph.add_node(Vertex { op, metadata, digest: digest.clone() }));
        for (number, input) in inputs.iter().enumerate() {
            self.graph.add_edge(input.vertex.0, id.0, Edge { input: number, output: input.output });
        }
        self.by_digest.insert(digest, id);
        Ok(id)
    }

    fn check(&self, op: &Op, inputs: &[Input], metadata: &Metadata) -> Result<(), GraphError> {
        if let Some(&input) = op.inputs_used().iter().find(|&&i| i >= inputs.len()) {
            return Err(GraphError::NoSuchInput {
                name: metadata.name.clone(),
                input,
                inputs: inputs.len(),
            });
        }
        let mut numbers = op.output_numbers();
        numbers.sort_unstable();
        if let Some(output) = (0..numbers.len()).find(|&place| numbers[place] != place) {
            return Err(GraphError::OutputNumbers { name: metadata.name.clone(), output });
        }
        for input in inputs {
            let from = &self.graph[input.vertex.0];
            let outputs = from.op.outputs();
            if input.output >= outputs {
                return Err(GraphError::NoSuchOutput {
                    name: metadata.name.clone(),
                    output: input.output,
                    from: from.metadata.name.clone(),
                    outputs,
                });
            }
        }
        Ok(())
    }

    /// Adds all vertices of `other`; equal ones become one. Gives back where each now is, by the
    /// index of its id in `other`.
    pub fn absorb(&mut self, other: &Self) -> Result<HashMap<VertexId, VertexId>, GraphError> {
        let mut moved = HashMap::new();
        for id in other.vertices() {
            let inputs: Vec<Input> = other
                .inputs(id)
                .into_iter()
                .map(|i| Input { vertex: moved[&i.vertex], output: i.output })
                .collect();
            let vertex = other.vertex(id);
            moved.insert(id, self.add(vertex.op.clone(), &inputs, vertex.metadata.clone())?);
        }
        Ok(moved)
    }

    /// The vertex `id`.
    pub fn vertex(&self, id: VertexId) -> &Vertex {
        &self.graph[id.0]
    }

    /// The inputs of `id`, in order.
    pub fn inputs(&self, id: VertexId) -> Vec<Input> {
        let mut edges: Vec<(usize, Input)> = self
            .graph
            .edges_directed(id.0, Direction::Incoming)
            .map(|e| {
                (
                    e.weight().input,
                    Input { vertex: VertexId(e.source()), output: e.weight().output },
                )
            })
            .collect();
        edges.sort_by_key(|(number, _)| *number);
        edges.into_iter().map(|(_, input)| input).collect()
    }

    /// Vertices that take an output of `id`, each once, in the order they were added.
    pub fn dependents(&self, id: VertexId) -> Vec<VertexId> {
        let mut found: Vec<VertexId> =
            self.graph.neighbors_directed(id.0, Direction::Outgoing).map(VertexId).collect();
        found.sort_unstable();
        found.dedup();
        found
    }

    /// `targets` and all they depend on, inputs before the vertices that take them.
    pub fn reachable(&self, targets: &[VertexId]) -> Vec<VertexId> {
        let mut wanted = std::collections::HashSet::new();
        let mut stack: Vec<NodeIndex> = targets.iter().map(|t| t.0).collect();
        while let Some(node) = stack.pop() {
            if wanted.insert(node) {
                stack.extend(self.graph.neighbors_directed(node, Direction::Incoming));
            }
        }
        // Vertices are numbered as they are added, and inputs exist before those who take them.
        let mut found: Vec<VertexId> = wanted.into_iter().map(VertexId).collect();
        found.sort_unstable();
        found
    }

    /// All vertices in the order they were added.
    pub fn vertices(&self) -> impl Iterator<Item = VertexId> + '_ {
        self.graph.node_indices().map(VertexId)
    }
}

impl Op {
    /// How many outputs a vertex with this op has.
    pub fn outputs(&self) -> usize {
        self.output_numbers().len()
    }

    fn output_numbers(&self) -> Vec<usize> {
        match self {
            Self::Source(_) | Self::Merge | Self::Diff => vec![0],
            Self::Exec(exec) => exec.mounts.iter().filter_map(|m| m.output).collect(),
            Self::File(file) => file.actions.iter().filter_map(|a| a.output).collect(),
        }
    }

    /// The numbers of inputs that the op refers to.
    pub fn inputs_used(&self) -> Vec<usize> {
        use crate::op::FileInput;
        match self {
            Self::Source(_) | Self::Merge => Vec::new(),
            Self::Diff => vec![0, 1],
            Self::Exec(exec) => exec.mounts.iter().filter_map(|m| m.input).collect(),
            Self::File(file) => file
                .actions
                .iter()
                .flat_map(|a| [Some(a.input), a.secondary])
                .filter_map(|i| match i {
                    Some(FileInput::Input(number)) => Some(number),
                    _ => None,
                })
                .collect(),
        }
    }
}
