//! `compression=` and `compression-level=` of outputs and caches.

use engine::request::CompressionAlgorithm::{self, Estargz, Gzip, Uncompressed, Zstd, ZstdChunked};

/// Each by its name, with the highest level that it has.
const ALL: [(&str, CompressionAlgorithm, Option<i32>); 5] = [
    ("gzip", Gzip, Some(9)),
    ("zstd", Zstd, Some(22)),
    ("estargz", Estargz, Some(9)),
    ("zstd:chunked", ZstdChunked, Some(22)),
    ("uncompressed", Uncompressed, None),
];
/// What layers of images may have.
pub(super) const OF_IMAGES: &[CompressionAlgorithm] =
    &[Gzip, Zstd, Estargz, ZstdChunked, Uncompressed];
/// What layers in caches may have.
pub(super) const OF_CACHES: &[CompressionAlgorithm] = &[Zstd, Gzip, Uncompressed];

/// The compression called `name`, one of `known`; if it is none of them, what there is.
pub(super) fn algorithm(
    name: &str,
    known: &[CompressionAlgorithm],
) -> Result<CompressionAlgorithm, String> {
    let is_known = |found: &&(&str, CompressionAlgorithm, _)| known.contains(&found.1);
    let mut found = ALL.iter().filter(is_known);
    match found.clone().find(|(known, ..)| *known == name) {
        Some((_, algorithm, _)) => Ok(*algorithm),
        None => {
            let first = found.next().map_or("", |(name, ..)| name);
            let names =
                found.fold(first.to_owned(), |names, (name, ..)| format!("{names}, {name}"));
            Err(format!("compressions are {names}"))
        }
    }
}

/// A level of `algorithm`; if it is none, what is wrong with it.
pub(super) fn level(algorithm: CompressionAlgorithm, text: &str) -> Result<i32, String> {
    let known = ALL.iter().find(|(_, known, _)| *known == algorithm);
    let Some(highest) = known.and_then(|(.., highest)| *highest) else {
        return Err("`compression-level` without a compression".to_owned());
    };
    text.parse()
        .ok()
        .filter(|level| (0..=highest).contains(level))
        .ok_or_else(|| format!("`compression-level={text}`: want a number from 0 to {highest}"))
}
