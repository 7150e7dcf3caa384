//! Blobs: bytes under their digest.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use oci::{Digest, Hasher};

use crate::allowance::Allowance;
use crate::bucket::blob_path;
use crate::clock::now;
use crate::database::{Kind, Row};
use crate::direct::DirectFile;
use crate::error::StoreError;
use crate::growing::{Grower, GrowingBlob, growing};
use crate::layer::read_up_to;
use crate::pending::PendingBlob;
use crate::removal::Removals;
use crate::store::Store;
use crate::trash;
use crate::warning::Warning;

/// Bytes that are read at once.
const BUFFER: usize = 128 << 10;

/// A blob on its way into the store. Bytes are hashed as they are written; a writer dropped
/// before [`BlobWriter::commit`] leaves nothing.
#[derive(Debug)]
pub struct BlobWriter {
    store: Store,
    file: Hashed,
    temporary: Temporary,
    /// Tells those who read it already.
    grower: Option<Grower>,
}

/// A blob in the store. It stays readable for as long as the store is open, whatever prune does.
#[derive(Debug, Clone)]
pub struct BlobFile {
    digest: Digest,
    size: u64,
    path: PathBuf,
    /// Where it is until it is committed.
    temporary: Option<PathBuf>,
}

/// Reads a blob and fails at its end if it is not what its digest says.
#[derive(Debug)]
pub struct VerifiedReader {
    file: File,
    /// `None`: this session has hashed the bytes as it wrote them, a moment ago.
    hash: Option<Hasher>,
    expected: Digest,
}

/// A blob has other bytes than its digest says. Readers give it as the content of an [`io::Error`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("blob {0} is damaged")]
pub struct DamagedBlob(pub Digest);

impl DamagedBlob {
    /// What a reader's error says of a blob, if it is that.
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

impl Store {
    /// Starts a blob.
    pub fn blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let (temporary, file) = Temporary::create(self)?;
        Ok(BlobWriter::new(self, temporary, file, Some(Hasher::sha256())))
    }

    /// Starts a blob that the caller hashes itself: [`BlobWriter::commit`] takes its word.
    pub fn unhashed_blob_writer(&self) -> Result<BlobWriter, StoreError> {
        let (temporary, file) = Temporary::create(self)?;
        Ok(BlobWriter::new(self, temporary, file, None))
    }

    /// Puts `bytes` into the store.
    pub fn put_blob(&self, bytes: &[u8]) -> Result<(Digest, u64), StoreError> {
        let mut writer = self.blob_writer()?;
        let path = writer.temporary.path.clone();
        writer.write_all(bytes).map_err(|error| StoreError::io("write", &path, error))?;
        writer.commit(None)
    }

    /// The blob with this digest, if it is whole as far as its size tells. One that no record
    /// vouches for (another program wrote it) is hashed once.
    pub fn blob(&self, digest: &Digest) -> Option<BlobFile> {
        let path = blob_path(self.root(), digest);
        let key = digest.as_str().as_bytes();
        if let Some(pending) = self.pending(|pending| pending.blobs.get(digest).cloned()) {
            let temporary = Some(pending.temporary);
            return Some(BlobFile { digest: digest.clone(), size: pending.size, path, temporary });
        }
        if !self.inner.lease.hold(digest.as_str()) {
            return None;
        }
        let found = std::fs::symlink_metadata(&path).ok().filter(|found| found.is_file());
        let size = found.map(|found| found.len());
        let row = self.get(Kind::Blob, key);
        match (size, row.as_deref().and_then(size_of_row)) {
            (None, None) => return None,
            (Some(size), Some(expected)) if size == expected => {}
            (Some(_), None) => self.adopt(digest, &path)?,
            _ => {
                self.warn(Warning::DamagedBlob { digest: digest.clone() });
                return None;
            }
        }
        if let Some(row) = row {
            self.touch(Kind::Blob, key, &row);
        }
        Some(BlobFile { digest: digest.clone(), size: size?, path, temporary: None })
    }

    /// Whether the blob is there, see [`Store::blob`].
    pub fn has_blob(&self, digest: &Digest) -> bool {
        self.blob(digest).is_some()
    }

    /// A whole blob of at most `cap` bytes, verified.
    pub fn read_small(&self, digest: &Digest, cap: u64) -> Result<Vec<u8>, StoreError> {
        let blob = self.blob(digest).ok_or_else(|| StoreError::NoBlob(digest.clone()))?;
        if blob.size > cap {
            return Err(StoreError::TooLarge { digest: digest.clone(), size: blob.size, cap });
        }
        let mut bytes = Vec::with_capacity(usize::try_from(blob.size).unwrap_or(0));
        let read = blob.open().and_then(|file| file.take(cap + 1).read_to_end(&mut bytes));
        read.map_err(|error| StoreError::io("read", &blob.path, error))?;
        if !digest.verifies(&bytes) {
            self.discard_blob(digest);
            return Err(StoreError::NoBlob(digest.clone()));
        }
        Ok(bytes)
    }

    /// Removes a blob whose bytes turned out to be wrong, so that it is absent from now on.
    pub fn discard_blob(&self, digest: &Digest) {
        self.warn(Warning::DamagedBlob { digest: digest.clone() });
        let key = digest.as_str().as_bytes();
        let pending = {
            let mut pending = self.inner.pending_mut();
            pending.rows.remove(&(Kind::Blob, key.into()));
            pending.blobs.remove(digest)
        };
        if let Some(pending) = pending {
            let _ = std::fs::remove_file(pending.temporary);
        }
        let _ = std::fs::remove_file(blob_path(self.root(), digest));
        let deleted = self
            .inner
            .database
            .write(|write| -> Result<(), StoreError> { Ok(write.delete(Kind::Blob, key)?) });
        if let Err(StoreError::Database(error)) = deleted {
            self.database_failed(error);
        }
    }

    /// Vouches for a file under a blob's name that has no record, if its bytes are right.
    fn adopt(&self, digest: &Digest, path: &Path) -> Option<()> {
        match trash::holds(&self.inner.database, Kind::Blob, digest.as_str()) {
            Ok(true) => return self.take_back(Kind::Blob, digest.as_str()).then_some(()),
            Ok(false) => {}
            Err(error) => {
                self.database_failed(error);
                return None;
            }
        }
        match hash_file(path, digest) {
            Ok((found, size)) if found == *digest => {
                self.change(|pending| {
                    // Nobody knows whether its writer has synced the file.
                    pending.unsynced_trees = true;
                    pending.put(Kind::Blob, digest.as_str().as_bytes(), row_of_size(size));
                });
                Some(())
            }
            _ => {
                self.warn(Warning::DamagedBlob { digest: digest.clone() });
                None
            }
        }
    }

    /// A finished temporary file becomes a blob, pending until the next commit.
    pub(crate) fn finish_blob(&self, temporary: Temporary, digest: &Digest, size: u64) {
        if self.blob(digest).is_some() {
            return;
        }
        let blob = PendingBlob { temporary: temporary.keep(), size };
        self.change(|pending| {
            let twin = pending.blobs.insert(digest.clone(), blob);
            if let Some(twin) = twin {
                self.inner.removals.now(&twin.temporary);
            }
            pending.put(Kind::Blob, digest.as_str().as_bytes(), row_of_size(size));
        });
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        if let Some(grower) = &self.grower {
            grower.written(self.file.file.written());
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl BlobWriter {
    fn new(store: &Store, temporary: Temporary, file: File, hash: Option<Hasher>) -> Self {
        let room = Allowance::in_store(store.root());
        let file = Hashed { file: DirectFile::new(file), hash, size: 0, room };
        Self { store: store.clone(), file, temporary, grower: None }
    }

    /// Has the bytes in the page cache, too: somebody is about to read them.
    pub fn cached(mut self) -> Self {
        self.file.file = self.file.file.cached();
        self
    }

    /// The blob as it grows, to be read by somebody else at the same time.
    pub fn growing(&mut self) -> Result<GrowingBlob, StoreError> {
        let path = self.temporary.path();
        let made = growing(path, self.file.file.written());
        let (grower, blob) = made.map_err(|error| StoreError::io("open", path, error))?;
        self.grower = Some(grower);
        Ok(blob)
    }

    /// Finishes the blob: it is there from now on, and durable after the next commit. With an
    /// expectation, content that differs from it is refused.
    pub fn commit(self, expected: Option<(&Digest, u64)>) -> Result<(Digest, u64), StoreError> {
        let Self { store, file, temporary, grower } = self;
        let failed = |error: io::Error| StoreError::io("write", temporary.path(), error);
        let Hashed { file, hash, size, .. } = file;
        file.finish().map_err(failed)?;
        let digest = match (hash, expected) {
            (Some(hash), _) => hash.finish(),
            (None, Some((digest, _))) => digest.clone(),
            (None, None) => unreachable!("who hashes a blob knows its digest"),
        };
        if let Some((wanted, wanted_size)) = expected {
            check((wanted, wanted_size), (&digest, size))?;
        }
        store.finish_blob(temporary, &digest, size);
        if let Some(grower) = grower {
            grower.finish(size);
        }
        Ok((digest, size))
    }
}

/// Holds what came against what was asked for.
pub(crate) fn check(expected: (&Digest, u64), found: (&Digest, u64)) -> Result<(), StoreError> {
    if expected == found {
        return Ok(());
    }
    Err(StoreError::Mismatch {
        expected: expected.0.clone(),
        expected_size: expected.1,
        found: found.0.clone(),
        size: found.1,
    })
}

impl BlobFile {
    /// Its digest.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Where it is now. A commit moves a new blob to its final place, so prefer
    /// [`BlobFile::open`].
    pub fn path(&self) -> &Path {
        match &self.temporary {
            Some(temporary) if temporary.exists() => temporary,
            _ => &self.path,
        }
    }

    /// Opens it for reading.
    pub fn open(&self) -> io::Result<File> {
        if let Some(temporary) = &self.temporary {
            match File::open(temporary) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened,
            }
        }
        File::open(&self.path)
    }

    /// Opens it for reading to the end, where wrong bytes become an error. A blob that waits for
    /// its commit is not hashed again.
    pub fn open_verified(&self) -> io::Result<VerifiedReader> {
        let hash = self.temporary.is_none().then(|| Hasher::like(&self.digest));
        Ok(VerifiedReader { file: self.open()?, hash, expected: self.digest.clone() })
    }

    /// Fails if its bytes are not what its digest says, as far as [`BlobFile::open_verified`] looks.
    /// Fails soon once `is_stopped`.
    pub fn verify(&self, is_stopped: &dyn Fn() -> bool) -> io::Result<()> {
        let mut reader = self.open_verified()?;
        if reader.hash.is_none() {
            return Ok(());
        }
        let mut buffer = vec![0; BUFFER];
        while reader.read(&mut buffer)? > 0 {
            if is_stopped() {
                return Err(io::Error::other("canceled"));
            }
        }
        Ok(())
    }
}

impl Read for VerifiedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = read_up_to(&mut self.file, buffer)?;
        let Some(hash) = &mut self.hash else { return Ok(count) };
        if count > 0 || buffer.is_empty() {
            hash.update(&buffer[..count]);
        } else if hash.clone().finish() != self.expected {
            let damaged = DamagedBlob(self.expected.clone());
            return Err(io::Error::new(io::ErrorKind::InvalidData, damaged));
        }
        Ok(count)
    }
}

/// A file in `tmp-v1` that is removed unless it is kept.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
    removals: Removals,
}

impl Temporary {
    pub(crate) fn create(store: &Store) -> Result<(Self, File), StoreError> {
        let temporary = Self::at(store.temporary(), store);
        let path = &temporary.path;
        let opened =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o644).open(path);
        let file = opened.map_err(|error| StoreError::io("create", path, error))?;
        Ok((temporary, file))
    }

    /// The file that is at `path`.
    pub(crate) fn at(path: PathBuf, store: &Store) -> Self {
        Self { path, removals: store.inner.removals.clone() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn keep(mut self) -> PathBuf {
        std::mem::take(&mut self.path)
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.path.as_os_str().is_empty() {
            self.removals.now(&self.path);
        }
    }
}

#[derive(Debug)]
struct Hashed {
    file: DirectFile,
    /// `None`: somebody else hashes.
    hash: Option<Hasher>,
    size: u64,
    room: Allowance,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.room.take_bytes(bytes.len() as u64)?;
        let count = self.file.write(bytes)?;
        if let Some(hash) = &mut self.hash {
            hash.update(&bytes[..count]);
        }
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Digest, by `like`'s algorithm, and size of a file.
pub(crate) fn hash_file(path: &Path, like: &Digest) -> io::Result<(Digest, u64)> {
    let mut file = File::open(path)?;
    let mut hash = Hasher::like(like);
    let mut buffer = vec![0; BUFFER];
    let mut size = 0;
    loop {
        match read_up_to(&mut file, &mut buffer)? {
            0 => return Ok((hash.finish(), size)),
            count => {
                hash.update(&buffer[..count]);
                size += count as u64;
            }
        }
    }
}

pub(crate) fn size_of_row(row: &Row) -> Option<u64> {
    Some(u64::from_le_bytes(*row.value.first_chunk()?))
}

fn row_of_size(size: u64) -> Row {
    Row { value: size.to_le_bytes().to_vec(), used: now() }
}
