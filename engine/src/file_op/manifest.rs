//! What a layer's files were, so that the next run of the same operation can link those that are the
//! same.
//!
//! Format, version 1: the magic, the number of files, and for each file in the order of paths how
//! many bytes its path shares with the one before, how many follow, these bytes, and 32 bytes of
//! fingerprint; then blake3 of all that. Numbers are LEB128. A manifest that does not read is as
//! good as none.

use std::collections::BTreeMap;

use super::plan::Attributes;

const MAGIC: &[u8; 8] = b"mbfiles\x01";
const CHECKSUM: usize = 32;
/// Longer than any path the kernel takes.
const MAX_PATH: usize = 1 << 16;

/// Fingerprints of a layer's files by path: equal fingerprints mean the same content, mode, owner,
/// time and attributes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    files: BTreeMap<Box<[u8]>, [u8; 32]>,
}

/// Bytes that are no manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the list of a layer's files is damaged")]
pub struct InvalidManifest;

impl Manifest {
    /// The fingerprint of the file at `path`.
    pub fn get(&self, path: &[u8]) -> Option<&[u8; 32]> {
        self.files.get(path)
    }

    /// How many files it knows.
    pub fn len(&self) -> usize {
        self.files.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    pub(super) fn insert(&mut self, path: &[u8], fingerprint: [u8; 32]) {
        self.files.insert(path.into(), fingerprint);
    }

    /// Takes in another, which costs as much as the other has files.
    pub(super) fn extend(&mut self, other: Self) {
        self.files.extend(other.files);
    }

    /// The manifest as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        number(&mut bytes, self.files.len());
        let mut before: &[u8] = b"";
        for (path, fingerprint) in &self.files {
            let shared = path.iter().zip(before).take_while(|(a, b)| a == b).count();
            number(&mut bytes, shared);
            number(&mut bytes, path.len() - shared);
            bytes.extend_from_slice(&path[shared..]);
            bytes.extend_from_slice(fingerprint);
            before = path;
        }
        let checksum = blake3::hash(&bytes);
        bytes.extend_from_slice(checksum.as_bytes());
        bytes
    }

    /// Reads what [`Self::to_bytes`] wrote.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, InvalidManifest> {
        let end = bytes.len().checked_sub(CHECKSUM).ok_or(InvalidManifest)?;
        let (body, checksum) = bytes.split_at(end);
        if blake3::hash(body).as_bytes() != checksum {
            return Err(InvalidManifest);
        }
        let mut reader = Reader(body.strip_prefix(MAGIC).ok_or(InvalidManifest)?);
        let count = reader.number()?;
        let mut files = BTreeMap::new();
        let mut path = Vec::new();
        for _ in 0..count {
            let (shared, rest) = (reader.number()?, reader.number()?);
            if shared > path.len() || rest > MAX_PATH {
                return Err(InvalidManifest);
            }
            path.truncate(shared);
            path.extend_from_slice(reader.take(rest)?);
            let fingerprint = reader.take(32)?.try_into().expect("32 bytes were taken");
            files.insert(path.as_slice().into(), fingerprint);
        }
        if reader.0.is_empty() { Ok(Self { files }) } else { Err(InvalidManifest) }
    }
}

/// Fingerprint of a file with this content and metadata.
pub(super) fn fingerprint(digest: &[u8; 32], attributes: &Attributes) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(digest);
    for number in [attributes.mode, attributes.uid, attributes.gid, attributes.mtime.nanoseconds] {
        hasher.update(&number.to_be_bytes());
    }
    hasher.update(&attributes.mtime.seconds.to_be_bytes());
    for (name, value) in attributes.xattrs.iter().flat_map(|xattrs| xattrs.iter()) {
        for bytes in [name, value] {
            hasher.update(&(bytes.len() as u64).to_be_bytes());
            hasher.update(bytes);
        }
    }
    hasher.finalize().into()
}

fn number(bytes: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        bytes.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], InvalidManifest> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(InvalidManifest)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number(&mut self) -> Result<usize, InvalidManifest> {
        let mut number = 0;
        for shift in (0..usize::BITS).step_by(7) {
            let byte = self.take(1)?[0];
            let bits = usize::from(byte & 0x7f);
            number |= bits.checked_shl(shift).ok_or(InvalidManifest)?;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(InvalidManifest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_reads_as_it_was_written_and_damage_shows() {
        let mut manifest = Manifest::default();
        for (index, path) in ["a", "a/b", "a/bc", "b", &"x".repeat(300)].iter().enumerate() {
            manifest.insert(path.as_bytes(), [index as u8; 32]);
        }
        let bytes = manifest.to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes), Ok(manifest));
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1;
            assert_eq!(Manifest::from_bytes(&damaged), Err(InvalidManifest), "{at}");
            assert_eq!(Manifest::from_bytes(&bytes[..at]), Err(InvalidManifest), "{at}");
        }
        assert!(Manifest::from_bytes(&Manifest::default().to_bytes()).unwrap().is_empty());
    }
}
