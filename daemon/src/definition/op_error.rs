//! Why an op is not one that this builder carries out.

use super::known::UnknownError;

/// What is wrong with an op of a definition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OpError {
    /// It asks for something that this builder does not do.
    #[error("{what} not supported by this builder")]
    NotSupported {
        /// What, with its verb: `build ops are`.
        what: String,
    },
    /// Something that it needs is not there.
    #[error("it has no {what}")]
    Lacks {
        /// What is not there.
        what: &'static str,
    },
    /// A value that does not mean anything.
    #[error("`{value}` is not a valid {what}")]
    Invalid {
        /// What the value is of.
        what: String,
        /// The value, at most its beginning.
        value: String,
    },
    /// A value that the reader of its kind refuses.
    #[error("`{value}` is not a valid {what}")]
    Refused {
        /// What the value is of.
        what: &'static str,
        /// The value, at most its beginning.
        value: String,
        /// Why.
        source: oci::reference::InvalidReference,
    },
    /// It names an input that it does not have.
    #[error("it takes input {index}, but has {inputs}")]
    NoSuchInput {
        /// The number.
        index: i64,
        /// How many there are.
        inputs: usize,
    },
    /// It takes an output that another op does not have.
    #[error("it takes output {output} of an op that has none of this number")]
    NoSuchOutput {
        /// The number.
        output: i64,
    },
    /// Two of its outputs have the same number.
    #[error("two of its outputs have the number {output}")]
    SameOutput {
        /// The number.
        output: i64,
    },
    /// It asks for a right that the build does not have.
    #[error("{entitlement} is not allowed")]
    NotAllowed {
        /// The right.
        entitlement: String,
    },
    /// It starts from a result that no build here has any more.
    #[error("the result `{id}` is not available any more")]
    NoSuchResult {
        /// What the result is called.
        id: String,
    },
    /// Its numbers do not fit together.
    #[error(transparent)]
    Graph(#[from] llb::GraphError),
}

/// How much of a value is shown.
const SHOWN_MAX: usize = 200;

impl OpError {
    /// For something with its verb: `build ops are`.
    pub(super) fn not_supported(what: impl Into<String>) -> Self {
        Self::NotSupported { what: what.into() }
    }

    /// For the `value` of `what`.
    pub(super) fn invalid(what: impl Into<String>, value: impl ToString) -> Self {
        Self::Invalid { what: what.into(), value: shown(&value.to_string()) }
    }
}

/// The beginning of a text that somebody else has written.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

/// Why a definition cannot be built.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DefinitionError {
    /// There is too much of it.
    #[error("the definition has more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The most there may be.
        limit: usize,
    },
    /// An op is of a later version of the protocol, or no op at all.
    #[error("op {digest} is not understood")]
    Unknown {
        /// The op.
        digest: String,
        /// What is not.
        source: UnknownError,
    },
    /// The bytes of an op are none.
    #[error("op {digest} is malformed")]
    Malformed {
        /// The op.
        digest: String,
        /// Why.
        source: prost::DecodeError,
    },
    /// An op takes an output of one that is not there.
    #[error("op {digest} takes an output of `{input}`, which is not in the definition")]
    NoSuchOp {
        /// The op.
        digest: String,
        /// What it calls the other one.
        input: String,
    },
    /// An op needs itself.
    #[error("op {digest} needs its own result")]
    Cycle {
        /// The op.
        digest: String,
    },
    /// The last op does not name the result.
    #[error("the last op of a definition has one input, the result, and does nothing")]
    NoResult,
    /// An op needs what this builder does not have.
    #[error("`{name}` needs `{cap}`, which this builder does not have")]
    Capability {
        /// What the op is called.
        name: String,
        /// The capability.
        cap: String,
    },
    /// An op is not one that this builder carries out.
    #[error("failed to read the step `{name}`")]
    Op {
        /// What the op is called.
        name: String,
        /// Its digest.
        digest: String,
        /// Why.
        source: OpError,
    },
}
