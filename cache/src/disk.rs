//! Files and trees, whatever the store keeps in them: written whole, replaced, removed, measured.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::{layer, unnamed};

/// Writes a file that appears whole; one that is there already stays.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    write_new_files(&[(path, content)])
}

/// Writes files that appear whole, in this order; those that are there already stay. They go to the disk at once:
/// together that takes as long as for one.
pub(crate) fn write_new_files(files: &[(&Path, &[u8])]) -> io::Result<()> {
    let missing: Vec<_> = files.iter().copied().filter(|(path, _)| !path.exists()).collect();
    let unnamed: Vec<io::Result<File>> = std::thread::scope(|scope| {
        let write =
            |(path, content)| scope.spawn(move || write_unnamed(directory_of(path), content));
        let threads: Vec<_> = missing.iter().copied().map(write).collect();
        threads.into_iter().map(|thread| thread.join().expect("writing does not panic")).collect()
    });
    for ((path, content), file) in missing.into_iter().zip(unnamed) {
        // Not every file system has files without names, and not everywhere can they be given one.
        let named = file.and_then(|file| unnamed::name(&file, path));
        match named {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(_) => write_renamed(path, content)?,
        }
    }
    Ok(())
}

fn write_unnamed(directory: &Path, content: &[u8]) -> io::Result<File> {
    let mut file = unnamed::create(directory, 0o600)?;
    file.write_all(content)?;
    file.sync_all()?;
    Ok(file)
}

fn write_renamed(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(directory_of(path))?;
    file.write_all(content)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

fn directory_of(path: &Path) -> &Path {
    path.parent().expect("a file of the store is below its root")
}

/// A whole regular file of at most `cap` bytes.
pub(crate) fn read_capped(path: &Path, cap: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() || found.len() > cap {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    let mut bytes = Vec::new();
    file.take(cap).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Renames a file, whatever stands at its new place.
pub(crate) fn replace(path: &Path, with: &Path) -> io::Result<()> {
    match std::fs::rename(with, path) {
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => {
            remove(path)?;
            std::fs::rename(with, path)
        }
        renamed => renamed,
    }
}

/// Removes a file or a tree, whatever is in it. Not existing is fine.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    remove_unless(path, &|_, _| false)
}

/// The same; fails at the first name that `is_left`.
pub(crate) fn remove_unless(path: &Path, is_left: &layer::IsLeft<'_>) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    match File::open(parent) {
        Ok(parent) => layer::remove_tree_unless(&parent, name.as_bytes(), is_left),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Brings the names in a directory to the disk.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Room that a file or tree takes, in bytes; what cannot be read counts nothing. A hard-linked
/// file counts once.
pub fn size_of(path: &Path) -> u64 {
    let mut total = 0;
    walk(path, &mut |_, size| total += size);
    total
}

pub(crate) fn walk(path: &Path, visit: &mut dyn FnMut(&Path, u64)) {
    let mut linked = HashSet::new();
    for entry in walkdir::WalkDir::new(path).follow_links(false) {
        let Ok(entry) = entry else { continue };
        let Ok(found) = entry.metadata() else { continue };
        let is_first =
            found.nlink() == 1 || found.is_dir() || linked.insert((found.dev(), found.ino()));
        if is_first {
            visit(entry.path(), found.blocks() * 512);
        }
    }
}
