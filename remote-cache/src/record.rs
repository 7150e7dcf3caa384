//! What a shared cache says of one step.

use std::collections::BTreeMap;

use oci::{Descriptor, DiffId, Digest};

/// The result of a step that some builder has run. Everything in it comes from outside: a layer counts only
/// once its bytes have turned out to have the digest that stands here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The step's canonical key.
    pub key: Digest,
    /// Other keys that lead to it.
    pub aliases: Vec<Digest>,
    /// What dependents' keys take in besides [`Self::key`]; empty for nothing.
    pub salt: String,
    /// Its outputs, each a stack of layers, bottom first.
    pub outputs: Vec<Vec<Layer>>,
    /// The step as users know it.
    pub name: String,
    /// When it was run, in seconds since 1970.
    pub created: i64,
    /// How long it took, in milliseconds.
    pub duration: u64,
    /// What went into the key, by name, in digits that differ where it differs.
    pub parts: BTreeMap<String, String>,
    /// What the user is told about the result.
    pub warnings: Vec<String>,
}

/// A layer of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layer {
    /// Digest of its plain tar.
    pub diff_id: DiffId,
    /// Its blob in the cache; `None` for a layer of an image that the build starts from, which has it.
    pub blob: Option<Descriptor>,
}
