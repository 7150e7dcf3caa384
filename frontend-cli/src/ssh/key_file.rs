//! Files with private keys: OpenSSH's own format (its `PROTOCOL.key`), PKCS#8 and PKCS#1.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use ring::rand::SystemRandom;
use ring::signature::{EcdsaKeyPair, Ed25519KeyPair, RsaKeyPair};

use super::key::{Curve, Key};
use super::wire::Reader;

/// The largest file that is read, in bytes; BuildKit's limit.
const MAX: u64 = 100 * 1024;

/// What OpenSSH's format begins with.
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// Why a file gives no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyFileError {
    #[error("failed to read `{}`: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is not usable: {problem}", path.display())]
    Key { path: PathBuf, problem: Problem },
}

/// What is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Problem {
    #[error("it is larger than 100 KiB")]
    Size,
    #[error("it is not a private key")]
    NoKey,
    #[error("the key is protected by a passphrase")]
    Passphrase,
    #[error("keys of type `{0}` are not supported")]
    Kind(String),
    #[error("the key is damaged")]
    Damaged,
}

impl KeyFileError {
    pub(super) fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Key { problem: Problem::Passphrase | Problem::Kind(_), .. } => {
                Some("add the key to an agent with `ssh-add`, and lend that with `--ssh default`")
            }
            Self::Key { problem: Problem::NoKey, .. } => {
                Some("want the file with the private key, or the socket of an agent")
            }
            _ => None,
        }
    }
}

pub(super) fn read(path: &Path) -> Result<Key, KeyFileError> {
    let failed = |source| KeyFileError::Read { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(failed)?;
    file.take(MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    let key = match bytes.len() as u64 > MAX {
        true => Err(Problem::Size),
        false => parse(&bytes),
    };
    let mut key = key.map_err(|problem| KeyFileError::Key { path: path.to_owned(), problem })?;
    if key.comment.is_empty() {
        key.comment = path.display().to_string();
    }
    Ok(key)
}

/// A private key from the bytes of its file.
pub(super) fn parse(bytes: &[u8]) -> Result<Key, Problem> {
    let text = std::str::from_utf8(bytes).map_err(|_| Problem::NoKey)?;
    let (label, inside) = armoured(text).ok_or(Problem::NoKey)?;
    let encoded: String = match inside.split_once("\n\n") {
        Some((headers, _)) if headers.contains("ENCRYPTED") => return Err(Problem::Passphrase),
        _ => inside.split_whitespace().collect(),
    };
    let decoded = || BASE64.decode(encoded.as_bytes()).map_err(|_| Problem::Damaged);
    match label {
        "OPENSSH PRIVATE KEY" => openssh(&decoded()?),
        "PRIVATE KEY" => pkcs8(&decoded()?),
        "RSA PRIVATE KEY" => RsaKeyPair::from_der(&decoded()?)
            .map(|pair| Key::rsa(pair, String::new()))
            .map_err(|_| Problem::Damaged),
        "ENCRYPTED PRIVATE KEY" => Err(Problem::Passphrase),
        label if label.ends_with("PRIVATE KEY") => Err(Problem::Kind(label.to_owned())),
        _ => Err(Problem::NoKey),
    }
}

/// What is between the first `-----BEGIN …-----` and its end, and what it is called.
fn armoured(text: &str) -> Option<(&str, &str)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (inside, _) = rest.split_once(&format!("-----END {label}-----"))?;
    Some((label, inside.trim()))
}

fn openssh(bytes: &[u8]) -> Result<Key, Problem> {
    let mut reader = Reader(bytes.strip_prefix(MAGIC).ok_or(Problem::Damaged)?);
    let mut string = || reader.string().ok_or(Problem::Damaged);
    let (cipher, _derivation, _options) = (string()?, string()?, string()?);
    if cipher != b"none" {
        return Err(Problem::Passphrase);
    }
    if reader.number() != Some(1) {
        return Err(Problem::Damaged);
    }
    let (_public, private) = reader.string().zip(reader.string()).ok_or(Problem::Damaged)?;
    let mut private = Reader(private);
    let check = (private.number(), private.number());
    if check.0.is_none() || check.0 != check.1 {
        return Err(Problem::Damaged);
    }
    let kind = private.string().ok_or(Problem::Damaged)?;
    let kind = std::str::from_utf8(kind).map_err(|_| Problem::Damaged)?;
    if !matches!(kind, "ssh-ed25519" | "ssh-rsa") && Curve::of(kind).is_none() {
        return Err(Problem::Kind(kind.to_owned()));
    }
    Key::from_fields(kind, &mut private).ok_or(Problem::Damaged)
}

/// Whatever of the kinds it is.
fn pkcs8(der: &[u8]) -> Result<Key, Problem> {
    let name = String::new;
    if let Ok(pair) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
        return Ok(Key::ed25519(pair, name()));
    }
    if let Ok(pair) = RsaKeyPair::from_pkcs8(der) {
        return Ok(Key::rsa(pair, name()));
    }
    let pair =
        |curve: Curve| EcdsaKeyPair::from_pkcs8(curve.algorithm(), der, &SystemRandom::new());
    let found = [Curve::P256, Curve::P384]
        .into_iter()
        .find_map(|curve| pair(curve).ok().map(|pair| Key::ecdsa(curve, pair, name())));
    found.ok_or_else(|| Problem::Kind("PRIVATE KEY".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::agent::Keyring;
    use super::super::wire::Writer;
    use super::*;

    // Made for this test.
    const ED25519: &str = "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAMwAAAAtzc2gtZW
QyNTUxOQAAACDN4vZQC9Ljoz8XSYlEAefRVVkfAk87jyea5ta9UHWsdAAAAIiEbjIIhG4y
CAAAAAtzc2gtZWQyNTUxOQAAACDN4vZQC9Ljoz8XSYlEAefRVVkfAk87jyea5ta9UHWsdA
AAAED2ws/rV3suy45UUw085zbBZBe29in1C8IL1WTAWo9FoM3i9lAL0uOjPxdJiUQB59FV
WR8CTzuPJ5rm1r1Qdax0AAAABHRlc3QB
-----END OPENSSH PRIVATE KEY-----
";
    const RSA: &str = "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAABFwAAAAdzc2gtcn
NhAAAAAwEAAQAAAQEAsSisSVWZZbD+pEefqV3v2w/sfzkGkVW4PklIULBGVpnMGxsnJAcA
S3Kx1t7EYiV+J3B03ctq3nAwui3xF27bfh0+Lk1PDKrw3/PyDYj8Dpp+l39IXn+WbdVxO7
mL2xxh92nkRDlbYPEI4djS0cg2d+NKIclqZpPmhbPJI7eCsk61lvQ3lbvA2JWkfAwK1Dac
U5Zb0ELr7wQG2e91H4mfINvOxnqzDnmZyC6ab5+3awBafxD4G4oyikV7b+rDU4sig9612w
aLvcdL284t+QLgRl3SdJ5jWftpimu555RNyNIOQNIvPDeDrTQzMAvQZLpvb/OGMCnp7jN7
dA785qL6fwAAA8Ak3DB5JNwweQAAAAdzc2gtcnNhAAABAQCxKKxJVZllsP6kR5+pXe/bD+
x/OQaRVbg+SUhQsEZWmcwbGyckBwBLcrHW3sRiJX4ncHTdy2recDC6LfEXbtt+HT4uTU8M
qvDf8/INiPwOmn6Xf0hef5Zt1XE7uYvbHGH3aeREOVtg8Qjh2NLRyDZ340ohyWpmk+aFs8
kjt4KyTrWW9DeVu8DYlaR8DArUNpxTllvQQuvvBAbZ73UfiZ8g287GerMOeZnILppvn7dr
AFp/EPgbijKKRXtv6sNTiyKD3rXbBou9x0vbzi35AuBGXdJ0nmNZ+2mKa7nnlE3I0g5A0i
88N4OtNDMwC9Bkum9v84YwKenuM3t0Dvzmovp/AAAAAwEAAQAAAQADDo4b0n/L8D1nQpsf
1jCc1DitoKNwijecejGRaYaVLkswzoui2gITIIlZXqJUhTbDjHO1Hgeb4KNemwtVbwLCOX
6eAunRxfipDJxecmt9qa8fLcGRwTGBzKngW3JtLJ9eIF7MHzyTPtAl7CgFxFF4SRzkL1sI
JmuBtBlM5fjkhbgkCetsTEYMmfAmkRLKwyGUenzu4z/9BjC9rcwAIOuoydpP/erAJQEmLm
FDM8xc68OeaUAay3QcUPfKwFHJ/h3pXWQjGICxPZVwUsNRjzvRmT+/TJJpuNvl+PGirb+F
+QkiuXF1FvaW4ibRJqx3FcKIPQRcbtJI4p0zWH0zBRUpAAAAgHclqgNzl8orSPzLTq/MtX
zyryHJ+qk2bae2MupGG64ba4In/FJj3VMZoA2yZOK83AB0YbpcD5wrTTj7Wmlp+Um6KyrT
ftWk6MojB/1hUslHOj0TXHfETWhOt3EKQjTUS5UwJMWK6IOvFywRCMDC5vxmH/DDCMZuAF
c7Mm6ER0flAAAAgQDc8zi5Duwj47EWz23KKTPDEWYxwfbrKkUO6qWfbrE+3Ivnx97WzX6P
OsWIzFHGVTKqZLrCOpUMHAv0J+CijVDRa9yiik/WUXkay9xNm2W00sdyxWinnmzrAB5SiP
/Pnbvtp2jni02Xp4Ei0QD0U3gBNTBUZjzdEUA0NvieOG1y5wAAAIEAzUMXafO7RfqXymtB
nncJQsPtXSu5CKrl4kT3IIbeiU7MY7DLdXZsp/V2xxoadnzQ7Hgp8wKs4VxcSo+9VnglvN
sK+rfWL503g0wxMYanFSc0uZW1GbpJpaEW5ZZVg1M31WtcybPC8Zp0Ak4HNhIwhRgwvaDo
2cRpKn9MgKxo4KkAAAAEdGVzdAECAwQFBgc=
-----END OPENSSH PRIVATE KEY-----
";
    const ECDSA: &str = "\
-----BEGIN OPENSSH PRIVATE KEY-----
b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQAAAAAAAAABAAAAaAAAABNlY2RzYS
1zaGEyLW5pc3RwMjU2AAAACG5pc3RwMjU2AAAAQQT3bziANaPo+0vHH411X//uXVW7sRBE
+c0JO7DFK/aIEDfluvN2sO4TbUiiviBidxrdsm/mN/cuHuQmHVvWTxVbAAAAoIM+VYuDPl
WLAAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBPdvOIA1o+j7S8cf
jXVf/+5dVbuxEET5zQk7sMUr9ogQN+W683aw7hNtSKK+IGJ3Gt2yb+Y39y4e5CYdW9ZPFV
sAAAAgTz9SApgW9Qfg0Ad9gOR37jniyxXKGNK0wfCDd4d9sIkAAAAEdGVzdAECAwQ=
-----END OPENSSH PRIVATE KEY-----
";

    fn problem(text: &str) -> Problem {
        parse(text.as_bytes()).expect_err("it is not a key")
    }

    #[test]
    fn what_is_no_key_is_told_from_what_is_not_readable() {
        let armour = |label: &str, inside: &str| {
            format!("-----BEGIN {label}-----\n{inside}\n-----END {label}-----\n")
        };
        for (text, expected) in [
            ("", Problem::NoKey),
            ("ssh-ed25519 AAAA test\n", Problem::NoKey),
            (&armour("CERTIFICATE", "AAAA"), Problem::NoKey),
            (&armour("OPENSSH PRIVATE KEY", "%"), Problem::Damaged),
            (&armour("OPENSSH PRIVATE KEY", "AAAA"), Problem::Damaged),
            (&armour("RSA PRIVATE KEY", "AAAA"), Problem::Damaged),
            (
                &armour("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: x\n\nAAAA"),
                Problem::Passphrase,
            ),
            (&armour("ENCRYPTED PRIVATE KEY", "AAAA"), Problem::Passphrase),
            (&armour("EC PRIVATE KEY", "AAAA"), Problem::Kind("EC PRIVATE KEY".to_owned())),
            (&armour("PRIVATE KEY", "AAAA"), Problem::Kind("PRIVATE KEY".to_owned())),
        ] {
            assert_eq!(problem(text), expected, "{text}");
        }
    }

    /// Bytes changed, and ends too early: an error or a key, and never a panic. To look at an RSA key's
    /// numbers takes milliseconds, so there only some bytes are.
    #[test]
    fn damaged_keys_are_refused_or_sign() {
        for (text, step) in [(ED25519, 1), (RSA, 97), (ECDSA, 1)] {
            assert_eq!(parse(text.as_bytes()).expect("a good key").comment, "test");
            let (_, inside) = armoured(text).expect("armoured");
            let encoded: String = inside.split_whitespace().collect();
            let bytes = BASE64.decode(encoded.as_bytes()).expect("base64");
            for end in (0..bytes.len()).step_by(step) {
                assert!(openssh(&bytes[..end]).is_err() || end > bytes.len() - 8, "{end}");
            }
            for place in (0..bytes.len()).step_by(step) {
                for value in [0xff, bytes[place] ^ 1, bytes[place] ^ 0x80] {
                    let mut bytes = bytes.clone();
                    bytes[place] = value;
                    if let Ok(key) = openssh(&bytes) {
                        key.sign(b"data", 2);
                    }
                }
            }
        }
    }

    #[test]
    fn every_message_has_an_answer() {
        let key = parse(ED25519.as_bytes()).expect("a good key");
        let public = key.public().to_vec();
        let keys = Keyring::new(vec![key]);
        let request = Writer::default().byte(13).string(&public).string(b"data").number(0).0;
        assert_eq!(keys.answer(&request)[0], 14);
        assert_eq!(keys.answer(&[11])[..5], [12, 0, 0, 0, 1]);
        for end in 0..request.len() {
            assert_eq!(keys.answer(&request[..end]), [5], "{end}");
        }
        for place in 0..request.len() {
            let mut request = request.clone();
            request[place] ^= 0x80;
            assert!(matches!(keys.answer(&request)[0], 5 | 14));
        }
        for kind in 0..=255 {
            assert_eq!(keys.answer(&[kind])[0], if kind == 11 { 12 } else { 5 }, "{kind}");
        }
    }
}
