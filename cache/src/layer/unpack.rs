//! From an archive to a tree: layers as they are pulled, archives as `ADD` takes them.

use std::io::{self, BufRead, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use oci::DiffId;
use sha2::{Digest as _, Sha256};

use super::archive::{Archive, ArchiveError, Member, SparseReader};
use super::compress::{Format, decompress};
use super::directory::{DirectoryOptions, DirectorySink, Finished};
use super::name::{self, Meaning, to_path};
use super::{Content, Entry, EntryKind, LayerError, LayerSink, Lower, pipe};
use crate::allowance::Allowance;

mod adopt;
mod merge;

pub use adopt::adopt;
pub use merge::{Over, merge_archive};

/// The most an archive may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the uncompressed archive, holes of sparse files included.
    pub bytes: u64,
    /// Members.
    pub entries: u64,
    /// Uncompressed bytes for each compressed one, looked at from [`Limits::free_bytes`] on.
    pub ratio: u64,
    /// Uncompressed bytes for which no ratio is too high: files full of zeros are not rare.
    pub free_bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 256 << 30, entries: 5_000_000, ratio: 400, free_bytes: 4 << 30 }
    }
}

/// What is asked of a layer that is unpacked.
#[derive(Debug, Clone, Default)]
pub struct UnpackOptions {
    /// The most it may be.
    pub limits: Limits,
    /// Where there has to be room for it.
    pub room: Allowance,
    /// The digest that the bytes as they come must have.
    pub digest: Option<oci::Digest>,
    /// The digest that the uncompressed bytes must have.
    pub diff_id: Option<DiffId>,
}

/// A layer that was unpacked.
#[derive(Debug)]
pub struct Unpacked {
    /// Digest of the uncompressed tar.
    pub diff_id: DiffId,
    /// Size of the uncompressed tar in bytes.
    pub size: u64,
    /// How many members it has.
    pub entries: u64,
    /// How it was compressed.
    pub format: Format,
    /// What is left to do or to say.
    pub finished: Finished,
}

/// Unpacks a layer, compressed in whatever way, into the tree of `sink`. Decompressing, hashing
/// and writing run side by side. When it fails the tree is half done and must go.
///
/// Names lead nowhere but into the tree; the last of several entries with one name counts;
/// whiteouts are about the layers below, wherever they stand in the archive. Metadata of the root
/// itself is ignored, as by containerd.
pub fn unpack(
    reader: impl Read + Send,
    mut sink: DirectorySink,
    options: &UnpackOptions,
) -> Result<Unpacked, LayerError> {
    sink.spare_own_entries();
    let stream = Stream { hash_input: options.digest.is_some(), hash_output: true };
    let read = stream.read(reader, &options.limits, |archive| {
        each_member(archive, &options.limits, options.room.clone(), &mut |member, content| {
            layer_member(member, content, &mut sink)
        })
    })?;
    let diff_id = DiffId(read.output.expect("the output was hashed"));
    let check = |what, expected: Option<&oci::Digest>, actual: &oci::Digest| match expected {
        Some(expected) if expected != actual => {
            Err(LayerError::Digest { what, expected: expected.clone(), actual: actual.clone() })
        }
        _ => Ok(()),
    };
    if let Some(actual) = &read.input {
        check("layer", options.digest.as_ref(), actual)?;
    }
    check("uncompressed layer", options.diff_id.as_ref().map(|id| &id.0), &diff_id.0)?;
    let finished = sink.finish()?;
    Ok(Unpacked { diff_id, size: read.size, entries: read.entries, format: read.format, finished })
}

/// How an archive is extracted.
#[derive(Debug, Clone, Default)]
pub struct ExtractOptions {
    /// The most it may be.
    pub limits: Limits,
    /// Where there has to be room for it.
    pub room: Allowance,
    /// Directory that all names are put below, in the form of [`Entry::path`].
    pub prefix: Vec<u8>,
    /// User and group that everything gets instead of the archive's.
    pub owner: Option<(u32, u32)>,
    /// Time that everything gets instead of the archive's.
    pub mtime: Option<super::Time>,
}

/// An archive that was extracted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extracted {
    /// How many members it has.
    pub entries: u64,
    /// Its uncompressed size in bytes.
    pub size: u64,
    /// How it was compressed.
    pub format: Format,
}

/// Extracts a tar, compressed in whatever way, into `sink` as `ADD` does. Names like those of
/// whiteouts are ordinary names here.
pub fn extract_archive(
    reader: impl Read + Send,
    sink: &mut DirectorySink,
    options: &ExtractOptions,
) -> Result<Extracted, LayerError> {
    let stream = Stream { hash_input: false, hash_output: false };
    let read = stream.read(reader, &options.limits, |archive| {
        each_member(archive, &options.limits, options.room.clone(), &mut |member, content| {
            let Some(entry) = to_entry(member)? else { return Ok(()) };
            write_entry(&placed(entry, options), content, sink)
        })
    })?;
    Ok(Extracted { entries: read.entries, size: read.size, format: read.format })
}

/// The entry where the options put it, with the owner and time that they say.
fn placed(mut entry: Entry, options: &ExtractOptions) -> Entry {
    if !options.prefix.is_empty() {
        entry.path = name::join(&options.prefix, &entry.path);
        if let EntryKind::Hardlink { target } = &mut entry.kind {
            *target = name::join(&options.prefix, target);
        }
    }
    (entry.uid, entry.gid) = options.owner.unwrap_or((entry.uid, entry.gid));
    entry.mtime = options.mtime.unwrap_or(entry.mtime);
    entry
}

/// Puts a member of a layer into the tree.
fn layer_member(
    member: Member,
    content: &mut dyn BufRead,
    sink: &mut DirectorySink,
) -> Result<(), LayerError> {
    let path = name::clean(&member.path)?;
    let kind_and_path = match name::meaning(&path)? {
        Meaning::Plain => None,
        Meaning::Whiteout(target) => Some((target, EntryKind::Whiteout)),
        Meaning::Opaque(directory) => Some((directory, EntryKind::Opaque)),
    };
    match kind_and_path {
        Some((path, kind)) => sink.entry(&Entry::new(path, kind, 0), Content::None),
        None => match to_entry(member)? {
            Some(entry) => write_entry(&entry, content, sink),
            None => Ok(()),
        },
    }
}

fn write_entry(
    entry: &Entry,
    content: &mut dyn BufRead,
    sink: &mut dyn LayerSink,
) -> Result<(), LayerError> {
    match entry.kind {
        EntryKind::File { size: 1.. } => sink.entry(entry, Content::Reader(content)),
        _ => sink.entry(entry, Content::None),
    }
}

/// The entry a member makes; nothing for the root.
fn to_entry(member: Member) -> Result<Option<Entry>, LayerError> {
    let path = name::clean(&member.path)?;
    if path.is_empty() {
        return Ok(None);
    }
    let (major, minor) = member.device;
    let kind = match member.type_flag {
        b'0' | b'7' | b'S' => EntryKind::File { size: member.size },
        b'1' => EntryKind::Hardlink { target: name::clean(&member.link)? },
        b'2' => EntryKind::Symlink { target: member.link },
        b'3' => EntryKind::CharDevice { major, minor },
        b'4' => EntryKind::BlockDevice { major, minor },
        b'5' => EntryKind::Directory,
        b'6' => EntryKind::Fifo,
        type_flag => return Err(LayerError::UnknownType { path: to_path(&path), type_flag }),
    };
    Ok(Some(Entry {
        path,
        kind,
        mode: member.mode,
        uid: member.uid,
        gid: member.gid,
        mtime: member.mtime,
        xattrs: member.xattrs,
    }))
}

/// Calls `take` with each member and its content; says how many there were. What `room` has no room for
/// is not taken.
fn each_member(
    reader: &mut Metered<'_>,
    limits: &Limits,
    mut room: Allowance,
    take: &mut dyn FnMut(Member, &mut dyn BufRead) -> Result<(), LayerError>,
) -> Result<u64, LayerError> {
    let mut archive = Archive::new(reader);
    let mut entries = 0;
    while let Some(mut member) = archive.next()? {
        entries += 1;
        if entries > limits.entries {
            return Err(LayerError::Limit { what: "entries", limit: limits.entries });
        }
        room.take_file(member.content_size()).map_err(LayerError::Room)?;
        match member.sparse.take() {
            Some(segments) => {
                let size = member.size;
                archive
                    .get_mut()
                    .add_holes(size - segments.iter().map(|s| s.length).sum::<u64>())?;
                let mut content = archive.content();
                take(member, &mut SparseReader::new(&mut content, segments, size))?;
            }
            None => take(member, &mut archive.content())?,
        }
    }
    // What follows the end belongs to the layer's bytes, and so to its digest.
    let reader = archive.into_inner();
    loop {
        let length = reader.fill_buf().map_err(ArchiveError::from)?.len();
        if length == 0 {
            return Ok(entries);
        }
        reader.consume(length);
    }
}

/// What is hashed of a stream on its way.
struct Stream {
    hash_input: bool,
    hash_output: bool,
}

/// What is known of a stream that was read.
struct StreamRead {
    input: Option<oci::Digest>,
    output: Option<oci::Digest>,
    size: u64,
    entries: u64,
    format: Format,
}

impl Stream {
    /// Decompresses `reader` on one thread, hashes the result on another, and has `read` take it.
    fn read(
        &self,
        reader: impl Read + Send,
        limits: &Limits,
        read: impl FnOnce(&mut Metered<'_>) -> Result<u64, LayerError>,
    ) -> Result<StreamRead, LayerError> {
        let input = Input {
            count: AtomicU64::new(0),
            hash: self.hash_input.then(|| Mutex::new(Sha256::new())),
        };
        let counted = Counted { inner: reader, input: &input };
        let (format, mut plain) = decompress(counted).map_err(LayerError::Read)?;
        let (mut writer, mut readers) = pipe::pipe(1 + usize::from(self.hash_output));
        let to_read = readers.pop().expect("the pipe has a reader");
        let to_hash = readers.pop();
        let outcome = std::thread::scope(|scope| {
            scope.spawn(move || writer.fill_from(&mut plain));
            let hashed = scope.spawn(move || {
                let mut hash = Sha256::new();
                // An error of the stream is found by who reads it, too.
                let hashed = to_hash?.for_each(|bytes| {
                    hash.update(bytes);
                    Ok(())
                });
                hashed.ok()?;
                Some(oci::Digest::from_sha256(hash.finalize().into()))
            });
            let mut metered =
                Metered { inner: to_read, input: &input, limits, output: 0, exceeded: None };
            let result = read(&mut metered);
            let Metered { output, exceeded, inner, .. } = metered;
            // Lets the other threads end when the archive was not read to its end.
            drop(inner);
            let digest = hashed.join().expect("the hasher does not panic");
            match exceeded {
                Some(error) => Err(error),
                None => Ok((result?, output, digest)),
            }
        });
        let (entries, size, output) = outcome?;
        Ok(StreamRead { input: input.digest(), output, size, entries, format })
    }
}

/// What is known of the bytes before decompression.
struct Input {
    count: AtomicU64,
    hash: Option<Mutex<Sha256>>,
}

impl Input {
    fn digest(self) -> Option<oci::Digest> {
        let hash = self.hash?.into_inner().expect("nobody panics while hashing");
        Some(oci::Digest::from_sha256(hash.finalize().into()))
    }
}

struct Counted<'a, R> {
    inner: R,
    input: &'a Input,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.input.count.fetch_add(length as u64, Ordering::Relaxed);
        if let Some(hash) = &self.input.hash {
            hash.lock().expect("nobody panics while hashing").update(&buffer[..length]);
        }
        Ok(length)
    }
}

/// The uncompressed stream, cut off where it exceeds a limit.
struct Metered<'a> {
    inner: pipe::Reader,
    input: &'a Input,
    limits: &'a Limits,
    output: u64,
    exceeded: Option<LayerError>,
}

impl Metered<'_> {
    /// Counts zeros that are written without being in the archive.
    fn add_holes(&mut self, length: u64) -> Result<(), LayerError> {
        self.output = self.output.saturating_add(length);
        self.check().map_err(LayerError::Read)
    }

    fn check(&mut self) -> io::Result<()> {
        let Limits { bytes, ratio, free_bytes, .. } = *self.limits;
        let most = self.input.count.load(Ordering::Relaxed).saturating_mul(ratio);
        if self.output > bytes {
            self.exceeded = Some(LayerError::Limit { what: "bytes", limit: bytes });
        } else if self.output > free_bytes.max(most) {
            self.exceeded = Some(LayerError::Ratio { limit: ratio });
        }
        match self.exceeded {
            Some(_) => Err(io::Error::other("the archive is too large")),
            None => Ok(()),
        }
    }
}

impl BufRead for Metered<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.check()?;
        self.inner.fill_buf()
    }

    fn consume(&mut self, length: usize) {
        self.output += length as u64;
        self.inner.consume(length);
    }
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.check()?;
        let length = self.inner.read(buffer)?;
        self.output += length as u64;
        Ok(length)
    }
}
