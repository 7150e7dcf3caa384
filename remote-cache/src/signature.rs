//! Signatures of records: Ed25519 (RFC 8032).

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey};

use crate::record::Record;

/// What a signature is made over begins with this, so that it says nothing about anything else.
const DOMAIN: &str = "mybuild cache record v1";
/// Length of a key's seed and of a public key, in bytes.
const KEY: usize = 32;

/// Signs records.
pub struct SigningKey(Ed25519KeyPair);

/// Checks signatures of records.
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

    pub(crate) fn sign(&self, record: &Record) -> Signature {
        let bytes = self.0.sign(&signed_bytes(record)).as_ref().to_vec();
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

    /// Whether `signature` is this key's, of this record.
    pub(crate) fn accepts(&self, record: &Record, signature: &Signature) -> bool {
        let key = UnparsedPublicKey::new(&ED25519, self.0);
        signature.signer == *self && key.verify(&signed_bytes(record), &signature.bytes).is_ok()
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

/// Everything a record says that a build acts on, each part with its length before it. Blobs are left out: what
/// they hold is checked by the digests of layers, which are in it, and they may be compressed otherwise.
fn signed_bytes(record: &Record) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut text = |part: &str| {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part.as_bytes());
    };
    let count = |count: usize| count.to_string();
    text(DOMAIN);
    text(record.key.as_str());
    text(&count(record.aliases.len()));
    record.aliases.iter().for_each(|alias| text(alias.as_str()));
    text(&record.salt);
    text(&count(record.outputs.len()));
    for output in &record.outputs {
        text(&count(output.len()));
        output.iter().for_each(|layer| text(layer.diff_id.0.as_str()));
    }
    text(&record.name);
    text(&record.created.to_string());
    text(&record.duration.to_string());
    text(&count(record.parts.len()));
    record.parts.iter().for_each(|(name, digits)| {
        text(name);
        text(digits);
    });
    text(&count(record.warnings.len()));
    record.warnings.iter().for_each(|warning| text(warning));
    bytes
}
