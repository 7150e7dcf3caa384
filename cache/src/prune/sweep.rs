//! Sweeping out what no row leads to: garbage of sessions that are over, old logs, stale locks.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::bucket::Bucket;
use crate::clock::ago;
use crate::disk::{size_of, sync_directory};
use crate::error::StoreError;
use crate::lease::{self, SessionId};
use crate::store::Store;
use crate::{claim, leftovers};

/// Files without an owner are left alone for this long: somebody may just be making them.
const GRACE: Duration = Duration::from_secs(60);
/// Logs and stat indexes are small; they are kept at least this long.
const KEEP_MIN: Duration = Duration::from_secs(24 * 3600);

/// Removes garbage, and logs that are older than `before`, in seconds since 1970. Says how many bytes
/// they had.
pub(super) fn sweep(store: &Store, before: i64) -> Result<u64, StoreError> {
    // In this order: the session that made one of these trees is alive now, or over and committed.
    let trees = entries(&store.bucket(Bucket::Layers))?;
    let alive = lease::living(store.root())?;
    let known = leftovers::known_directories(&store.inner.database)?;
    let mut freed = sweep_layers(store, trees, &alive, &known)?;
    for path in garbage(&store.bucket(Bucket::Temporary), &alive, before)? {
        freed += remove(store, &path);
    }
    for bucket in [Bucket::Logs, Bucket::StatIndexes] {
        let before = before.min(ago(KEEP_MIN));
        let entries = entries(&store.bucket(bucket))?.into_iter();
        for path in entries.filter(|path| modified(path) < before) {
            freed += remove(store, &path);
        }
    }
    claim::remove_stale(store.root());
    Ok(freed)
}

/// Temporary files whose session is over, and downloads that nobody continued.
fn garbage(directory: &Path, alive: &[SessionId], before: i64) -> Result<Vec<PathBuf>, StoreError> {
    let partial_before = before.max(ago(KEEP_MIN));
    let mut entries = entries(directory)?;
    entries.retain(|path| match session(path) {
        Some(session) => !alive.contains(&session) && modified(path) < ago(GRACE),
        None => modified(path) < partial_before,
    });
    Ok(entries)
}

/// Trees that no row leads to, of sessions that are over. Each is renamed first: a layer whose
/// row comes back after a power cut must not have lost half of its files.
fn sweep_layers(
    store: &Store,
    trees: Vec<PathBuf>,
    alive: &[SessionId],
    known: &HashSet<String>,
) -> Result<u64, StoreError> {
    let mut moved = Vec::new();
    for path in trees {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_owned = session(&path).is_some_and(|session| alive.contains(&session));
        if is_owned || known.contains(&name) {
            continue;
        }
        let temporary = store.temporary();
        if std::fs::rename(&path, &temporary).is_ok() {
            moved.push(temporary);
        }
    }
    if !moved.is_empty() {
        let layers = store.bucket(Bucket::Layers);
        sync_directory(&layers).map_err(|error| StoreError::io("sync", &layers, error))?;
    }
    Ok(moved.iter().map(|path| remove(store, path)).sum())
}

fn entries(directory: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let entries = std::fs::read_dir(directory);
    let paths = entries.and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect());
    paths.map_err(|error| StoreError::io("list", directory, error))
}

fn session(path: &Path) -> Option<SessionId> {
    SessionId::of_name(path.file_name()?.to_str()?)
}

/// Seconds since 1970; now, when it cannot be told.
fn modified(path: &Path) -> i64 {
    let modified = std::fs::symlink_metadata(path).and_then(|found| found.modified());
    let modified = modified.unwrap_or_else(|_| SystemTime::now());
    let since = modified.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

/// Removes a file or tree and says how many bytes it had.
fn remove(store: &Store, path: &Path) -> u64 {
    let bytes = size_of(path);
    if store.inner.removals.now(path) { bytes } else { 0 }
}
