//! Signatures of what a cache says: Ed25519 (RFC 8032).

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

/// Length of a key's seed and of a public key, in bytes.
const KEY: usize = 32;

/// Something that a builder says of a cache, and stands for.
pub trait Signable {
    /// What a signature is made over begins with this, so that it says nothing about anything else.
    const DOMAIN: &'static str;

    /// Everything in it that a build acts on.
    fn say(&self, words: &mut Words);
}

/// What is signed, each part with its length before it.
#[derive(Default)]
pub struct Words(Vec<u8>);

impl Words {
    /// Adds a part.
    pub fn text(&mut self, part: &str) {
        self.0.extend_from_slice(&(part.len() as u64).to_be_bytes());
        self.0.extend_from_slice(part.as_bytes());
    }

    /// Adds how many parts follow.
    pub fn count(&mut self, count: usize) {
        self.text(&count.to_string());
    }

    fn of<T: Signable>(said: &T) -> Vec<u8> {
        let mut words = Self::default();
        words.text(T::DOMAIN);
        said.say(&mut words);
        words.0
    }
}

/// Signs what is said.
pub struct SigningKey(Ed25519KeyPair);

/// Checks signatures.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifyingKey([u8; KEY]);

/// A signature, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature {
    /// The public key.
    pub(crate) signer: VerifyingKey,
    /// The signature's 64 bytes.
    pub(crate) bytes: Vec<u8>,
}

/// A text that is not a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidKey {
    /// Neither PEM nor base64 or hex digits of 32 bytes.
    #[error("not an Ed25519 key (PEM, or base64 or hex of 32 bytes)")]
    Form,
    /// PEM of another kind of key.
    #[error("the key is not an Ed25519 key")]
    Kind,
}

impl SigningKey {
    /// Reads a private key: PKCS#8 in PEM (as `openssl genpkey -algorithm ed25519` writes it), or its seed of
    /// 32 bytes in base64 or hex digits.
    ///
    /// # Errors
    /// [`InvalidKey`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let pair = match pem(text, "PRIVATE KEY")? {
            Some(der) => Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der),
            None => Ed25519KeyPair::from_seed_unchecked(&bare(text)?),
        };
        pair.map(Self).map_err(|_| InvalidKey::Kind)
    }

    /// The key that checks what this one signs.
    pub fn verifying_key(&self) -> VerifyingKey {
        let key = self.0.public_key().as_ref();
        VerifyingKey(key.try_into().expect("a public key has 32 bytes"))
    }

    pub(crate) fn sign(&self, said: &impl Signable) -> Signature {
        let bytes = self.0.sign(&Words::of(said)).as_ref().to_vec();
        Signature { signer: self.verifying_key(), bytes }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.verifying_key())
    }
}

/// What stands before the key in the DER of a public key (RFC 8410).
const PUBLIC_DER: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0];

impl VerifyingKey {
    /// Reads a public key: PEM (as `openssl pkey -pubout` writes it), or its 32 bytes in base64 or hex digits.
    ///
    /// # Errors
    /// [`InvalidKey`] for anything else.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        match pem(text, "PUBLIC KEY")? {
            Some(der) => {
                let key = der.strip_prefix(&PUBLIC_DER).ok_or(InvalidKey::Kind)?;
                key.try_into().map(Self).map_err(|_| InvalidKey::Kind)
            }
            None => bare(text).map(Self),
        }
    }

    /// Whether `signature` is this key's, of this.
    pub(crate) fn accepts(&self, said: &impl Signable, signature: &Signature) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        signature.signer == *self && key.verify(&Words::of(said), &signature.bytes).is_ok()
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&HEXLOWER.encode(&self.0))
    }
}

/// The bytes of a PEM block of this kind; `None` if the text is not PEM.
fn pem(text: &str, kind: &str) -> Result<Option<Vec<u8>>, InvalidKey> {
    let text = text.trim();
    if !text.starts_with("-----BEGIN") {
        return Ok(None);
    }
    let body = text
        .strip_prefix(&format!("-----BEGIN {kind}-----"))
        .and_then(|rest| rest.strip_suffix(&format!("-----END {kind}-----")))
        .ok_or(InvalidKey::Kind)?;
    let digits: String = body.split_whitespace().collect();
    BASE64.decode(digits.as_bytes()).map(Some).map_err(|_| InvalidKey::Form)
}

fn bare(text: &str) -> Result<[u8; KEY], InvalidKey> {
    let text = text.trim().as_bytes();
    let decoded = HEXLOWER.decode(text).or_else(|_| BASE64.decode(text));
    decoded.ok().and_then(|bytes| bytes.try_into().ok()).ok_or(InvalidKey::Form)
}
