//! What a shared cache says of one step.

use std::collections::BTreeMap;

use oci::{Descriptor, DiffId, Digest};

use crate::signature::{Signable, Words};

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

/// Blobs are left out: what they hold is checked by the digests of layers, which are in it, and they may be
/// compressed otherwise.
impl Signable for Record {
    const DOMAIN: &'static str = "mybuild cache record v1";

    fn say(&self, words: &mut Words) {
        words.text(self.key.as_str());
        words.count(self.aliases.len());
        self.aliases.iter().for_each(|alias| words.text(alias.as_str()));
        words.text(&self.salt);
        words.count(self.outputs.len());
        for output in &self.outputs {
            words.count(output.len());
            output.iter().for_each(|layer| words.text(layer.diff_id.0.as_str()));
        }
        words.text(&self.name);
        words.text(&self.created.to_string());
        words.text(&self.duration.to_string());
        words.count(self.parts.len());
        self.parts.iter().for_each(|(name, digits)| {
            words.text(name);
            words.text(digits);
        });
        words.count(self.warnings.len());
        self.warnings.iter().for_each(|warning| words.text(warning));
    }
}
