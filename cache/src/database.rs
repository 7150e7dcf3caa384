//! Small facts in SQLite: one table of checked rows.
//!
//! Every row carries a checksum over its kind, key and value, since SQLite itself would hand out
//! flipped bits. The database can always be lost: what it says is rebuilt by building.

mod file;
mod row;

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, params,
};

use crate::bucket::RECORDS;
use crate::mutex::lock;
use file::{connect, move_aside, move_strangers_aside};
use row::{DELETE, GET, PUT, SCAN, TOUCH, checked, checksum};

pub(crate) use file::DatabaseError;
pub(crate) use row::{DamagedRow, KeyedRow, Kind, Row};

/// The write-ahead log is folded back at the end of a session when it is larger: the next one
/// reads the whole log when it opens the database.
const LOG_MAX: u64 = 512 << 10;
/// Fewer unused pages are not worth a copy of the database.
const SPARSE_PAGES: i64 = 64;

/// The open database: one connection that reads and, once needed, one that writes.
#[derive(Debug)]
pub(crate) struct Database {
    root: PathBuf,
    reader: Mutex<Connection>,
    writer: Mutex<Option<Connection>>,
}

impl Database {
    /// Opens or makes the database. A file that is not a database of ours is moved aside: the
    /// second value is its new place.
    pub(crate) fn open(root: &Path) -> Result<(Self, Option<PathBuf>), DatabaseError> {
        let strangers = move_strangers_aside(root)?;
        let (connection, moved) = match connect(root) {
            Ok(connection) => (connection, strangers),
            Err(DatabaseError::Sqlite(error)) if is_corruption(&error) => {
                let moved = move_aside(root)?;
                (connect(root)?, moved.or(strangers))
            }
            Err(error) => return Err(error),
        };
        let database = Self {
            root: root.to_owned(),
            reader: Mutex::new(connection),
            writer: Mutex::default(),
        };
        Ok((database, moved))
    }

    /// The row of `kind` and `key`.
    pub(crate) fn get(
        &self,
        kind: Kind,
        key: &[u8],
    ) -> rusqlite::Result<Option<Result<Row, DamagedRow>>> {
        get(&lock(&self.reader), kind, key)
    }

    /// All rows of `kind` whose key starts with `prefix`, in the order of their keys.
    pub(crate) fn scan(&self, kind: Kind, prefix: &[u8]) -> rusqlite::Result<Vec<KeyedRow>> {
        Ok(scan(&lock(&self.reader), kind, prefix)?.rows)
    }

    /// Several scans of one state of the database.
    pub(crate) fn scan_at_once<const N: usize>(
        &self,
        what: [(Kind, &[u8]); N],
    ) -> rusqlite::Result<[Vec<KeyedRow>; N]> {
        let reader = lock(&self.reader);
        let transaction = reader.unchecked_transaction()?;
        let mut scans = what.map(|_| Vec::new());
        for (rows, (kind, prefix)) in scans.iter_mut().zip(what) {
            *rows = scan(&transaction, kind, prefix)?.rows;
        }
        transaction.commit()?;
        Ok(scans)
    }

    /// Keys of the damaged rows of `kind`.
    pub(crate) fn damaged(&self, kind: Kind) -> rusqlite::Result<Vec<Vec<u8>>> {
        Ok(scan(&lock(&self.reader), kind, &[])?.damaged)
    }

    /// Runs `change` in one immediate transaction. A power cut may undo it, until the file
    /// system writes the log by itself or somebody syncs it.
    pub(crate) fn write<T, E: From<rusqlite::Error> + From<DatabaseError>>(
        &self,
        change: impl FnOnce(&Write<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.write_as("NORMAL", change)
    }

    /// As [`Database::write`], but synced: a power cut does not undo it.
    pub(crate) fn write_durably<T, E: From<rusqlite::Error> + From<DatabaseError>>(
        &self,
        change: impl FnOnce(&Write<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.write_as("FULL", change)
    }

    fn write_as<T, E: From<rusqlite::Error> + From<DatabaseError>>(
        &self,
        synchronous: &str,
        change: impl FnOnce(&Write<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut writer = lock(&self.writer);
        if writer.is_none() {
            *writer = Some(connect(&self.root)?);
        }
        let connection = writer.as_mut().expect("just connected");
        connection.pragma_update(None, "synchronous", synchronous)?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let write = Write { transaction };
        let result = change(&write)?;
        write.transaction.commit()?;
        Ok(result)
    }

    /// Sets a corrupt database aside and goes on with an empty one, unless another process did
    /// so already. Gives the old one's new place.
    pub(crate) fn replace(&self) -> Result<Option<PathBuf>, DatabaseError> {
        let mut reader = lock(&self.reader);
        let mut writer = lock(&self.writer);
        *writer = None;
        let moved = move_aside(&self.root)?;
        *reader = connect(&self.root)?;
        Ok(moved)
    }

    /// SQLite's own check of the file: what it complains of.
    pub(crate) fn integrity(&self) -> rusqlite::Result<Vec<String>> {
        let reader = lock(&self.reader);
        let mut statement = reader.prepare("PRAGMA integrity_check(20)")?;
        let lines = statement.query_map([], |row| row.get::<_, String>(0))?;
        let lines: Vec<_> = lines.collect::<rusqlite::Result<_>>()?;
        Ok(lines.into_iter().filter(|line| line != "ok").collect())
    }

    /// Makes the file smaller when most of its pages are unused. Needs room for a copy.
    pub(crate) fn shrink(&self) -> Result<(), DatabaseError> {
        let mut writer = lock(&self.writer);
        let writer = match &mut *writer {
            Some(writer) => writer,
            none => none.insert(connect(&self.root)?),
        };
        let pragma = |name| writer.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
        let (unused, pages) = (pragma("freelist_count")?, pragma("page_count")?);
        if unused > SPARSE_PAGES && unused > pages / 2 {
            writer.execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")?;
        }
        Ok(())
    }

    /// Folds the write-ahead log back into the file when it has grown; only after own writes.
    pub(crate) fn fold_log(&self) {
        let log = self.root.join(format!("{RECORDS}-wal"));
        let is_long = std::fs::metadata(log).is_ok_and(|log| log.len() > LOG_MAX);
        if let (true, Some(writer)) = (is_long, &*lock(&self.writer)) {
            // Fails when others read: they, or the next session, will do it.
            let _ = writer.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()));
        }
    }
}

/// One write transaction.
pub(crate) struct Write<'a> {
    transaction: Transaction<'a>,
}

impl Write<'_> {
    /// The row of `kind` and `key`; a damaged one is none.
    pub(crate) fn get(&self, kind: Kind, key: &[u8]) -> rusqlite::Result<Option<Row>> {
        Ok(get(&self.transaction, kind, key)?.and_then(Result::ok))
    }

    /// See [`Database::scan`].
    pub(crate) fn scan(&self, kind: Kind, prefix: &[u8]) -> rusqlite::Result<Vec<KeyedRow>> {
        Ok(scan(&self.transaction, kind, prefix)?.rows)
    }

    /// Adds or replaces a row.
    pub(crate) fn put(&self, kind: Kind, key: &[u8], row: &Row) -> rusqlite::Result<()> {
        let sum = checksum(kind, key, &row.value);
        let mut statement = self.transaction.prepare_cached(PUT)?;
        statement.execute(params![kind as u8, key, row.value, row.used, sum])?;
        Ok(())
    }

    /// Notes that a row was used at `when`.
    pub(crate) fn touch(&self, kind: Kind, key: &[u8], when: i64) -> rusqlite::Result<()> {
        self.transaction.prepare_cached(TOUCH)?.execute(params![kind as u8, key, when])?;
        Ok(())
    }

    /// Removes a row if there is one.
    pub(crate) fn delete(&self, kind: Kind, key: &[u8]) -> rusqlite::Result<()> {
        self.transaction.prepare_cached(DELETE)?.execute(params![kind as u8, key])?;
        Ok(())
    }
}

/// Whether an error says that the file's bytes are wrong.
pub(crate) fn is_corruption(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::*;
    match error {
        // SQL that we wrote is refused when the schema is no longer ours.
        SqlInputError { .. } => true,
        // Columns of other types than we write.
        InvalidColumnType(..) | FromSqlConversionFailure(..) | IntegralValueOutOfRange(..) => true,
        _ => matches!(
            error.sqlite_error_code(),
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::Unknown)
        ),
    }
}

/// Whether an error says that there is no space left.
pub(crate) fn is_full(error: &rusqlite::Error) -> bool {
    const IOERR_SHMSIZE: i32 = 10 | (19 << 8);
    const IOERR_WRITE: i32 = 10 | (3 << 8);
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error
            .sqlite_extended_error_code()
            .is_some_and(|code| [IOERR_SHMSIZE, IOERR_WRITE].contains(&code))
}

fn get(
    connection: &Connection,
    kind: Kind,
    key: &[u8],
) -> rusqlite::Result<Option<Result<Row, DamagedRow>>> {
    let mut statement = connection.prepare_cached(GET)?;
    let found = statement
        .query_row(params![kind as u8, key], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    Ok(found.map(|(value, used, sum)| checked(kind, key, value, used, sum)))
}

struct Scanned {
    rows: Vec<KeyedRow>,
    damaged: Vec<Vec<u8>>,
}

fn scan(connection: &Connection, kind: Kind, prefix: &[u8]) -> rusqlite::Result<Scanned> {
    let mut statement = connection.prepare_cached(SCAN)?;
    let mut found = statement.query(params![kind as u8, prefix, after(prefix)])?;
    let mut scanned = Scanned { rows: Vec::new(), damaged: Vec::new() };
    while let Some(row) = found.next()? {
        let key: Vec<u8> = row.get(0)?;
        match checked(kind, &key, row.get(1)?, row.get(2)?, row.get(3)?) {
            Ok(row) => scanned.rows.push((key, row)),
            Err(DamagedRow) => scanned.damaged.push(key),
        }
    }
    Ok(scanned)
}

/// The first key that is past every key starting with `prefix`.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let last = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end)
}
