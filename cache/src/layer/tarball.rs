//! Writing a layer as a tar, the same bytes for the same entries.
//!
//! The bytes are those that Go's `archive/tar` writes for a layer, so a tree that BuildKit would
//! make has the same digest here: ustar where it fits, PAX records where it does not, whole
//! seconds, numeric owners only.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, openat};
use rustix::io::{Errno, pread};
use tar::{EntryType, Header};

use super::content::{CopyError, drain};
use super::name::{self, to_path};
use super::pipe::{self, CHUNK};
use super::{Content, Entry, EntryKind, LayerError, LayerSink, Time};

const BLOCK: usize = 512;

/// Writes entries as a canonical layer tar.
pub struct TarSink<W: Write> {
    out: W,
    buffer: Vec<u8>,
    /// Gives the buffer to `out` and leaves an empty one.
    hand_over: fn(&mut W, &mut Vec<u8>) -> io::Result<()>,
    written: u64,
    entries: u64,
    times: Times,
}

/// How exact the times in a tar are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Times {
    Seconds,
    Nanoseconds,
}

impl<W: Write> TarSink<W> {
    /// Starts a tar on `out`, which need not be buffered.
    pub fn new(out: W) -> Self {
        Self::with(out, |out, buffer| {
            out.write_all(buffer)?;
            buffer.clear();
            Ok(())
        })
    }

    fn with(out: W, hand_over: fn(&mut W, &mut Vec<u8>) -> io::Result<()>) -> Self {
        Self {
            out,
            buffer: Vec::with_capacity(CHUNK),
            hand_over,
            written: 0,
            entries: 0,
            times: Times::Seconds,
        }
    }

    /// The same with times in nanoseconds, as a layer's tar must not have them.
    pub fn with_exact_times(self) -> Self {
        Self { times: Times::Nanoseconds, ..self }
    }

    /// How many entries were written.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Ends the tar and gives back what it was written to, and its size in bytes.
    pub fn finish(mut self) -> Result<(W, u64), LayerError> {
        self.put(&[0; 2 * BLOCK])?;
        self.flush()?;
        self.out.flush().map_err(LayerError::Write)?;
        Ok((self.out, self.written))
    }

    fn flush(&mut self) -> Result<(), LayerError> {
        self.written += self.buffer.len() as u64;
        (self.hand_over)(&mut self.out, &mut self.buffer).map_err(LayerError::Write)
    }

    fn put(&mut self, mut bytes: &[u8]) -> Result<(), LayerError> {
        while !bytes.is_empty() {
            if self.buffer.len() == CHUNK {
                self.flush()?;
            }
            let length = bytes.len().min(CHUNK - self.buffer.len());
            self.buffer.extend_from_slice(&bytes[..length]);
            bytes = &bytes[length..];
        }
        Ok(())
    }

    fn pad(&mut self, size: u64) -> Result<(), LayerError> {
        let over = usize::try_from(size % BLOCK as u64).expect("less than a block");
        self.put(&[0; BLOCK][..(BLOCK - over) % BLOCK])
    }

    fn header(&mut self, entry: &Entry, fields: &Fields<'_>) -> Result<(), LayerError> {
        let records = fields.records(entry, self.times);
        let mut header = fields.header(entry);
        if records.is_empty() {
            if let Some((prefix, suffix)) = split_ustar(&fields.name) {
                header.as_old_mut().name = [0; 100];
                put_text(&mut header.as_old_mut().name, suffix);
                let ustar = header.as_ustar_mut().expect("the header was made as ustar");
                put_text(&mut ustar.prefix, prefix);
            }
        } else {
            self.records(&fields.name, &records)?;
        }
        set_checksum(&mut header);
        self.put(header.as_bytes())
    }

    /// Writes the PAX header that goes before an entry.
    fn records(
        &mut self,
        name: &[u8],
        records: &BTreeMap<Vec<u8>, Cow<'_, [u8]>>,
    ) -> Result<(), LayerError> {
        let mut data = Vec::new();
        for (key, value) in records {
            record(&mut data, key, value);
        }
        let (parent, leaf) = name::split(name);
        let parent = name::join(parent, b"PaxHeaders.0");
        let path = if leaf.is_empty() { parent } else { name::join(&parent, leaf) };
        let mut path: Vec<u8> = path.into_iter().filter(u8::is_ascii).collect();
        path.truncate(100);
        while path.ends_with(b"/") {
            path.pop();
        }
        let mut header = Header::new_ustar();
        put_text(&mut header.as_old_mut().name, &path);
        let old = header.as_old_mut();
        for field in [&mut old.mode, &mut old.uid, &mut old.gid] {
            put_octal(field, 0);
        }
        put_octal(&mut old.size, data.len() as u64);
        put_octal(&mut old.mtime, 0);
        header.set_entry_type(EntryType::XHeader);
        set_checksum(&mut header);
        self.put(header.as_bytes())?;
        self.put(&data)?;
        self.pad(data.len() as u64)
    }

    fn content(&mut self, size: u64, content: Content<'_>) -> Result<(), ContentError> {
        match content {
            Content::None if size == 0 => {}
            Content::Bytes(bytes) if bytes.len() as u64 == size => self.put(bytes)?,
            Content::None | Content::Bytes(_) => return Err(CopyError::Size.into()),
            Content::Reader(reader) => {
                let mut failure = None;
                let drained = drain(reader, size, |bytes| {
                    self.put(bytes).map_err(|error| {
                        failure = Some(error);
                        io::Error::other("the archive could not be written")
                    })
                });
                if let Some(error) = failure {
                    return Err(error.into());
                }
                drained?;
            }
            Content::File(file) => self.file(file, size)?,
            Content::Move { directory, path } => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let file = openat(directory, path, flags, Mode::empty()).map_err(unread)?;
                self.file(&File::from(file), size)?;
            }
        }
        Ok(self.pad(size)?)
    }

    /// Reads a file straight into the buffer. There is mostly room for more than the file should
    /// have, so that one call tells its end, too.
    fn file(&mut self, file: &File, size: u64) -> Result<(), ContentError> {
        let mut done = 0;
        loop {
            if self.buffer.len() == CHUNK {
                self.flush()?;
            }
            let start = self.buffer.len();
            let read = match pread(file, spare_capacity(&mut self.buffer), done) {
                Err(Errno::INTR) => continue,
                read => read.map_err(unread)? as u64,
            };
            if read > size - done || read == 0 && done < size {
                self.buffer.truncate(start);
                return Err(CopyError::Size.into());
            }
            done += read;
            if done == size && self.buffer.len() < CHUNK {
                return Ok(());
            }
        }
    }
}

fn unread(errno: Errno) -> CopyError {
    CopyError::Read(errno.into())
}

enum ContentError {
    Copy(CopyError),
    Layer(LayerError),
}

impl From<CopyError> for ContentError {
    fn from(error: CopyError) -> Self {
        Self::Copy(error)
    }
}

impl From<LayerError> for ContentError {
    fn from(error: LayerError) -> Self {
        Self::Layer(error)
    }
}

impl TarSink<pipe::Writer> {
    /// Starts a tar that goes down a pipe, without copying its bytes once more.
    pub(super) fn down(pipe: pipe::Writer) -> Self {
        Self::with(pipe, pipe::Writer::give)
    }
}

impl<W: Write> LayerSink for TarSink<W> {
    fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), LayerError> {
        self.entries += 1;
        let fields = Fields::of(entry);
        self.header(entry, &fields)?;
        let EntryKind::File { size } = entry.kind else { return Ok(()) };
        self.content(size, content).map_err(|error| match error {
            ContentError::Layer(error) => error,
            ContentError::Copy(CopyError::Size) => {
                LayerError::Size { path: to_path(&entry.path), size }
            }
            ContentError::Copy(CopyError::Read(source) | CopyError::Write(source)) => {
                LayerError::Entry { action: "read", path: to_path(&entry.path), source }
            }
        })
    }
}

/// What an entry's kind says about its header.
struct Fields<'a> {
    name: Cow<'a, [u8]>,
    link: &'a [u8],
    entry_type: EntryType,
    size: u64,
    device: (u32, u32),
    /// Whiteouts have no metadata of their own: what stands in the tree for them is shared.
    bare: bool,
}

impl<'a> Fields<'a> {
    fn of(entry: &'a Entry) -> Self {
        let mut fields = Self {
            name: Cow::Borrowed(&entry.path),
            link: &[],
            entry_type: EntryType::Regular,
            size: 0,
            device: (0, 0),
            bare: false,
        };
        match &entry.kind {
            EntryKind::File { size } => fields.size = *size,
            EntryKind::Directory => {
                fields.entry_type = EntryType::Directory;
                let path = if entry.path.is_empty() { b"." } else { &entry.path[..] };
                fields.name = Cow::Owned([path, b"/"].concat());
            }
            EntryKind::Symlink { target } => {
                (fields.entry_type, fields.link) = (EntryType::Symlink, target);
            }
            EntryKind::Hardlink { target } => {
                (fields.entry_type, fields.link) = (EntryType::Link, target);
            }
            EntryKind::CharDevice { major, minor } => {
                (fields.entry_type, fields.device) = (EntryType::Char, (*major, *minor));
            }
            EntryKind::BlockDevice { major, minor } => {
                (fields.entry_type, fields.device) = (EntryType::Block, (*major, *minor));
            }
            EntryKind::Fifo => fields.entry_type = EntryType::Fifo,
            EntryKind::Whiteout => {
                (fields.name, fields.bare) = (Cow::Owned(name::whiteout(&entry.path)), true);
            }
            EntryKind::Opaque => {
                (fields.name, fields.bare) = (Cow::Owned(name::opaque(&entry.path)), true);
            }
        }
        fields
    }

    /// What the header has no room for, as PAX records.
    fn records(&self, entry: &'a Entry, times: Times) -> BTreeMap<Vec<u8>, Cow<'_, [u8]>> {
        let mut records = BTreeMap::new();
        let mut number = |key: &str, value: u64, width: u32| {
            if value >> (3 * width) != 0 {
                let value = value.to_string().into_bytes();
                records.insert(key.into(), Cow::Owned(value));
            }
        };
        number("size", self.size, 11);
        if !self.bare {
            number("uid", entry.uid.into(), 7);
            number("gid", entry.gid.into(), 7);
            let Time { seconds, nanoseconds } = entry.mtime;
            let is_exact = times == Times::Nanoseconds && nanoseconds > 0 && seconds >= 0;
            let fraction = if is_exact { format!(".{nanoseconds:09}") } else { String::new() };
            if !(0..1 << 33).contains(&seconds) || is_exact {
                let time = format!("{seconds}{fraction}");
                records.insert("mtime".into(), Cow::Owned(time.into_bytes()));
            }
            for (key, value) in &entry.xattrs {
                let key = [b"SCHILY.xattr.", &key[..]].concat();
                records.insert(key, Cow::Borrowed(&value[..]));
            }
        }
        if !link_fits(self.link) {
            records.insert("linkpath".into(), Cow::Borrowed(self.link));
        }
        // A long name that can be split needs no record, unless there are records anyway.
        let fits = self.name.is_ascii() && self.name.len() <= 100;
        if !fits && (!records.is_empty() || split_ustar(&self.name).is_none()) {
            records.insert("path".into(), Cow::Borrowed(&self.name[..]));
        }
        records
    }

    fn header(&self, entry: &Entry) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(self.entry_type);
        let old = header.as_old_mut();
        put_name(&mut old.name, &self.name);
        put_name(&mut old.linkname, self.link);
        let mtime = u64::try_from(entry.mtime.seconds).unwrap_or(0);
        let (mode, uid, gid, mtime) =
            if self.bare { (0, 0, 0, 0) } else { (entry.mode, entry.uid, entry.gid, mtime) };
        put_octal(&mut old.mode, mode.into());
        put_octal(&mut old.uid, uid.into());
        put_octal(&mut old.gid, gid.into());
        put_octal(&mut old.size, self.size);
        put_octal(&mut old.mtime, mtime);
        let ustar = header.as_ustar_mut().expect("the header was made as ustar");
        put_octal(&mut ustar.dev_major, self.device.0.into());
        put_octal(&mut ustar.dev_minor, self.device.1.into());
        header
    }
}

fn link_fits(link: &[u8]) -> bool {
    link.is_ascii() && link.len() <= 100
}

/// A name too long for its field, as the ustar format's prefix and name.
fn split_ustar(name: &[u8]) -> Option<(&[u8], &[u8])> {
    if name.len() <= 100 || !name.is_ascii() {
        return None;
    }
    let length = match name.len() {
        length if length > 156 => 156,
        length if name.ends_with(b"/") => length - 1,
        length => length,
    };
    let slash = name[..length].iter().rposition(|&byte| byte == b'/')?;
    let suffix = &name[slash + 1..];
    let fits = slash > 0 && slash <= 155 && !suffix.is_empty() && suffix.len() <= 100;
    fits.then_some((&name[..slash], suffix))
}

/// Writes as much of `text` as fits.
fn put_text(field: &mut [u8], text: &[u8]) {
    let length = text.len().min(field.len());
    field[..length].copy_from_slice(&text[..length]);
}

/// Writes a name that may stand in full in a PAX record. Readers that know no PAX must not take
/// the cut-off name of a file for a directory's.
fn put_name(field: &mut [u8], name: &[u8]) {
    let ascii: Vec<u8> = name.iter().copied().filter(u8::is_ascii).collect();
    put_text(field, &ascii);
    if ascii.len() > field.len() && field.ends_with(b"/") {
        let end = field.iter().rposition(|&byte| byte != b'/').map_or(0, |last| last + 1);
        field[end] = 0;
    }
}

/// Writes a number, or zero if a PAX record has it.
fn put_octal(field: &mut [u8], value: u64) {
    let width = field.len() - 1;
    let mut left = if value >> (3 * width).min(63) == 0 { value } else { 0 };
    for digit in field[..width].iter_mut().rev() {
        *digit = b'0' + (left & 7) as u8;
        left >>= 3;
    }
}

/// Sets the checksum of a header that was changed, written as in every header of a [`TarSink`]: six
/// octal digits, a zero byte, a space.
pub fn set_checksum(header: &mut Header) {
    header.as_old_mut().cksum = *b"        ";
    let sum: u32 = header.as_bytes().iter().copied().map(u32::from).sum();
    let field = &mut header.as_old_mut().cksum;
    field[6] = 0;
    put_octal(&mut field[..7], sum.into());
}

/// Appends a PAX record, which starts with its own length in decimal.
fn record(data: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + rest.to_string().len();
    if length.to_string().len() > rest.to_string().len() {
        length += 1;
    }
    data.extend_from_slice(length.to_string().as_bytes());
    data.push(b' ');
    data.extend_from_slice(key);
    data.push(b'=');
    data.extend_from_slice(value);
    data.push(b'\n');
}
