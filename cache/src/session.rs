//! Sessions: opening a store, and what happens when the last clone of it goes.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::layout::{INDEX, MARKER, MARKER_CONTENT};

use crate::bucket::Bucket;
use crate::database::{Database, DatabaseError};
use crate::disk::write_new_files;
use crate::lease::{self, Lease};
use crate::reserve::{self, Reserve};
use crate::store::{Inner, Options, Store};
use crate::syncer::Syncer;
use crate::warning::Warning;
use crate::{collect, image, leftovers};

/// File systems whose locks or shared memory SQLite cannot rely on: NFS, SMB, SMB2, 9p, FUSE's
/// stay out, since many of those are local.
const NETWORK: [(u64, &str); 4] =
    [(0x6969, "nfs"), (0x517b, "smb"), (0xfe53_4d42, "smb2"), (0x0102_1997, "9p")];

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
        let inner = Inner::new(root, options, database, Syncer::new(directory), lease);
        let store = Self { inner: Arc::new(inner) };
        store.set_room_aside();
        if let Some(moved) = moved {
            store.warn(Warning::DatabaseReplaced { moved });
        }
        store.clear_dead_sessions()?;
        Ok(store)
    }

    /// Sets the reserve aside where it is not, in the background.
    fn set_room_aside(&self) {
        if self.inner.options.reserve == Reserve::Kept && !reserve::is_there(self.root()) {
            let root = self.root().to_owned();
            self.inner.removals.beside(move || reserve::set_aside(&root));
        }
    }

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
            leftovers::clear_in_background(&self.inner, sessions.dead);
        }
        Ok(())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.committer.stop();
        self.close();
    }
}

impl Inner {
    /// Commits what a build has left, as the last clone of the store goes.
    fn close(&mut self) {
        self.stamps.finish();
        let is_committed = self.commit().is_ok();
        self.database.fold_log();
        let is_cleared = self.clear_up();
        if self.options.reserve == Reserve::Used {
            reserve::take(self.root());
        }
        if is_cleared && (is_committed || self.is_given_up()) {
            self.lease.end();
            if !self.syncer.stopper.is_stopped() {
                collect::collect_at_end(self);
            }
        } else {
            // The next session clears up, as after a kill.
            self.lease.abandon();
        }
    }

    /// Removes what the program had no time to commit; not trees and large files, for which there is no time
    /// either. Whether nothing is left.
    fn is_given_up(&self) -> bool {
        // Somebody who has the lock may be about to name what would be removed.
        let Ok(_one_at_a_time) = self.committer.commit.try_lock() else { return false };
        self.syncer.stopper.is_over() && leftovers::clear_files(self, self.lease.session())
    }
}

/// Starts a session in a store that has room to work: on a full disk, that is the reserve.
fn start_session(root: &Path, reserve: Reserve) -> Result<Lease, OpenError> {
    let failed = |source| OpenError::Io { action: "start a session in", path: root.into(), source };
    if !root.join(MARKER).exists() {
        create(root)?;
    }
    if reserve == Reserve::Used {
        leftovers::make_room(root);
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
    let (index, marker, no_images) = (root.join(INDEX), root.join(MARKER), image::empty_index());
    let files = [(index.as_path(), no_images.as_slice()), (&marker, MARKER_CONTENT)];
    write_new_files(&files).map_err(failed("write the first files of", root))
}

fn refuse_network(root: &Path) -> Result<(), OpenError> {
    let Ok(stat) = rustix::fs::statfs(root) else { return Ok(()) };
    let magic = u64::from(stat.f_type as u32);
    match NETWORK.iter().find(|(number, _)| *number == magic) {
        Some((_, kind)) => Err(OpenError::Network { root: root.to_owned(), kind }),
        None => Ok(()),
    }
}
