//! Deferred deletion. Prune moves rows into the trash; the data they name goes when every
//! session that was alive then is over or says that it holds something else. Until then those
//! sessions, and only those, may look it up and so take it back out.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::clock::now;
use crate::database::{Database, Kind, Row, Write};
use crate::error::StoreError;
use crate::lease::{self, SessionId};

/// An epoch that nobody has closed for this many seconds belongs to a prune that was killed.
pub(crate) const UNDECIDED_MAX: i64 = 60;

/// Rows thrown away together; their data waits for the same sessions.
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

/// Starts an epoch. Until [`close_epoch`] says which sessions it waits for, its data stays. Its number is
/// never used again: somebody may just be looking at an old one.
pub(crate) fn open_epoch(write: &Write<'_>) -> rusqlite::Result<Epoch> {
    let last = write.scan(Kind::Epoch, &[])?.last().map_or(0, |(key, _)| epoch_of_key(key).0);
    let now_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
    let epoch = Epoch(u64::try_from(now_ns).unwrap_or(0).max(last + 1));
    let row = Row { value: b"null".to_vec(), used: now() };
    write.put(Kind::Epoch, &epoch.0.to_be_bytes(), &row)?;
    Ok(epoch)
}

/// Says which sessions the epoch waits for: every one alive now, after the rows are gone. A session
/// that starts later cannot have seen them.
pub(crate) fn close_epoch(
    root: &Path,
    database: &Database,
    epoch: Epoch,
) -> Result<(), StoreError> {
    let names: Vec<String> = lease::living(root)?.into_iter().map(|session| session.0).collect();
    let value = serde_json::to_vec(&names).expect("names are JSON");
    database.write(|write| {
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

pub(crate) enum Waits {
    Undecided,
    For(Vec<SessionId>),
}

pub(crate) fn waits(row: &Row) -> Waits {
    match serde_json::from_slice::<Option<Vec<String>>>(&row.value) {
        Ok(Some(names)) => Waits::For(names.into_iter().map(SessionId).collect()),
        _ => Waits::Undecided,
    }
}

pub(crate) fn trash_key(kind: Kind, key: &[u8]) -> Vec<u8> {
    [&[kind as u8], key].concat()
}

pub(crate) fn epoch_of_key(key: &[u8]) -> Epoch {
    Epoch(key.try_into().map_or(0, u64::from_be_bytes))
}

pub(crate) fn epoch_of_value(value: &[u8]) -> Epoch {
    Epoch(value.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes)))
}
