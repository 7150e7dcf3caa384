//! Where the bytes of a cache mount's archive are: an index of chunks.
//!
//! An archive is cut where its content says so, which gives the same chunks for the same files whatever stands
//! before them. Each chunk is a zstd frame, and many of them lie one after the other in a blob, a *bundle*. Chunks
//! that an earlier archive had are where they were. The index is JSON, as one zstd frame:
//!
//! ```json
//! {"version": 1,
//!  "bundles": [{"digest": "sha256:…", "size": 9, "chunks": [["BLAKE3 in hex", offset, stored, length]]}],
//!  "stream": [[first, count]]}
//! ```
//!
//! `stream` names the archive's chunks in their order, as runs of their numbers, which count through all bundles.

use std::io::Read as _;

use blake3::Hash;
use oci::{Descriptor, Digest};
use serde::{Deserialize, Serialize};

/// What an index is, for registries.
pub(crate) const INDEX_TYPE: &str = "application/vnd.mybuild.cache.mount.v1+json+zstd";
/// What a bundle is, for registries.
pub(crate) const BUNDLE_TYPE: &str = "application/vnd.mybuild.cache.chunks.v1+zstd";
/// The largest chunk, in bytes.
pub(crate) const CHUNK_MAX: usize = 1 << 20;
/// The largest index that is read, in bytes, as it travels and as text.
pub(crate) const INDEX_MAX: u64 = 16 << 20;
const TEXT_MAX: u64 = 64 << 20;
const VERSION: u32 = 1;
const LEVEL: i32 = 3;

/// The chunks of an archive, and where they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Index {
    /// Blobs that have chunks of it.
    pub bundles: Vec<Bundle>,
    /// The archive, as runs of chunks: the number of the first, and how many. Numbers count through all bundles.
    pub(crate) stream: Vec<(u32, u32)>,
}

/// A blob of chunks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Its digest and size.
    pub blob: Descriptor,
    /// Those of its chunks that the archive has.
    pub(crate) chunks: Vec<Chunk>,
}

/// A piece of an archive in a bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// BLAKE3 of its plain bytes.
    pub(crate) hash: Hash,
    /// Where its frame starts.
    pub(crate) offset: u64,
    /// How long the frame is.
    pub(crate) stored: u32,
    /// How long the plain bytes are.
    pub(crate) length: u32,
}

/// Why bytes are not an index.
#[derive(Debug, thiserror::Error)]
pub enum InvalidIndex {
    /// Not JSON of the right form, or not compressed so.
    #[error("not an index of a cache mount: {0}")]
    Form(String),
    /// Another version's.
    #[error("an index of version {0}, which this program does not know")]
    Version(u32),
    /// A number that leads nowhere, or to what cannot be.
    #[error("a chunk's number or place is wrong")]
    Number,
    /// The archive has another length than the index says.
    #[error("the chunks do not have the length that was said")]
    Length,
}

#[derive(Serialize, Deserialize)]
struct Document {
    version: u32,
    bundles: Vec<Entry>,
    stream: Vec<(u32, u32)>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    digest: Digest,
    size: u64,
    chunks: Vec<(String, u64, u32, u32)>,
}

impl Index {
    /// The index as it travels.
    pub fn to_bytes(&self) -> Vec<u8> {
        let chunk =
            |chunk: &Chunk| (chunk.hash.to_string(), chunk.offset, chunk.stored, chunk.length);
        let entry = |bundle: &Bundle| Entry {
            digest: bundle.blob.digest.clone(),
            size: bundle.blob.size,
            chunks: bundle.chunks.iter().map(chunk).collect(),
        };
        let bundles = self.bundles.iter().map(entry).collect();
        let document = Document { version: VERSION, bundles, stream: self.stream.clone() };
        let text = serde_json::to_vec(&document).expect("an index is plain data");
        zstd::bulk::compress(&text, LEVEL).expect("memory can be compressed")
    }

    /// What an index with these bytes is in a cache.
    pub fn descriptor(bytes: &[u8]) -> Descriptor {
        Descriptor::new(INDEX_TYPE, Digest::of(bytes), bytes.len() as u64)
    }

    /// Reads an index of an archive that is `size` bytes long.
    ///
    /// # Errors
    /// [`InvalidIndex`] for anything else.
    pub fn parse(bytes: &[u8], size: u64) -> Result<Self, InvalidIndex> {
        let form = |error: &dyn std::fmt::Display| InvalidIndex::Form(error.to_string());
        let decoder = zstd::Decoder::with_buffer(bytes).map_err(|e| form(&e))?;
        let mut text = Vec::new();
        decoder.take(TEXT_MAX + 1).read_to_end(&mut text).map_err(|e| form(&e))?;
        if text.len() as u64 > TEXT_MAX {
            return Err(form(&"too long"));
        }
        let document: Document = serde_json::from_slice(&text).map_err(|e| form(&e))?;
        if document.version != VERSION {
            return Err(InvalidIndex::Version(document.version));
        }
        let bundles = document.bundles.into_iter().map(bundle).collect::<Result<_, _>>()?;
        let index = Self { bundles, stream: document.stream };
        match index.length()? == size {
            true => Ok(index),
            false => Err(InvalidIndex::Length),
        }
    }

    /// All its chunks in the order of their numbers, each with the number of its bundle.
    pub(crate) fn chunks(&self) -> Vec<(usize, Chunk)> {
        let bundles = self.bundles.iter().enumerate();
        bundles.flat_map(|(at, bundle)| bundle.chunks.iter().map(move |c| (at, *c))).collect()
    }

    /// How long the archive is.
    fn length(&self) -> Result<u64, InvalidIndex> {
        // What the chunks before each number have together.
        let mut sums = vec![0_u64];
        for (_, chunk) in self.chunks() {
            sums.push(sums[sums.len() - 1] + u64::from(chunk.length));
        }
        self.stream.iter().try_fold(0_u64, |total, (first, count)| {
            let first = *first as usize;
            let end = sums.get(first.saturating_add(*count as usize));
            let run = end.and_then(|end| Some(end - sums.get(first)?));
            run.and_then(|run| total.checked_add(run)).ok_or(InvalidIndex::Number)
        })
    }
}

fn bundle(entry: Entry) -> Result<Bundle, InvalidIndex> {
    let Entry { digest, size, chunks } = entry;
    let chunk = |(hash, offset, stored, length): (String, u64, u32, u32)| {
        let hash = Hash::from_hex(hash).map_err(|_| InvalidIndex::Number)?;
        let end = offset.checked_add(stored.into());
        let fits = end.is_some_and(|end| end <= size)
            && (1..=CHUNK_MAX).contains(&(length as usize))
            && stored as usize <= zstd::zstd_safe::compress_bound(CHUNK_MAX);
        fits.then_some(Chunk { hash, offset, stored, length }).ok_or(InvalidIndex::Number)
    };
    let chunks = chunks.into_iter().map(chunk).collect::<Result<_, _>>()?;
    Ok(Bundle { blob: Descriptor::new(BUNDLE_TYPE, digest, size), chunks })
}
