//! What a layer changes: from a tree back to entries.
//!
//! What is written is what BuildKit writes: a directory that is below with the same owner, mode
//! and capability, and in which nothing changed, is left out, as is a file that overlayfs copied
//! up and nobody changed. An opaque directory becomes deletions of each name below it that is gone.

use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use oci::DiffId;
use sha2::{Digest as _, Sha256};

use super::compress::{Compression, encode};
use super::{Flavor, LayerError, LayerSink, LeftOut, Lower, TarSink, pipe};
use crate::stamp::TreeStamp;
pub use options::DiffOptions;

use ahead::Ahead;
use changes::ChangeWriter;
use walk::Walk;

mod ahead;
mod attributes;
mod changes;
mod look;
mod options;
mod same;
mod walk;

/// Batches of names that may be ahead of the sink. Each holds some open directories, and some content.
const AHEAD_MAX: usize = 8;

/// A tar that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenTar {
    /// Digest of its bytes.
    pub diff_id: DiffId,
    /// Its size in bytes.
    pub size: u64,
    /// How many entries it has.
    pub entries: u64,
    /// What could not be written.
    pub warnings: Vec<LeftOut>,
}

/// Gives the entries of the layer tree `upper` to `sink`, parents first, the names in a directory
/// in the order of their bytes, so that one tree always gives the same sequence. The first of
/// several names of one file is the file, the others are hard links to it.
///
/// Names are looked at, and small files read, by other threads ahead of the sink.
pub fn diff(
    upper: impl AsFd,
    options: &DiffOptions,
    sink: &mut dyn LayerSink,
) -> Result<Vec<LeftOut>, LayerError> {
    Ok(diff_and_stamp(upper, options, sink)?.0)
}

/// Does [`diff`], and gives back the tree's stamp, too. The rare tree that has names with a meaning
/// in tars gets none from here.
pub fn diff_and_stamp(
    upper: impl AsFd,
    options: &DiffOptions,
    sink: &mut dyn LayerSink,
) -> Result<(Vec<LeftOut>, Option<TreeStamp>), LayerError> {
    let options = Arc::new(options.clone());
    let (mut walk, root) = Walk::new(upper.as_fd(), options.clone())?;
    let mut change_writer = ChangeWriter::new(sink, options.lower.is_none(), &root);
    let mut ahead = Ahead::new(move |steps| look::look(&options, steps));
    let most = (2 * rayon::current_num_threads()).clamp(2, AHEAD_MAX);
    let mut is_over = false;
    loop {
        while !is_over && ahead.len() < most {
            let steps = walk.batch()?;
            is_over = steps.is_empty();
            if !is_over {
                ahead.push(steps);
            }
        }
        match ahead.next() {
            Some(seen) => seen?.into_iter().try_for_each(|seen| change_writer.write(seen))?,
            None => return Ok(change_writer.finish()),
        }
    }
}

/// Gives what changed between two whole trees, as [`diff`] does for a layer.
pub fn diff_trees(
    lower: OwnedFd,
    merged: impl AsFd,
    sink: &mut dyn LayerSink,
) -> Result<Vec<LeftOut>, LayerError> {
    let flavor = Flavor::Plain;
    let lower = Some(Lower::new(vec![lower.into()], flavor));
    diff(merged, &DiffOptions { flavor, lower, all_xattrs: false }, sink)
}

/// A compressed copy of a tar that is made while the tar is written.
pub struct CompressedCopy<'a> {
    /// How it is compressed.
    pub compression: Compression,
    /// Where it is written to.
    pub out: &'a mut (dyn Write + Send),
}

/// Writes the layer tree `upper` to `out` as a tar.
pub fn write_tar(
    upper: impl AsFd,
    options: &DiffOptions,
    out: &mut (dyn Write + Send),
) -> Result<WrittenTar, LayerError> {
    let upper = upper.as_fd();
    let fill = |sink: &mut dyn LayerSink| diff(upper, options, sink);
    let (mut written, warnings) = write_entries(out, Vec::new(), fill)?;
    written.warnings = warnings;
    Ok(written)
}

/// Writes the entries that `fill` gives to `out` as a tar, and gives back what `fill` did. Making
/// entries, hashing, writing and each of the `copies` have a thread, so the slowest of them sets the
/// pace.
pub fn write_entries<T, E: From<LayerError>>(
    out: &mut (dyn Write + Send),
    copies: Vec<CompressedCopy<'_>>,
    fill: impl FnOnce(&mut dyn LayerSink) -> Result<T, E>,
) -> Result<(WrittenTar, T), E> {
    let (writer, mut readers) = pipe::pipe(2 + copies.len());
    let (to_hash, to_write) = readers.pop().zip(readers.pop()).expect("the pipe has two readers");
    std::thread::scope(|scope| {
        let hashed = scope.spawn(move || {
            let mut hash = Sha256::new();
            to_hash.for_each(|bytes| {
                hash.update(bytes);
                Ok(())
            })?;
            Ok::<_, io::Error>(hash.finalize())
        });
        let wrote = scope.spawn(move || {
            to_write.for_each(|bytes| out.write_all(bytes))?;
            out.flush()
        });
        let copied: Vec<_> = copies
            .into_iter()
            .zip(readers)
            .map(|(CompressedCopy { compression, out }, mut reader)| {
                scope.spawn(move || encode(&mut reader, out, compression))
            })
            .collect();
        let tar: Result<_, E> = (|| {
            let mut sink = TarSink::down(writer);
            let filled = fill(&mut sink)?;
            let entries = sink.entries();
            let (writer, size) = sink.finish()?;
            drop(writer);
            Ok((size, entries, filled))
        })();
        // When writing failed, the filling side only knows that nobody listens any more.
        wrote.join().expect("the writer does not panic").map_err(LayerError::Write)?;
        for copy in copied {
            copy.join().expect("the compressor does not panic").map_err(LayerError::Write)?;
        }
        let hash = hashed.join().expect("the hasher does not panic").map_err(LayerError::Write)?;
        let (size, entries, filled) = tar?;
        let diff_id = DiffId(oci::Digest::from_sha256(hash.into()));
        Ok((WrittenTar { diff_id, size, entries, warnings: Vec::new() }, filled))
    })
}
