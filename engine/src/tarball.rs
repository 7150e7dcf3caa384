//! Reading a tar member by member in bounded memory, as far as an archive of images and the sizes
//! of layers need it: names, kinds, sizes, content. Anything malformed is an error.

use std::io::{self, Read};

use cache::layer::read_up_to;

const BLOCK: usize = 512;
/// The largest extension header (a long name, PAX records) in bytes.
const EXTENSION_MAX: u64 = 1 << 20;
/// The most members an archive may have.
const MEMBERS_MAX: u64 = 4 << 20;

/// One member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Member {
    /// Its name as it stands in the archive.
    pub(crate) path: String,
    pub(crate) kind: MemberKind,
    /// Bytes of content that follow.
    pub(crate) size: u64,
}

/// What a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum MemberKind {
    File,
    /// A symbolic link: its target counts from the member's directory.
    Symlink(String),
    /// One more name of an earlier member.
    Hardlink(String),
    /// Directories, devices and the like.
    Other,
}

/// What extension headers say of the member that follows them.
#[derive(Default)]
struct Extended {
    path: Option<String>,
    link: Option<String>,
    size: Option<u64>,
    /// Size of a sparse file with its holes.
    real_size: Option<u64>,
}

/// Calls `visit` for each member with its content; what it does not read is skipped.
pub(crate) fn each_member(
    reader: &mut dyn Read,
    visit: &mut dyn FnMut(&Member, &mut dyn Read) -> io::Result<()>,
) -> io::Result<()> {
    let mut extended = Extended::default();
    for _ in 0..MEMBERS_MAX {
        let Some(header) = read_header(reader)? else { return Ok(()) };
        let size = header.entry_size().map_err(|_| malformed("a header has an invalid size"))?;
        let kind = header.entry_type().as_byte();
        match kind {
            b'L' => extended.path = Some(text(&read_extension(reader, size)?)),
            b'K' => extended.link = Some(text(&read_extension(reader, size)?)),
            b'x' => read_records(&read_extension(reader, size)?, &mut extended)?,
            // Global records are about times and comments.
            b'g' => drop(read_extension(reader, size)?),
            _ => {
                let extended = std::mem::take(&mut extended);
                if kind == b'S' {
                    skip_sparse_maps(&header, reader)?;
                }
                let stored = extended.size.unwrap_or(size);
                let member = member(&header, kind, extended, stored);
                let mut content = Content { reader, left: stored };
                visit(&member, &mut content)?;
                let rest = content.left;
                skip(reader, rest + padding(stored))?;
            }
        }
    }
    Err(malformed("the archive has too many members"))
}

/// A member's content; an archive that ends in the middle of it is an error, not an end.
struct Content<'a> {
    reader: &'a mut dyn Read,
    left: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.reader.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn member(header: &tar::Header, kind: u8, extended: Extended, stored: u64) -> Member {
    let path = extended.path.unwrap_or_else(|| text(&header.path_bytes()));
    let link = || {
        let own = header.link_name_bytes().map(|link| text(&link));
        extended.link.clone().or(own).unwrap_or_default()
    };
    let kind = match kind {
        b'0' | b'\0' | b'7' if path.ends_with('/') => MemberKind::Other,
        b'0' | b'\0' | b'7' | b'S' => MemberKind::File,
        b'1' => MemberKind::Hardlink(link()),
        b'2' => MemberKind::Symlink(link()),
        _ => MemberKind::Other,
    };
    let real_size = extended.real_size.or_else(|| {
        header.as_gnu()?.real_size().ok().filter(|_| header.entry_type().is_gnu_sparse())
    });
    Member { path, kind, size: real_size.unwrap_or(stored) }
}

/// The next header; `None` at the archive's end.
fn read_header(reader: &mut dyn Read) -> io::Result<Option<tar::Header>> {
    let mut header = tar::Header::new_old();
    let block = header.as_mut_bytes();
    match read_up_to(reader, block)? {
        0 => return Ok(None),
        BLOCK => {}
        _ => return Err(io::ErrorKind::UnexpectedEof.into()),
    }
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let sum: u32 = block[..148].iter().chain(&block[156..]).map(|byte| u32::from(*byte)).sum();
    if header.cksum().ok() != Some(sum + 8 * u32::from(b' ')) {
        return Err(malformed("a header has the wrong checksum"));
    }
    Ok(Some(header))
}

fn read_extension(reader: &mut dyn Read, size: u64) -> io::Result<Vec<u8>> {
    if size > EXTENSION_MAX {
        return Err(malformed("an extension header is larger than 1 MiB"));
    }
    let mut bytes = vec![0; usize::try_from(size).expect("at most 1 MiB")];
    reader.read_exact(&mut bytes)?;
    skip(reader, padding(size))?;
    Ok(bytes)
}

/// PAX records: `LENGTH KEY=VALUE\n`, the length counting the whole record.
fn read_records(mut bytes: &[u8], extended: &mut Extended) -> io::Result<()> {
    let broken = || malformed("a PAX header is malformed");
    while !bytes.is_empty() {
        let space = bytes.iter().take(20).position(|byte| *byte == b' ').ok_or_else(broken)?;
        let length: usize = text(&bytes[..space]).parse().map_err(|_| broken())?;
        if length <= space + 1 || length > bytes.len() {
            return Err(broken());
        }
        let (record, rest) = bytes.split_at(length);
        let record = record[space + 1..].strip_suffix(b"\n").ok_or_else(broken)?;
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(broken)?;
        let value = || text(&record[equals + 1..]);
        let number = || value().parse::<u64>().map_err(|_| broken());
        match &record[..equals] {
            b"path" | b"GNU.sparse.name" => extended.path = Some(value()),
            b"linkpath" => extended.link = Some(value()),
            b"size" => extended.size = Some(number()?),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => extended.real_size = Some(number()?),
            _ => {}
        }
        bytes = rest;
    }
    Ok(())
}

/// The old sparse format has more of its map between header and content.
fn skip_sparse_maps(header: &tar::Header, reader: &mut dyn Read) -> io::Result<()> {
    let mut more = header.as_gnu().is_some_and(|gnu| gnu.isextended[0] != 0);
    let mut block = [0; BLOCK];
    while more {
        reader.read_exact(&mut block)?;
        more = block[504] != 0;
    }
    Ok(())
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

fn skip(reader: &mut dyn Read, count: u64) -> io::Result<()> {
    let skipped = io::copy(&mut reader.take(count), &mut io::sink())?;
    if skipped == count { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Names that are no UTF-8 are no names of an image's parts; in layers only their sizes count.
fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn malformed(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn members(archive: &[u8]) -> io::Result<Vec<(Member, Vec<u8>)>> {
        let mut found = Vec::new();
        each_member(&mut &*archive, &mut |member, content| {
            let mut bytes = Vec::new();
            content.read_to_end(&mut bytes)?;
            found.push((member.clone(), bytes));
            Ok(())
        })?;
        Ok(found)
    }

    fn append(builder: &mut tar::Builder<Vec<u8>>, path: &str, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, path, content).unwrap();
    }

    #[test]
    fn members_of_any_name_length_come_with_their_content() {
        let long = "d/".repeat(150) + "name";
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, "short", b"one");
        append(&mut builder, &long, &[7; 700]);
        builder.append_pax_extensions([("path", b"renamed".as_slice())]).unwrap();
        append(&mut builder, "other", b"");
        let found = members(&builder.into_inner().unwrap()).unwrap();
        let names: Vec<_> = found.iter().map(|(m, bytes)| (m.path.as_str(), bytes.len())).collect();
        assert_eq!(names, [("short", 3), (long.as_str(), 700), ("renamed", 0)]);
    }

    /// A signal comes before each read, which then gives a few bytes.
    struct Interrupted<'a> {
        bytes: &'a [u8],
        is_next: bool,
    }

    impl Read for Interrupted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            self.is_next = !self.is_next;
            if self.is_next {
                return Err(io::ErrorKind::Interrupted.into());
            }
            let most = buffer.len().min(100);
            self.bytes.read(&mut buffer[..most])
        }
    }

    #[test]
    fn signals_do_not_end_an_archive() {
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, "one", &[1; 700]);
        append(&mut builder, &"long/".repeat(50), &[2; 700]);
        let archive = builder.into_inner().unwrap();
        let mut sizes = Vec::new();
        let mut reader = Interrupted { bytes: &archive, is_next: false };
        each_member(&mut reader, &mut |member, _| {
            sizes.push(member.size);
            Ok(())
        })
        .unwrap();
        assert_eq!(sizes, [700, 700]);
    }

    #[test]
    fn malformed_archives_are_errors_and_cost_nothing() {
        let mut builder = tar::Builder::new(Vec::new());
        append(&mut builder, "file", &[1; 600]);
        let good = builder.into_inner().unwrap();
        let mut wrong_sum = good.clone();
        wrong_sum[0] ^= 1;
        let mut huge_name = tar::Header::new_gnu();
        huge_name.set_entry_type(tar::EntryType::GNULongName);
        huge_name.set_size(1 << 40);
        huge_name.set_cksum();
        for (what, archive) in [
            ("cut in the content", &good[..700]),
            ("cut in a header", &good[..100]),
            ("checksum", &wrong_sum[..]),
            ("a name of a terabyte", &huge_name.as_bytes()[..]),
        ] {
            assert!(members(archive).is_err(), "{what}");
        }
        assert!(members(&[0; 1024]).unwrap().is_empty());
    }
}
