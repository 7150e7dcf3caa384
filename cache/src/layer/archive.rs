//! Reading tars from anywhere.
//!
//! The `tar` crate knows the layout of a header; what follows from one header to the next is read
//! here, because layers need what its iterator does not give: a bound on extension headers,
//! malformed ones refused instead of skipped, attribute values with newlines, PAX sparse files, and
//! content straight from the caller's buffer. Where archives disagree with themselves the answer is
//! that of Go's `archive/tar`, by which the images of this world are read.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Read, Seek};

use tar::Header;

mod member;
mod number;
mod pax;
mod sparse;

pub use member::ArchiveError;
pub(super) use member::Member;
use member::{EXTENSION_MAX, bound, id};
use pax::Records;
pub(super) use sparse::SparseReader;

const BLOCK: usize = 512;

/// Reads the members of a tar.
pub(super) struct Archive<R> {
    inner: R,
    /// Bytes of the current member's content that are still to be read.
    left: u64,
    /// Zeros after them.
    padding: u64,
}

/// Extension headers seen before the member they belong to.
#[derive(Default)]
struct Extensions {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    records: Option<Records>,
}

impl<R: BufRead> Archive<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, left: 0, padding: 0 }
    }

    /// The next member; what was not read of the one before is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Member>, ArchiveError> {
        let mut extensions = Extensions::default();
        let mut any = false;
        loop {
            self.skip(self.left + self.padding)?;
            (self.left, self.padding) = (0, 0);
            let Some(header) = self.header()? else {
                return if any { Err(ArchiveError::Orphan) } else { Ok(None) };
            };
            let type_flag = header.as_old().linkflag[0];
            any = matches!(type_flag, b'x' | b'L' | b'K');
            match type_flag {
                b'x' => extensions.records = Some(Records::parse(&self.extension(&header)?)?),
                // Records for all members to come are read and ignored, as container tools do.
                b'g' => drop(Records::parse(&self.extension(&header)?)?),
                b'L' => extensions.name = Some(text(&self.extension(&header)?).to_vec()),
                b'K' => extensions.link = Some(text(&self.extension(&header)?).to_vec()),
                _ => return self.member(&header, extensions).map(Some),
            }
        }
    }

    /// Goes past what was not read of the current member.
    pub(super) fn skip_content(&mut self) -> Result<(), ArchiveError> {
        self.skip(self.left + self.padding)?;
        (self.left, self.padding) = (0, 0);
        Ok(())
    }

    /// The content of the current member.
    pub(super) fn content(&mut self) -> MemberReader<'_, R> {
        MemberReader { archive: self }
    }

    /// The stream itself.
    pub(super) fn get_mut(&mut self) -> &mut R {
        &mut self.inner
    }

    /// Gives back the stream, which stands after the last header that was read.
    pub(super) fn into_inner(self) -> R {
        self.inner
    }

    fn header(&mut self) -> Result<Option<Header>, ArchiveError> {
        let mut header = Header::new_old();
        if !self.block(header.as_mut_bytes())? {
            return Ok(None);
        }
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            // Two blocks of zeros are the end; so is a stream that stops after one.
            let ended = !self.block(header.as_mut_bytes())?
                || header.as_bytes().iter().all(|&byte| byte == 0);
            return if ended { Ok(None) } else { Err(ArchiveError::LoneZeroBlock) };
        }
        check_sum(&header)?;
        Ok(Some(header))
    }

    /// Reads one block; false at the end of the stream.
    fn block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, ArchiveError> {
        match super::content::read_up_to(&mut self.inner, block)? {
            0 => Ok(false),
            BLOCK => Ok(true),
            _ => Err(ArchiveError::Truncated),
        }
    }

    /// The data of an extension header.
    fn extension(&mut self, header: &Header) -> Result<Vec<u8>, ArchiveError> {
        let size = size(header)?;
        if size > EXTENSION_MAX {
            return Err(ArchiveError::Extension);
        }
        let mut data = vec![0; usize::try_from(size).expect("an extension fits")];
        self.inner.read_exact(&mut data)?;
        self.skip(padding(size))?;
        Ok(data)
    }

    fn skip(&mut self, mut length: u64) -> Result<(), ArchiveError> {
        while length > 0 {
            let available = match self.inner.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                bytes => bytes?.len(),
            };
            if available == 0 {
                return Err(ArchiveError::Truncated);
            }
            let step = available.min(usize::try_from(length).unwrap_or(usize::MAX));
            self.inner.consume(step);
            length -= step as u64;
        }
        Ok(())
    }

    fn member(&mut self, header: &Header, extensions: Extensions) -> Result<Member, ArchiveError> {
        let mut member = from_header(header)?;
        let records = extensions.records.unwrap_or_default();
        records.apply(&mut member)?;
        member.path = extensions.name.unwrap_or(member.path);
        member.link = extensions.link.unwrap_or(member.link);
        if member.type_flag == 0 {
            member.type_flag = if member.path.ends_with(b"/") { b'5' } else { b'0' };
        }
        // Links, devices, directories and pipes have no content, whatever their size field says.
        let has_content = !matches!(member.type_flag, b'1'..=b'6');
        self.left = if has_content { member.size } else { 0 };
        self.padding = padding(self.left);
        if member.type_flag == b'S' {
            self.old_sparse(header, &mut member)?;
        } else if member.type_flag == b'0' {
            self.pax_sparse(&records, &mut member)?;
        }
        Ok(member)
    }
}

impl<R: Read + Seek> Archive<BufReader<R>> {
    /// Goes past what was not read of the current member, without reading it.
    pub(super) fn leap(&mut self) -> io::Result<()> {
        let length = i64::try_from(self.left + self.padding).map_err(io::Error::other)?;
        self.inner.seek_relative(length)?;
        (self.left, self.padding) = (0, 0);
        Ok(())
    }
}

/// Content of a member, read in place.
pub(super) struct MemberReader<'a, R> {
    archive: &'a mut Archive<R>,
}

impl<R: BufRead> BufRead for MemberReader<'_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let left = self.archive.left;
        if left == 0 {
            return Ok(&[]);
        }
        let bytes = self.archive.inner.fill_buf()?;
        if bytes.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(&bytes[..bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX))])
    }

    fn consume(&mut self, length: usize) {
        self.archive.left -= length as u64;
        self.archive.inner.consume(length);
    }
}

impl<R: BufRead> Read for MemberReader<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}

fn from_header(header: &Header) -> Result<Member, ArchiveError> {
    let old = header.as_old();
    let device = match header.as_ustar().map(|ustar| (ustar.dev_major, ustar.dev_minor)) {
        Some(device) => Some(device),
        None => header.as_gnu().map(|gnu| (gnu.dev_major, gnu.dev_minor)),
    };
    let (major, minor) = device.unwrap_or_default();
    Ok(Member {
        path: header.path_bytes().into_owned(),
        link: text(&old.linkname).to_vec(),
        type_flag: old.linkflag[0],
        mode: (number::field(&old.mode).ok_or(ArchiveError::Field("mode"))? & 0o7777) as u32,
        uid: id(number::field(&old.uid), "user")?,
        gid: id(number::field(&old.gid), "group")?,
        size: size(header)?,
        mtime: bound(number::field(&old.mtime).ok_or(ArchiveError::Field("time"))?, 0),
        device: (number(&major, "device number")?, number(&minor, "device number")?),
        xattrs: BTreeMap::new(),
        sparse: None,
    })
}

fn number(field: &[u8], what: &'static str) -> Result<u32, ArchiveError> {
    let value = number::field(field).and_then(|value| u32::try_from(value).ok());
    value.ok_or(ArchiveError::Field(what))
}

fn size(header: &Header) -> Result<u64, ArchiveError> {
    let value = number::field(&header.as_old().size).and_then(|size| u64::try_from(size).ok());
    value.ok_or(ArchiveError::Field("size"))
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

/// A text field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Old tars summed signed bytes; both are taken.
fn check_sum(header: &Header) -> Result<(), ArchiveError> {
    let stated = number::field(&header.as_old().cksum).ok_or(ArchiveError::Checksum)?;
    let bytes = header.as_bytes();
    let rest = || bytes[..148].iter().chain(&bytes[156..]);
    let blanks = 8 * i64::from(b' ');
    let unsigned: i64 = rest().map(|&byte| i64::from(byte)).sum();
    let signed: i64 = rest().map(|&byte| i64::from(byte as i8)).sum();
    if stated == unsigned + blanks || stated == signed + blanks {
        Ok(())
    } else {
        Err(ArchiveError::Checksum)
    }
}
