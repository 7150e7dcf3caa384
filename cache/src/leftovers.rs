//! What sessions have left: of those that were killed it is removed, as is everything else that the
//! store can do without when there is no room.

use std::collections::HashSet;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::bucket::{Bucket, blob_path};
use crate::database::{Database, Kind, Row};
use crate::layer_row::LayerRow;
use crate::lease::{self, DeadLease, SessionId};
use crate::removal::{is_large, is_left};
use crate::store::Inner;
use crate::{claim, disk, reserve};

/// Clears what killed sessions have left, in the background. What cannot be removed now keeps its
/// lease: the next session tries again.
pub(crate) fn clear_in_background(store: &Inner, dead: Vec<DeadLease>) {
    let Ok(known) = known_directories(&store.database) else { return };
    for lease in &dead {
        give_up_blobs(store, lease);
    }
    let root = store.root().to_owned();
    let left = move |lease: DeadLease| Some((left_by(&root, lease.session(), &known).ok()?, lease));
    let left: Vec<(Vec<PathBuf>, DeadLease)> = dead.into_iter().filter_map(left).collect();
    let root = store.root().to_owned();
    let stopper = store.syncer.stopper.clone();
    store.removals.beside(move || {
        let is_left = |parent: BorrowedFd<'_>, name: &[u8]| is_left(&stopper, parent, name);
        for (paths, lease) in left {
            let failed =
                paths.iter().filter(|path| disk::remove_unless(path, &is_left).is_err()).count();
            if failed == 0 {
                lease.finish();
            }
        }
        claim::remove_stale(&root);
    });
}

/// Makes blobs old that a killed session has named and no row tells of, so that the next prune takes them
/// unless somebody needs them. What fails here is as old in an hour.
fn give_up_blobs(store: &Inner, lease: &DeadLease) {
    for blob in lease.named().unwrap_or_default() {
        if let Ok(None) = store.database.get(Kind::Blob, blob.as_str().as_bytes()) {
            let file = std::fs::File::open(blob_path(store.root(), &blob));
            let _ = file.and_then(|file| file.set_modified(SystemTime::UNIX_EPOCH));
        }
    }
}

/// What a session has left besides the layers of `known` directories.
fn left_by(root: &Path, session: &SessionId, known: &HashSet<String>) -> io::Result<Vec<PathBuf>> {
    let mut left = temporary_of(root, session)?;
    let layers = named_by(&Bucket::Layers.path(root), session)?;
    left.extend(layers.into_iter().filter(|(name, _)| !known.contains(name)).map(|(_, path)| path));
    Ok(left)
}

/// Removes the files of a session that is ending; whether nothing that was not committed is left.
pub(crate) fn clear_files(store: &Inner, session: &SessionId) -> bool {
    let Ok(files) = temporary_of(store.root(), session) else { return false };
    let remove = |path: &PathBuf| std::fs::remove_file(path).or_else(|_| std::fs::remove_dir(path));
    if !files.iter().all(|path| !is_large(path) && remove(path).is_ok()) {
        return false;
    }
    let trees = named_by(&Bucket::Layers.path(store.root()), session);
    match (trees, known_directories(&store.database)) {
        (Ok(trees), Ok(known)) => trees.iter().all(|(name, _)| known.contains(name)),
        _ => false,
    }
}

/// The temporary files of a session.
pub(crate) fn temporary_of(root: &Path, session: &SessionId) -> io::Result<Vec<PathBuf>> {
    let named = named_by(&Bucket::Temporary.path(root), session)?;
    Ok(named.into_iter().map(|(_, path)| path).collect())
}

/// What in `directory` has a name that a session has given.
fn named_by(directory: &Path, session: &SessionId) -> io::Result<Vec<(String, PathBuf)>> {
    let mut named = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        // What the store has made has a name that is text.
        let name = entry.file_name().into_string();
        let name = name.ok().filter(|name| SessionId::of_name(name).as_ref() == Some(session));
        named.extend(name.map(|name| (name, entry.path())));
    }
    Ok(named)
}

/// All directories of layers that rows lead to.
pub(crate) fn known_directories(database: &Database) -> rusqlite::Result<HashSet<String>> {
    // At once: between two looks a layer may be taken back out of the trash.
    let thrown = [Kind::Layer as u8];
    let [layers, thrown] =
        database.scan_at_once([(Kind::Layer, &[]), (Kind::Trash, thrown.as_slice())])?;
    let layers = layers.into_iter().map(|(_, row)| row);
    let thrown = thrown.into_iter().map(|(_, row)| Row {
        value: row.value.get(8..).unwrap_or_default().to_vec(),
        used: row.used,
    });
    let rows = layers.chain(thrown).filter_map(|row| LayerRow::parse(&row));
    let directories = rows.filter_map(|row| Some(row.own_directory()?.as_str().to_owned()));
    Ok(directories.collect())
}

/// Sees to it that there is some room to work with.
pub(crate) fn make_room(root: &Path) {
    if reserve::is_needed(root) {
        reserve::release(root);
        if reserve::is_needed(root) {
            sacrifice(root);
        }
    }
}

/// Lets go of everything that the store can do without: the reserve, what killed sessions have left,
/// stat indexes, which the next build makes again, and logs of steps.
fn sacrifice(root: &Path) {
    reserve::release(root);
    for lease in lease::sessions(root, None).unwrap_or_default().dead {
        for path in temporary_of(root, lease.session()).unwrap_or_default() {
            let _ = disk::remove(&path);
        }
    }
    for bucket in [Bucket::StatIndexes, Bucket::Logs] {
        for entry in std::fs::read_dir(bucket.path(root)).into_iter().flatten().flatten() {
            let _ = disk::remove(&entry.path());
        }
    }
}
