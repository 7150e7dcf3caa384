//! Layers with other times.
//!
//! Files carry the time at which their step ran, or that of the source they were copied from. Where
//! the time of the sources is given (`SOURCE_DATE_EPOCH`), the image gets a copy of each layer that
//! the build made, with times replaced by that one. The step's own result stays as it is: other
//! builds have other times. Layers of the base are an input, and no input is changed.

use std::io::{self, BufReader, Read, Write};

use cache::layer::compress::decompress;
use cache::layer::set_checksum;
use cache::{BlobFile, Memo, Store};
use llb::encode::Encoder;
use oci::{Descriptor, DiffId, Digest, media_type};

use crate::error::BuildError;
use crate::layer::{AssembledLayer, Layers};
use crate::stop::Stoppable;

/// Domain of the memos of copies.
const REDATED: &str = "layer with other times";
const BLOCK: usize = 512;
/// A header that says more about the next entry takes no more, in bytes.
const RECORDS_MAX: u64 = 8 << 20;

/// Which times are replaced, and by what: seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NewTimes {
    /// Those that are later.
    Later(u64),
    /// All.
    All(u64),
}

/// Replaces times in the layers of an image.
pub(crate) struct Redate<'a> {
    pub(crate) store: &'a Store,
    pub(crate) layers: &'a Layers,
    pub(crate) times: NewTimes,
}

impl Redate<'_> {
    /// `layers` with copies in place of those that the build made: the first `base` of them are the
    /// base's. Whatever the store has lost of them is an error: the layer as it is would be another.
    pub(crate) fn all(
        &self,
        mut layers: Vec<AssembledLayer>,
        base: usize,
    ) -> Result<Vec<AssembledLayer>, BuildError> {
        for layer in layers.iter_mut().skip(base) {
            (layer.diff_id, layer.descriptor) = self.layer(layer)?;
        }
        Ok(layers)
    }

    fn layer(&self, layer: &AssembledLayer) -> Result<(DiffId, Descriptor), BuildError> {
        let key = self.times.key(&layer.diff_id);
        if let Some(known) = self.known(&key) {
            return Ok(known);
        }
        let lost = || self.layers.lost(&layer.id);
        let blob = self.store.blob(&layer.descriptor.digest).ok_or_else(lost)?;
        let descriptor = self.write(&blob).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData => {
                self.store.discard_blob(blob.digest());
                lost()
            }
            io::ErrorKind::NotFound => lost(),
            _ => BuildError::system("failed to set the times of a layer").because(error),
        })?;
        let diff_id = DiffId(descriptor.digest.clone());
        let id = self.store.add_blob_layer(&diff_id, &descriptor);
        self.store.put_memo(REDATED, &key, &Memo::new(vec![id]));
        Ok((diff_id, descriptor))
    }

    /// The copy that was made before, if its tar is still there.
    fn known(&self, key: &Digest) -> Option<(DiffId, Descriptor)> {
        let memo = self.store.memo(REDATED, key)?;
        let info = self.store.layer(memo.layers.first()?)?;
        let is_tar = |blob: &&Descriptor| {
            blob.media_type == media_type::LAYER && self.store.has_blob(&blob.digest)
        };
        let tar = info.blobs.iter().find(is_tar)?.clone();
        Some((info.diff_id?, tar))
    }

    /// Copies the tar in `blob`, however it is compressed. What it holds is compared with its digest
    /// meanwhile.
    fn write(&self, blob: &BlobFile) -> io::Result<Descriptor> {
        let stop = self.layers.stop();
        let mut writer = self.store.blob_writer().map_err(io::Error::other)?;
        std::thread::scope(|scope| {
            let verified = scope.spawn(|| blob.verify(&|| stop.is_cancelled()));
            let copied = self.copy_from(blob, &mut writer);
            verified.join().expect("reading does not panic")?;
            copied
        })?;
        let (digest, size) = writer.commit(None).map_err(io::Error::other)?;
        Ok(Descriptor::new(media_type::LAYER, digest, size))
    }

    fn copy_from(&self, blob: &BlobFile, out: &mut impl Write) -> io::Result<()> {
        let (_, tar) = decompress(Stoppable::new(blob.open()?, self.layers.stop()))?;
        copy(&mut BufReader::with_capacity(1 << 20, tar), out, self.times)
    }
}

impl NewTimes {
    /// Names the copy of a layer.
    fn key(self, diff_id: &DiffId) -> Digest {
        let name = match self {
            Self::Later(_) => "clamped layer v3",
            Self::All(_) => "dated layer v3",
        };
        let mut encoder = Encoder::new(name);
        encoder.text(diff_id.0.as_str()).text(&self.time().to_string());
        encoder.finish()
    }

    fn time(self) -> u64 {
        match self {
            Self::Later(time) | Self::All(time) => time,
        }
    }

    fn replaces(self, time: u64) -> bool {
        match self {
            Self::Later(latest) => time > latest,
            Self::All(_) => true,
        }
    }

    /// The same of a time in a record: seconds, maybe with a fraction. One that is no time is.
    fn replaces_text(self, text: Option<&str>) -> bool {
        let (seconds, fraction) = match text.and_then(|text| text.split_once('.')) {
            Some((seconds, fraction)) => (Some(seconds), fraction.bytes().any(|byte| byte != b'0')),
            None => (text, false),
        };
        let seconds = seconds.and_then(|seconds| seconds.parse::<i64>().ok());
        // What is before 1970 is before any time that replaces others.
        let seconds = seconds.map(|seconds| u64::try_from(seconds).unwrap_or(0));
        seconds.is_none_or(|seconds| self.replaces(seconds.saturating_add(fraction.into())))
    }
}

/// Copies a tar of our own with other times.
fn copy(tar: &mut impl Read, out: &mut impl Write, times: NewTimes) -> io::Result<()> {
    let mut header = tar::Header::new_old();
    // What records said about the next entry.
    let (mut size, mut is_replaced) = (None, false);
    loop {
        tar.read_exact(header.as_mut_bytes())?;
        if header.as_bytes() == &[0; BLOCK] {
            out.write_all(header.as_bytes())?;
            return io::copy(tar, out).map(drop);
        }
        let records = header.entry_type().is_pax_local_extensions();
        let length = size.take().map_or_else(|| header.entry_size(), Ok)?;
        if is_replaced || times.replaces(header.mtime()?) {
            header.set_mtime(times.time());
            set_checksum(&mut header);
        }
        is_replaced = false;
        if records {
            let mut text = Vec::new();
            tar.take(length.min(RECORDS_MAX)).read_to_end(&mut text)?;
            for record in tar::PaxExtensions::new(&text) {
                let record = record?;
                match record.key_bytes() {
                    b"size" => size = record.value().ok().and_then(|value| value.parse().ok()),
                    b"mtime" => is_replaced = times.replaces_text(record.value().ok()),
                    _ => {}
                }
            }
            if is_replaced {
                text = without_time(&text);
                header.set_size(text.len() as u64);
                set_checksum(&mut header);
            }
            // An entry that had records for its time alone is written as if it had been made at that time.
            if !text.is_empty() {
                out.write_all(header.as_bytes())?;
                out.write_all(&text)?;
                out.write_all(&[0; BLOCK][..padding(text.len() as u64)])?;
            }
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
    use cache::layer::{Content, Entry, EntryKind, LayerSink as _, TarSink};

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
    fn times_are_replaced_and_nothing_else() {
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
        for (new, expected) in [
            (NewTimes::Later(100), [100, 99, 100, 100]),
            (NewTimes::All(100), [100, 100, 100, 100]),
        ] {
            let mut copied = Vec::new();
            copy(&mut &tar[..], &mut copied, new).unwrap();
            let expected = [0, 1, 2, 3].map(|number: usize| {
                (times[number].0.to_owned(), expected[number], vec![b'x'; 300 * number])
            });
            assert_eq!(entries(&copied), expected, "{new:?}");
            assert!(!copied.windows(6).any(|window| window == b"mtime="));
            let mut again = Vec::new();
            copy(&mut &copied[..], &mut again, new).unwrap();
            assert_eq!(again, copied);
            let cut = copy(&mut &tar[..1500], &mut Vec::new(), new);
            assert!(cut.is_err(), "an end in the middle");
        }
    }

    #[test]
    fn what_was_made_at_another_time_becomes_the_same_bytes() {
        let tar = |seconds: i64| {
            let mut sink = TarSink::new(Vec::new());
            for (path, kind, uid) in [
                ("made".to_owned(), EntryKind::Directory, 0),
                (format!("made/{}", "long".repeat(30)), EntryKind::Directory, 0),
                ("made/file".to_owned(), EntryKind::File { size: 4 }, 3_000_000),
                ("gone".to_owned(), EntryKind::Whiteout, 0),
            ] {
                let mut entry = Entry::new(path, kind, 0o755);
                entry.mtime.seconds = seconds;
                entry.uid = uid;
                sink.entry(&entry, Content::Bytes(b"text")).unwrap();
            }
            sink.finish().unwrap().0
        };
        for made in [100, 101, 1 << 34] {
            let mut copied = Vec::new();
            copy(&mut &tar(made)[..], &mut copied, NewTimes::Later(100)).unwrap();
            assert!(copied == tar(100), "made at {made}");
        }
    }

    #[test]
    fn a_time_in_a_record_may_have_a_fraction() {
        for (text, is_later) in [
            ("99.9", false),
            ("100", false),
            ("100.000", false),
            ("100.001", true),
            ("101", true),
            ("-5.5", false),
            ("soon", true),
        ] {
            assert_eq!(NewTimes::Later(100).replaces_text(Some(text)), is_later, "{text}");
            assert!(NewTimes::All(100).replaces_text(Some(text)), "{text}");
        }
    }
}
