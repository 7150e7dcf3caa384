//! Stat index: what the files of a build context hashed to, so that an unchanged file costs one
//! `statx`.
//!
//! A file of the index is a header and fixed-size entries, sorted by a hash of the path:
//!
//! ```text
//! magic 8 | count u64 | checksum 16 | count × (path 16 | dev 8 | ino 8 | size 8 | mtime 8 | ctime 8 | digest 32)
//! ```
//!
//! Numbers are little-endian. It is read into one buffer and searched there.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::mutex::lock;
use crate::store::Store;

const MAGIC: &[u8; 8] = b"mbstat\x00\x01";
const HEADER: usize = 8 + 8 + 16;
const PATH: usize = 16;
const STAT: usize = 5 * 8;
const ENTRY: usize = PATH + STAT + 32;
/// Larger files are not an index of ours: 20 million entries.
const FILE_MAX: u64 = 20_000_000 * ENTRY as u64;
/// A file that changed less than this before it was hashed may change again with the same
/// times: clocks of file systems tick every 1–10 ms.
const RACY_NANOSECONDS: i64 = 50_000_000;
/// Entries of files that were not asked for are kept up to this many times the others.
const STALE_SHARE: usize = 4;
const STALE_MIN: usize = 4096;

/// What must be the same for a file to be taken for unchanged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Device number.
    pub dev: u64,
    /// Inode number.
    pub ino: u64,
    /// Size in bytes.
    pub size: u64,
    /// Modification time, in nanoseconds since 1970.
    pub mtime_ns: i64,
    /// Change time, in nanoseconds since 1970.
    pub ctime_ns: i64,
}

/// Digests of a context's files, by path. Safe to use from several threads.
#[derive(Debug)]
pub struct StatIndex {
    path: PathBuf,
    /// Where a new one is written; cleared after a session that was killed.
    temporary: PathBuf,
    /// Header and entries as read, or nothing.
    bytes: Vec<u8>,
    /// One flag an entry: it was asked for, so its file is still there.
    asked: Vec<AtomicBool>,
    new: Mutex<HashMap<[u8; PATH], IndexEntry>>,
}

#[derive(Debug, Clone, Copy)]
struct IndexEntry {
    stat: Stat,
    digest: [u8; 32],
}

impl StatIndex {
    /// The index of the context at the real path `context`; empty when there is none yet, or
    /// what there is is damaged.
    pub fn load(store: &Store, context: &Path) -> Self {
        let name = blake3::hash(context.as_os_str().as_bytes()).to_hex();
        let path = store.bucket(Bucket::StatIndexes).join(name.as_str());
        let bytes = read(&path).filter(|bytes| is_whole(bytes)).unwrap_or_default();
        let count = bytes.len().saturating_sub(HEADER) / ENTRY;
        let asked = std::iter::repeat_with(AtomicBool::default).take(count).collect();
        Self { path, temporary: store.temporary(), bytes, asked, new: Mutex::default() }
    }

    /// The digest of the file at `path` (relative to the context), if its stat is the one it had
    /// when it was hashed.
    pub fn get(&self, path: &[u8], stat: &Stat) -> Option<[u8; 32]> {
        let key = key_of(path);
        let index = self.find(&key)?;
        self.asked[index].store(true, Ordering::Relaxed);
        let entry = self.entry(index);
        (entry.stat == *stat).then_some(entry.digest)
    }

    /// Keeps the digest of a file. `stat` is from before the file was read and `started` is a
    /// time from before that stat. A file that had changed just then is not kept, since it could
    /// change again unnoticed.
    pub fn put(&self, path: &[u8], stat: &Stat, digest: &[u8; 32], started: SystemTime) {
        let started = started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = i64::try_from(started.as_nanos()).unwrap_or(i64::MAX);
        if stat.ctime_ns.saturating_add(RACY_NANOSECONDS) > started {
            return;
        }
        let entry = IndexEntry { stat: *stat, digest: *digest };
        self.lock_new().insert(key_of(path), entry);
    }

    /// Whether [`Self::save`] has anything to write.
    pub fn has_news(&self) -> bool {
        !self.lock_new().is_empty()
    }

    /// Writes the index back, if something was [`put`](Self::put) into it. Of two processes that
    /// do so at once the later wins.
    pub fn save(&self) -> Result<(), StoreError> {
        let new = self.lock_new();
        if new.is_empty() {
            return Ok(());
        }
        let bytes = self.encode(&new);
        // Not synced: a torn file is known by its checksum and taken for an empty index.
        self.write(&bytes).map_err(|error| StoreError::io("write", &self.path, error))
    }

    fn lock_new(&self) -> std::sync::MutexGuard<'_, HashMap<[u8; PATH], IndexEntry>> {
        lock(&self.new)
    }

    fn len(&self) -> usize {
        self.asked.len()
    }

    fn slot(&self, index: usize) -> &[u8] {
        let start = HEADER + index * ENTRY;
        &self.bytes[start..start + ENTRY]
    }

    fn key(&self, index: usize) -> &[u8] {
        &self.slot(index)[..PATH]
    }

    fn entry(&self, index: usize) -> IndexEntry {
        decode(&self.slot(index)[PATH..])
    }

    fn find(&self, key: &[u8; PATH]) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            match self.key(middle).cmp(key) {
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Old and new entries, merged in order. Entries nobody asked for belong to files that are
    /// gone, or that this build leaves out: they stay as long as they are not too many.
    fn encode(&self, new: &HashMap<[u8; PATH], IndexEntry>) -> Vec<u8> {
        let asked = |index: &usize| self.asked[*index].load(Ordering::Relaxed);
        let in_use = (0..self.len()).filter(asked).count() + new.len();
        let keep_stale = self.len() <= STALE_SHARE * in_use + STALE_MIN;
        let kept = |index: &usize| {
            let key: [u8; PATH] = self.key(*index).try_into().expect("a key");
            (keep_stale || asked(index)) && !new.contains_key(&key)
        };
        let mut new: Vec<_> = new.iter().collect();
        new.sort_unstable_by_key(|(key, _)| **key);
        let mut new = new.into_iter().peekable();
        let put = |bytes: &mut Vec<u8>, (key, entry): (&[u8; PATH], &IndexEntry)| {
            bytes.extend_from_slice(key);
            encode_entry(entry, bytes);
        };

        let mut bytes = Vec::with_capacity(HEADER + (self.len() + new.len()) * ENTRY);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; HEADER - MAGIC.len()]);
        for index in (0..self.len()).filter(kept) {
            while let Some(entry) = new.next_if(|(key, _)| key[..] < *self.key(index)) {
                put(&mut bytes, entry);
            }
            bytes.extend_from_slice(self.slot(index));
        }
        new.for_each(|entry| put(&mut bytes, entry));
        let count = (bytes.len() - HEADER) / ENTRY;
        bytes[MAGIC.len()..][..8].copy_from_slice(&(count as u64).to_le_bytes());
        let sum = checksum(&bytes);
        bytes[HEADER - 16..HEADER].copy_from_slice(&sum);
        bytes
    }

    fn write(&self, bytes: &[u8]) -> io::Result<()> {
        let written = std::fs::write(&self.temporary, bytes)
            .and_then(|()| crate::disk::replace(&self.path, &self.temporary));
        if written.is_err() {
            let _ = std::fs::remove_file(&self.temporary);
        }
        written
    }
}

fn read(path: &Path) -> Option<Vec<u8>> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok().filter(|found| found.is_file() && found.len() <= FILE_MAX)?;
    let mut bytes = Vec::with_capacity(usize::try_from(length.len()).ok()?);
    file.read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn is_whole(bytes: &[u8]) -> bool {
    let Some((header, entries)) = bytes.split_at_checked(HEADER) else { return false };
    let count = u64::from_le_bytes(*header[8..].first_chunk().expect("the header is longer"));
    header.starts_with(MAGIC)
        && entries.len() as u64 == count.saturating_mul(ENTRY as u64)
        && header[HEADER - 16..] == checksum(bytes)
}

/// Over everything but itself.
fn checksum(bytes: &[u8]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes[..HEADER - 16]).update(&bytes[HEADER..]);
    *hasher.finalize().as_bytes().first_chunk().expect("a hash has 32 bytes")
}

fn key_of(path: &[u8]) -> [u8; PATH] {
    *blake3::hash(path).as_bytes().first_chunk().expect("a hash has 32 bytes")
}

fn encode_entry(entry: &IndexEntry, bytes: &mut Vec<u8>) {
    let Stat { dev, ino, size, mtime_ns, ctime_ns } = entry.stat;
    for number in [dev, ino, size] {
        bytes.extend_from_slice(&number.to_le_bytes());
    }
    for time in [mtime_ns, ctime_ns] {
        bytes.extend_from_slice(&time.to_le_bytes());
    }
    bytes.extend_from_slice(&entry.digest);
}

fn decode(slot: &[u8]) -> IndexEntry {
    let field = |n: usize| -> [u8; 8] { *slot[n * 8..].first_chunk().expect("an entry is whole") };
    let stat = Stat {
        dev: u64::from_le_bytes(field(0)),
        ino: u64::from_le_bytes(field(1)),
        size: u64::from_le_bytes(field(2)),
        mtime_ns: i64::from_le_bytes(field(3)),
        ctime_ns: i64::from_le_bytes(field(4)),
    };
    IndexEntry { stat, digest: *slot[STAT..].first_chunk().expect("an entry is whole") }
}
