//! Layers in which nothing is later than `SOURCE_DATE_EPOCH`.
//!
//! Files carry the time at which their step ran. Where the time of the sources is given, the image
//! gets a copy of each layer that was made here, with later times replaced by that one. The step's
//! own result stays as it is: other builds have other times.

use std::fs::File;
use std::io::{self, BufReader, Read, Write};

use cache::Store;
use llb::encode::Encoder;
use oci::{Descriptor, DiffId, media_type};

use crate::assemble::AssembledLayer;
use crate::error::BuildError;

const BLOCK: usize = 512;
/// A header that says more about the next entry takes no more, in bytes.
const RECORDS_MAX: u64 = 8 << 20;

/// The copies of `layers`; those of a base image are taken as they are.
pub(crate) fn clamp(
    store: &Store,
    mut layers: Vec<AssembledLayer>,
    epoch: i64,
) -> Result<Vec<AssembledLayer>, BuildError> {
    for layer in layers.iter_mut().filter(|layer| layer.created.is_some()) {
        clamp_layer(store, layer, epoch.max(0))?;
    }
    Ok(layers)
}

fn clamp_layer(store: &Store, layer: &mut AssembledLayer, epoch: i64) -> Result<(), BuildError> {
    let mut encoder = Encoder::new("clamped layer");
    encoder.text(layer.diff_id.0.as_str()).text(&epoch.to_string());
    let key = encoder.finish();
    let known = store.record(&key).and_then(|record| record.outputs.first()?.first().cloned());
    if let Some((id, info)) = known.and_then(|id| Some((id.clone(), store.layer(&id)?)))
        && let (Some(diff_id), Some(descriptor)) = (info.diff_id, info.blobs.first())
    {
        (layer.id, layer.diff_id, layer.descriptor) = (id, diff_id, descriptor.clone());
        return Ok(());
    }
    let blobs = store.layer(&layer.id).map_or_else(Vec::new, |info| info.blobs);
    let tar = blobs.iter().find(|blob| blob.media_type == media_type::LAYER);
    let Some(tar) = tar.and_then(|blob| store.blob(&blob.digest)) else { return Ok(()) };
    let descriptor = write_clamped(store, &tar.open(), epoch)
        .map_err(|e| BuildError::system("failed to set the times of a layer", &e))?;
    let diff_id = DiffId(descriptor.digest.clone());
    let id = store.add_blob_layer(&diff_id, &descriptor);
    store.put_record(&crate::worker::record(key, vec![vec![id.clone()]]));
    (layer.id, layer.diff_id, layer.descriptor) = (id, diff_id, descriptor);
    Ok(())
}

fn write_clamped(store: &Store, tar: &io::Result<File>, epoch: i64) -> io::Result<Descriptor> {
    let tar = tar.as_ref().map_err(|e| io::Error::new(e.kind(), e.to_string()))?;
    let mut writer = store.blob_writer().map_err(io::Error::other)?;
    copy(&mut BufReader::with_capacity(1 << 20, tar), &mut writer, epoch.unsigned_abs())?;
    let (digest, size) = writer.commit(None).map_err(io::Error::other)?;
    Ok(Descriptor::new(media_type::LAYER, digest, size))
}

/// Copies a tar of our own, with the times of all entries that are later replaced by `epoch`.
fn copy(tar: &mut impl Read, out: &mut impl Write, epoch: u64) -> io::Result<()> {
    let mut header = tar::Header::new_old();
    let (mut size, mut is_late) = (None, false);
    loop {
        tar.read_exact(header.as_mut_bytes())?;
        if header.as_bytes() == &[0; BLOCK] {
            out.write_all(header.as_bytes())?;
            return io::copy(tar, out).map(drop);
        }
        let records = header.entry_type().is_pax_local_extensions();
        let length = size.take().map_or_else(|| header.entry_size(), Ok)?;
        if header.mtime().map_or(is_late, |time| is_late || time > epoch) {
            header.set_mtime(epoch);
            header.set_cksum();
        }
        is_late = false;
        if records {
            let mut text = Vec::new();
            tar.take(length.min(RECORDS_MAX)).read_to_end(&mut text)?;
            for record in tar::PaxExtensions::new(&text) {
                let record = record?;
                let number = record.value().ok().and_then(|value| value.parse::<u64>().ok());
                match record.key_bytes() {
                    b"size" => size = number,
                    b"mtime" => is_late = number.is_some_and(|time| time > epoch),
                    _ => {}
                }
            }
            if is_late {
                text = without_time(&text);
                header.set_size(text.len() as u64);
                header.set_cksum();
            }
            out.write_all(header.as_bytes())?;
            out.write_all(&text)?;
            out.write_all(&[0; BLOCK][..padding(text.len() as u64)])?;
            tar.read_exact(&mut [0; BLOCK][..padding(length)])?;
        } else {
            out.write_all(header.as_bytes())?;
            let length = length + padding(length) as u64;
            if io::copy(&mut tar.take(length), out)? != length {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// To the end of the block.
fn padding(length: u64) -> usize {
    (BLOCK - (length % BLOCK as u64) as usize) % BLOCK
}

/// The records without the one for the time: the header has it.
fn without_time(records: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut rest = records;
    while let Some(space) = rest.iter().position(|byte| *byte == b' ')
        && let Some(length) = std::str::from_utf8(&rest[..space]).ok().and_then(|n| n.parse().ok())
        && let Some((record, next)) = rest.split_at_checked(length)
    {
        if !record[space + 1..].starts_with(b"mtime=") {
            kept.extend_from_slice(record);
        }
        rest = next;
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, time and content of every entry.
    fn entries(tar: &[u8]) -> Vec<(String, u64, Vec<u8>)> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            let path = String::from_utf8(entry.path_bytes().into_owned()).unwrap();
            (path, entry.header().mtime().unwrap(), content)
        });
        entries.collect()
    }

    #[test]
    fn later_times_are_replaced_and_nothing_else() {
        let long = "long/".repeat(60);
        let times = [(long.as_str(), 900), ("early", 99), ("exact", 100), ("late", 5_000_000_000)];
        let mut builder = tar::Builder::new(Vec::new());
        for (number, (path, time)) in times.iter().enumerate() {
            let content = vec![b'x'; 300 * number];
            let records = [("path", path.as_bytes()), ("mtime", b"99999999999")];
            builder
                .append_pax_extensions(records[..1 + usize::from(*time > 1000)].to_vec())
                .unwrap();
            let mut header = tar::Header::new_ustar();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(*time);
            header.set_path("short").unwrap();
            header.set_cksum();
            builder.append(&header, &content[..]).unwrap();
        }
        let tar = builder.into_inner().unwrap();
        let mut clamped = Vec::new();
        copy(&mut &tar[..], &mut clamped, 100).unwrap();
        let expected = [(0, 100), (1, 99), (2, 100), (3, 100)]
            .map(|(number, time)| (times[number].0.to_owned(), time, vec![b'x'; 300 * number]));
        assert_eq!(entries(&clamped), expected);
        assert!(!clamped.windows(6).any(|window| window == b"mtime="));
        let mut again = Vec::new();
        copy(&mut &clamped[..], &mut again, 100).unwrap();
        assert_eq!(again, clamped);
        assert!(copy(&mut &tar[..1500], &mut Vec::new(), 100).is_err(), "an end in the middle");
    }
}
