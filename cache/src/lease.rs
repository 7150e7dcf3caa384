//! Leases: who has the store open, and what for. Prune removes nothing that a living lease may have
//! looked up.
//!
//! A session that only looks things up writes nothing: its lease is empty and stands for everything.
//! One that goes on to work says what it has looked up, and from then on everything before it looks
//! it up ([`Lease::announce`]): a name a line, and a line that says that the list is whole. Whatever
//! else there is may then go while the session lives.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard};

use crate::bucket::Bucket;
use crate::error::StoreError;
use crate::mutex::lock;

/// The line of a lease that says that it lists everything the session holds.
const WHOLE: &str = "holds-v1";
/// What the line of a blob begins with that gets its name.
const NAMES: &str = "names ";
/// A longer list is not read: it stands for everything, as an empty one does.
const LIST_MAX: u64 = 64 << 20;

/// The sign of a living session; dropping it ends the session.
#[derive(Debug)]
pub(crate) struct Lease {
    session: SessionId,
    path: PathBuf,
    /// Lookups for its `flock`.
    file: File,
    names: AtomicU64,
    held: Mutex<Lookups>,
    keep: bool,
}

/// What a session has looked up.
#[derive(Debug, Default)]
struct Lookups {
    names: HashSet<Box<str>>,
    told: Told,
}

/// How much of it the lease's file says.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Told {
    /// Nothing: the session holds everything.
    #[default]
    Nothing,
    /// All of it.
    All,
}

/// What a living session holds, as others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Holds {
    /// It does not say, so it may be anything.
    Everything,
    /// These names.
    Only(HashSet<Box<str>>),
}

impl Holds {
    /// Whether it says so: a session that does not say what it holds is not a container.
    pub(crate) fn names(&self, name: &str) -> bool {
        matches!(self, Self::Only(names) if names.contains(name))
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(names) => names.contains(name),
        }
    }
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
    session: SessionId,
    path: PathBuf,
    file: File,
}

impl Lease {
    /// Starts a session. The file appears under its name already locked, so that nobody takes a
    /// lease just born for a dead one.
    pub(crate) fn start(root: &Path) -> io::Result<Self> {
        let session = SessionId::random()?;
        let path = Bucket::Leases.path(root).join(&session.0);
        let file = locked(&path).or_else(|_| renamed(root, &session, &path))?;
        Ok(Self {
            session,
            path,
            file,
            names: AtomicU64::new(0),
            held: Mutex::default(),
            keep: false,
        })
    }

    /// The session's name.
    pub(crate) fn session(&self) -> &SessionId {
        &self.session
    }

    /// A file name that no other session and no other call gives.
    pub(crate) fn unique_name(&self) -> String {
        format!("{}-{:x}", self.session.0, self.names.fetch_add(1, Ordering::Relaxed))
    }

    /// Notes that the session is about to look `name` up: to be called before it is. Without success
    /// it must not be looked up: somebody else may take it for unused.
    #[must_use]
    pub(crate) fn hold(&self, name: &str) -> bool {
        let mut held = self.held();
        if !held.names.insert(name.into()) || held.told == Told::Nothing {
            return true;
        }
        let is_told = (&self.file).write_all(format!("{name}\n").as_bytes()).is_ok();
        is_told || self.retract(&mut held) || !held.names.remove(name)
    }

    /// Says from now on what the session holds: it is going to work for a while, and nobody else is to
    /// wait for its end. Where that cannot be written, it goes on to hold everything.
    pub(crate) fn announce(&self) {
        let mut held = self.held();
        if held.told == Told::All {
            return;
        }
        let mut list: String = held.names.iter().flat_map(|name| [name, "\n"]).collect();
        list.push_str(WHOLE);
        list.push('\n');
        match (&self.file).write_all(list.as_bytes()) {
            Ok(()) => held.told = Told::All,
            // The line that makes it count comes last.
            Err(_) => drop(self.retract(&mut held)),
        }
    }

    /// Notes that blobs are about to get their names, before their rows are written: killed in between,
    /// the session leaves what nobody else knows of. Without success that is as old as other programs'
    /// blobs are before it goes.
    pub(crate) fn names<'a>(&self, blobs: impl Iterator<Item = &'a oci::Digest>) {
        let lines: String = blobs.map(|blob| format!("{NAMES}{blob}\n")).collect();
        let _held = self.held();
        let _ = (&self.file).write_all(lines.as_bytes());
    }

    /// What this session holds, whether or not it says so.
    pub(crate) fn holds(&self) -> Holds {
        Holds::Only(self.held().names.clone())
    }

    /// Takes back what was said, on a disk that has no room for more. Whether it could.
    fn retract(&self, held: &mut Lookups) -> bool {
        let is_empty = self.file.set_len(0).and_then(|()| (&self.file).rewind()).is_ok();
        if is_empty {
            held.told = Told::Nothing;
        }
        is_empty
    }

    fn held(&self) -> MutexGuard<'_, Lookups> {
        lock(&self.held)
    }

    /// A path in `tmp-v1` that nobody else uses.
    pub(crate) fn temporary(&self, root: &Path) -> PathBuf {
        Bucket::Temporary.path(root).join(self.unique_name())
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
    /// The session that it was of.
    pub(crate) fn session(&self) -> &SessionId {
        &self.session
    }

    /// The blobs that it has given names, as far as it could say so.
    pub(crate) fn named(&self) -> io::Result<Vec<oci::Digest>> {
        let mut list = String::new();
        (&self.file).take(LIST_MAX).read_to_string(&mut list)?;
        let named = list.lines().filter_map(|line| line.strip_prefix(NAMES)?.parse().ok());
        Ok(named.collect())
    }

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
            Some(file) => found.dead.push(DeadLease { session, path: entry.path(), file }),
            None => found.alive.push(session),
        }
    }
    // A lease that ended between listing and opening is neither: it cleared up itself.
    found.alive.retain(|session| Bucket::Leases.path(root).join(&session.0).exists());
    Ok(found)
}

/// All sessions that are alive.
pub(crate) fn living(root: &Path) -> Result<Vec<SessionId>, StoreError> {
    let failed = |error| StoreError::io("list", &Bucket::Leases.path(root), error);
    Ok(sessions(root, None).map_err(failed)?.alive)
}

/// Whether a session is over.
pub(crate) fn is_over(root: &Path, session: &SessionId) -> io::Result<bool> {
    let path = Bucket::Leases.path(root).join(&session.0);
    Ok(!path.exists() || is_dead(&path)?.is_some())
}

/// What a session other than this one holds; nothing when it is over.
pub(crate) fn held_by(root: &Path, session: &SessionId) -> Holds {
    let path = Bucket::Leases.path(root).join(&session.0);
    if is_over(root, session).unwrap_or(false) {
        return Holds::Only(HashSet::new());
    }
    let list = File::open(path).and_then(|file| {
        let mut list = String::new();
        file.take(LIST_MAX).read_to_string(&mut list)?;
        Ok(list)
    });
    list.map_or(Holds::Everything, |list| parse(&list))
}

/// How a session names an image that it runs.
pub(crate) fn image_name(id: &oci::Digest) -> String {
    format!("image {id}")
}

/// Reads a lease's list. A last line that is not whole was not yet looked up.
fn parse(list: &str) -> Holds {
    let whole = list.rfind('\n').map_or("", |end| &list[..end]);
    if list.len() as u64 == LIST_MAX || !whole.lines().any(|line| line == WHOLE) {
        return Holds::Everything;
    }
    Holds::Only(whole.lines().filter(|line| *line != WHOLE).map(Into::into).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_counts_when_it_is_whole() {
        let only = |names: &[&str]| Holds::Only(names.iter().map(|name| (*name).into()).collect());
        for (list, expected) in [
            ("", Holds::Everything),
            ("a\nb\n", Holds::Everything),
            ("a\nholds-v1", Holds::Everything),
            ("holds-v1\n", only(&[])),
            ("a\nholds-v1\nb\n", only(&["a", "b"])),
            ("a\nholds-v1\nb\ncut", only(&["a", "b"])),
        ] {
            assert_eq!(parse(list), expected, "{list:?}");
        }
    }
}
