//! Small facts in SQLite: one table of checked rows.
//!
//! Every row carries a checksum over its kind, key and value, since SQLite itself would hand out
//! flipped bits. The database can always be lost: what it says is rebuilt by building.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, OptionalExtension as _, Transaction};
use rusqlite::{TransactionBehavior, params};

use crate::bucket::{Bucket, RECORDS};
use crate::lock::{FileLock, Mode};
use crate::shared_memory::SharedMemory;

/// `mybd`: says whose SQLite file it is.
const APPLICATION_ID: i32 = 0x6d79_6264;
/// Version of the schema and of the values' encodings.
const SCHEMA_VERSION: i32 = 1;
/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);
/// The write-ahead log is folded back at the end of a session when it is larger: the next one
/// reads the whole log when it opens the database.
const LOG_MAX: u64 = 512 << 10;
/// Fewer unused pages are not worth a copy of the database.
const SPARSE_PAGES: i64 = 64;

const GET: &str = "SELECT value, used, sum FROM entry WHERE kind = ?1 AND key = ?2";
const SCAN: &str = "SELECT key, value, used, sum FROM entry
    WHERE kind = ?1 AND key >= ?2 AND (?3 IS NULL OR key < ?3) ORDER BY key";
const PUT: &str = "INSERT INTO entry (kind, key, value, used, sum) VALUES (?1, ?2, ?3, ?4, ?5)
    ON CONFLICT DO UPDATE SET value = ?3, used = ?4, sum = ?5";
const TOUCH: &str = "UPDATE entry SET used = max(used, ?3) WHERE kind = ?1 AND key = ?2";
const DELETE: &str = "DELETE FROM entry WHERE kind = ?1 AND key = ?2";

/// What a row is about. The numbers are the format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// Digest → size of a blob that was durable before the row was written.
    Blob = 1,
    /// Layer id → what is known of the layer.
    Layer = 2,
    /// Diff id → layer id.
    DiffId = 3,
    /// Diff id, encoder, digest → descriptor of the layer as a blob.
    Form = 4,
    /// Canonical key → record of a step.
    Record = 5,
    /// Definition key → canonical key.
    Alias = 6,
    /// Reference and platform → what a registry said.
    Reference = 7,
    /// Name → a remembered finding about this machine.
    Setting = 8,
    /// Kind and key of a row on its way out → epoch and value.
    Trash = 9,
    /// Epoch → the sessions it waits for.
    Epoch = 10,
}

impl Kind {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        use Kind::*;
        [Blob, Layer, DiffId, Form, Record, Alias, Reference, Setting, Trash, Epoch]
            .into_iter()
            .find(|kind| *kind as u8 == number)
    }
}

/// A row's content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) value: Vec<u8>,
    /// Seconds since 1970.
    pub(crate) used: i64,
}

/// A row and its key.
pub(crate) type KeyedRow = (Vec<u8>, Row);

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error("its schema version is {0}")]
    Newer(i32),
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Row damaged: its checksum does not match.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct DamagedRow;

/// The open database: one connection that reads and, once needed, one that writes.
#[derive(Debug)]
pub(crate) struct Database {
    root: PathBuf,
    reader: Mutex<Connection>,
    writer: Mutex<Option<Connection>>,
    /// Last: it outlives the connections.
    shared_memory: SharedMemory,
}

impl Database {
    /// Opens or makes the database. A file that is no database of ours is moved aside: the
    /// second value is its new place.
    pub(crate) fn open(root: &Path) -> Result<(Self, Option<PathBuf>), DatabaseError> {
        let shared_memory = SharedMemory::of(root)?;
        let strangers = move_strangers_aside(root)?;
        let (connection, moved) = match connect(root) {
            Ok(connection) => (connection, strangers),
            Err(DatabaseError::Sqlite(error)) if is_corruption(&error) => {
                let moved = move_aside(root)?;
                (connect(root)?, moved.or(strangers))
            }
            Err(error) => return Err(error),
        };
        shared_memory.reserve()?;
        let database = Self {
            root: root.to_owned(),
            reader: Mutex::new(connection),
            writer: Mutex::default(),
            shared_memory,
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
        self.shared_memory.reserve()?;
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in between leaves a connection usable: its transaction rolls back.
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn lock_file(root: &Path) -> PathBuf {
    Bucket::Locks.path(root).join("database")
}

/// Opens a connection to a database that is ours, making it if there is none.
fn connect(root: &Path) -> Result<Connection, DatabaseError> {
    {
        // Shared: nobody sets the file aside between the opening of its parts.
        let _guard = FileLock::wait(&lock_file(root), Mode::Shared)?;
        let connection = open_file(root)?;
        if is_ready(&connection)? {
            return Ok(connection);
        }
    }
    let _guard = FileLock::wait(&lock_file(root), Mode::Exclusive)?;
    let connection = open_file(root)?;
    if !is_ready(&connection)? {
        initialise(&connection)?;
    }
    Ok(connection)
}

fn open_file(root: &Path) -> Result<Connection, DatabaseError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(root.join(RECORDS), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    // Closing must not write: a build that changed nothing writes nothing. See `fold_log`.
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
    connection.execute_batch("PRAGMA synchronous = NORMAL; PRAGMA cell_size_check = ON;")?;
    Ok(connection)
}

/// Whether the schema is there; refuses a newer one.
fn is_ready(connection: &Connection) -> Result<bool, DatabaseError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    match (pragma("application_id")?, pragma("user_version")?) {
        (0, 0) => Ok(false),
        // The header names a format that SQLite reads and does not write: we never wrote that.
        (APPLICATION_ID, SCHEMA_VERSION) if connection.is_readonly(MAIN_DB)? => {
            Err(not_ours().into())
        }
        (APPLICATION_ID, SCHEMA_VERSION) => {
            connection.prepare_cached(GET)?;
            Ok(true)
        }
        (APPLICATION_ID, version) if version > SCHEMA_VERSION => Err(DatabaseError::Newer(version)),
        _ => Err(not_ours().into()),
    }
}

fn not_ours() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(
        rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_NOTADB),
        Some("the file is another program's".to_owned()),
    )
}

fn initialise(connection: &Connection) -> Result<(), DatabaseError> {
    connection.execute_batch(&format!(
        "PRAGMA journal_mode = WAL;
         BEGIN IMMEDIATE;
         CREATE TABLE entry (
             kind INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
             used INTEGER NOT NULL, sum INTEGER NOT NULL,
             PRIMARY KEY (kind, key)
         ) WITHOUT ROWID;
         PRAGMA application_id = {APPLICATION_ID};
         PRAGMA user_version = {SCHEMA_VERSION};
         COMMIT;"
    ))?;
    Ok(())
}

/// Renames the database out of the way, unless another process has already put a healthy one in
/// its place. Nothing is deleted but SQLite's shared memory, which holds no data.
fn move_aside(root: &Path) -> Result<Option<PathBuf>, DatabaseError> {
    let _guard = FileLock::wait(&lock_file(root), Mode::Exclusive)?;
    if is_healthy(root) {
        return Ok(None);
    }
    let path = root.join(RECORDS);
    let aside = unused_name(&path);
    std::fs::rename(&path, &aside)?;
    let with = |suffix: &str| PathBuf::from(format!("{}{suffix}", path.display()));
    let _ = std::fs::rename(with("-wal"), format!("{}-wal", aside.display()));
    let _ = std::fs::remove_file(with("-shm"));
    Ok(Some(aside))
}

/// Renames what is no file but has the name of one of the database's. Gives the new place of the first.
/// SQLite does not refuse all of it: beside a directory in place of its shared memory it only reads.
fn move_strangers_aside(root: &Path) -> Result<Option<PathBuf>, DatabaseError> {
    if strangers(root).is_empty() {
        return Ok(None);
    }
    let _guard = FileLock::wait(&lock_file(root), Mode::Exclusive)?;
    let mut first = None;
    for path in strangers(root) {
        let aside = unused_name(&path);
        std::fs::rename(&path, &aside)?;
        first = first.or(Some(aside));
    }
    Ok(first)
}

/// Links, directories and the like that have the name of one of the database's files.
fn strangers(root: &Path) -> Vec<PathBuf> {
    let paths = ["", "-wal", "-shm"].map(|suffix| root.join(format!("{RECORDS}{suffix}")));
    let is_strange =
        |path: &PathBuf| std::fs::symlink_metadata(path).is_ok_and(|found| !found.is_file());
    paths.into_iter().filter(is_strange).collect()
}

fn is_healthy(root: &Path) -> bool {
    let check = || -> Result<bool, DatabaseError> {
        let connection = open_file(root)?;
        let answer: String =
            connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
        Ok(is_ready(&connection)? && answer == "ok")
    };
    check().unwrap_or(false)
}

fn unused_name(path: &Path) -> PathBuf {
    (0_u32..)
        .map(|n| match n {
            0 => PathBuf::from(format!("{}.bad", path.display())),
            n => PathBuf::from(format!("{}.bad.{n}", path.display())),
        })
        .find(|name| std::fs::symlink_metadata(name).is_err())
        .expect("there are more names than files")
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

fn checked(kind: Kind, key: &[u8], value: Vec<u8>, used: i64, sum: i64) -> Result<Row, DamagedRow> {
    if checksum(kind, key, &value) == sum { Ok(Row { value, used }) } else { Err(DamagedRow) }
}

fn checksum(kind: Kind, key: &[u8], value: &[u8]) -> i64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&[kind as u8]).update(&(key.len() as u64).to_le_bytes());
    hasher.update(key).update(value);
    let hash = hasher.finalize();
    let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash has 32 bytes");
    i64::from_le_bytes(*first)
}
