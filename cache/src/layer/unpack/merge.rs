//! An archive into a tree that has files already.

use std::io::Read;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use rustix::fs::{Dir, FileType, OFlags, Stat, fstat};
use rustix::io::Errno;

use super::{ExtractOptions, Extracted, Stream, each_member, placed, to_entry, write_entry};
use crate::layer::archive::Member;
use crate::layer::beneath::open_path;
use crate::layer::{
    Content, DirectoryOptions, DirectorySink, Entry, EntryKind, LayerError, LayerSink as _, name,
    read,
};

/// What becomes of names that are there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// They stay, unless the archive's is newer and neither is a directory.
    Older,
    /// The archive's counts. That a directory would have to go, or to come in the place of something else, is an
    /// error; one that is there stays as it is.
    Files,
}

/// Extracts a tar into the directory `root`, over what is there. With [`Over::Older`] an entry for the directory itself
/// gives it owner, mode and time if nothing was in it.
///
/// Names lead nowhere but below `root`, and through no link that was there before.
pub fn merge_archive(
    reader: impl Read + Send,
    root: OwnedFd,
    over: Over,
    directory: DirectoryOptions,
    options: &ExtractOptions,
) -> Result<Extracted, LayerError> {
    let there = root.try_clone().map_err(LayerError::Read)?;
    let is_new =
        over == Over::Older && is_empty(there.as_fd()).map_err(LayerError::at("read", b"/"))?;
    let mut sink = DirectorySink::new(root, directory)?;
    let stream = Stream { hash_input: false, hash_output: false };
    let read = stream.read(reader, &options.limits, |archive| {
        each_member(archive, &options.limits, options.room.clone(), &mut |member, content| {
            let Some(entry) = entry(member)?.map(|entry| placed(entry, options)) else {
                return Ok(());
            };
            if entry.path.is_empty() {
                return if is_new { sink.entry(&entry, Content::None) } else { Ok(()) };
            }
            match is_wanted(there.as_fd(), &entry, over)? {
                true => write_entry(&entry, content, &mut sink),
                false => Ok(()),
            }
        })
    })?;
    sink.finish()?;
    Ok(Extracted { entries: read.entries, size: read.size, format: read.format })
}

fn is_empty(root: BorrowedFd<'_>) -> Result<bool, Errno> {
    for entry in Dir::read_from(root)? {
        if !matches!(entry?.file_name().to_bytes(), b"." | b"..") {
            return Ok(false);
        }
    }
    Ok(true)
}

/// What a member makes; nothing where it would make something else than a directory of the root.
fn entry(member: Member) -> Result<Option<Entry>, LayerError> {
    if !name::clean(&member.path)?.is_empty() {
        return to_entry(member);
    }
    let Member { mode, uid, gid, mtime, type_flag, .. } = member;
    let root = Entry { uid, gid, mtime, ..Entry::new("", EntryKind::Directory, mode) };
    Ok((type_flag == b'5').then_some(root))
}

/// Whether the entry takes its name.
fn is_wanted(root: BorrowedFd<'_>, entry: &Entry, over: Over) -> Result<bool, LayerError> {
    // What it links to may have been left out.
    if let EntryKind::Hardlink { target } = &entry.kind
        && !matches!(look(root, target)?, There::Entry(_))
    {
        return Ok(false);
    }
    let is_directory = entry.kind == EntryKind::Directory;
    let refused = |errno| Err(LayerError::at("replace", &entry.path)(errno));
    match (look(root, &entry.path)?, over) {
        (There::Nothing, _) => Ok(true),
        (There::Obstacle, Over::Older) => Ok(false),
        (There::Obstacle, Over::Files) => refused(Errno::NOTDIR),
        (There::Entry(found), over) => {
            let was_directory = FileType::from_raw_mode(found.st_mode).is_dir();
            match (was_directory, is_directory, over) {
                (true, true, _) => Ok(false),
                (false, false, Over::Older) => Ok(read::mtime(&found) < entry.mtime),
                (false, false, Over::Files) => Ok(true),
                (_, _, Over::Older) => Ok(false),
                (true, false, Over::Files) => refused(Errno::ISDIR),
                (false, true, Over::Files) => refused(Errno::NOTDIR),
            }
        }
    }
}

/// What is at a path.
enum There {
    Nothing,
    /// Something else than a directory is on the way.
    Obstacle,
    Entry(Stat),
}

fn look(root: BorrowedFd<'_>, path: &[u8]) -> Result<There, LayerError> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match open_path(root, path, flags) {
        Err(Errno::NOENT) => Ok(There::Nothing),
        Err(Errno::NOTDIR | Errno::LOOP) => Ok(There::Obstacle),
        Err(errno) => Err(LayerError::at("open", path)(errno)),
        Ok(found) => fstat(&found).map(There::Entry).map_err(LayerError::at("stat", path)),
    }
}
