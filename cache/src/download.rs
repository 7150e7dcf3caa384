//! Downloads: a blob that arrives in pieces, perhaps out of order and over several attempts.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use oci::{Digest, Hasher};

use crate::allowance::Allowance;
use crate::blob::{Temporary, check};
use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::mutex::lock;
use crate::store::Store;

/// A prefix worth keeping for the next attempt, in bytes.
const PREFIX_MIN: u64 = 1 << 20;
/// Bytes that are read back for hashing at a time.
const BUFFER: usize = 256 << 10;

/// A blob of known digest and size that is written at any offsets, from several threads. What
/// has arrived without a gap is kept for the next process when the download is dropped.
#[derive(Debug)]
pub struct BlobDownload {
    store: Store,
    digest: Digest,
    size: u64,
    file: File,
    temporary: Option<Temporary>,
    arrived: Mutex<Arrived>,
    growth: Arc<Growth>,
}

/// Reads what has arrived of a download without a gap, waits for more, and ends where the blob ends.
/// Nobody has checked these bytes yet: what is made of them counts only once the download is
/// committed. When the download ends early or starts again, reading fails.
#[derive(Debug)]
pub struct DownloadReader {
    file: File,
    size: u64,
    at: u64,
    growth: Arc<Growth>,
}

/// How far a download is, for those who follow it.
#[derive(Debug, Default)]
struct Growth {
    /// Bytes without a gap, nothing when there will be no more.
    prefix: Mutex<Option<u64>>,
    changed: Condvar,
}

impl Growth {
    fn end(&self) {
        *lock(&self.prefix) = None;
        self.changed.notify_all();
    }

    fn advance(&self, reached: u64) {
        let mut prefix = lock(&self.prefix);
        // What has ended stays so, also when the download starts again.
        *prefix = prefix.map(|_| reached);
        self.changed.notify_all();
    }

    /// Waits until there is more than `at`; says how much.
    fn beyond(&self, at: u64) -> io::Result<u64> {
        let prefix = lock(&self.prefix);
        let is_short = |prefix: &mut Option<u64>| prefix.is_some_and(|prefix| prefix <= at);
        let prefix = self.changed.wait_while(prefix, is_short);
        let ended = || io::Error::other("the download has ended early");
        prefix.unwrap_or_else(PoisonError::into_inner).ok_or_else(ended)
    }
}

/// What is there of a download. Hashing follows the part without gaps.
#[derive(Debug)]
struct Arrived {
    /// Disjoint, in order, not touching each other.
    ranges: Vec<Range<u64>>,
    hash: Hasher,
    hashed: u64,
}

impl Store {
    /// Starts a download, or continues the one that an earlier process has left.
    pub fn blob_download(&self, digest: &Digest, size: u64) -> Result<BlobDownload, StoreError> {
        let (temporary, file) = self.resumed(digest, size)?;
        let found =
            file.metadata().map_err(|error| StoreError::io("read", temporary.path(), error))?;
        let room = Allowance::in_store(self.root()).take_bytes(size - found.len());
        room.map_err(|error| StoreError::io("make room for", temporary.path(), error))?;
        let ranges = Some(0..found.len()).filter(|range| !range.is_empty()).into_iter().collect();
        let hash = Hasher::like(digest);
        let growth = Growth { prefix: Mutex::new(Some(found.len())), changed: Condvar::new() };
        Ok(BlobDownload {
            store: self.clone(),
            digest: digest.clone(),
            size,
            file,
            temporary: Some(temporary),
            arrived: Mutex::new(Arrived { ranges, hash, hashed: 0 }),
            growth: Arc::new(growth),
        })
    }

    /// The file to write to: what was left by an earlier attempt, taken over by renaming it, or
    /// an empty one.
    fn resumed(&self, digest: &Digest, size: u64) -> Result<(Temporary, File), StoreError> {
        let path = self.temporary();
        if std::fs::rename(self.partial_path(digest), &path).is_ok() {
            let temporary = Temporary::at(path, self);
            let opened = File::options().read(true).write(true).open(temporary.path());
            let file = opened.map_err(|error| StoreError::io("open", temporary.path(), error))?;
            if file.metadata().is_ok_and(|found| found.len() <= size) {
                return Ok((temporary, file));
            }
        }
        Temporary::create(self)
    }

    fn partial_path(&self, digest: &Digest) -> PathBuf {
        self.bucket(Bucket::Temporary).join(format!("partial-{}", digest.hex()))
    }
}

impl BlobDownload {
    /// How many bytes are there from the start without a gap.
    pub fn length(&self) -> u64 {
        self.arrived().prefix()
    }

    /// A reader that follows this download.
    pub fn follow(&self) -> io::Result<DownloadReader> {
        let (file, growth) = (self.file.try_clone()?, self.growth.clone());
        Ok(DownloadReader { file, size: self.size, at: 0, growth })
    }

    /// The parts that have not arrived.
    pub fn missing(&self) -> Vec<Range<u64>> {
        let mut missing = Vec::new();
        let mut at = 0;
        for range in &self.arrived().ranges {
            if at < range.start {
                missing.push(at..range.start);
            }
            at = range.end;
        }
        if at < self.size {
            missing.push(at..self.size);
        }
        missing
    }

    /// Writes bytes that have arrived. Bytes past the announced size, and bytes that are not
    /// [`BlobDownload::missing`], are refused.
    pub fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(bytes.len() as u64).filter(|end| *end <= self.size);
        let Some(end) = end else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes than announced"));
        };
        // The lock is held while writing: what was hashed must never be written again.
        let mut arrived = self.arrived();
        if arrived.overlaps(&(offset..end)) {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the bytes have arrived before",
            ));
        }
        self.file.write_all_at(bytes, offset)?;
        arrived.add(offset..end);
        // In order, the usual way, the bytes are hashed while they are at hand.
        if arrived.hashed == offset {
            arrived.hash.update(bytes);
            arrived.hashed = end;
        }
        self.growth.advance(arrived.prefix());
        Ok(())
    }

    /// Forgets everything that has arrived, for a server that cannot continue.
    pub fn restart(&self) -> io::Result<()> {
        let mut arrived = self.arrived();
        // A reader that follows has seen bytes that may not come again.
        self.growth.end();
        self.file.set_len(0)?;
        *arrived = Arrived { ranges: Vec::new(), hash: Hasher::like(&self.digest), hashed: 0 };
        Ok(())
    }

    /// Finishes the blob, which must be whole and have its digest. When it has not, nothing of
    /// it is kept.
    pub fn commit(mut self) -> Result<(Digest, u64), StoreError> {
        let temporary = self.temporary.take().expect("a download is committed once");
        let failed = |error| StoreError::io("read", temporary.path(), error);
        let found = self.hash_rest().map_err(failed)?;
        let size = self.length();
        check((&self.digest, self.size), (&found, size))?;
        self.store.finish_blob(temporary, &self.digest, size);
        Ok((self.digest.clone(), size))
    }

    /// Digest of what is there from the start without a gap.
    pub fn digest(&self) -> io::Result<Digest> {
        self.hash_rest()
    }

    /// Hashes what `write_at` could not, by reading it back.
    fn hash_rest(&self) -> io::Result<Digest> {
        let mut arrived = self.arrived();
        let end = arrived.prefix();
        let mut buffer = vec![0; BUFFER];
        while arrived.hashed < end {
            let want = BUFFER.min(usize::try_from(end - arrived.hashed).unwrap_or(BUFFER));
            self.file.read_exact_at(&mut buffer[..want], arrived.hashed)?;
            arrived.hash.update(&buffer[..want]);
            arrived.hashed += want as u64;
        }
        Ok(arrived.hash.clone().finish())
    }

    fn arrived(&self) -> MutexGuard<'_, Arrived> {
        lock(&self.arrived)
    }
}

impl Arrived {
    fn prefix(&self) -> u64 {
        self.ranges.first().filter(|range| range.start == 0).map_or(0, |range| range.end)
    }

    fn overlaps(&self, range: &Range<u64>) -> bool {
        let is_common = |other: &Range<u64>| other.start < range.end && range.start < other.end;
        self.ranges.iter().any(is_common)
    }

    fn add(&mut self, mut range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        self.ranges.retain(|other| {
            let touches = other.start <= range.end && range.start <= other.end;
            if touches {
                range = range.start.min(other.start)..range.end.max(other.end);
            }
            !touches
        });
        let at = self.ranges.partition_point(|other| other.start < range.start);
        self.ranges.insert(at, range);
    }
}

impl Read for DownloadReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.at == self.size || buffer.is_empty() {
            return Ok(0);
        }
        let there = self.growth.beyond(self.at)? - self.at;
        let length = buffer.len().min(usize::try_from(there).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut buffer[..length], self.at)?;
        self.at += read as u64;
        match read {
            // It was cut off to start again.
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => Ok(read),
        }
    }
}

impl Drop for BlobDownload {
    fn drop(&mut self) {
        // What is there stays there: only who waits for more waits in vain.
        if self.length() < self.size {
            self.growth.end();
        }
        let Some(temporary) = self.temporary.take() else { return };
        let prefix = self.length();
        if prefix < PREFIX_MIN || self.file.set_len(prefix).is_err() {
            return;
        }
        let partial = self.store.partial_path(&self.digest);
        // Unsynced: the digest is checked in the end, whatever became of these bytes.
        if std::fs::rename(temporary.path(), partial).is_ok() {
            temporary.keep();
        }
    }
}
