//! A file tree that a step reads: the build context in place, or the layers of an image or stage.
//!
//! A [`View`] is one directory descriptor and a few rules: what an ignore file hides, whose the files
//! are, where digests of unchanged files are remembered. Every name from outside is resolved below
//! the descriptor, never joined to a path of the host. [`View::select`] takes in what a `COPY` or a
//! bind mount names; [`Selection::digest`] is the content part of such a step's cache key.
//!
//! Read [`View`], then `scan` (walking), `select` (which files), `digest` (the key), `read` (contents).

mod agree;
mod buildkit;
mod digest;
mod filter;
mod near;
pub mod path;
mod read;
mod resolve;
mod scan;
mod select;
mod stat;

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

pub use parser::glob;

pub use digest::bind_digest;
pub(crate) use digest::{Copied, content_digest};
pub use filter::Filter;
pub use near::Missing;
pub use read::{Opened, XATTR_LIMIT};
pub use resolve::{Lookup, Resolved, resolve};
pub use scan::{Node, NodeId, Tree, Xattrs};
pub use select::{Root, Selection, Selector, matching};
pub use stat::{Kind, Stat};

/// A tree that can be read. Cheap to share; what was scanned once is kept, so that a step's key and
/// the step itself see the same files.
pub struct View {
    root: Option<OwnedFd>,
    rules: Rules,
    /// Layer directories below the view, bottom first; empty for a context.
    layers: Vec<PathBuf>,
    selections: Mutex<HashMap<Selector, Once>>,
    /// Trees of a context that were hashed.
    hashed: Mutex<Vec<Arc<Tree>>>,
    /// No file was looked at before.
    started: SystemTime,
    /// Nobody waits any more for what is being read.
    abandoned: AtomicBool,
}

/// Filled by the first who asks; others wait for it.
type Once = Arc<Mutex<Option<Arc<Selection>>>>;

/// What tells a context from layers.
enum Rules {
    Context(Box<Context>),
    Layers,
}

struct Context {
    ignored: Option<Filter>,
    index: Option<cache::StatIndex>,
}

/// Why a tree could not be read.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The context or a layer is not there.
    #[error("failed to open `{}`", path.display())]
    Open {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The layers cannot be laid over each other.
    #[error(transparent)]
    Mount(#[from] executor::OverlayError),
    /// A source that a step names is not in the tree. BuildKit's words, after `failed to calculate
    /// checksum of ref …:`.
    #[error("\"{path}\": not found")]
    NotFound {
        /// Absolute path in the tree, as named.
        path: String,
    },
    /// A file system call failed. Go's words, as BuildKit's users know them.
    #[error("{call} {path}: {reason}")]
    File {
        /// `lstat`, `open`, `readdir`, ….
        call: &'static str,
        /// Absolute path in the tree.
        path: String,
        /// Why.
        reason: Reason,
    },
    /// See [`View::abandon`].
    #[error("nobody waits for the content any more")]
    Abandoned,
    /// A file was written to while the build read it.
    #[error("`{path}` changed while it was read ({what}): build again once it is at rest")]
    Changed {
        /// Absolute path in the tree.
        path: String,
        /// In what it is another than it was.
        what: &'static str,
    },
    /// A wildcard that is none.
    #[error("syntax error in pattern: `{pattern}`")]
    Pattern {
        /// The wildcard as written.
        pattern: String,
    },
    /// An include, exclude or ignore pattern that is none.
    #[error("{message}")]
    Filter {
        /// What is wrong with it.
        message: String,
    },
}

/// The reason of a failed call, in Go's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason(pub Errno);

impl std::fmt::Display for Reason {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&words(self.0))
    }
}

/// Go prints an errno in lower case; the C library's text differs by the first letter only, but for
/// links.
fn words(errno: Errno) -> String {
    if errno == Errno::LOOP {
        return "too many links".into();
    }
    let text = io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    let mut letters = text.chars();
    match letters.next() {
        Some(first) => first.to_lowercase().chain(letters).collect(),
        None => text.to_string(),
    }
}

impl TreeError {
    /// A failed `call` on `path` (relative to the root of the tree).
    pub fn file(call: &'static str, path: &[u8], errno: Errno) -> Self {
        Self::File { call, path: path::show(path), reason: Reason(errno) }
    }
}

/// The build context at `dir`, read in place. `patterns` are the lines of the ignore file; `index`
/// remembers the digests of files that have not changed. Owners count as root, as BuildKit sends
/// them. The context's own path may lead through links; nothing inside may lead out.
pub fn view_of_context(
    dir: &Path,
    patterns: Vec<String>,
    index: Option<cache::StatIndex>,
) -> Result<View, TreeError> {
    let root = open_directory(dir)?;
    let ignored = Filter::new(&[], &patterns)?;
    Ok(View::new(Some(root), Rules::Context(Box::new(Context { ignored, index })), Vec::new()))
}

/// The tree that the layers at `dirs` make together, bottom first. No layers are an empty tree;
/// several are laid over each other in a mount that no directory shows and that ends with the view.
pub fn view_of_layers(host: &executor::Host, dirs: &[PathBuf]) -> Result<View, TreeError> {
    let root = match dirs {
        [] => None,
        [only] => Some(open_directory(only)?),
        several => Some(executor::open_overlay(host, several)?),
    };
    Ok(View::new(root, Rules::Layers, dirs.to_vec()))
}

fn open_directory(dir: &Path) -> Result<OwnedFd, TreeError> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(dir, flags, Mode::empty())
        .map_err(|errno| TreeError::Open { path: dir.into(), source: errno.into() })
}

impl View {
    fn new(root: Option<OwnedFd>, rules: Rules, layers: Vec<PathBuf>) -> Self {
        let started = SystemTime::now();
        let (selections, hashed) = (Mutex::default(), Mutex::default());
        Self { root, rules, layers, selections, hashed, started, abandoned: AtomicBool::new(false) }
    }

    /// The directories of the layers below, bottom first; none for a context.
    pub fn layers(&self) -> &[PathBuf] {
        &self.layers
    }

    /// The root, for reading the tree by other means; `None` for an empty tree.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.root()
    }

    /// What `selector` takes in. Scanned once: asked again, the answer is the same however the files
    /// have changed meanwhile.
    pub fn select(&self, selector: &Selector) -> Result<Arc<Selection>, TreeError> {
        let once = Arc::clone(lock(&self.selections).entry(selector.clone()).or_default());
        let mut selection = lock(&once);
        if let Some(known) = &*selection {
            return Ok(Arc::clone(known));
        }
        let scanned = Arc::new(select::scan(self, selector)?);
        *selection = Some(Arc::clone(&scanned));
        Ok(scanned)
    }

    /// Owner and mode of the directory that `path` leads to, if it is one: mode, user, group.
    pub fn directory_owner(&self, path: &str) -> Result<Option<(u32, u32, u32)>, TreeError> {
        let found = self.resolve(path.as_bytes(), true)?;
        if self.root.is_none() || found.kind != Some(Kind::Directory) {
            return Ok(None);
        }
        let tree = self.single(&found.path)?;
        let stat = &tree.node(NodeId::ROOT).stat;
        Ok(Some((stat.mode.into(), stat.uid, stat.gid)))
    }

    /// Ends the hashing of files ahead of the next one: the build is over.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// Whether [`Self::save_index`] has anything to write.
    pub fn index_has_news(&self) -> bool {
        self.index().is_some_and(cache::StatIndex::has_news)
    }

    /// Writes back what the index has learnt of this context, for the next build.
    pub fn save_index(&self) -> Result<(), cache::StoreError> {
        self.index().map_or(Ok(()), cache::StatIndex::save)
    }

    fn root(&self) -> Option<BorrowedFd<'_>> {
        self.root.as_ref().map(AsFd::as_fd)
    }

    /// Whether the tree is read in place, so that its files may change.
    pub fn is_context(&self) -> bool {
        matches!(self.rules, Rules::Context(_))
    }

    /// Whether what `stat` describes is in no tree that a step makes. A context's socket is copied as an
    /// empty file, as BuildKit sends it.
    fn leaves_out(&self, stat: &Stat) -> bool {
        stat.is_whiteout() || stat.kind == Kind::Socket && !self.is_context()
    }

    fn ignored(&self) -> Option<&Filter> {
        match &self.rules {
            Rules::Context(context) => context.ignored.as_ref(),
            Rules::Layers => None,
        }
    }

    fn index(&self) -> Option<&cache::StatIndex> {
        match &self.rules {
            Rules::Context(context) => context.index.as_ref(),
            Rules::Layers => None,
        }
    }

    /// Opens what is at `path`, which must lead through no link (a link itself opens with `PATH`).
    fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let root = self.root().ok_or(Errno::NOENT)?;
        let name = if path.is_empty() { b"." } else { path };
        open_beneath(root, name, flags)
    }

    /// Opens the directory at `path` for reading its names.
    fn open_dir(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    /// Opens the regular file at `path`, which must lead through no link.
    pub fn open_regular(&self, path: &[u8]) -> io::Result<File> {
        let file = self.open_file(path)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::other("it is not a regular file")),
        }
    }

    /// Opens the file at `path` for reading; never waits (a FIFO that took its place is refused
    /// when its kind is looked at).
    fn open_file(&self, path: &[u8]) -> Result<File, Errno> {
        let fd = self.open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)?;
        Ok(File::from(fd))
    }
}

/// What a panic left behind is as good as what it found: values are set whole or not at all.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens `path` below `root` without following any link.
pub fn open_beneath(root: BorrowedFd<'_>, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
    let flags = flags | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    loop {
        // The kernel says EAGAIN when something was renamed meanwhile.
        match rustix::fs::openat2(root, path, flags, Mode::empty(), beneath) {
            Err(Errno::AGAIN | Errno::INTR) => {}
            other => return other,
        }
    }
}
