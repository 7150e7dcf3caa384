//! What is said to be possible here. Clients leave out what is not named, so nothing is named that is not built.

use crate::definition::CAPABILITIES;
use crate::wire::apicaps::ApiCap;

/// Of the frontend's API.
const FRONTEND: &[&str] = &[
    "solve.base",
    "return",
    "returnmap",
    "importcaches",
    "proto.refarray",
    "frontend.caps",
    "gateway.evaluate",
    "gateway.solve.evaluate",
    "gateway.solve.metadata",
    "readdir",
    "readfile",
    "resolveimage",
    "resolveimage.resolvemode",
    "source.metaresolver",
    "statfile",
];

/// Of exporters, caches and the store.
const BESIDE: &[&str] = &[
    "cache.gha",
    "cache.s3",
    "cache.azblob",
    "exporter.image.annotations",
    "exporter.sourcedateepoch",
    "exporter.multiple",
    "gc.freespacefilter",
];

pub(crate) fn frontend() -> Vec<ApiCap> {
    FRONTEND.iter().map(|id| enabled(id)).collect()
}

pub(crate) fn definition() -> Vec<ApiCap> {
    CAPABILITIES.iter().chain(BESIDE).map(|id| enabled(id)).collect()
}

fn enabled(id: &str) -> ApiCap {
    ApiCap { id: id.to_owned(), enabled: true, ..ApiCap::default() }
}
