//! From an archive to bundles: cut into chunks, those that are known left out, the others compressed.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use blake3::Hash;
use fastcdc::v2020::{ChunkData, StreamCDC};
use http_client::BodySource;
use oci::{Descriptor, Digest, Hasher};
use rayon::prelude::*;

use crate::index::{BUNDLE_TYPE, Bundle, CHUNK_MAX, Chunk, Index};

/// The smallest and the usual size of a chunk, in bytes. They say where archives are cut: with others, nothing is
/// known that was sent before.
const CHUNK_MIN: usize = 64 << 10;
const CHUNK_USUAL: usize = 256 << 10;
/// A bundle that is as large as this gets no further chunk, in bytes.
const BUNDLE_FULL: u64 = 32 << 20;
/// Bundles that are smaller than this are small, in bytes.
const BUNDLE_SMALL: u64 = 4 << 20;
/// More small ones than these are put together.
const SMALL_MAX: usize = 16;
/// Chunks that are hashed and compressed at once.
const BATCH: usize = 32;
const LEVEL: i32 = 3;

/// Chunks that are in a cache already.
#[derive(Debug, Default)]
pub struct Known {
    bundles: Vec<Descriptor>,
    chunks: HashMap<Hash, (usize, Chunk)>,
}

impl Known {
    /// What `indexes` say of bundles that `is_there` says are there. Bundles of which little is used any more, and
    /// small ones of which there are many, are left out: what is used of them is sent again, in new ones.
    pub fn new<'a>(
        indexes: impl IntoIterator<Item = &'a Index>,
        is_there: impl Fn(&Descriptor) -> bool,
    ) -> Self {
        let mut used: BTreeMap<&Digest, (&Descriptor, HashMap<Hash, Chunk>)> = BTreeMap::new();
        for bundle in indexes.into_iter().flat_map(|index| &index.bundles) {
            let (_, chunks) =
                used.entry(&bundle.blob.digest).or_insert_with(|| (&bundle.blob, HashMap::new()));
            chunks.extend(bundle.chunks.iter().map(|chunk| (chunk.hash, *chunk)));
        }
        let stored = |chunks: &HashMap<Hash, Chunk>| -> u64 {
            chunks.values().map(|chunk| u64::from(chunk.stored)).sum()
        };
        used.retain(|_, (blob, chunks)| stored(chunks) >= blob.size / 2 && is_there(blob));
        let is_small = |blob: &Descriptor| blob.size < BUNDLE_SMALL;
        if used.values().filter(|(blob, _)| is_small(blob)).count() > SMALL_MAX {
            used.retain(|_, (blob, _)| !is_small(blob));
        }
        let mut known = Self::default();
        for (blob, chunks) in used.into_values() {
            let number = known.bundles.len();
            known.bundles.push(blob.clone());
            known.chunks.extend(chunks.into_iter().map(|(hash, chunk)| (hash, (number, chunk))));
        }
        known
    }
}

/// An archive that was cut.
pub struct Bundled {
    /// Where its chunks are.
    pub index: Index,
    /// How long it is, in bytes.
    pub size: u64,
    /// The bundles that are new.
    pub new: Vec<NewBundle>,
}

/// A bundle that was made.
pub struct NewBundle {
    /// Its digest and size.
    pub blob: Descriptor,
    file: Arc<File>,
}

impl NewBundle {
    /// Its bytes.
    pub fn body(&self) -> Arc<dyn BodySource> {
        Arc::new(Body(self.file.clone()))
    }
}

/// Cuts `archive`. Chunks that are not `known` go into new files, which `file` makes.
///
/// # Errors
/// What reading or writing gave.
pub fn bundle(
    archive: impl Read,
    known: &Known,
    file: &dyn Fn() -> io::Result<File>,
) -> io::Result<Bundled> {
    let mut bundling = Bundling {
        blobs: known.bundles.clone(),
        places: known.chunks.clone(),
        stream: Vec::new(),
        writing: None,
        new: Vec::new(),
        file,
    };
    let mut cut = StreamCDC::new(archive, CHUNK_MIN, CHUNK_USUAL, CHUNK_MAX);
    loop {
        let batch: Vec<_> = cut.by_ref().take(BATCH).collect::<Result<_, _>>()?;
        if batch.is_empty() {
            return bundling.finish();
        }
        bundling.take(&batch)?;
    }
}

struct Bundling<'a> {
    /// All bundles; the new ones come last, but for the one that is written to.
    blobs: Vec<Descriptor>,
    /// Where each chunk is: the number of its bundle, and its place there.
    places: HashMap<Hash, (usize, Chunk)>,
    /// The archive.
    stream: Vec<(usize, Chunk)>,
    writing: Option<Writing>,
    new: Vec<NewBundle>,
    file: &'a dyn Fn() -> io::Result<File>,
}

/// A bundle in the making.
struct Writing {
    file: File,
    hasher: Hasher,
    size: u64,
}

impl Bundling<'_> {
    fn take(&mut self, batch: &[ChunkData]) -> io::Result<()> {
        let places = &self.places;
        let prepared = batch.par_iter().map(|plain| {
            let hash = blake3::hash(&plain.data);
            let is_known = places.contains_key(&hash);
            let frame = (!is_known).then(|| zstd::bulk::compress(&plain.data, LEVEL));
            Ok((hash, plain.data.len(), frame.transpose()?))
        });
        let prepared: Vec<_> = prepared.collect::<io::Result<_>>()?;
        for (hash, length, frame) in prepared {
            let place = match (self.places.get(&hash), frame) {
                (None, Some(frame)) => self.put(hash, length, &frame)?,
                (place, _) => *place.expect("what has no frame is known"),
            };
            self.stream.push(place);
        }
        Ok(())
    }

    /// Writes a new chunk.
    fn put(&mut self, hash: Hash, length: usize, frame: &[u8]) -> io::Result<(usize, Chunk)> {
        let number = self.blobs.len();
        let writing = match &mut self.writing {
            Some(writing) => writing,
            none => {
                none.insert(Writing { file: (self.file)()?, hasher: Hasher::sha256(), size: 0 })
            }
        };
        writing.file.write_all(frame)?;
        writing.hasher.update(frame);
        let number_of = |length: usize| u32::try_from(length).expect("a chunk is small");
        let (stored, length) = (number_of(frame.len()), number_of(length));
        let chunk = Chunk { hash, offset: writing.size, stored, length };
        writing.size += u64::from(stored);
        self.places.insert(hash, (number, chunk));
        if writing.size >= BUNDLE_FULL {
            self.close();
        }
        Ok((number, chunk))
    }

    fn close(&mut self) {
        let Some(Writing { file, hasher, size }) = self.writing.take() else { return };
        let blob = Descriptor::new(BUNDLE_TYPE, hasher.finish(), size);
        self.blobs.push(blob.clone());
        self.new.push(NewBundle { blob, file: Arc::new(file) });
    }

    fn finish(mut self) -> io::Result<Bundled> {
        self.close();
        let size = self.stream.iter().map(|(_, chunk)| u64::from(chunk.length)).sum();
        Ok(Bundled { index: self.index(), size, new: self.new })
    }

    /// The index: bundles in the order of their first use, chunks as they lie there.
    fn index(&self) -> Index {
        let mut order: Vec<usize> = Vec::new();
        let mut chunks: HashMap<usize, BTreeMap<u64, Chunk>> = HashMap::new();
        for (bundle, chunk) in &self.stream {
            let used = chunks.entry(*bundle).or_insert_with(|| {
                order.push(*bundle);
                BTreeMap::new()
            });
            used.insert(chunk.offset, *chunk);
        }
        let mut numbers: HashMap<(usize, u64), u32> = HashMap::new();
        let mut bundles = Vec::with_capacity(order.len());
        for number in order {
            let chunks: Vec<Chunk> = chunks[&number].values().copied().collect();
            for chunk in &chunks {
                let next = u32::try_from(numbers.len()).expect("an archive has fewer chunks");
                numbers.insert((number, chunk.offset), next);
            }
            bundles.push(Bundle { blob: self.blobs[number].clone(), chunks });
        }
        let stream = self.stream.iter().map(|(bundle, chunk)| numbers[&(*bundle, chunk.offset)]);
        Index { bundles, stream: runs(stream) }
    }
}

/// Numbers as runs: the first, and how many follow one another.
fn runs(numbers: impl Iterator<Item = u32>) -> Vec<(u32, u32)> {
    let mut runs: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match runs.last_mut() {
            Some((first, count)) if *first + *count == number => *count += 1,
            _ => runs.push((number, 1)),
        }
    }
    runs
}

/// A file on its way.
struct Body(Arc<File>);

impl BodySource for Body {
    fn open(&self, from: u64) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(ReadAt { file: self.0.clone(), at: from }))
    }
}

/// Reads a file whose position belongs to nobody.
struct ReadAt {
    file: Arc<File>,
    at: u64,
}

impl Read for ReadAt {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.file.read_at(buffer, self.at)?;
        self.at += length as u64;
        Ok(length)
    }
}
