//! What is said, and who stands for it.

use crate::signature::{Signable, Signature, SigningKey, VerifyingKey};

/// A record, or contents of a cache mount, and who stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed<T> {
    /// What is said.
    pub said: T,
    /// By whom; whether they are right nobody has checked yet.
    pub signatures: Vec<Signature>,
}

impl<T: Signable> Signed<T> {
    /// This, signed if there is a key.
    pub fn new(said: T, key: Option<&SigningKey>) -> Self {
        let signatures = key.iter().map(|key| key.sign(&said)).collect();
        Self { said, signatures }
    }

    /// Whether one of `keys` has signed it; without keys everybody is trusted.
    pub fn is_trusted(&self, keys: &[VerifyingKey]) -> bool {
        let signed = |key: &VerifyingKey| {
            self.signatures.iter().any(|signature| key.accepts(&self.said, signature))
        };
        keys.is_empty() || keys.iter().any(signed)
    }
}
