//! How large layers are: the bytes of their files, as Docker counts them.

use std::io::{self, BufReader, Read};

use cache::Store;
use cache::layer::compress::{Format, decompress};
use oci::{Descriptor, DiffId, Digest, Hasher};
use tokio_util::sync::CancellationToken;

use crate::stop::Stoppable;
use crate::tarball::{self, MemberKind};

/// Bytes read at once.
const BUFFER: usize = 256 << 10;

/// What reading all of a layer gives.
pub(crate) struct Measured {
    /// Digest of the uncompressed tar.
    pub(crate) diff_id: DiffId,
    /// How it is compressed.
    pub(crate) format: Format,
}

/// Bytes in a layer's files. Found out once; a layer that is not there counts as its blob's size.
pub(crate) fn of_layer(store: &Store, diff_id: &DiffId, blob: &Descriptor) -> u64 {
    if let Some(known) = store.setting(&setting(diff_id)).and_then(|size| size.parse().ok()) {
        return known;
    }
    let forms = store.layer_of_diff_id(diff_id).and_then(|id| store.layer(&id));
    let forms = forms.map(|info| info.blobs).unwrap_or_default();
    // The uncompressed form is quickest to read.
    let plain = forms.iter().filter(|form| form.media_type == oci::media_type::LAYER);
    let found = plain.chain([blob]).chain(&forms).find(|form| store.has_blob(&form.digest));
    let Some(found) = found else { return blob.size };
    match measure(store, &found.digest, false, &CancellationToken::new()) {
        Ok((size, _)) => {
            remember(store, diff_id, size);
            size
        }
        Err(_) => blob.size,
    }
}

/// Reads all of a layer, and keeps its size for [`of_layer`].
pub(crate) fn of_blob(
    store: &Store,
    digest: &Digest,
    stop: &CancellationToken,
) -> io::Result<Measured> {
    let (size, measured) = measure(store, digest, true, stop)?;
    let measured = measured.expect("it was hashed");
    remember(store, &measured.diff_id, size);
    Ok(measured)
}

/// Keeps what was counted while a layer was written, for [`of_layer`].
pub(crate) fn remember(store: &Store, diff_id: &DiffId, bytes: u64) {
    store.put_setting(&setting(diff_id), &bytes.to_string());
}

fn setting(diff_id: &DiffId) -> String {
    format!("content size of {diff_id}")
}

fn measure(
    store: &Store,
    digest: &Digest,
    hash: bool,
    stop: &CancellationToken,
) -> io::Result<(u64, Option<Measured>)> {
    let blob = store.blob(digest).ok_or(io::ErrorKind::NotFound)?.open()?;
    let blob = Stoppable::new(blob, stop);
    let (format, reader) = decompress(BufReader::with_capacity(BUFFER, blob))?;
    let hasher = hash.then(|| Hasher::like(digest));
    let mut reader = Hashed { reader: BufReader::with_capacity(BUFFER, reader), hasher };
    let mut size = 0;
    tarball::each_member(&mut reader, &mut |member, _| {
        if member.kind == MemberKind::File {
            size += member.size;
        }
        Ok(())
    })?;
    // What follows the end belongs to the layer's bytes, too.
    io::copy(&mut reader, &mut io::sink())?;
    let measured =
        reader.hasher.map(|hasher| Measured { diff_id: DiffId(hasher.finish()), format });
    Ok((size, measured))
}

struct Hashed<R> {
    reader: R,
    hasher: Option<Hasher>,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..count]);
        }
        Ok(count)
    }
}
