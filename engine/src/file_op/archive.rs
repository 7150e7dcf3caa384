//! `ADD` of an archive: extracted beside the layer, then taken in like a copied tree.

use std::fs::File;
use std::io::Read;
use std::sync::Arc;

use cache::Allowance;
use cache::layer::{DirectoryOptions, DirectorySink, ExtractOptions, Flavor, extract_archive};
use rustix::fs::{Mode, OFlags};

use super::copy::{Copying, From, Rules};
use super::plan::Plan;
use super::{FileOpError, Intermediate, Job};
use crate::stop::Stoppable;
use crate::tree::{Kind, NodeId, Root, Selector, View, path};

/// What is in an archive is on the disk as it was extracted, as the layer's tree and as the layer's tar.
const COPIES: u64 = 3;
/// Bytes of a tar's header.
const HEADER: usize = 512;

/// Whether `file` is a tar, compressed in a way that `ADD` knows. Decided by the content alone.
pub fn is_archive(file: &File) -> bool {
    let Ok((_, mut plain)) = cache::layer::compress::decompress(file) else { return false };
    let mut header = [0; HEADER];
    if plain.read_exact(&mut header).is_err() {
        return false;
    }
    let header = tar::Header::from_byte_slice(&header);
    // The checksum counts its own eight bytes as blanks.
    let bytes = header.as_bytes();
    let sum: u32 = bytes.iter().map(|byte| u32::from(*byte)).sum();
    let own: u32 = bytes[148..156].iter().map(|byte| u32::from(*byte)).sum();
    header.cksum().is_ok_and(|checksum| checksum == sum - own + 8 * 32)
}

/// Plans the content of `root` at `dest` if it is an archive; says whether it is one.
pub(super) fn unpack(
    plan: &mut Plan<'_>,
    view: &View,
    root: &Root,
    dest: &[u8],
    rules: &Rules,
    job: &Job<'_>,
) -> Result<bool, FileOpError> {
    if root.tree.node(NodeId::ROOT).stat.kind != Kind::File {
        return Ok(false);
    }
    let archive = view.open_node(&root.tree, NodeId::ROOT)?;
    if !is_archive(&archive.file) {
        return Ok(false);
    }
    let dest = plan.resolve(dest)?;
    let made = rules.made_directory(0o755);
    super::edit::make_directories(plan, &dest, &made, rules.owner)?;
    let mut place = Vec::new();
    root.tree.path(NodeId::ROOT, &mut place);
    let failed = |source| FileOpError::Extract { path: path::show(&place), source };
    let archive_file = archive.file.try_clone();
    let again = archive_file.map_err(|source| open_error(&place, source))?;
    rewind(&again).map_err(|source| open_error(&place, source))?;

    let directory = tempfile::tempdir_in(job.scratch)
        .map_err(|source| FileOpError::Open { path: job.scratch.into(), source })?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let target = rustix::fs::open(directory.path(), flags, Mode::empty()).map_err(|errno| {
        FileOpError::Open { path: directory.path().into(), source: errno.into() }
    })?;
    let options = DirectoryOptions {
        ignore_owner: job.host.single_id(),
        ..DirectoryOptions::new(Flavor::Plain)
    };
    let mut sink = DirectorySink::new(target, options).map_err(failed)?;
    let room = Allowance::in_store(job.scratch).for_copies(COPIES);
    let options = ExtractOptions { owner: rules.owner, room, ..ExtractOptions::default() };
    extract_archive(Stoppable::new(again, &job.is_stopped), &mut sink, &options).map_err(failed)?;
    let finished = sink.finish().map_err(failed)?;
    archive.verify()?;
    plan.warnings.extend(finished.warnings.iter().map(ToString::to_string));

    let extracted = crate::tree::view_of_layers(job.host, &[directory.path().into()])?;
    let selection = extracted.select(&Selector::of_bind("/"))?;
    let from = From::Archive(Arc::new(Intermediate { view: extracted, _directory: directory }));
    let rules = Rules::as_it_is(job.default_time);
    for root in &selection.roots {
        let implied = &finished.implied;
        Copying::of_archive(plan, &from, &root.tree, &rules, implied).run(dest.clone())?;
    }
    Ok(true)
}

fn rewind(mut file: &File) -> std::io::Result<()> {
    std::io::Seek::rewind(&mut file)
}

fn open_error(place: &[u8], source: std::io::Error) -> FileOpError {
    FileOpError::Open { path: path::show(place).into(), source }
}
