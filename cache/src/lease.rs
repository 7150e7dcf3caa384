//! Leases: who has the store open. Prune removes nothing that a living lease may have looked up.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::bucket::Bucket;

/// The sign of a living session; dropping it ends the session.
#[derive(Debug)]
pub(crate) struct Lease {
    session: SessionId,
    path: PathBuf,
    /// Held for its `flock`.
    file: File,
    names: AtomicU64,
    keep: bool,
}

/// Random name of a session: 16 letters and digits.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct SessionId(pub(crate) String);

/// What one look into `leases-v1` found.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    pub(crate) alive: Vec<SessionId>,
    pub(crate) dead: Vec<DeadLease>,
}

/// A lease whose process is gone, locked so that only one process clears up after it.
#[derive(Debug)]
pub(crate) struct DeadLease {
    pub(crate) session: SessionId,
    path: PathBuf,
    _file: File,
}

impl Lease {
    /// Starts a session. The file appears under its name already locked, so that nobody takes a
    /// lease just born for a dead one.
    pub(crate) fn start(root: &Path) -> io::Result<Self> {
        let session = SessionId::random()?;
        let path = Bucket::Leases.path(root).join(&session.0);
        let file = locked(&path).or_else(|_| renamed(root, &session, &path))?;
        Ok(Self { session, path, file, names: AtomicU64::new(0), keep: false })
    }

    /// The session's name.
    pub(crate) fn session(&self) -> &SessionId {
        &self.session
    }

    /// A file name that no other session and no other call gives.
    pub(crate) fn unique_name(&self) -> String {
        format!("{}-{:x}", self.session.0, self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// Ends the session.
    pub(crate) fn end(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        // Closing is not enough: a child that has just been forked has the file open, too.
        let _ = self.file.unlock();
        self.keep = true;
    }

    /// Leaves the file behind, so that the next session clears up after this one.
    pub(crate) fn abandon(&mut self) {
        self.keep = true;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.keep {
            self.end();
        }
    }
}

impl DeadLease {
    /// Everything of the session has been cleared: the lease may go.
    pub(crate) fn finish(self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A lease that has its name only when it is locked.
fn locked(path: &Path) -> io::Result<File> {
    let directory = path.parent().expect("a lease has a directory");
    let file = crate::unnamed::create(directory, 0o600)?;
    file.lock()?;
    crate::unnamed::name(&file, path)?;
    Ok(file)
}

/// The same where files have a name from the start.
fn renamed(root: &Path, session: &SessionId, path: &Path) -> io::Result<File> {
    let unborn = Bucket::Temporary.path(root).join(format!("{}-lease", session.0));
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&unborn)?;
    let named = file.lock().and_then(|()| std::fs::rename(&unborn, path));
    if let Err(error) = named {
        let _ = std::fs::remove_file(&unborn);
        return Err(error);
    }
    Ok(file)
}

impl SessionId {
    fn random() -> io::Result<Self> {
        use std::io::Read as _;
        let mut random = [0; 10];
        File::open("/dev/urandom")?.read_exact(&mut random)?;
        Ok(Self(data_encoding::BASE32_NOPAD.encode(&random).to_ascii_lowercase()))
    }

    /// The session that made a name of `tmp-v1` or `layers-v1`.
    pub(crate) fn of_name(name: &str) -> Option<Self> {
        let (session, _) = name.split_once('-')?;
        (session.len() == 16).then(|| Self(session.to_owned()))
    }
}

/// Looks at every lease but `own`'s.
pub(crate) fn sessions(root: &Path, own: Option<&SessionId>) -> io::Result<Sessions> {
    let mut found = Sessions::default();
    for entry in std::fs::read_dir(Bucket::Leases.path(root))? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        let session = SessionId(name);
        if Some(&session) == own {
            continue;
        }
        match is_dead(&entry.path())? {
            Some(file) => found.dead.push(DeadLease { session, path: entry.path(), _file: file }),
            None => found.alive.push(session),
        }
    }
    // A lease that ended between listing and opening is neither: it cleared up itself.
    found.alive.retain(|session| Bucket::Leases.path(root).join(&session.0).exists());
    Ok(found)
}

/// Whether a session is over.
pub(crate) fn is_over(root: &Path, session: &SessionId) -> io::Result<bool> {
    let path = Bucket::Leases.path(root).join(&session.0);
    Ok(!path.exists() || is_dead(&path)?.is_some())
}

/// The locked file when the lease's process died; `None` while it lives or when it just ended.
fn is_dead(path: &Path) -> io::Result<Option<File>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    match file.try_lock() {
        Ok(()) => Ok(crate::lock::is_at(&file, path)?.then_some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}
