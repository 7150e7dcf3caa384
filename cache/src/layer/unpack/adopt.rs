//! What unpacking leaves to be done until the layers below are there.

use rustix::fs::OFlags;

use super::*;
use crate::layer::beneath::{DIRECTORY, open_path};
use crate::layer::read_entry;

/// Finishes a layer that was unpacked before the layers below it were known: `options.lower` are
/// those now. Directories the layer only implied get their owner, mode and attributes from below;
/// hard links to files below get a copy of the file to link to.
pub fn adopt(
    upper: OwnedFd,
    options: DirectoryOptions,
    finished: &Finished,
) -> Result<Finished, LayerError> {
    let lower = options.lower.clone();
    let tree = upper.try_clone().map_err(LayerError::Read)?;
    let mut sink = DirectorySink::new(upper, options)?;
    for path in &finished.implied {
        // A later entry of the layer may have taken its place.
        if stands(tree.as_fd(), path)
            && let Some(entry) = lower.directory(path).map_err(LayerError::at("read", path))?
        {
            sink.entry(&entry, Content::None)?;
        }
    }
    for (path, target) in &finished.dangling {
        if !stands_at_all(tree.as_fd(), target) {
            copy_up(&lower, path, target, &mut sink)?;
        }
        let kind = EntryKind::Hardlink { target: target.clone() };
        sink.entry(&Entry::new(path.clone(), kind, 0), Content::None)?;
    }
    let finished = sink.finish()?;
    match finished.dangling.first() {
        Some((path, target)) => {
            Err(LayerError::DanglingLink { path: to_path(path), target: to_path(target) })
        }
        None => Ok(finished),
    }
}

fn stands(tree: BorrowedFd<'_>, path: &[u8]) -> bool {
    open_path(tree, path, DIRECTORY).is_ok()
}

fn stands_at_all(tree: BorrowedFd<'_>, path: &[u8]) -> bool {
    open_path(tree, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC).is_ok()
}

/// Copies the file at `target` from below into the layer.
fn copy_up(
    lower: &Lower,
    path: &[u8],
    target: &[u8],
    sink: &mut DirectorySink,
) -> Result<(), LayerError> {
    let dangling = || LayerError::DanglingLink { path: to_path(path), target: to_path(target) };
    let found = lower.find(target).map_err(LayerError::at("look up", target))?;
    let found = found.filter(|found| found.place.is_empty()).ok_or_else(dangling)?;
    let entry = read_entry(lower.layer(found.layer), target)?.ok_or_else(dangling)?;
    if let EntryKind::File { .. } = entry.kind {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let file =
            lower.open(found.layer, target, flags).map_err(LayerError::at("open", target))?;
        sink.entry(&entry, Content::File(&file.into()))
    } else {
        sink.entry(&entry, Content::None)
    }
}
