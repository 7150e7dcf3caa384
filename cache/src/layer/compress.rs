//! Compressing layers, the same bytes whatever the number of threads, and decompressing what
//! others compressed.

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, Cursor, Read, Write};
use std::num::NonZero;

use oci::DiffId;
use sha2::{Digest as _, Sha256};

use super::content::read_up_to;
use super::pipe;

mod gzip;
mod in_order;
mod incompressible;
mod seekable;

/// Size of the buffer before a decompressor.
const INPUT_BUFFER: usize = 256 * 1024;

/// Bytes that one zstd worker compresses at a time. Part of the format: another size gives other
/// bytes.
const ZSTD_JOB: u32 = 2 << 20;

/// Each worker takes about three jobs' memory.
const ZSTD_WORKERS: usize = 6;

/// The largest zstd window that is allocated for a stream, as a power of two: 128 MiB, which is
/// what zstd's own programs take.
const WINDOW_LOG_MAX: u32 = 27;

/// The largest xz dictionary in bytes; `xz -9` uses 64 MiB.
const XZ_DICTIONARY_MAX: u64 = 256 << 20;

/// How a layer is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Compression {
    /// Not at all.
    None,
    /// As one gzip member, readable by everybody.
    Gzip {
        /// From 1, fast, to 9, small.
        level: u32,
    },
    /// As one zstd frame.
    Zstd {
        /// From 1, fast, to 22, small.
        level: i32,
    },
    /// As eStargz: gzip members from which each file can be read by itself, and a tar with a table of them.
    Estargz {
        /// As gzip's.
        level: u32,
    },
    /// As zstd:chunked: zstd frames from which each file can be read by itself, and a table of them.
    ZstdChunked {
        /// As zstd's.
        level: i32,
    },
}

impl Compression {
    /// Gzip as well as a layer is worth compressing.
    pub const GZIP: Self = Self::Gzip { level: 5 };
    /// Zstd as well as a layer is worth compressing.
    pub const ZSTD: Self = Self::Zstd { level: 3 };
    /// The same with a table of contents.
    pub const ESTARGZ: Self = Self::Estargz { level: 5 };
    /// The same with a table of contents.
    pub const ZSTD_CHUNKED: Self = Self::ZstdChunked { level: 3 };
}

/// What came of compressing a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compressed {
    /// Digest of the bytes that were written.
    pub digest: oci::Digest,
    /// How many there were.
    pub size: u64,
    /// Digest of the bytes that were read.
    pub diff_id: DiffId,
    /// How many there were.
    pub uncompressed_size: u64,
    /// What the compression adds to the blob's descriptor, and to the tar that is in it.
    pub encoded: Encoded,
}

/// What a compression says of its result beside the bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded {
    /// Annotations for the descriptor.
    pub annotations: BTreeMap<String, String>,
    /// What decompressing gives, where that is not what was compressed.
    pub diff_id: Option<DiffId>,
}

/// Compresses all of `reader` to `writer`. Reading and hashing what was read have a thread each;
/// compressing uses rayon's threads. Takes a few MiB of memory, and about half of one for each thread.
pub fn compress(
    reader: &mut (dyn Read + Send),
    writer: &mut dyn Write,
    compression: Compression,
) -> io::Result<Compressed> {
    let (mut pipe, mut readers) = pipe::pipe(2);
    let (to_hash, mut to_encode) = readers.pop().zip(readers.pop()).expect("there are two");
    let mut writer = Hashing::new(writer);
    std::thread::scope(|scope| {
        scope.spawn(move || pipe.fill_from(reader));
        let hashed = scope.spawn(move || {
            let mut hash = Hashing::new(());
            to_hash.for_each(|bytes| {
                hash.note(bytes);
                Ok(())
            })?;
            Ok::<_, io::Error>(hash.finish())
        });
        let encoded = encode(&mut to_encode, &mut writer, compression);
        // Lets the other threads end when the stream was not read to its end.
        drop(to_encode);
        let hashed = hashed.join().expect("the hasher does not panic");
        let encoded = encoded?;
        let (diff_id, uncompressed_size) = hashed?;
        let (digest, size) = writer.finish();
        Ok(Compressed { digest, size, diff_id: DiffId(diff_id), uncompressed_size, encoded })
    })
}

/// Compresses all of `reader` to `writer`, and hashes nothing.
pub(super) fn encode(
    reader: &mut dyn BufRead,
    writer: &mut dyn Write,
    compression: Compression,
) -> io::Result<Encoded> {
    let encoded = match compression {
        Compression::None => io::copy(reader, writer).map(|_| Encoded::default()),
        Compression::Gzip { level } => {
            gzip::compress(reader, writer, level).map(|()| Encoded::default())
        }
        Compression::Zstd { level } => {
            zstd_frame(reader, writer, level).map(|()| Encoded::default())
        }
        Compression::Estargz { level } => seekable::estargz::compress(reader, writer, level),
        Compression::ZstdChunked { level } => {
            seekable::zstd_chunked::compress(reader, writer, level)
        }
    };
    writer.flush()?;
    encoded
}

fn zstd_frame(reader: &mut dyn BufRead, writer: &mut dyn Write, level: i32) -> io::Result<()> {
    let mut encoder = zstd::Encoder::new(writer, level)?;
    encoder.set_parameter(zstd::zstd_safe::CParameter::JobSize(ZSTD_JOB))?;
    // Any number of workers gives the same bytes, but none at all gives others.
    let workers = std::thread::available_parallelism().map_or(1, NonZero::get).min(ZSTD_WORKERS);
    encoder.multithread(u32::try_from(workers).expect("a few"))?;
    encoder.include_checksum(true)?;
    let mut buffer = vec![0; INPUT_BUFFER];
    loop {
        match read_up_to(reader, &mut buffer)? {
            0 => break,
            length => encoder.write_all(&buffer[..length])?,
        }
    }
    encoder.finish()?;
    Ok(())
}

/// Hashes and counts what passes.
struct Hashing<T> {
    inner: T,
    hash: Sha256,
    count: u64,
}

impl<T> Hashing<T> {
    fn new(inner: T) -> Self {
        Self { inner, hash: Sha256::new(), count: 0 }
    }

    fn note(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.count += bytes.len() as u64;
    }

    fn finish(self) -> (oci::Digest, u64) {
        (oci::Digest::from_sha256(self.hash.finalize().into()), self.count)
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let length = self.inner.write(bytes)?;
        self.note(&bytes[..length]);
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// A way of compressing, told by a stream's first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// None that is known.
    Plain,
    /// gzip, of one member or several.
    Gzip,
    /// zstd, of one frame or several.
    Zstd,
    /// bzip2.
    Bzip2,
    /// xz.
    Xz,
}

/// How many bytes [`Format::detect`] wants to see.
pub const MAGIC_LENGTH: usize = 6;

impl Format {
    /// Tells the format of a stream that starts with `start`.
    pub fn detect(start: &[u8]) -> Self {
        match start {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Xz,
            _ => Self::Plain,
        }
    }
}

/// Undoes whatever compression `reader` shows by its first bytes. There is no bound on what comes
/// out but the reader's patience; what is kept in memory is bounded.
pub fn decompress<'a>(
    mut reader: impl Read + Send + 'a,
) -> io::Result<(Format, Box<dyn Read + Send + 'a>)> {
    // An xz stream's dictionary is in the header of its first block, right after its magic.
    let mut start = [0; 64];
    let length = read_up_to(&mut reader, &mut start)?;
    let format = Format::detect(&start[..length]);
    if format == Format::Xz && xz_dictionary(&start[..length]) > XZ_DICTIONARY_MAX {
        let message = format!("its xz dictionary is larger than {XZ_DICTIONARY_MAX} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, message));
    }
    let whole = Cursor::new(start).take(length as u64).chain(reader);
    if format == Format::Plain {
        return Ok((format, Box::new(whole)));
    }
    let buffered = BufReader::with_capacity(INPUT_BUFFER, whole);
    let decompressed: Box<dyn Read + Send + 'a> = match format {
        Format::Plain => unreachable!("returned above"),
        Format::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(buffered)),
        Format::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(buffered)),
        Format::Xz => Box::new(lzma_rust2::XzReader::new(buffered, true)),
        Format::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(buffered)?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Box::new(decoder)
        }
    };
    Ok((format, decompressed))
}

/// The dictionary size that the first block of an xz stream asks for, if it can be seen: a block
/// header holds flags, maybe two sizes, then filters, of which LZMA2 (0x21) has one byte of it.
fn xz_dictionary(start: &[u8]) -> u64 {
    const FIRST_BLOCK: usize = 12;
    let Some([_, flags, fields @ ..]) = start.get(FIRST_BLOCK..) else { return 0 };
    let mut fields = fields.iter().copied();
    for size_flag in [0x40, 0x80] {
        if flags & size_flag != 0 {
            while fields.next().is_some_and(|byte| byte & 0x80 != 0) {}
        }
    }
    for _ in 0..=flags & 3 {
        let (Some(filter), Some(length)) = (fields.next(), fields.next()) else { return 0 };
        if let (0x21, 1, Some(bits @ 0..=40)) = (filter, length, fields.clone().next()) {
            let half = u64::from(2 | bits & 1);
            return half << (bits / 2 + 11);
        }
        fields.by_ref().take(length.into()).for_each(drop);
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dictionary_of_an_xz_stream_is_seen_before_it_is_made() {
        // `xz -9` and `xz -0` of nothing much, up to the end of the first block header.
        let start = |bits: u8| {
            let mut bytes = b"\xfd7zXZ\0\0\x04\xe6\xd6\xb4\x46".to_vec();
            bytes.extend([2, 0, 0x21, 1, bits, 0, 0, 0]);
            bytes
        };
        assert_eq!(xz_dictionary(&start(28)), 64 << 20);
        assert_eq!(xz_dictionary(&start(12)), 256 << 10);
        assert_eq!(xz_dictionary(&start(39)), 3 << 30);
        assert_eq!(xz_dictionary(b"\xfd7zXZ\0"), 0);
        let error = decompress(&start(39)[..]).err().unwrap().to_string();
        assert!(error.contains("dictionary"), "{error}");
    }
}
