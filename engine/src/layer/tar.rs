//! A layer's tar on its way into the store, with the compressed forms that outputs will ask for.

use cache::layer::compress::Compression as Encoding;
use cache::layer::{
    CompressedCopy, Content, Entry, EntryKind, LayerError, LayerSink, write_entries,
};
use cache::{Encoder, Store, StoreError};
use oci::{Descriptor, DiffId, media_type};
use tokio_util::sync::CancellationToken;

use crate::error::BuildError;
use crate::layer::size;
use crate::push::Pushes;
use crate::request::{Compression, CompressionAlgorithm};
use crate::stop::Stoppable;

/// A form in which an image's layers are wanted.
#[derive(Clone)]
pub(crate) struct Form {
    pub(crate) encoding: Encoding,
    /// What sends them.
    pub(crate) pushes: Pushes,
}

/// Writes layers' tars.
pub(crate) struct LayerTar<'a> {
    pub(crate) store: &'a Store,
    /// In what forms it is wanted; the plain one is kept in any case.
    pub(crate) forms: &'a [Form],
    /// Ends it early.
    pub(crate) stop: &'a CancellationToken,
}

/// A tar that the store has.
pub(crate) struct KeptTar {
    pub(crate) diff_id: DiffId,
    /// The plain tar.
    pub(crate) descriptor: Descriptor,
}

impl LayerTar<'_> {
    /// Puts the tar of the entries that `fill` gives into the store, and gives back what `fill` did.
    /// What is compressed is compressed while it is written.
    pub(crate) fn write<T, E: From<LayerError>>(
        &self,
        fill: impl FnOnce(&mut dyn LayerSink) -> Result<T, E>,
        fill_error: impl FnOnce(E) -> BuildError,
    ) -> Result<(KeptTar, T), BuildError> {
        let failed = |e: StoreError| BuildError::system("failed to write a layer's tar").because(e);
        let mut plain = self.store.unhashed_blob_writer().map_err(failed)?;
        let (as_it_is, others): (Vec<&Form>, Vec<&Form>) =
            self.forms.iter().partition(|form| form.encoding == Encoding::None);
        let mut compressed = Vec::with_capacity(others.len());
        for form in others {
            // The output that asked for it is about to read it.
            let mut writer = self.store.blob_writer().map_err(failed)?.cached();
            let early = form.pushes.begin_early(&mut writer).map_err(failed)?;
            compressed.push((form, early, writer));
        }
        let mut outs: Vec<_> = compressed
            .iter_mut()
            .map(|(form, _, writer)| (form.encoding, Stoppable::new(writer, self.stop)))
            .collect();
        let copies = outs
            .iter_mut()
            .map(|(compression, out)| CompressedCopy { compression: *compression, out })
            .collect();
        let mut out = Stoppable::new(&mut plain, self.stop);
        let mut content = 0;
        let fill = |sink: &mut dyn LayerSink| fill(&mut Counted { sink, bytes: &mut content });
        let written = write_entries(&mut out, copies, fill);
        let (written, filled) = written.map_err(fill_error)?;
        let digest = written.diff_id.0.clone();
        plain.commit(Some((&digest, written.size))).map_err(failed)?;
        let descriptor = Descriptor::new(media_type::LAYER, digest, written.size);
        as_it_is.iter().for_each(|form| form.pushes.begin(&descriptor));
        for (form, early, writer) in compressed {
            let (digest, size) = writer.commit(None).map_err(failed)?;
            let descriptor = Descriptor::new(encoded_type(form.encoding), digest, size);
            self.store.add_compressed(&written.diff_id, &encoder(form.encoding), &descriptor);
            form.pushes.go_on(&descriptor, early);
        }
        size::remember(self.store, &written.diff_id, content);
        Ok((KeptTar { diff_id: written.diff_id, descriptor }, filled))
    }
}

/// Passes entries on and counts the bytes of files.
struct Counted<'a> {
    sink: &'a mut dyn LayerSink,
    bytes: &'a mut u64,
}

impl LayerSink for Counted<'_> {
    fn entry(&mut self, entry: &Entry, content: Content<'_>) -> Result<(), LayerError> {
        if let EntryKind::File { size } = entry.kind {
            *self.bytes += size;
        }
        self.sink.entry(entry, content)
    }
}

/// Whether a layer gets this encoding while its tar is written. What has a table of contents is made of the
/// whole tar.
pub(crate) fn is_stream(encoding: Encoding) -> bool {
    match encoding {
        Encoding::None | Encoding::Gzip { .. } | Encoding::Zstd { .. } => true,
        Encoding::Estargz { .. } | Encoding::ZstdChunked { .. } => false,
    }
}

pub(crate) fn encoding(compression: Compression) -> Encoding {
    let level = compression.level;
    let of_gzip = |level: i32| level.clamp(1, 9) as u32;
    match compression.algorithm {
        CompressionAlgorithm::Uncompressed => Encoding::None,
        CompressionAlgorithm::Gzip => {
            level.map_or(Encoding::GZIP, |level| Encoding::Gzip { level: of_gzip(level) })
        }
        CompressionAlgorithm::Zstd => {
            level.map_or(Encoding::ZSTD, |level| Encoding::Zstd { level })
        }
        CompressionAlgorithm::Estargz => {
            level.map_or(Encoding::ESTARGZ, |level| Encoding::Estargz { level: of_gzip(level) })
        }
        CompressionAlgorithm::ZstdChunked => {
            level.map_or(Encoding::ZSTD_CHUNKED, |level| Encoding::ZstdChunked { level })
        }
    }
}

/// Version of the bytes that our compressors make; it changes with them.
const ENCODER_VERSION: u32 = 3;

/// Names an encoding where its results are kept.
pub(crate) fn encoder(encoding: Encoding) -> Encoder {
    let (algorithm, level) = match encoding {
        Encoding::None => ("tar", 0),
        Encoding::Gzip { level } => ("gzip", level as i32),
        Encoding::Zstd { level } => ("zstd", level),
        Encoding::Estargz { level } => ("estargz", level as i32),
        Encoding::ZstdChunked { level } => ("zstd:chunked", level),
    };
    Encoder { algorithm: algorithm.to_owned(), level, version: ENCODER_VERSION }
}

pub(crate) fn encoded_type(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::None => media_type::LAYER,
        Encoding::Gzip { .. } | Encoding::Estargz { .. } => media_type::LAYER_GZIP,
        Encoding::Zstd { .. } | Encoding::ZstdChunked { .. } => media_type::LAYER_ZSTD,
    }
}
