//! eStargz (stargz-snapshotter's docs/estargz.md): gzip members, one for each chunk of a file, and the
//! table of contents as the last file of the tar. It is in the tar, so that the layer is another.

use std::collections::BTreeMap;
use std::io::{self, BufRead, Write};

use oci::{DiffId, Digest};
use sha2::{Digest as _, Sha256};

use super::super::{Encoded, gzip};
use super::toc::{self, Dialect, Toc};
use super::{Ends, Packing, Watch};
use crate::layer::archive::Member;
use crate::layer::{Content, Entry, EntryKind, LayerSink as _, TarSink};

/// The table of contents.
pub(super) const INDEX: &[u8] = b"stargz.index.json";
/// The file that says that no file is to be fetched before others.
pub(super) const LANDMARK: &[u8] = b".no.prefetch.landmark";
const LANDMARK_CONTENT: &[u8] = &[0xf];

/// Annotation: digest of the table of contents.
const TOC_DIGEST: &str = "containerd.io/snapshot/stargz/toc.digest";
/// Annotation: bytes of the tar.
const UNCOMPRESSED_SIZE: &str = "io.containers.estargz.uncompressed-size";

/// Compresses the tar `tar` to `out`.
pub(in super::super) fn compress(
    tar: &mut dyn BufRead,
    out: &mut dyn Write,
    level: u32,
) -> io::Result<Encoded> {
    let mut hashed = Hashed { hash: Sha256::new(), size: 0 };
    let level = i32::try_from(level).expect("levels are small");
    let compress = |piece, level: i32| Ok(gzip::member(piece, level.unsigned_abs()));
    let mut packing = Packing::new(out, compress, level, Ends::WithTheNext);
    let landmark = member(LANDMARK, LANDMARK_CONTENT);
    packing.take(&mut landmark.as_slice(), false, &mut hashed)?;
    packing.take(tar, false, &mut hashed)?;
    let (entries, frames, written) = packing.finish()?;
    let entries = toc::entries(&entries, &frames, Dialect::Estargz);
    let entries = entries.ok_or_else(|| io::Error::other("a kind of file that eStargz has not"))?;
    let toc = Toc { version: 1, entries, tar_split_digest: None };
    let toc = serde_json::to_vec(&toc).expect("a table is plain data");
    let mut last = member(INDEX, &toc);
    last.extend_from_slice(&[0; 1024]);
    hashed.add(&last);
    out.write_all(&gzip::member(last, level.unsigned_abs()))?;
    out.write_all(&footer(written))?;
    let annotations = BTreeMap::from([
        (TOC_DIGEST.to_owned(), Digest::of(&toc).to_string()),
        (UNCOMPRESSED_SIZE.to_owned(), hashed.size.to_string()),
    ]);
    let diff_id = DiffId(Digest::from_sha256(hashed.hash.finalize().into()));
    Ok(Encoded { annotations, diff_id: Some(diff_id) })
}

/// A file as a tar has it, without the tar's end.
fn member(path: &[u8], content: &[u8]) -> Vec<u8> {
    let size = content.len() as u64;
    let entry = Entry::new(path, EntryKind::File { size }, 0o444);
    let mut sink = TarSink::new(Vec::new());
    sink.entry(&entry, Content::Bytes(content)).expect("writing to memory does not fail");
    let (mut bytes, _) = sink.finish().expect("writing to memory does not fail");
    bytes.truncate(bytes.len() - 1024);
    bytes
}

/// An empty gzip member that says where the table of contents begins.
fn footer(toc: u64) -> Vec<u8> {
    let mut footer = vec![0x1f, 0x8b, 8, 4, 0, 0, 0, 0, 0, 0xff, 26, 0, b'S', b'G', 22, 0];
    footer.extend_from_slice(format!("{toc:016x}STARGZ").as_bytes());
    // The last block, stored and empty; no bytes with their checksum.
    footer.extend_from_slice(&[1, 0, 0, 0xff, 0xff]);
    footer.extend_from_slice(&[0; 8]);
    footer
}

/// Hashes the tar as it becomes.
struct Hashed {
    hash: Sha256,
    size: u64,
}

impl Hashed {
    fn add(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size += bytes.len() as u64;
    }
}

impl Watch for Hashed {
    fn between(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.add(bytes);
        Ok(())
    }

    fn member(&mut self, _: &Member) -> io::Result<()> {
        Ok(())
    }

    fn content(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.add(bytes);
        Ok(())
    }
}
