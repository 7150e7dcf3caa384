//! The database's file: opened, made, told from strangers, set aside.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::config::DbConfig;
use rusqlite::{Connection, MAIN_DB, OpenFlags};

use super::row::GET;
use crate::bucket::{Bucket, RECORDS};
use crate::lock::{FileLock, Mode};
use crate::shared_memory;

/// `mybd`: says whose SQLite file it is.
const APPLICATION_ID: i32 = 0x6d79_6264;
/// Version of the schema and of the values' encodings.
const SCHEMA_VERSION: i32 = 1;
/// How long a writer waits for another process's transaction.
const BUSY_TIMEOUT: Duration = Duration::from_secs(30);

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

/// Opens a connection to a database that is ours, making it if there is none.
pub(super) fn connect(root: &Path) -> Result<Connection, DatabaseError> {
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
        initialise(&connection, root)?;
    }
    Ok(connection)
}

fn lock_file(root: &Path) -> PathBuf {
    Bucket::Locks.path(root).join("database")
}

fn open_file(root: &Path) -> Result<Connection, DatabaseError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(root.join(RECORDS), flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    shared_memory::reserve(&connection, root)?;
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

fn initialise(connection: &Connection, root: &Path) -> Result<(), DatabaseError> {
    shared_memory::reserve_first(connection, root)?;
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
pub(super) fn move_aside(root: &Path) -> Result<Option<PathBuf>, DatabaseError> {
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

/// Renames what has the name of one of the database's files and is not a file. Gives the new place of the
/// first.
/// SQLite does not refuse all of it: beside a directory in place of its shared memory it only reads.
pub(super) fn move_strangers_aside(root: &Path) -> Result<Option<PathBuf>, DatabaseError> {
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
