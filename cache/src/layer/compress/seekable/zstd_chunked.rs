//! zstd:chunked (containers/storage, `pkg/chunked`): zstd frames, one for each chunk of a file, and behind
//! them, in frames that decoders skip, a table of contents and what gives the tar back from the files.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use oci::Digest;

use super::super::Encoded;
use super::tar_split::TarSplit;
use super::toc::{self, Dialect, Toc};
use super::{Ends, Packing};

/// Annotation: digest of the compressed table.
const TOC_CHECKSUM: &str = "io.github.containers.zstd-chunked.manifest-checksum";
/// Annotation: where the table is: offset, length, length when decompressed, type.
const TOC_POSITION: &str = "io.github.containers.zstd-chunked.manifest-position";
/// Annotation: the same of the tar-split data, without a type.
const TAR_SPLIT_POSITION: &str = "io.github.containers.zstd-chunked.tarsplit-position";

/// The type of the table: that of CRFS.
const TOC_TYPE: u64 = 1;
const SKIPPABLE: [u8; 4] = [0x50, 0x2a, 0x4d, 0x18];
/// Bytes before the data of a skippable frame.
const SKIPPABLE_HEADER: u64 = 8;
/// Ends the footer.
const MAGIC: u64 = u64::from_le_bytes(*b"GNUlInUx");

/// Compresses the tar `tar` to `out`.
pub(in super::super) fn compress(
    tar: &mut dyn BufRead,
    out: &mut dyn Write,
    level: i32,
) -> io::Result<Encoded> {
    let mut split = TarSplit::default();
    let mut packing = Packing::new(out, frame, level, Ends::WithContent);
    packing.take(tar, true, &mut split)?;
    let (entries, frames, written) = packing.finish()?;
    let split = split.finish();
    let packed_split = frame(split.clone(), level)?;
    let entries = toc::entries(&entries, &frames, Dialect::ZstdChunked);
    let entries =
        entries.ok_or_else(|| io::Error::other("a kind of file that zstd:chunked has not"))?;
    let tar_split_digest = Some(Digest::of(&packed_split).to_string());
    let toc = Toc { version: 1, entries, tar_split_digest };
    let toc = serde_json::to_vec(&toc).expect("a table is plain data");
    let packed_toc = frame(toc.clone(), level)?;

    let at_toc = written + SKIPPABLE_HEADER;
    let at_split = at_toc + packed_toc.len() as u64 + SKIPPABLE_HEADER;
    let lengths = |packed: &[u8], plain: &[u8]| [packed.len() as u64, plain.len() as u64];
    let [toc_packed, toc_plain] = lengths(&packed_toc, &toc);
    let [split_packed, split_plain] = lengths(&packed_split, &split);
    skippable(out, &packed_toc)?;
    skippable(out, &packed_split)?;
    let footer =
        [at_toc, toc_packed, toc_plain, TOC_TYPE, at_split, split_packed, split_plain, MAGIC];
    skippable(out, &footer.map(u64::to_le_bytes).concat())?;
    let annotations = BTreeMap::from([
        (TOC_CHECKSUM.to_owned(), Digest::of(&packed_toc).to_string()),
        (TOC_POSITION.to_owned(), format!("{at_toc}:{toc_packed}:{toc_plain}:{TOC_TYPE}")),
        (TAR_SPLIT_POSITION.to_owned(), format!("{at_split}:{split_packed}:{split_plain}")),
    ]);
    Ok(Encoded { annotations, diff_id: None })
}

fn frame(piece: Vec<u8>, level: i32) -> io::Result<Vec<u8>> {
    let mut compressor = zstd::bulk::Compressor::new(level)?;
    compressor.include_checksum(true)?;
    compressor.compress(&piece)
}

fn skippable(out: &mut dyn Write, data: &[u8]) -> io::Result<()> {
    let length = u32::try_from(data.len());
    let length = length.map_err(|_| io::Error::other("a layer with too many files"))?;
    out.write_all(&SKIPPABLE)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(data)
}
