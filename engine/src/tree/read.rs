//! Contents of files: hashed once, opened again for copying, and noticed when they change between.

use std::ffi::CStr;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cache::layer::Time;
use rayon::prelude::*;
use rustix::io::Errno;

use super::scan::Xattrs;
use super::{Kind, Node, NodeId, Stat, Tree, TreeError, View};

/// The longest value of an extended attribute, in bytes (the kernel's limit).
pub const XATTR_LIMIT: usize = 1 << 16;

/// Files from this size on are hashed by all threads together.
const LARGE: u64 = 16 << 20;

/// What is known of a regular file once it was read.
#[derive(Debug, Clone)]
pub(super) struct FileContent {
    pub digest: [u8; 32],
    /// `None` where there are none.
    pub xattrs: Option<Box<Xattrs>>,
}

/// A file open for copying, certain to be the one that was scanned.
pub struct Opened {
    /// The file, at its start.
    pub file: File,
    stat: Stat,
    context: bool,
    path: Vec<u8>,
}

impl Opened {
    /// Makes sure, after the file was read to its end, that nobody wrote to it meanwhile.
    pub fn verify(&self) -> Result<(), TreeError> {
        let now = Stat::of(self.file.as_fd())
            .map_err(|errno| TreeError::file("stat", &self.path, errno))?;
        change(&self.stat, &now, self.context).map_or(Ok(()), |what| Err(changed(&self.path, what)))
    }

    /// Whether the file is in all that counts what `node` was when it was hashed. It is compared with
    /// what it is now from here on.
    fn holds_the_same(&mut self, node: &Node) -> Result<bool, TreeError> {
        let fail = |errno| TreeError::file("read", &self.path, errno);
        let now = Stat::of(&self.file).map_err(fail)?;
        let is_alike =
            (now.kind, now.mode, now.size) == (Kind::File, node.stat.mode, node.stat.size);
        // Which names are one file counts, too.
        let is_linked_so = node.stat.nlink == 1 || now.ino == node.stat.ino;
        let Some(known) = node.content.get().filter(|_| is_alike && is_linked_so) else {
            return Ok(false);
        };
        let read = digest_of(&self.file, now.size);
        let digest = read.map_err(|error| fail(errno_of(&error)))?;
        let xattrs = file_xattrs(&self.file).map_err(fail)?;
        (&self.file).rewind().map_err(|error| fail(errno_of(&error)))?;
        self.stat = now;
        Ok(digest == known.digest && xattrs == known.xattrs.as_deref().cloned().unwrap_or_default())
    }
}

/// So many files are hashed sooner by one thread than others wake up.
const FEW: usize = 64;

impl View {
    /// Hashes the content of every file of `tree` that is taken in and not known yet. A file that the
    /// index knows with the same device, number, size and times is not opened.
    pub fn hash(&self, tree: &Arc<Tree>) -> Result<(), TreeError> {
        // Several steps that take in the same files wait for the first instead of reading them, too.
        let mut hashed = super::lock(&tree.hashed);
        if !*hashed {
            self.hash_all(tree)?;
            self.agree(tree)?;
            *hashed = true;
        }
        Ok(())
    }

    fn hash_all(&self, tree: &Tree) -> Result<(), TreeError> {
        let nodes = tree.nodes();
        let hash = |path: &mut Vec<u8>, index: usize| {
            let node = &nodes[index];
            if node.stat.kind != Kind::File || !node.shown || node.content.get().is_some() {
                return Ok(());
            }
            tree.path(Tree::id(index), path);
            let content = self.hash_file(path, node)?;
            node.content.get_or_init(|| content);
            Ok(())
        };
        if nodes.len() <= FEW {
            let mut path = Vec::new();
            return (0..nodes.len()).try_for_each(|index| hash(&mut path, index));
        }
        (0..nodes.len()).into_par_iter().with_min_len(FEW).try_for_each_init(Vec::new, hash)
    }

    fn hash_file(&self, path: &[u8], node: &Node) -> Result<FileContent, TreeError> {
        let index = self.index();
        if let Some(digest) = index.and_then(|index| index.get(path, &stamp(&node.stat))) {
            return Ok(FileContent { digest, xattrs: None });
        }
        if self.abandoned.load(Ordering::Relaxed) {
            return Err(TreeError::Abandoned);
        }
        let opened = self.open_as_scanned(path, &node.stat)?;
        opened.verify()?;
        let digest = digest_of(&opened.file, node.stat.size)
            .map_err(|error| TreeError::file("read", path, errno_of(&error)))?;
        // The file's attributes change its ctime, so the check below covers them, too. A layer's
        // attributes are in the scan already.
        let xattrs = match self.is_context() {
            true => file_xattrs(&opened.file)
                .map_err(|errno| TreeError::file("listxattr", path, errno))?,
            false => Xattrs::new(),
        };
        opened.verify()?;
        // What the index knows has no attributes: a hit spares looking for them.
        if let Some(index) = index
            && xattrs.is_empty()
        {
            index.put(path, &stamp(&node.stat), &digest, self.started);
        }
        let xattrs = (!xattrs.is_empty()).then(|| Box::new(xattrs));
        Ok(FileContent { digest, xattrs })
    }

    /// Opens the regular file at `id` for copying. One that was saved again or touched since it was
    /// scanned is as good if it holds the same.
    pub fn open_node(&self, tree: &Tree, id: NodeId) -> Result<Opened, TreeError> {
        let mut path = Vec::new();
        tree.path(id, &mut path);
        let node = tree.node(id);
        let mut opened = self.open_as_scanned(&path, &node.stat)?;
        match opened.verify() {
            Err(TreeError::Changed { .. })
                if self.is_context() && opened.holds_the_same(node)? =>
            {
                opened.verify()?;
            }
            verified => verified?,
        }
        Ok(opened)
    }

    fn open_as_scanned(&self, path: &[u8], stat: &Stat) -> Result<Opened, TreeError> {
        let fail = |errno| match errno {
            Errno::NOENT | Errno::LOOP | Errno::NOTDIR => changed(path, "it is gone"),
            errno => TreeError::file("open", path, errno),
        };
        let file = self.open_file(path).map_err(fail)?;
        Ok(Opened { file, stat: *stat, context: self.is_context(), path: path.to_vec() })
    }

    /// Reads the regular file at `path` (which leads through no link), at most `limit` bytes.
    /// `None` when there is no such file.
    pub fn read_file(&self, path: &[u8], limit: u64) -> Result<Option<Vec<u8>>, TreeError> {
        let fail = |errno| TreeError::file("open", path, errno);
        let file = match self.open_file(path) {
            Ok(file) => file,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::NXIO) => return Ok(None),
            Err(errno) => return Err(fail(errno)),
        };
        if Stat::of(&file).map_err(fail)?.kind != Kind::File {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let read = file.take(limit + 1).read_to_end(&mut bytes);
        read.map_err(|error| TreeError::file("read", path, errno_of(&error)))?;
        if bytes.len() as u64 > limit {
            return Err(TreeError::file("read", path, Errno::FBIG));
        }
        Ok(Some(bytes))
    }
}

/// The stat that the index compares.
fn stamp(stat: &Stat) -> cache::Stat {
    let nanoseconds = |time: Time| {
        time.seconds.saturating_mul(1_000_000_000).saturating_add(time.nanoseconds.into())
    };
    cache::Stat {
        dev: stat.dev,
        ino: stat.ino,
        size: stat.size,
        mtime_ns: nanoseconds(stat.mtime),
        ctime_ns: nanoseconds(stat.ctime),
    }
}

/// Extended attributes in directories below these names belong to the machine or to the form in which
/// layers are kept, not to the file.
const FOREIGN: [&[u8]; 7] = [
    b"trusted.overlay.",
    b"user.overlay.",
    b"user.mybuild.",
    b"com.apple.",
    b"security.selinux",
    b"security.ima",
    b"security.evm",
];

/// The true owner of a file in a layer that was written without the right to change owners.
const OWNER: &[u8] = b"user.mybuild.owner";

/// Extended attributes of `name` in `dir`, and the owner kept among them.
pub(super) fn read_xattrs(
    dir: BorrowedFd<'_>,
    name: &CStr,
) -> Result<(Xattrs, Option<(u32, u32)>), Errno> {
    let mut xattrs = cache::layer::read_xattrs(dir, name.to_bytes()).map_err(|error| {
        let source = std::error::Error::source(&error);
        source.and_then(|e| e.downcast_ref()).map_or(Errno::IO, errno_of)
    })?;
    let owner = xattrs.get(OWNER).and_then(|value| parse_owner(value));
    xattrs.retain(|name, _| !FOREIGN.iter().any(|prefix| name.starts_with(prefix)));
    Ok((xattrs, owner))
}

/// `user:group`, in decimal.
fn parse_owner(value: &[u8]) -> Option<(u32, u32)> {
    let (uid, gid) = str::from_utf8(value).ok()?.split_once(':')?;
    Some((uid.parse().ok()?, gid.parse().ok()?))
}

pub(super) fn changed(path: &[u8], what: &'static str) -> TreeError {
    TreeError::Changed { path: super::path::show(path), what }
}

/// In what a file is not the one that was scanned. A name more or less moves its ctime and nlink, and
/// nothing else about it; those of a layer's file do not count.
fn change(then: &Stat, now: &Stat, context: bool) -> Option<&'static str> {
    let moved = (then.kind, then.ino) != (now.kind, now.ino) || context && then.dev != now.dev;
    let linked = !context || then.nlink != now.nlink && then.mode == now.mode;
    if moved {
        Some("another file has its name")
    } else if then.size != now.size {
        Some("its size")
    } else if then.mtime != now.mtime {
        Some("its modification time")
    } else if then.ctime != now.ctime && !linked {
        Some("its metadata")
    } else {
        None
    }
}

/// Extended attributes of an open file that belong to it.
pub(super) fn file_xattrs(file: impl AsFd) -> Result<Xattrs, Errno> {
    let file = file.as_fd();
    let mut xattrs = Xattrs::new();
    let mut names = vec![0; 256];
    let length = loop {
        match rustix::fs::flistxattr(file, &mut names[..]) {
            Ok(length) => break length,
            Err(Errno::RANGE) if names.len() < XATTR_LIMIT => names.resize(XATTR_LIMIT, 0),
            Err(Errno::OPNOTSUPP) => return Ok(xattrs),
            Err(errno) => return Err(errno),
        }
    };
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if FOREIGN.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        let mut value = vec![0; XATTR_LIMIT];
        match rustix::fs::fgetxattr(file, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                xattrs.insert(name.to_vec(), value);
            }
            // Gone since it was listed, or not for this process to see.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(xattrs)
}

fn digest_of(mut file: &File, size: u64) -> std::io::Result<[u8; 32]> {
    let mut hasher = blake3::Hasher::new();
    if size == 0 {
        return Ok(hasher.finalize().into());
    }
    if size < LARGE {
        with_buffer(|buffer| {
            each_read(&mut file, buffer, |bytes| {
                hasher.update(bytes);
            })
        })?;
    } else {
        let mut buffer = vec![0; 4 << 20];
        each_read(&mut file, &mut buffer, |bytes| {
            hasher.update_rayon(bytes);
        })?;
    }
    Ok(hasher.finalize().into())
}

/// Reads to the end. A regular file gives less than was asked for only there.
fn each_read(
    file: &mut &File,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]),
) -> std::io::Result<()> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(length) => {
                take(&buffer[..length]);
                if length < buffer.len() {
                    return Ok(());
                }
            }
        }
    }
}

/// One buffer for each thread: most files are small, and allocating would cost more than reading.
fn with_buffer<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    thread_local! {
        static BUFFER: std::cell::RefCell<Vec<u8>> = const { std::cell::RefCell::new(Vec::new()) };
    }
    BUFFER.with_borrow_mut(|buffer| {
        buffer.resize(128 << 10, 0);
        work(buffer)
    })
}

pub(super) fn errno_of(error: &std::io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::IO, Errno::from_raw_os_error)
}
