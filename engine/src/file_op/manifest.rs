//! What a layer holds, so that the next run of the same operation can tell what has changed.
//!
//! Format, version 2: the magic; a byte that is 1 when the list is whole; the number of names, and for
//! each name in the order in which layers are walked how many bytes its path shares with the one
//! before, how many follow, these bytes, and 32 bytes of fingerprint; then blake3 of all that. Numbers
//! are LEB128. A manifest that does not read is as good as none.

use super::plan::PlanPath;

const MAGIC: &[u8; 8] = b"mbfiles\x02";
const CHECKSUM: usize = 32;
/// Longer than any path the kernel takes.
const MAX_PATH: usize = 1 << 16;

/// Equal for names that are the same in everything: kind, content, mode, owner, time and attributes.
pub(super) type Fingerprint = [u8; 32];

/// Fingerprints of what is in a layer's directory, by path.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest {
    /// Parents before children, siblings by bytes.
    names: Vec<(PlanPath, Fingerprint)>,
    is_whole: bool,
}

/// Bytes that are no manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the list of a layer's names is damaged")]
pub struct InvalidManifest;

impl Manifest {
    /// Of `names` in the order in which layers are walked.
    pub(super) fn new(names: Vec<(PlanPath, Fingerprint)>, is_whole: bool) -> Self {
        Self { names, is_whole }
    }

    pub(super) fn names(&self) -> &[(PlanPath, Fingerprint)] {
        &self.names
    }

    /// The directory holds what is listed, just so, and nothing else: no deletions, no file with
    /// several names, nothing left out on the way.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// How many names it knows.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether it knows none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The manifest as bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        bytes.push(u8::from(self.is_whole));
        number(&mut bytes, self.names.len());
        let mut before: &[u8] = b"";
        for (PlanPath(path), fingerprint) in &self.names {
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
        let is_whole = reader.take(1)? == [1];
        let count = reader.number()?;
        let mut names = Vec::new();
        let mut path = Vec::new();
        for _ in 0..count {
            let (shared, rest) = (reader.number()?, reader.number()?);
            if shared > path.len() || rest > MAX_PATH {
                return Err(InvalidManifest);
            }
            path.truncate(shared);
            path.extend_from_slice(reader.take(rest)?);
            let fingerprint = reader.take(32)?.try_into().expect("32 bytes were taken");
            names.push((PlanPath(path.as_slice().into()), fingerprint));
        }
        if reader.0.is_empty() { Ok(Self { names, is_whole }) } else { Err(InvalidManifest) }
    }
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
        let paths = ["a", "a/b", "a/bc", "b", &"x".repeat(300)];
        let name =
            |(index, path): (usize, &&str)| (PlanPath(path.as_bytes().into()), [index as u8; 32]);
        let manifest = Manifest::new(paths.iter().enumerate().map(name).collect(), true);
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
