//! What a shared cache says that a cache mount held.

use std::cmp::Reverse;
use std::collections::HashMap;

use oci::{Descriptor, Digest};

use crate::signature::{Signable, VerifyingKey, Words};
use crate::signed::Signed;

/// Of contents that were written at the same time, so many are put together, the newest ones.
const HEADS_MAX: usize = 8;
/// Hex digits of a name.
const NAME: usize = 16;

/// What a cache mount held when some builder had used it. Everything in it comes from outside: the bytes count only
/// once they have the digests that lead from here to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contents {
    /// The mount's id.
    pub id: String,
    /// When it was read, in seconds since 1970.
    pub created: i64,
    /// Length of its archive in bytes.
    pub size: u64,
    /// Names of earlier contents from which this came to be, or which were part of what it came from.
    pub after: Vec<String>,
    /// Where the [`crate::Index`] is.
    pub index: Descriptor,
    /// The blobs that the index leads to.
    pub bundles: Vec<Descriptor>,
}

impl Contents {
    /// What others call these contents.
    pub fn name(&self) -> String {
        let what = format!("{} {} {}", self.index.digest, self.created, self.id);
        Digest::of(what.as_bytes()).hex()[..NAME].to_owned()
    }
}

impl Signable for Contents {
    const DOMAIN: &'static str = "mybuild cache mount v1";

    fn say(&self, words: &mut Words) {
        words.text(&self.id);
        words.text(&self.created.to_string());
        words.text(&self.size.to_string());
        words.count(self.after.len());
        self.after.iter().for_each(|name| words.text(name));
        words.text(self.index.digest.as_str());
    }
}

/// Of `all` those that no other replaces, the newest first: for each mount one, or several that were written at the
/// same time. What is signed can only be replaced by what one of its signers has signed.
pub(crate) fn heads<'a>(
    all: impl Iterator<Item = &'a Signed<Contents>>,
) -> Vec<&'a Signed<Contents>> {
    let mut heads: Vec<&Signed<Contents>> = all.collect();
    let mut later: HashMap<&str, Vec<&Signed<Contents>>> = HashMap::new();
    for signed in &heads {
        signed.said.after.iter().for_each(|name| later.entry(name).or_default().push(signed));
    }
    let is_replaced = |signed: &Signed<Contents>| {
        let name = signed.said.name();
        let signers = signed.signatures.iter().map(|signature| signature.signer.clone());
        let signers: Vec<VerifyingKey> = signers.collect();
        let replaces = |other: &&Signed<Contents>| {
            let Contents { id, .. } = &other.said;
            *id == signed.said.id && other.said.name() != name && other.is_trusted(&signers)
        };
        later.get(name.as_str()).is_some_and(|others| others.iter().any(replaces))
    };
    heads.retain(|signed| !is_replaced(signed));
    heads.sort_by_key(|signed| (Reverse(signed.said.created), signed.said.name()));
    heads.dedup();
    let mut counts: HashMap<&str, usize> = HashMap::new();
    heads.retain(|signed| {
        let count = counts.entry(&signed.said.id).or_default();
        *count += 1;
        *count <= HEADS_MAX
    });
    heads
}
