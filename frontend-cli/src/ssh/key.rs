//! Private keys, by what they can do: sign.

use std::fmt;

use ring::rand::SystemRandom;
use ring::rsa::{KeyPair as RsaKeyPair, KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair,
    EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
};

use super::number::{less_one, remainder};
use super::wire::{Reader, Writer};

/// `SSH_AGENT_RSA_SHA2_256` and `SSH_AGENT_RSA_SHA2_512`.
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// A private key. Nothing of it is printed.
pub(super) struct Key {
    pair: Pair,
    /// The public key as SSH writes it.
    public: Vec<u8>,
    /// What people call it.
    pub(super) comment: String,
}

enum Pair {
    Ed25519(Ed25519KeyPair),
    Ecdsa(Curve, EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

/// The curves of ECDSA keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
}

impl Curve {
    pub(super) fn of(key_type: &str) -> Option<Self> {
        [Self::P256, Self::P384].into_iter().find(|curve| curve.key_type() == key_type)
    }

    fn key_type(self) -> &'static str {
        match self {
            Self::P256 => "ecdsa-sha2-nistp256",
            Self::P384 => "ecdsa-sha2-nistp384",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::P256 => "nistp256",
            Self::P384 => "nistp384",
        }
    }

    pub(super) fn algorithm(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_FIXED_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_FIXED_SIGNING,
        }
    }

    /// Bytes of one number of the curve.
    fn width(self) -> usize {
        match self {
            Self::P256 => 32,
            Self::P384 => 48,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("comment", &self.comment).finish_non_exhaustive()
    }
}

impl Key {
    pub(super) fn ed25519(pair: Ed25519KeyPair, comment: String) -> Self {
        let public = Writer::default().string(b"ssh-ed25519").string(pair.public_key().as_ref()).0;
        Self { pair: Pair::Ed25519(pair), public, comment }
    }

    pub(super) fn ecdsa(curve: Curve, pair: EcdsaKeyPair, comment: String) -> Self {
        let public = Writer::default()
            .string(curve.key_type().as_bytes())
            .string(curve.name().as_bytes())
            .string(pair.public_key().as_ref())
            .0;
        Self { pair: Pair::Ecdsa(curve, pair), public, comment }
    }

    pub(super) fn rsa(pair: RsaKeyPair, comment: String) -> Self {
        let components: PublicKeyComponents<Vec<u8>> = pair.public().into();
        let public =
            Writer::default().string(b"ssh-rsa").integer(&components.e).integer(&components.n).0;
        Self { pair: Pair::Rsa(Box::new(pair)), public, comment }
    }

    /// From the fields that follow the type in OpenSSH's format; nothing if they are not such a key's.
    pub(super) fn from_fields(key_type: &str, fields: &mut Reader<'_>) -> Option<Self> {
        match (key_type, Curve::of(key_type)) {
            ("ssh-ed25519", _) => {
                let (public, private) = (fields.string()?, fields.string()?);
                let seed = private.get(..32)?;
                let pair = Ed25519KeyPair::from_seed_and_public_key(seed, public).ok()?;
                Some(Self::ed25519(pair, comment(fields)?))
            }
            ("ssh-rsa", _) => {
                let pair = rsa_pair(fields)?;
                Some(Self::rsa(pair, comment(fields)?))
            }
            (_, Some(curve)) => {
                let (_, public, private) = (fields.string()?, fields.string()?, fields.string()?);
                let private = padded(private, curve.width())?;
                let pair = EcdsaKeyPair::from_private_key_and_public_key(
                    curve.algorithm(),
                    &private,
                    public,
                    &SystemRandom::new(),
                );
                Some(Self::ecdsa(curve, pair.ok()?, comment(fields)?))
            }
            (_, None) => None,
        }
    }

    /// The public key as SSH writes it.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// A signature as SSH writes it; nothing for kinds that are not made: SHA-1 is none.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let (kind, signature) = match &self.pair {
            Pair::Ed25519(pair) => ("ssh-ed25519", pair.sign(data).as_ref().to_vec()),
            Pair::Ecdsa(curve, pair) => {
                let signature = pair.sign(&SystemRandom::new(), data).ok()?;
                let (r, s) = signature.as_ref().split_at_checked(curve.width())?;
                (curve.key_type(), Writer::default().integer(r).integer(s).0)
            }
            Pair::Rsa(pair) => {
                let (kind, padding) = match flags {
                    flags if flags & RSA_SHA2_512 != 0 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    flags if flags & RSA_SHA2_256 != 0 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    _ => return None,
                };
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(padding, &SystemRandom::new(), data, &mut signature).ok()?;
                (kind, signature)
            }
        };
        Some(Writer::default().string(kind.as_bytes()).string(&signature).0)
    }
}

fn comment(fields: &mut Reader<'_>) -> Option<String> {
    fields.string().map(|comment| String::from_utf8_lossy(comment).into_owned())
}

/// `n`, `e`, `d`, `1/q mod p`, `p`, `q`.
fn rsa_pair(fields: &mut Reader<'_>) -> Option<RsaKeyPair> {
    let mut integer = || fields.string().map(without_zeros).filter(|digits| !digits.is_empty());
    let (n, e, d, q_inverse, p, q) =
        (integer()?, integer()?, integer()?, integer()?, integer()?, integer()?);
    let [d_p, d_q] = [p, q].map(|prime| {
        let less = less_one(prime);
        // One is no prime; its predecessor divides nothing.
        less.iter().any(|byte| *byte != 0).then(|| remainder(d, &less))
    });
    let components = KeyPairComponents {
        public_key: PublicKeyComponents { n, e },
        d,
        p,
        q,
        dP: without_zeros(d_p.as_deref()?),
        dQ: without_zeros(d_q.as_deref()?),
        qInv: q_inverse,
    };
    RsaKeyPair::from_components(&components).ok()
}

fn without_zeros(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| *byte != 0).unwrap_or(bytes.len());
    &bytes[start..]
}

fn padded(number: &[u8], width: usize) -> Option<Vec<u8>> {
    let digits = without_zeros(number);
    let zeros = width.checked_sub(digits.len())?;
    Some([&vec![0; zeros], digits].concat())
}
