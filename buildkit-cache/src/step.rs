//! A step as BuildKit's cache knows it.

use oci::Digest;

/// What of a step enters its records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Step {
    /// Digests of what it does, each of which finds it. Images have several (the manifest's and the
    /// layers'), a directory of the client has none.
    pub digests: Vec<Digest>,
    /// Its inputs in BuildKit's order.
    pub inputs: Vec<StepInput>,
}

/// How a step takes an input.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepInput {
    /// Number of the input among those of the vertex.
    pub number: usize,
    /// Digest of the paths that are taken of it, empty for none.
    pub selector: String,
    /// What is taken of it, if that alone also finds the step. See [`crate::content::digest`].
    pub content: Option<Vec<Selector>>,
}

/// Files of a tree.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector {
    /// Absolute path, perhaps with wildcards.
    pub path: String,
    /// The path has wildcards.
    pub wildcard: bool,
    /// A link at the end of the path is followed.
    pub follow_links: bool,
    /// Only what matches, relative to the path, in the syntax of ignore files.
    pub include: Vec<String>,
    /// All but what matches.
    pub exclude: Vec<String>,
    /// Paths of which there must be something.
    pub required: Vec<String>,
}

/// An input of a step at hand: what is known of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Input {
    /// The records of the vertex and output that it is.
    pub records: Records,
    /// Digest of what is taken of it, if that was asked for and is known.
    pub content: Option<Digest>,
}

/// Records of one cache that are found under the same output of a vertex.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records(pub(crate) Vec<usize>);

impl Records {
    /// Nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
