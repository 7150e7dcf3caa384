//! The store: opening it, looking into it, closing it.

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::bucket::{Bucket, INDEX, LAYOUT, OCI_LAYOUT};
use crate::commit::{CommitStep, Committer};
use crate::database::{Database, DatabaseError, Kind, Row, is_corruption};
use crate::lease::{self, Lease};
use crate::pending::Pending;
use crate::prune::Looked;
use crate::removal::Removals;
use crate::reserve::{self, Reserve};
use crate::snapshot::LayerId;
use crate::stamp::Stamps;
use crate::syncer::{Stopper, Syncer};
use crate::warning::Warning;

/// Uses within an hour are one use; one that is a day old is worth a write of its own.
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;
/// File systems whose locks or shared memory SQLite cannot rely on: NFS, SMB, SMB2, 9p, FUSE's
/// stay out, since many of those are local.
const NETWORK: [(u64, &str); 4] =
    [(0x6969, "nfs"), (0x517b, "smb"), (0xfe53_4d42, "smb2"), (0x0102_1997, "9p")];

/// A store on disk. Clones share one session.
///
/// Open one for each build: it is cheap, and what the build looks up is kept from
/// [`Store::prune`] until the last clone is dropped. Several processes, or several stores in one
/// process, may have the same root open at once.
///
/// Lookups do not fail: what is missing or damaged is absent, with a [`Warning`].
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

/// How a store is opened.
#[derive(Clone, Default)]
pub struct Options {
    /// Whether it may use the room that is set aside.
    pub reserve: Reserve,
    /// Told of every step of every commit, from the committing thread.
    pub on_commit_step: Option<Arc<dyn Fn(CommitStep) + Send + Sync>>,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A file or directory of the store cannot be used.
    #[error("failed to {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A newer release has made the store; nothing was changed.
    #[error("the store at `{}` was made by a newer release (its schema version is {version})", root.display())]
    Newer {
        /// Its root.
        root: PathBuf,
        /// The version found.
        version: i32,
    },
    /// On network file systems locks between processes do not hold.
    #[error("the store at `{}` is on {kind}, where locks do not hold; choose a local directory", root.display())]
    Network {
        /// Its root.
        root: PathBuf,
        /// Name of the file system.
        kind: &'static str,
    },
    /// The database fails for another reason than its content.
    #[error("failed to open the records of the store at `{}`", root.display())]
    Database {
        /// The store's root.
        root: PathBuf,
        /// Why it failed.
        source: rusqlite::Error,
    },
}

/// Why something could not be written to or read from an open store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory of the store failed.
    #[error("failed to {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The database failed.
    #[error("failed to use the store's records")]
    Database(#[source] rusqlite::Error),
    /// Content is not what its descriptor says.
    #[error("expected {expected} ({expected_size} bytes), got {found} ({size} bytes)")]
    Mismatch {
        /// The digest asked for.
        expected: oci::Digest,
        /// The size asked for.
        expected_size: u64,
        /// The digest of what came.
        found: oci::Digest,
        /// Its size.
        size: u64,
    },
    /// A blob is larger than the caller is ready to read.
    #[error("blob {digest} has {size} bytes, more than {cap}")]
    TooLarge {
        /// Which blob.
        digest: oci::Digest,
        /// Its size.
        size: u64,
        /// The caller's limit.
        cap: u64,
    },
    /// The program ends before the disk has taken what was to be committed.
    #[error("stopped before everything was on the disk")]
    Stopped,
    /// The blob is not there, or not whole.
    #[error("blob {0} is missing or damaged")]
    NoBlob(oci::Digest),
    /// A name for an image that is not valid.
    #[error("`{name}` is not a valid image name")]
    Name {
        /// As given.
        name: String,
        /// What is wrong with it.
        source: oci::InvalidReference,
    },
}

pub(crate) struct Inner {
    root: PathBuf,
    pub(crate) options: Options,
    pub(crate) database: Database,
    pending: RwLock<Pending>,
    pub(crate) stamps: Stamps,
    pub(crate) committer: Committer,
    pub(crate) looked: Looked,
    pub(crate) syncer: Arc<Syncer>,
    warnings: Mutex<Vec<Warning>>,
    /// Layers that this session has found whole; its lease keeps them so.
    seen: Mutex<HashSet<LayerId>>,
    /// Layers whose trees this session has made or compared with their stamp.
    checked: Mutex<HashSet<LayerId>>,
    pub(crate) removals: Removals,
    /// Last: the session ends after everything else of it is gone.
    pub(crate) lease: Lease,
}

impl Store {
    /// Opens the store at `root`, making it if there is none, and starts a session in it.
    pub fn open(root: &Path, options: Options) -> Result<Self, OpenError> {
        let lease = start_session(root, options.reserve)?;
        let directory = File::open(root).map_err(|source| OpenError::Io {
            action: "open",
            path: root.to_owned(),
            source,
        })?;
        let (database, moved) = open_database(root)?;
        let syncer = Arc::new(Syncer::new(directory));
        let removals = Removals::new(&syncer.stopper);
        let store = Self {
            inner: Arc::new(Inner {
                root: root.to_owned(),
                database,
                pending: RwLock::default(),
                stamps: Stamps::default(),
                committer: Committer::default(),
                looked: Looked::default(),
                syncer,
                options,
                warnings: Mutex::default(),
                seen: Mutex::default(),
                checked: Mutex::default(),
                removals,
                lease,
            }),
        };
        if let Some(moved) = moved {
            store.warn(Warning::DatabaseReplaced { moved });
        }
        store.clear_dead_sessions()?;
        Ok(store)
    }

    /// The root directory: an OCI image layout.
    pub fn root(&self) -> &Path {
        &self.inner.root
    }

    /// Says that the program is about to end: from then on no commit waits for the disk for more than a
    /// moment, nor the end of this session for what it removes. What is not committed or removed by then
    /// the next session clears up, as after a kill.
    pub fn stopper(&self) -> Stopper {
        self.inner.syncer.stopper.clone()
    }

    /// What went wrong since the last call without making anything fail.
    pub fn take_warnings(&self) -> Vec<Warning> {
        std::mem::take(&mut self.inner.warnings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn warn(&self, warning: Warning) {
        self.inner.warn(warning);
    }

    pub(crate) fn bucket(&self, bucket: Bucket) -> PathBuf {
        bucket.path(self.root())
    }

    /// A directory on the store's file system for temporary files. It goes with the session, at
    /// latest when the next one finds that this one was killed.
    pub fn temporary_directory(&self) -> PathBuf {
        let path = self.inner.scratch();
        // Whoever puts something there finds out why it cannot be made.
        let _ = std::fs::create_dir(&path);
        path
    }

    pub(crate) fn temporary(&self) -> PathBuf {
        self.inner.temporary()
    }

    pub(crate) fn pending<T>(&self, read: impl FnOnce(&Pending) -> T) -> T {
        read(&self.inner.pending.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Changes what is pending and sees to it that it will be committed.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Pending) -> T) -> T {
        let result = change(&mut self.inner.pending_mut());
        self.schedule_commit();
        result
    }

    /// The row of `kind` and `key`, pending or committed; a damaged one is absent.
    pub(crate) fn get(&self, kind: Kind, key: &[u8]) -> Option<Arc<Row>> {
        if let Some(row) = self.pending(|pending| pending.get(kind, key)) {
            return Some(row);
        }
        match self.inner.database.get(kind, key) {
            Ok(Some(Ok(row))) => Some(Arc::new(row)),
            Ok(None) => None,
            Ok(Some(Err(_))) => {
                self.warn(Warning::DamagedRow { key: String::from_utf8_lossy(key).into_owned() });
                None
            }
            Err(error) => {
                self.database_failed(error);
                None
            }
        }
    }

    /// All rows of `kind` whose key starts with `prefix`, pending and committed.
    pub(crate) fn scan(&self, kind: Kind, prefix: &[u8]) -> Vec<(Vec<u8>, Arc<Row>)> {
        let pending: Vec<(Vec<u8>, Arc<Row>)> = self.pending(|pending| {
            let matches = |key: &crate::pending::Key| key.0 == kind && key.1.starts_with(prefix);
            let rows = pending.rows.iter().filter(|(key, _)| matches(key));
            rows.map(|(key, pending)| (key.1.to_vec(), pending.row.clone())).collect()
        });
        let mut rows = std::collections::BTreeMap::new();
        match self.inner.database.scan(kind, prefix) {
            Ok(found) => rows.extend(found.into_iter().map(|(key, row)| (key, Arc::new(row)))),
            Err(error) => self.database_failed(error),
        }
        rows.extend(pending);
        rows.into_iter().collect()
    }

    /// Notes that a row is in use, for prune. Most notes wait for something else to be written.
    pub(crate) fn touch(&self, kind: Kind, key: &[u8], row: &Row) {
        let age = now() - row.used;
        if age < HOUR {
            return;
        }
        let is_news = age > DAY;
        let note = |pending: &mut Pending| {
            pending.used.insert((kind, key.into()), now());
            pending.use_is_news |= is_news;
        };
        note(&mut self.inner.pending_mut());
    }

    /// Puts a row among what is pending, unless it is in the store as it is.
    pub(crate) fn put(&self, kind: Kind, key: &[u8], value: Vec<u8>) {
        if self.get(kind, key).is_some_and(|row| row.value == value) {
            return;
        }
        self.change(|pending| pending.put(kind, key, Row { value, used: now() }));
    }

    /// A failing lookup: a corrupt database is set aside, everything else is only told.
    pub(crate) fn database_failed(&self, error: rusqlite::Error) {
        if !is_corruption(&error) {
            return self.warn(Warning::DatabaseFailed { message: error.to_string() });
        }
        match self.inner.database.replace() {
            Ok(Some(moved)) => self.warn(Warning::DatabaseReplaced { moved }),
            Ok(None) => {}
            Err(error) => self.warn(Warning::DatabaseFailed { message: error.to_string() }),
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.committer.stop();
        self.close();
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// A path in `tmp-v1` that nobody else uses.
    pub(crate) fn temporary(&self) -> PathBuf {
        self.lease.temporary(&self.root)
    }

    /// See [`Store::temporary_directory`].
    pub(crate) fn scratch(&self) -> PathBuf {
        let name = format!("{}-scratch", self.lease.session().0);
        Bucket::Temporary.path(&self.root).join(name)
    }

    /// Begins to remove it, if there is one.
    fn remove_scratch(&self) {
        let path = self.scratch();
        match std::fs::remove_dir(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => self.removals.start(path),
            Ok(()) => {}
        }
    }

    /// Removes what nobody wants of this session's; whether nothing is left.
    pub(crate) fn clear_up(&self) -> bool {
        self.remove_scratch();
        self.removals.finish()
    }

    pub(crate) fn pending_mut(&self) -> RwLockWriteGuard<'_, Pending> {
        self.pending.write().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn seen(&self) -> MutexGuard<'_, HashSet<LayerId>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn checked(&self) -> MutexGuard<'_, HashSet<LayerId>> {
        self.checked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn warn(&self, warning: Warning) {
        let mut warnings = self.warnings.lock().unwrap_or_else(PoisonError::into_inner);
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { action, path: path.to_owned(), source }
    }

    /// Whether the disk (or a quota) is full.
    pub fn is_out_of_space(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_out_of_space(source),
            Self::Database(error) => crate::database::is_full(error),
            _ => false,
        }
    }
}

impl From<rusqlite::Error> for StoreError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Database(error)
    }
}

impl From<DatabaseError> for StoreError {
    fn from(error: DatabaseError) -> Self {
        match error {
            DatabaseError::Sqlite(error) => Self::Database(error),
            DatabaseError::Io(source) => Self::io("lock", Path::new("database"), source),
            // The schema was checked when the store was opened; somebody has upgraded it since.
            DatabaseError::Newer(_) => Self::Database(rusqlite::Error::InvalidQuery),
        }
    }
}

/// Seconds since 1970.
pub(crate) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Starts a session in a store that has room to work: on a full disk, that is the reserve.
fn start_session(root: &Path, reserve: Reserve) -> Result<Lease, OpenError> {
    let failed = |source| OpenError::Io { action: "start a session in", path: root.into(), source };
    if !root.join(OCI_LAYOUT).exists() {
        create(root)?;
    }
    match reserve {
        Reserve::Used => make_room(root),
        Reserve::Kept => reserve::set_aside(root),
    }
    match Lease::start(root) {
        // Somebody has removed a part of the store.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(root)?;
            Lease::start(root).map_err(failed)
        }
        result => result.map_err(failed),
    }
}

/// Sees to it that there is some room to work with.
pub(crate) fn make_room(root: &Path) {
    if reserve::is_needed(root) {
        reserve::release(root);
        if reserve::is_needed(root) {
            reserve::sacrifice(root);
        }
    }
}

fn open_database(root: &Path) -> Result<(Database, Option<PathBuf>), OpenError> {
    let opened = Database::open(root);
    opened.map_err(|error| match error {
        DatabaseError::Newer(version) => OpenError::Newer { root: root.to_owned(), version },
        DatabaseError::Io(source) => {
            OpenError::Io { action: "open the records of", path: root.to_owned(), source }
        }
        DatabaseError::Sqlite(source) => OpenError::Database { root: root.to_owned(), source },
    })
}

/// Makes whatever is missing of the tree in [`Bucket`].
fn create(root: &Path) -> Result<(), OpenError> {
    let failed = |action, path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { action, path, source }
    };
    let mut builder = DirBuilder::new();
    builder.recursive(true).mode(0o700);
    builder.create(root).map_err(failed("create", root))?;
    refuse_network(root)?;
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(root, private).map_err(failed("protect", root))?;
    for bucket in Bucket::ALL {
        let path = bucket.path(root);
        builder.create(&path).map_err(failed("create", &path))?;
    }
    let index = crate::image::empty_index();
    for (name, content) in [(INDEX, index.as_slice()), (OCI_LAYOUT, LAYOUT)] {
        let path = root.join(name);
        write_new(&path, content).map_err(failed("write", &path))?;
    }
    Ok(())
}

fn refuse_network(root: &Path) -> Result<(), OpenError> {
    let Ok(stat) = rustix::fs::statfs(root) else { return Ok(()) };
    let magic = u64::from(stat.f_type as u32);
    match NETWORK.iter().find(|(number, _)| *number == magic) {
        Some((_, kind)) => Err(OpenError::Network { root: root.to_owned(), kind }),
        None => Ok(()),
    }
}

/// Writes a file that appears whole; one that is there already stays.
pub(crate) fn write_new(path: &Path, content: &[u8]) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let directory = path.parent().expect("a file of the store is below its root");
    if let Ok(mut file) = crate::unnamed::create(directory, 0o600) {
        io::Write::write_all(&mut file, content)?;
        file.sync_all()?;
        match crate::unnamed::name(&file, path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {}
            _ => return Ok(()),
        }
    }
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    io::Write::write_all(&mut file, content)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(path) {
        Ok(_) => Ok(()),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error.error),
    }
}

impl Store {
    /// Clears what sessions have left that were killed, in the background.
    fn clear_dead_sessions(&self) -> Result<(), OpenError> {
        let root = self.root();
        let sessions = lease::sessions(root, Some(self.inner.lease.session()));
        let sessions = sessions.map_err(|source| OpenError::Io {
            action: "list the sessions of",
            path: root.to_owned(),
            source,
        })?;
        if !sessions.dead.is_empty() {
            crate::trash::clear_in_background(&self.inner, sessions.dead);
        }
        Ok(())
    }
}
