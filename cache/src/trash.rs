//! Deferred deletion. Prune moves rows into the trash; the data they name goes when every
//! session that was alive then is over or says that it holds something else. Until then those
//! sessions, and only those, may look it up and so take it back out.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use oci::{Descriptor, DiffId, Digest, Document};

use crate::blob::blob_path;
use crate::bucket::Bucket;
use crate::commit::sync_directory;
use crate::database::{Database, Kind, Row, Write};
use crate::lease::{self, DeadLease, Holds, Lease, SessionId};
use crate::snapshot::{LayerId, LayerRow};
use crate::store::{Inner, Store, StoreError, now};
use crate::warning::Warning;

/// How much of a manifest is read to find what an image consists of.
const MANIFEST_MAX: u64 = oci::manifest::SIZE_MAX as u64;

/// An epoch that nobody has closed for this many seconds belongs to a prune that was killed.
const UNDECIDED_MAX: i64 = 60;

/// Rows thrown away together, and whom their data waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Epoch(pub(crate) u64);

/// Moves a row into the trash.
pub(crate) fn discard(
    write: &Write<'_>,
    epoch: Epoch,
    kind: Kind,
    key: &[u8],
    row: &Row,
) -> rusqlite::Result<()> {
    let value = [&epoch.0.to_le_bytes()[..], &row.value].concat();
    write.put(Kind::Trash, &trash_key(kind, key), &Row { value, used: row.used })?;
    write.delete(kind, key)
}

/// Moves a directory of `layers-v1` that was of `layer` into the trash, out of which nobody takes it
/// back. The epoch is still to be closed.
pub(crate) fn discard_directory(
    write: &Write<'_>,
    layer: &LayerId,
    directory: &LayerId,
) -> rusqlite::Result<Epoch> {
    let epoch = open_epoch(write)?;
    let row = LayerRow { directory: Some(directory.clone()), ..LayerRow::default() };
    // No layer has such an id; who holds the layer may use the directory, see `name`.
    let key = format!("{layer} {directory}");
    discard(write, epoch, Kind::Layer, key.as_bytes(), &row.row())?;
    Ok(epoch)
}

/// Starts an epoch. Until [`close_epoch`] says for whom it waits, its data stays. Its number is
/// never used again: somebody may just be looking at an old one.
pub(crate) fn open_epoch(write: &Write<'_>) -> rusqlite::Result<Epoch> {
    let last = write.scan(Kind::Epoch, &[])?.last().map_or(0, |(key, _)| epoch_of_key(key).0);
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let epoch = Epoch(u64::try_from(now_ns).unwrap_or(0).max(last + 1));
    let row = Row { value: b"null".to_vec(), used: now() };
    write.put(Kind::Epoch, &epoch.0.to_be_bytes(), &row)?;
    Ok(epoch)
}

/// Says for whom the epoch waits: every session alive now, after the rows are gone. A session
/// that starts later cannot have seen them.
pub(crate) fn close_epoch(store: &Inner, epoch: Epoch) -> Result<(), StoreError> {
    let sessions = lease::sessions(store.root(), None)
        .map_err(|error| StoreError::io("list", &Bucket::Leases.path(store.root()), error))?;
    let names: Vec<String> = sessions.alive.into_iter().map(|session| session.0).collect();
    let value = serde_json::to_vec(&names).expect("names are JSON");
    store.database.write(|write| {
        write.put(Kind::Epoch, &epoch.0.to_be_bytes(), &Row { value, used: now() })?;
        Ok(())
    })
}

/// Whether anything is in the trash.
pub(crate) fn exists(database: &Database) -> rusqlite::Result<bool> {
    Ok(!database.scan(Kind::Epoch, &[])?.is_empty())
}

/// Whether the row of `kind` and `key` is in the trash.
pub(crate) fn holds(database: &Database, kind: Kind, key: &str) -> rusqlite::Result<bool> {
    let found = database.get(Kind::Trash, &trash_key(kind, key.as_bytes()))?;
    Ok(matches!(found, Some(Ok(_))))
}

/// Takes a row back out of the trash, unless there is a newer one.
pub(crate) fn restore(write: &Write<'_>, kind: Kind, key: &[u8]) -> rusqlite::Result<Option<Row>> {
    let trash_key = trash_key(kind, key);
    let Some(thrown) = write.get(Kind::Trash, &trash_key)? else { return Ok(None) };
    let row = Row { value: thrown.value.get(8..).unwrap_or_default().to_vec(), used: thrown.used };
    write.delete(Kind::Trash, &trash_key)?;
    if write.get(kind, key)?.is_none() {
        write.put(kind, key, &row)?;
    }
    Ok(Some(row))
}

/// Takes a layer back out of the trash, with everything it may be read from.
pub(crate) fn restore_layer(write: &Write<'_>, layer: &LayerId) -> rusqlite::Result<()> {
    let Some(row) = restore(write, Kind::Layer, layer.as_str().as_bytes())? else { return Ok(()) };
    let Some(row) = LayerRow::parse(&row) else { return Ok(()) };
    if let Some(over) = row.over() {
        restore_layer(write, over)?;
    }
    let Some(diff_id) = row.diff_id else { return Ok(()) };
    restore(write, Kind::DiffId, diff_id.0.as_str().as_bytes())?;
    for (key, _) in write.scan(Kind::Trash, &forms_in_trash(&diff_id))? {
        restore_form(write, &key[1..])?;
    }
    Ok(())
}

/// Takes a form of a layer back out of the trash, with its blob.
fn restore_form(write: &Write<'_>, key: &[u8]) -> rusqlite::Result<()> {
    let form = restore(write, Kind::Form, key)?;
    if let Some(descriptor) = form.as_ref().and_then(crate::snapshot::parse_form) {
        restore(write, Kind::Blob, descriptor.digest.as_str().as_bytes())?;
    }
    Ok(())
}

/// What the keys of a layer's forms begin with when they were thrown away.
fn forms_in_trash(diff_id: &DiffId) -> Vec<u8> {
    trash_key(Kind::Form, &crate::snapshot::form_prefix(diff_id))
}

/// Takes all blobs of an image back out of the trash.
pub(crate) fn restore_image(
    write: &Write<'_>,
    root: &Path,
    descriptor: &Descriptor,
) -> Result<(), StoreError> {
    if write.scan(Kind::Epoch, &[])?.is_empty() {
        return Ok(());
    }
    for digest in reachable(root, descriptor)? {
        restore(write, Kind::Blob, digest.as_str().as_bytes())?;
    }
    Ok(())
}

/// All blobs that an image consists of, itself included, as far as they are in the store. A manifest
/// that is there and cannot be read is an error: nobody can say what it needs.
pub(crate) fn reachable(root: &Path, descriptor: &Descriptor) -> Result<Vec<Digest>, StoreError> {
    let mut found = Vec::new();
    visit(root, descriptor, 0, &mut found)?;
    Ok(found)
}

fn visit(
    root: &Path,
    descriptor: &Descriptor,
    depth: usize,
    found: &mut Vec<Digest>,
) -> Result<(), StoreError> {
    found.push(descriptor.digest.clone());
    let is_document = oci::manifest::Kind::of(&descriptor.media_type).is_some();
    if !is_document || depth > oci::manifest::DEPTH_MAX {
        return Ok(());
    }
    let path = blob_path(root, &descriptor.digest);
    let bytes = match crate::blob::read_capped(&path, MANIFEST_MAX) {
        Ok(bytes) => bytes,
        // No manifest is a directory, or as large as that.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::FileTooLarge) => {
            return Ok(());
        }
        Err(error) => return Err(StoreError::io("read", &path, error)),
    };
    match oci::manifest::parse(&bytes, Some(&descriptor.media_type)) {
        Ok(Document::Manifest(manifest)) => {
            found.push(manifest.config.digest);
            found.extend(manifest.layers.into_iter().map(|layer| layer.digest));
        }
        Ok(Document::Index(index)) => {
            for child in &index.manifests {
                visit(root, child, depth + 1, found)?;
            }
        }
        Err(_) => {}
    }
    Ok(())
}

/// Whether this session may take `kind` and `key` back out: it was alive when they were thrown
/// away, so it may already count on them.
fn may_restore(store: &Inner, write: &Write<'_>, kind: Kind, key: &[u8]) -> rusqlite::Result<bool> {
    let Some(row) = write.get(Kind::Trash, &trash_key(kind, key))? else { return Ok(false) };
    let epoch = write.get(Kind::Epoch, &epoch_of_value(&row.value).0.to_be_bytes())?;
    Ok(match epoch.map(|epoch| waits(&epoch)) {
        Some(Waits::For(sessions)) => sessions.contains(store.lease.session()),
        Some(Waits::Undecided) => true,
        None => false,
    })
}

impl Store {
    /// Sees whether a row that was not found is there after all: another session has just taken
    /// it back out of the trash, or this one may do so, since it may already count on it.
    pub(crate) fn take_back(&self, kind: Kind, key: &str) -> bool {
        let taken = self.inner.database.write(|write| -> Result<bool, StoreError> {
            let key = key.as_bytes();
            if write.get(kind, key)?.is_some() {
                return Ok(true);
            }
            if !may_restore(&self.inner, write, kind, key)? {
                return Ok(false);
            }
            match kind {
                Kind::Layer => restore_layer(write, &LayerId::from_key(key))?,
                _ => drop(restore(write, kind, key)?),
            }
            Ok(true)
        });
        self.was_taken_back(taken)
    }

    /// The same for the forms of a layer of which none was found.
    pub(crate) fn take_back_forms(&self, diff_id: &DiffId) -> bool {
        let (prefix, in_trash) = (crate::snapshot::form_prefix(diff_id), forms_in_trash(diff_id));
        // Mostly there never were any: to find that out nothing is written.
        let places = [(Kind::Form, &prefix[..]), (Kind::Trash, &in_trash[..])];
        match self.inner.database.scan_at_once(places) {
            Ok([there, thrown]) if there.is_empty() && thrown.is_empty() => return false,
            Ok([there, _]) if !there.is_empty() => return true,
            Ok(_) => {}
            Err(error) => return self.was_taken_back(Err(error.into())),
        }
        let taken = self.inner.database.write(|write| -> Result<bool, StoreError> {
            let mut taken = !write.scan(Kind::Form, &prefix)?.is_empty();
            for (key, _) in write.scan(Kind::Trash, &in_trash)? {
                if may_restore(&self.inner, write, Kind::Form, &key[1..])? {
                    restore_form(write, &key[1..])?;
                    taken = true;
                }
            }
            Ok(taken)
        });
        self.was_taken_back(taken)
    }

    fn was_taken_back(&self, taken: Result<bool, StoreError>) -> bool {
        taken.unwrap_or_else(|error| {
            match error {
                StoreError::Database(error) => self.database_failed(error),
                error => self.warn(Warning::DatabaseFailed { message: error.to_string() }),
            }
            false
        })
    }
}

enum Waits {
    Undecided,
    For(Vec<SessionId>),
}

fn waits(row: &Row) -> Waits {
    match serde_json::from_slice::<Option<Vec<String>>>(&row.value) {
        Ok(Some(names)) => Waits::For(names.into_iter().map(SessionId).collect()),
        _ => Waits::Undecided,
    }
}

fn trash_key(kind: Kind, key: &[u8]) -> Vec<u8> {
    [&[kind as u8], key].concat()
}

fn epoch_of_key(key: &[u8]) -> Epoch {
    Epoch(key.try_into().map_or(0, u64::from_be_bytes))
}

fn epoch_of_value(value: &[u8]) -> Epoch {
    Epoch(value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}

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
    if !exists(&store.database)? {
        return Ok(collected);
    }
    for (key, row) in store.database.scan(Kind::Epoch, &[])? {
        // Whoever opened it died before closing it.
        if matches!(waits(&row), Waits::Undecided) && now() - row.used > UNDECIDED_MAX {
            close_epoch(store, epoch_of_key(&key))?;
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
        sync_directory(&Bucket::Layers.path(store.root()))?;
        sync_directory(&Bucket::Blobs.path(store.root()))?;
    }
    for path in moved {
        let bytes = crate::usage::size_of(&path);
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
        let (kind, name) = (Kind::from_number(*key.first()?)?, name(key)?);
        waiting.is_held(name).then_some((kind, name.to_owned()))
    };
    let thrown = store.database.scan(Kind::Trash, &[])?;
    let held: Vec<(Kind, String)> = thrown.iter().filter_map(|(key, _)| held(key)).collect();
    if held.is_empty() {
        return Ok(());
    }
    store.database.write(|write| {
        for (kind, name) in held {
            match kind {
                Kind::Layer => restore_layer(write, &LayerId::from_key(name.as_bytes()))?,
                _ => drop(restore(write, kind, name.as_bytes())?),
            }
        }
        Ok(())
    })
}

/// For whom the epochs wait.
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
            let epoch = epoch_of_key(key);
            let sessions = match waits(row) {
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
        match self.by_epoch.get(&epoch_of_value(&thrown.value)) {
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
        Kind::Layer => key.split(' ').next(),
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
    // As things stand now: whoever says so later asks for a row that is in the trash.
    let waiting = Waiting::of(store, &write.scan(Kind::Epoch, &[])?);
    let mut kept: HashSet<Epoch> = HashSet::new();
    let mut moved = Vec::new();
    for (key, row) in write.scan(Kind::Trash, &[])? {
        if waiting.keeps(&key, &row) {
            kept.insert(epoch_of_value(&row.value));
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
        Some(Kind::Blob) => crate::blob::size_of_row(&row).unwrap_or(0),
        Some(Kind::Layer) => LayerRow::parse(&row).and_then(|row| row.bytes).unwrap_or(0),
        _ => 0,
    }
}

/// Bytes on disk of a row in the trash.
fn size(root: &Path, key: &[u8], thrown: &Row) -> u64 {
    data_path(root, key, thrown).map_or(0, |path| crate::usage::size_of(&path))
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
    // Failing is no loss: the next session's end tries again.
    if !exists(&store.database).unwrap_or(false) {
        return;
    }
    let Ok(mut lease) = Lease::start(store.root()) else { return };
    let _ = collect(store, &lease);
    if !store.removals.finish() {
        lease.abandon();
    }
}

/// Clears what killed sessions have left, in the background. What cannot be removed now keeps its
/// lease: the next session tries again.
pub(crate) fn clear_in_background(store: &Inner, dead: Vec<DeadLease>) {
    let Ok(known) = known_directories(&store.database) else { return };
    let root = store.root().to_owned();
    let left = move |lease: DeadLease| Some((left_by(&root, lease.session(), &known).ok()?, lease));
    let left: Vec<(Vec<PathBuf>, DeadLease)> = dead.into_iter().filter_map(left).collect();
    let root = store.root().to_owned();
    store.removals.beside(move || {
        for (paths, lease) in left {
            let failed = paths.iter().filter(|path| remove(path).is_err()).count();
            if failed == 0 {
                lease.finish();
            }
        }
        crate::claim::remove_stale(&root);
    });
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
    if !files.iter().all(|path| remove(path).is_ok()) {
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
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    match File::open(parent) {
        Ok(parent) => crate::layer::remove_tree(&parent, name.as_bytes()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
