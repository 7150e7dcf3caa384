//! Where a pulled blob goes.

use std::io;

use oci::{Digest, Hasher};

/// Receives a blob's bytes in order, on a blocking thread. It does the hashing, which includes
/// bytes it has from an earlier attempt.
pub trait BlobSink: Send {
    /// How many bytes of the blob, from its start, it has already.
    fn received(&self) -> u64;

    /// Writes the next bytes.
    fn write(&mut self, chunk: &[u8]) -> io::Result<()>;

    /// Discards all bytes: they turned out to be wrong.
    fn restart(&mut self) -> io::Result<()>;

    /// Digest of all bytes so far, with the algorithm of the blob's descriptor.
    fn digest(&mut self) -> io::Result<Digest>;
}

/// Keeps a blob in memory.
#[derive(Debug)]
pub struct MemorySink {
    bytes: Vec<u8>,
    expected: Digest,
}

impl MemorySink {
    /// A sink for the blob with the digest `expected`.
    pub fn new(expected: &Digest) -> Self {
        Self { bytes: Vec::new(), expected: expected.clone() }
    }

    /// The bytes received.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

impl BlobSink for MemorySink {
    fn received(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.bytes.extend_from_slice(chunk);
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.bytes.clear();
        Ok(())
    }

    fn digest(&mut self) -> io::Result<Digest> {
        let mut hasher = Hasher::like(&self.expected);
        hasher.update(&self.bytes);
        Ok(hasher.finish())
    }
}
