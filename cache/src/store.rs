//! The store as a session has it: what is known and pending, and how rows are looked up and put in.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockWriteGuard};

use crate::bucket::Bucket;
use crate::clock::now;
use crate::committer::{CommitStep, Committer};
use crate::database::{Database, Kind, Row, is_corruption};
use crate::layer_id::LayerId;
use crate::lease::Lease;
use crate::mutex::lock;
use crate::pending::{self, Pending};
use crate::removal::Removals;
use crate::reserve::Reserve;
use crate::stamps::Stamps;
use crate::syncer::{Stopper, Syncer};
use crate::warning::Warning;

/// Uses within an hour are one use; one that is a day old is worth a write of its own.
const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

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

pub(crate) struct Inner {
    root: PathBuf,
    pub(crate) options: Options,
    pub(crate) database: Database,
    pending: RwLock<Pending>,
    pub(crate) stamps: Stamps,
    pub(crate) committer: Committer,
    /// Free bytes of the disk when this session last made room; 0 before it has.
    pub(crate) free_when_pruned: AtomicU64,
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
        std::mem::take(&mut *lock(&self.inner.warnings))
    }

    /// Notes what went wrong without making anything fail, see [`Self::take_warnings`].
    pub fn warn(&self, warning: Warning) {
        self.inner.warn(warning);
    }

    pub(crate) fn bucket(&self, bucket: Bucket) -> PathBuf {
        bucket.path(self.root())
    }

    /// A directory on the store's file system for temporary files. It goes with the session, at
    /// latest when the next one finds that this one was killed.
    pub fn temporary_directory(&self) -> PathBuf {
        let path = self.inner.scratch();
        // The first write there reports why it cannot be made.
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
            let matches = |key: &pending::Key| key.0 == kind && key.1.starts_with(prefix);
            let rows = pending.rows.iter().filter(|(key, _)| matches(key));
            rows.map(|(key, pending)| (key.1.to_vec(), pending.row.clone())).collect()
        });
        let mut rows = BTreeMap::new();
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
            return self.warn(Warning::DatabaseFailed { source: Arc::new(error) });
        }
        match self.inner.database.replace() {
            Ok(Some(moved)) => self.warn(Warning::DatabaseReplaced { moved }),
            Ok(None) => {}
            Err(error) => self.warn(Warning::DatabaseFailed { source: Arc::new(error) }),
        }
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("root", &self.root).finish_non_exhaustive()
    }
}

impl Inner {
    pub(crate) fn new(
        root: &Path,
        options: Options,
        database: Database,
        syncer: Syncer,
        lease: Lease,
    ) -> Self {
        Self {
            root: root.to_owned(),
            database,
            pending: RwLock::default(),
            stamps: Stamps::default(),
            committer: Committer::default(),
            free_when_pruned: AtomicU64::default(),
            removals: Removals::new(&syncer.stopper),
            syncer: Arc::new(syncer),
            options,
            warnings: Mutex::default(),
            seen: Mutex::default(),
            checked: Mutex::default(),
            lease,
        }
    }

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
        lock(&self.seen)
    }

    pub(crate) fn checked(&self) -> MutexGuard<'_, HashSet<LayerId>> {
        lock(&self.checked)
    }

    pub(crate) fn warn(&self, warning: Warning) {
        let mut warnings = lock(&self.warnings);
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
}
