//! Sparse files: GNU tar's old format and its three PAX formats.

use std::io::{self, BufRead, Read};

use tar::{GnuExtSparseHeader, GnuSparseHeader, Header};

use super::member::{ArchiveError, EXTENSION_MAX, Member, Segment};
use super::pax::Records;
use super::{Archive, BLOCK, number};

impl<R: BufRead> Archive<R> {
    /// The oldest format: a map in the header, continued in blocks after it.
    pub(super) fn old_sparse(
        &mut self,
        header: &Header,
        member: &mut Member,
    ) -> Result<(), ArchiveError> {
        let gnu = header.as_gnu().ok_or(ArchiveError::SparseMap)?;
        let mut segments = Vec::new();
        push_old(&gnu.sparse, &mut segments)?;
        let mut extended = gnu.isextended[0] != 0;
        let mut length = 0;
        while extended {
            length += BLOCK as u64;
            if length > EXTENSION_MAX {
                return Err(ArchiveError::Extension);
            }
            let mut extension = GnuExtSparseHeader::new();
            self.inner.read_exact(extension.as_mut_bytes())?;
            push_old(&extension.sparse, &mut segments)?;
            extended = extension.isextended[0] != 0;
        }
        let size = number::field(&gnu.realsize).and_then(|size| u64::try_from(size).ok());
        self.set_sparse(member, segments, size)
    }

    /// The formats that PAX records tell of.
    pub(super) fn pax_sparse(
        &mut self,
        records: &Records,
        member: &mut Member,
    ) -> Result<(), ArchiveError> {
        let version = (records.get("GNU.sparse.major"), records.get("GNU.sparse.minor"));
        let numbers = match version {
            (Some(b"1"), Some(b"0")) => self.map_in_content()?,
            (None | Some(b"0"), None | Some(b"0" | b"1")) => match records.get("GNU.sparse.map") {
                Some(map) => split_numbers(map, b',')?,
                None if !records.sparse_pairs.is_empty() => records.sparse_pairs.clone(),
                None => return Ok(()),
            },
            _ => return Err(ArchiveError::SparseMap),
        };
        if let Some(name) = records.get("GNU.sparse.name") {
            member.path = name.to_vec();
        }
        let size = match records.number("GNU.sparse.realsize")? {
            Some(size) => Some(size),
            None => records.number("GNU.sparse.size")?,
        };
        let (pairs, rest) = numbers.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(ArchiveError::SparseMap);
        }
        let segments = pairs.iter().map(|&[offset, length]| Segment { offset, length });
        self.set_sparse(member, segments.collect(), size)
    }

    /// The map before the content: decimal numbers, each on a line, filled up to a whole block.
    fn map_in_content(&mut self) -> Result<Vec<u64>, ArchiveError> {
        let mut map = Vec::new();
        let (mut wanted, mut lines) = (1, 0);
        while lines < wanted {
            if self.left < BLOCK as u64 || map.len() as u64 > EXTENSION_MAX {
                return Err(ArchiveError::SparseMap);
            }
            let start = map.len();
            map.resize(start + BLOCK, 0);
            self.inner.read_exact(&mut map[start..])?;
            self.left -= BLOCK as u64;
            lines += map[start..].iter().filter(|&&byte| byte == b'\n').count() as u64;
            if wanted == 1 && lines > 0 {
                let count = map.split(|&byte| byte == b'\n').next().and_then(number::decimal);
                let count: u32 = count.ok_or(ArchiveError::SparseMap)?;
                wanted += 2 * u64::from(count);
            }
        }
        let end = map.iter().rposition(|&byte| byte == b'\n').unwrap_or(0);
        let mut numbers = split_numbers(&map[..end], b'\n')?;
        numbers.truncate(usize::try_from(wanted).expect("the map is in memory"));
        numbers.remove(0);
        Ok(numbers)
    }

    /// Takes a map if its segments are in order, within the file, and hold all there is.
    fn set_sparse(
        &self,
        member: &mut Member,
        segments: Vec<Segment>,
        size: Option<u64>,
    ) -> Result<(), ArchiveError> {
        let size = size.ok_or(ArchiveError::SparseMap)?;
        let (mut end, mut held) = (0, 0_u64);
        for segment in &segments {
            if segment.offset < end {
                return Err(ArchiveError::SparseMap);
            }
            end = segment.offset.checked_add(segment.length).ok_or(ArchiveError::SparseMap)?;
            held += segment.length;
        }
        if end > size || held != self.left {
            return Err(ArchiveError::SparseMap);
        }
        (member.size, member.sparse) = (size, Some(segments));
        Ok(())
    }
}

fn push_old(map: &[GnuSparseHeader], segments: &mut Vec<Segment>) -> Result<(), ArchiveError> {
    // An entry without digits ends the map.
    for entry in map.iter().take_while(|entry| entry.offset[0] != 0) {
        let number = |field: &[u8]| {
            let value = number::field(field).and_then(|value| u64::try_from(value).ok());
            value.ok_or(ArchiveError::SparseMap)
        };
        segments.push(Segment { offset: number(&entry.offset)?, length: number(&entry.numbytes)? });
    }
    Ok(())
}

fn split_numbers(text: &[u8], separator: u8) -> Result<Vec<u64>, ArchiveError> {
    text.split(|&byte| byte == separator)
        .map(|number| number::decimal(number).ok_or(ArchiveError::SparseMap))
        .collect()
}

/// The content of a sparse file with zeros where its holes are.
pub(in crate::layer) struct SparseReader<'a> {
    inner: &'a mut dyn BufRead,
    segments: std::vec::IntoIter<Segment>,
    /// What comes next: zeros of a hole, then bytes of a segment.
    hole: u64,
    data: u64,
    next: Option<Segment>,
    position: u64,
    size: u64,
}

static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

impl<'a> SparseReader<'a> {
    /// Spreads the bytes of `inner` over a file of `size` bytes.
    pub(in crate::layer) fn new(
        inner: &'a mut dyn BufRead,
        segments: Vec<Segment>,
        size: u64,
    ) -> Self {
        let segments = segments.into_iter();
        Self { inner, segments, hole: 0, data: 0, next: None, position: 0, size }
    }

    fn advance(&mut self) {
        while self.hole == 0 && self.data == 0 && self.position < self.size {
            match self.next.take().or_else(|| self.segments.next()) {
                Some(segment) if segment.offset > self.position => {
                    self.hole = segment.offset - self.position;
                    self.next = Some(segment);
                }
                Some(segment) => self.data = segment.length,
                None => self.hole = self.size - self.position,
            }
        }
    }
}

impl BufRead for SparseReader<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        self.advance();
        let cut = |length: u64, most: usize| usize::try_from(length).unwrap_or(most).min(most);
        if self.hole > 0 {
            return Ok(&ZEROS[..cut(self.hole, ZEROS.len())]);
        }
        if self.data == 0 {
            return Ok(&[]);
        }
        let bytes = self.inner.fill_buf()?;
        Ok(&bytes[..cut(self.data, bytes.len())])
    }

    fn consume(&mut self, length: usize) {
        let length_64 = length as u64;
        self.position += length_64;
        if self.hole > 0 {
            self.hole -= length_64;
        } else {
            self.data -= length_64;
            self.inner.consume(length);
        }
    }
}

impl Read for SparseReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.fill_buf()?.read(buffer)?;
        self.consume(length);
        Ok(length)
    }
}
