//! Commits: data first, then names, then the rows that point at them.
//!
//! A commit takes everything that is pending and makes it durable with one `syncfs`:
//!
//! 1. write the new `index.json` beside the old one, when tags changed;
//! 2. `syncfs`: blobs, layer trees and the new index are on the disk, under names nobody reads;
//! 3. rename the blobs into `blobs/`, sync that directory;
//! 4. rename the index, sync the root;
//! 5. one transaction with the rows, synced.
//!
//! Whatever step a power cut or a kill comes after, no name leads to bytes that are not there.
//! Without new data, a commit is the transaction alone, unsynced; with nothing pending it is nothing.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError, Weak};

use crate::committer::{CommitStep, Thread};
use crate::disk::{self, sync_directory};
use crate::mutex::lock;
use std::time::Duration;

use crate::bucket::blob_path;
use crate::database::{Kind, Row, Write};
use crate::error::StoreError;
use crate::layer_id::LayerId;
use crate::layer_row::{self, LayerRow};
use crate::memo::Memo;
use crate::pending::Batch;
use crate::record::Record;
use crate::store::{Inner, Store};
use crate::syncer::SyncError;
use crate::warning::Warning;
use crate::{form, image, image_blobs, trash};

/// How long finished work may stay uncommitted: alone, and when other processes may wait for it.
const INTERVAL: Duration = Duration::from_secs(2);
const INTERVAL_SHARED: Duration = Duration::from_millis(100);
/// How often it is looked whether the commit before has ended.
const TURN: Duration = Duration::from_millis(2);
/// New bytes that are worth a sync of their own while a step goes on.
const GROWTH: u64 = 32 << 20;

impl Store {
    /// Makes everything that was put into the store durable and visible to other processes.
    /// To be called at the end of a build, a failed one too. With nothing pending it costs nothing.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.inner.stamps.finish();
        self.inner.commit()
    }

    /// Whether [`Self::flush`] has anything to do.
    pub fn is_dirty(&self) -> bool {
        !self.inner.pending_mut().is_empty() || !self.inner.stamps.is_empty()
    }

    /// Starts to bring what was written to the disk, in the background: the commit that needs it there
    /// has less to wait for. Does nothing while this goes on already.
    pub fn write_back(&self) {
        self.inner.syncer.start();
    }

    /// Does [`Self::write_back`] when the file system has got much fuller since the last call that saw
    /// to it. What is written and removed again in between does not count: mostly it never gets to the
    /// disk. To be called from time to time while something writes; the first call only takes note.
    pub fn write_back_growth(&self) {
        let Ok(room) = self.room() else { return };
        let free = room.bytes.free;
        let known = &self.inner.committer.free;
        let before = known.load(Ordering::Relaxed);
        if free < before && before - free < GROWTH {
            return;
        }
        known.store(free, Ordering::Relaxed);
        if free < before {
            self.write_back();
        }
    }

    /// Sees to it that what is pending is committed before long.
    pub(crate) fn schedule_commit(&self) {
        let (state, signal) = &*self.inner.committer.thread;
        let mut state = lock(state);
        if *state == Thread::None {
            *state = Thread::Waiting;
            let (weak, thread) = (Arc::downgrade(&self.inner), self.inner.committer.thread.clone());
            let others = crate::lease::sessions(self.root(), Some(self.inner.lease.session()));
            let alone = others.is_ok_and(|sessions| sessions.alive.is_empty());
            let interval = if alone { INTERVAL } else { INTERVAL_SHARED };
            let syncer = self.inner.syncer.clone();
            std::thread::spawn(move || {
                syncer.prepare();
                drop(syncer);
                commit_later(&weak, &thread, interval);
            });
        }
        signal.notify_all();
    }
}

/// Waits for `interval`, commits what there is, and ends; the next change starts it again.
fn commit_later(inner: &Weak<Inner>, thread: &(Mutex<Thread>, Condvar), interval: Duration) {
    let (state, signal) = thread;
    let guard = lock(state);
    let waited = signal.wait_timeout_while(guard, interval, |state| *state != Thread::Stopped);
    let (mut guard, _) = waited.unwrap_or_else(PoisonError::into_inner);
    if *guard == Thread::Stopped {
        return;
    }
    *guard = Thread::None;
    drop(guard);
    if let Some(inner) = inner.upgrade()
        && let Err(error) = inner.commit()
    {
        inner.warn_of_commit(error);
    }
}

impl Inner {
    /// Commits everything that is pending.
    pub(crate) fn commit(&self) -> Result<(), StoreError> {
        let _one_at_a_time = self.lock_commit()?;
        let batch = {
            let stamps = self.stamps.take();
            let mut pending = self.pending_mut();
            if pending.is_empty() && stamps.is_empty() {
                return Ok(());
            }
            pending.batch(stamps)
        };
        match self.write(&batch) {
            Ok(()) => {
                self.pending_mut().committed(&batch);
                Ok(())
            }
            Err(error) => {
                self.pending_mut().failed(batch);
                Err(error)
            }
        }
    }

    /// Waits for the commit that is under way; not for long when the program is to end.
    fn lock_commit(&self) -> Result<MutexGuard<'_, ()>, StoreError> {
        loop {
            match self.committer.commit.try_lock() {
                Ok(guard) => return Ok(guard),
                Err(TryLockError::Poisoned(poisoned)) => return Ok(poisoned.into_inner()),
                Err(TryLockError::WouldBlock) if self.syncer.stopper.is_over() => {
                    return Err(StoreError::Stopped);
                }
                Err(TryLockError::WouldBlock) => std::thread::sleep(TURN),
            }
        }
    }

    fn write(&self, batch: &Batch) -> Result<(), StoreError> {
        self.step(CommitStep::Started);
        let new_index = image::prepare(self, &batch.tags)?;
        if batch.has_data() || new_index.is_some() {
            self.syncer.sync().map_err(|error| match error {
                SyncError::Stopped => StoreError::Stopped,
                SyncError::Io(error) => StoreError::io("sync", self.root(), error),
            })?;
            self.step(CommitStep::Synced);
        }
        if !batch.blobs.is_empty() {
            self.name_blobs(batch)?;
        }
        if let Some(index) = new_index {
            index.publish(self)?;
            self.step(CommitStep::IndexNamed);
        }
        self.write_rows(batch)?;
        self.step(CommitStep::RowsWritten);
        Ok(())
    }

    /// Renames blobs into place. An old file under the name is replaced: it has the same bytes,
    /// or is damaged.
    fn name_blobs(&self, batch: &Batch) -> Result<(), StoreError> {
        // The collector must not take what appears under the name of something thrown away.
        for (digest, _) in &batch.blobs {
            if trash::holds(&self.database, Kind::Blob, digest.as_str())? {
                self.database.write(|write| restore_blobs(write, batch))?;
                break;
            }
        }
        self.lease.names(batch.blobs.iter().map(|(digest, _)| digest));
        let mut directories = BTreeSet::<PathBuf>::new();
        for (digest, blob) in &batch.blobs {
            let path = blob_path(self.root(), digest);
            match disk::replace(&path, &blob.temporary) {
                Ok(()) => {}
                // An earlier commit got this far before it failed.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound && path.exists() => {}
                Err(error) => return Err(StoreError::io("rename", &blob.temporary, error)),
            }
            directories.insert(path.parent().expect("a blob has a directory").to_owned());
        }
        self.step(CommitStep::BlobsNamed);
        for directory in &directories {
            sync_directory(directory).map_err(|error| StoreError::io("sync", directory, error))?;
        }
        self.step(CommitStep::BlobNamesSynced);
        Ok(())
    }

    fn write_rows(&self, batch: &Batch) -> Result<(), StoreError> {
        let has_rows = !batch.rows.is_empty() || !batch.used.is_empty() || !batch.stamps.is_empty();
        let may_restore = !batch.tags.is_empty() && trash::exists(&self.database)?;
        if !has_rows && !may_restore {
            return Ok(());
        }
        let written = self.write_rows_once(batch);
        match written {
            Err(StoreError::Database(error)) if crate::database::is_corruption(&error) => {
                if let Some(moved) = self.database.replace()? {
                    self.warn(Warning::DatabaseReplaced { moved });
                }
                self.write_rows_once(batch)
            }
            written => written,
        }
    }

    fn write_rows_once(&self, batch: &Batch) -> Result<(), StoreError> {
        let change = |write: &Write<'_>| -> Result<(), StoreError> {
            let has_trash = !write.scan(Kind::Epoch, &[])?.is_empty();
            if has_trash {
                restore_blobs(write, batch)?;
            }
            for ((kind, key), row) in &batch.rows {
                if has_trash {
                    restore_for(write, *kind, key, row)?;
                }
                match kind {
                    Kind::Layer => write.put(*kind, key, &layer_row::merged(write, key, row)?)?,
                    _ => write.put(*kind, key, row)?,
                }
            }
            for stamped in &batch.stamps {
                layer_row::put_stamp(write, stamped)?;
            }
            for ((kind, key), when) in &batch.used {
                write.touch(*kind, key, *when)?;
            }
            for descriptor in batch.tags.iter().filter_map(|(_, target)| target.as_ref()) {
                image_blobs::restore_image(write, self.root(), descriptor)?;
            }
            Ok(())
        };
        // New data has waited for the disk anyway. Rows about old data are cheap to lose.
        match batch.has_data() {
            true => self.database.write_durably(change),
            false => self.database.write(change),
        }
    }

    /// What is not committed because the program ends is not an error.
    fn warn_of_commit(&self, error: StoreError) {
        if !matches!(error, StoreError::Stopped) {
            self.warn(Warning::CommitFailed { source: Arc::new(error) });
        }
    }

    fn step(&self, step: CommitStep) {
        if let Some(observe) = &self.options.on_commit_step {
            observe(step);
        }
    }
}

/// Takes back out of the trash what a row that is about to be written replaces or needs: prune
/// may have thrown it away while the row was pending.
fn restore_for(write: &Write<'_>, kind: Kind, key: &[u8], row: &Row) -> rusqlite::Result<()> {
    match kind {
        Kind::Layer => {
            let id = LayerId::from_key(key);
            layer_row::restore_layer(write, &id)?;
            LayerRow::parse(row).map_or(Ok(()), |row| row.restore_needs(write, &id))
        }
        Kind::Form => form::restore_form(write, key, row),
        _ => {
            trash::restore(write, kind, key)?;
            match kind {
                Kind::Record => {
                    Record::parse(row).map_or(Ok(()), |record| record.restore_needs(write))
                }
                Kind::Memo => Memo::parse(row).map_or(Ok(()), |memo| memo.restore_needs(write)),
                _ => Ok(()),
            }
        }
    }
}

fn restore_blobs(write: &Write<'_>, batch: &Batch) -> Result<(), StoreError> {
    for (digest, _) in &batch.blobs {
        trash::restore(write, Kind::Blob, digest.as_str().as_bytes())?;
    }
    Ok(())
}
