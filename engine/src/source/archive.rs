//! A context that comes as an archive.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use cache::Allowance;
use cache::layer::{DirectoryOptions, DirectorySink, ExtractOptions, Flavor, LayerError};
use tokio_util::sync::CancellationToken;

use crate::stop::Stoppable;

/// Why a context's archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ExtractError {
    #[error(transparent)]
    Layer(#[from] LayerError),
    #[error("failed to open the target")]
    Target(#[from] std::io::Error),
}

/// Unpacks a tar, plain or compressed, into the directory `target`. Nothing in it reaches out. For a
/// user of a `single_id` owners are kept aside, as those of layers.
pub(crate) fn extract(
    archive: impl Read + Send,
    target: &Path,
    stop: &CancellationToken,
    single_id: bool,
) -> Result<(), ExtractError> {
    let root = File::open(target)?;
    let options =
        DirectoryOptions { ignore_owner: single_id, ..DirectoryOptions::new(Flavor::Plain) };
    let mut sink = DirectorySink::new(root.into(), options)?;
    let archive = Stoppable::new(archive, stop);
    let options = ExtractOptions { room: Allowance::in_store(target), ..ExtractOptions::default() };
    cache::layer::extract_archive(archive, &mut sink, &options)?;
    sink.finish()?;
    Ok(())
}
