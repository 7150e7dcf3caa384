//! Emptying the trash: the data of rows that nobody may count on any more is removed.

use std::collections::{HashMap, HashSet};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use crate::blob::size_of_row;
use crate::bucket::{Bucket, blob_path};
use crate::clock::now;
use crate::database::{Kind, Row, Write};
use crate::disk::{size_of, sync_directory};
use crate::error::StoreError;
use crate::form;
use crate::layer_id::LayerId;
use crate::layer_row::{self, LayerRow};
use crate::lease::{self, Holds, Lease, SessionId};
use crate::store::Inner;
use crate::trash::{self, Epoch, UNDECIDED_MAX, Waits};

/// What a collection of the trash came to, in bytes.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Collected {
    pub(crate) freed: u64,
    /// Waits for other sessions.
    pub(crate) waiting: u64,
}

/// Removes the data of all rows that wait for nobody any more. What is removed goes by a name of the
/// living session `lease`.
pub(crate) fn collect(store: &Inner, lease: &Lease) -> Result<Collected, StoreError> {
    let mut collected = Collected::default();
    if !trash::exists(&store.database)? {
        return Ok(collected);
    }
    for (key, row) in store.database.scan(Kind::Epoch, &[])? {
        // The process that opened it died before closing it.
        if matches!(trash::waits(&row), Waits::Undecided) && now() - row.used > UNDECIDED_MAX {
            trash::close_epoch(store.root(), &store.database, trash::epoch_of_key(&key))?;
        }
    }
    let waiting = Waiting::of(store, &store.database.scan(Kind::Epoch, &[])?);
    let thrown = store.database.scan(Kind::Trash, &[])?;
    if waiting.is_over.is_empty() && thrown.iter().all(|(key, row)| waiting.keeps(key, row)) {
        collected.waiting = thrown.iter().map(|(key, row)| size(store.root(), key, row)).sum();
        return Ok(collected);
    }
    let moved = store.database.write(|write| move_out(store, lease, write, &mut collected))?;
    // The rename must not be forgotten by a power cut that remembers half of the deletion.
    if !moved.is_empty() {
        for bucket in [Bucket::Layers, Bucket::Blobs] {
            let path = bucket.path(store.root());
            sync_directory(&path).map_err(|error| StoreError::io("sync", &path, error))?;
        }
    }
    for path in moved {
        let bytes = size_of(&path);
        if store.removals.now(&path) {
            collected.freed += bytes;
        }
    }
    Ok(collected)
}

/// Takes back out of the trash what sessions say that they hold: they looked it up before it was
/// thrown away, and may use it for long.
pub(crate) fn restore_held(store: &Inner) -> Result<(), StoreError> {
    let waiting = Waiting::of(store, &store.database.scan(Kind::Epoch, &[])?);
    let held = |key: &[u8]| {
        let kind = Kind::from_number(*key.first()?)?;
        waiting.is_held(name(key)?).then(|| (kind, key[1..].to_vec()))
    };
    let thrown = store.database.scan(Kind::Trash, &[])?;
    let held: Vec<(Kind, Vec<u8>)> = thrown.iter().filter_map(|(key, _)| held(key)).collect();
    if held.is_empty() {
        return Ok(());
    }
    store.database.write(|write| {
        for (kind, key) in held {
            match kind {
                // A directory that was discarded does not come back, only the layer.
                Kind::Layer => {
                    let id = key.split(|byte| *byte == b' ').next().unwrap_or(&key);
                    layer_row::restore_layer(write, &LayerId::from_key(id))?;
                }
                Kind::Form => form::restore_thrown_form(write, &key)?,
                _ => drop(trash::restore(write, kind, &key)?),
            }
        }
        Ok(())
    })
}

/// Which sessions the epochs wait for.
struct Waiting {
    by_epoch: HashMap<Epoch, Option<Vec<SessionId>>>,
    holds: HashMap<String, Holds>,
    /// Epochs all of whose sessions have ended.
    is_over: Vec<Epoch>,
}

impl Waiting {
    fn of(store: &Inner, epochs: &[(Vec<u8>, Row)]) -> Self {
        let mut waiting =
            Self { by_epoch: HashMap::new(), holds: HashMap::new(), is_over: Vec::new() };
        for (key, row) in epochs {
            let epoch = trash::epoch_of_key(key);
            let sessions = match trash::waits(row) {
                Waits::For(sessions) => Some(sessions),
                Waits::Undecided => None,
            };
            let alive = |session: &&SessionId| !is_over(store, session);
            let alive: Option<Vec<SessionId>> =
                sessions.map(|sessions| sessions.iter().filter(alive).cloned().collect());
            for session in alive.iter().flatten() {
                let holds = || match session == store.lease.session() {
                    true => store.lease.holds(),
                    false => lease::held_by(store.root(), session),
                };
                waiting.holds.entry(session.0.clone()).or_insert_with(holds);
            }
            if alive.as_ref().is_some_and(Vec::is_empty) {
                waiting.is_over.push(epoch);
            }
            waiting.by_epoch.insert(epoch, alive);
        }
        waiting
    }

    /// Whether a session that says what it holds names it.
    fn is_held(&self, name: &str) -> bool {
        self.holds.values().any(|holds| holds.names(name))
    }

    /// Whether somebody may still take a row back out of the trash.
    fn keeps(&self, key: &[u8], thrown: &Row) -> bool {
        match self.by_epoch.get(&trash::epoch_of_value(&thrown.value)) {
            None => false,
            Some(None) => true,
            Some(Some(sessions)) => sessions.iter().any(|session| {
                let name = name(key).unwrap_or_default();
                self.holds.get(&session.0).is_none_or(|holds| holds.contains(name))
            }),
        }
    }
}

/// What a row in the trash is about, as sessions name it.
fn name(trash_key: &[u8]) -> Option<&str> {
    let (kind, key) = trash_key.split_first()?;
    let key = std::str::from_utf8(key).ok()?;
    match Kind::from_number(*kind)? {
        Kind::Layer | Kind::Form => key.split(' ').next(),
        _ => Some(key),
    }
}

fn is_over(store: &Inner, session: &SessionId) -> bool {
    lease::is_over(store.root(), session).unwrap_or(false)
}

/// Renames the data that nobody waits for out of reach, and forgets it.
fn move_out(
    store: &Inner,
    lease: &Lease,
    write: &Write<'_>,
    collected: &mut Collected,
) -> Result<Vec<PathBuf>, StoreError> {
    // As things stand now: a session that says so later asks for a row that is in the trash.
    let waiting = Waiting::of(store, &write.scan(Kind::Epoch, &[])?);
    let mut kept: HashSet<Epoch> = HashSet::new();
    let mut moved = Vec::new();
    for (key, row) in write.scan(Kind::Trash, &[])? {
        if waiting.keeps(&key, &row) {
            kept.insert(trash::epoch_of_value(&row.value));
            collected.waiting += size(store.root(), &key, &row);
            continue;
        }
        if let Some(path) = data_path(store.root(), &key, &row) {
            let target = lease.temporary(store.root());
            match std::fs::rename(&path, &target) {
                Ok(()) => moved.push(target),
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(StoreError::io("rename", &path, error)),
            }
        }
        write.delete(Kind::Trash, &key)?;
    }
    for (epoch, sessions) in &waiting.by_epoch {
        if sessions.is_some() && !kept.contains(epoch) {
            write.delete(Kind::Epoch, &epoch.0.to_be_bytes())?;
        }
    }
    Ok(moved)
}

/// The same as far as the row knows it.
pub(crate) fn known_size(key: &[u8], thrown: &Row) -> u64 {
    let value = thrown.value.get(8..).unwrap_or_default().to_vec();
    let row = Row { value, used: 0 };
    match key.first().copied().and_then(Kind::from_number) {
        Some(Kind::Blob) => size_of_row(&row).unwrap_or(0),
        Some(Kind::Layer) => LayerRow::parse(&row).and_then(|row| row.bytes).unwrap_or(0),
        _ => 0,
    }
}

/// Bytes on disk of a row in the trash.
fn size(root: &Path, key: &[u8], thrown: &Row) -> u64 {
    data_path(root, key, thrown).map_or(0, |path| size_of(&path))
}

/// Where the data of a row in the trash is; rows that are nothing but a row have none.
fn data_path(root: &Path, key: &[u8], thrown: &Row) -> Option<PathBuf> {
    let (kind, key) = (Kind::from_number(*key.first()?)?, key.get(1..)?);
    let value = thrown.value.get(8..)?.to_vec();
    match kind {
        Kind::Blob => Some(blob_path(root, &std::str::from_utf8(key).ok()?.parse().ok()?)),
        Kind::Layer => {
            let row = LayerRow::parse(&Row { value, used: 0 })?;
            Some(Bucket::Layers.path(root).join(row.own_directory()?.as_str()))
        }
        _ => None,
    }
}

/// Collects when the last one to wait for may have been this session, which has just ended. What is
/// being removed belongs to a session of its own, should this one be killed meanwhile.
pub(crate) fn collect_at_end(store: &Inner) {
    // Failing does no harm: the next session's end tries again.
    if !trash::exists(&store.database).unwrap_or(false) {
        return;
    }
    let Ok(mut lease) = Lease::start(store.root()) else { return };
    let _ = collect(store, &lease);
    if !store.removals.finish() {
        lease.abandon();
    }
}
