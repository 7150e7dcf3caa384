//! Digests of files, as BuildKit makes them.
//!
//! A name is digested by a header of old tar archives and its content; a directory by its own header and
//! the names in it with their digests, in the order of bytes. Times are in none of it. Where a selector
//! has wildcards or patterns, what it takes in is listed name by name.

mod entry;
mod list;
mod resolve;

use oci::{Digest, Hasher};

pub use entry::{Entry, Kind};

use crate::step::Selector;

/// Files to digest.
///
/// Paths are relative to the root, without a slash in front, and lead through no links.
pub trait Tree {
    /// Why a tree cannot be read.
    type Error;

    /// What is at `path`. The root's own owner and mode are none of a client's directory's: it has no
    /// entry.
    fn entry(&self, path: &[u8]) -> Result<Option<Entry>, Self::Error>;

    /// The names in the directory at `path`, in the order of bytes.
    fn names(&self, path: &[u8]) -> Result<Vec<Vec<u8>>, Self::Error>;

    /// Puts the content of the file at `path` into `hasher`.
    fn read(&self, path: &[u8], hasher: &mut Hasher) -> Result<(), Self::Error>;
}

/// Why there is no digest.
#[derive(Debug, thiserror::Error)]
pub enum ContentError<E> {
    /// Something that a selector names is not there.
    #[error("`{0}` not found")]
    NotFound(String),
    /// A path that leads in circles.
    #[error("`{0}` has too many links")]
    TooManyLinks(String),
    /// A wildcard or pattern that is not one.
    #[error("`{0}` is not a pattern")]
    Pattern(String),
    /// A tree that cannot be read.
    #[error(transparent)]
    Read(E),
}

/// The digest of what `selectors` take of `tree`; `None` is a tree that is not there at all (nothing was
/// ever put into it).
pub fn digest<T: Tree>(
    selectors: &[Selector],
    tree: Option<&T>,
) -> Result<Digest, ContentError<T::Error>> {
    let mut digests = Vec::with_capacity(selectors.len());
    for selector in selectors {
        let digest = match tree {
            Some(tree) => list::digest(tree, selector)?,
            None => nothing(selector)?,
        };
        digests.push(digest.to_string());
    }
    Ok(Digest::of(digests.join("\0").as_bytes()))
}

fn nothing<E>(selector: &Selector) -> Result<Digest, ContentError<E>> {
    match selector.path.trim_matches('/') {
        "" => Ok(Digest::of(b"")),
        _ => Err(ContentError::NotFound(selector.path.clone())),
    }
}

/// The digest of what is at `path`, and for a directory of all that is in it.
fn whole<T: Tree>(tree: &T, path: &[u8]) -> Result<Digest, ContentError<T::Error>> {
    // Without recursion: trees can be deep.
    let mut open: Vec<Directory> = Vec::new();
    let mut path = path.to_vec();
    loop {
        let entry = tree.entry(&path).map_err(ContentError::Read)?;
        let mut digest = match entry {
            Some(entry) if entry.kind != Kind::Directory => Some(single(tree, &path, &entry)?),
            None if !path.is_empty() => return Err(ContentError::NotFound(show(&path))),
            entry => {
                let names = tree.names(&path).map_err(ContentError::Read)?;
                open.push(Directory::new(std::mem::take(&mut path), entry.as_ref(), names));
                None
            }
        };
        path = loop {
            let Some(directory) = open.last_mut() else {
                return Ok(digest.expect("the root is digested last"));
            };
            if let Some(digest) = digest.take() {
                directory.add(&digest);
            }
            match directory.next() {
                Some(path) => break path,
                None => digest = open.pop().map(Directory::finish),
            }
        };
    }
}

/// A directory that is being digested.
struct Directory {
    path: Vec<u8>,
    hasher: Hasher,
    names: std::vec::IntoIter<Vec<u8>>,
}

impl Directory {
    fn new(path: Vec<u8>, entry: Option<&Entry>, names: Vec<Vec<u8>>) -> Self {
        let mut hasher = Hasher::sha256();
        hasher.update(b"\0");
        hasher.update(header(entry).as_str().as_bytes());
        Self { path, hasher, names: names.into_iter() }
    }

    /// The path of the next name in it.
    fn next(&mut self) -> Option<Vec<u8>> {
        let name = self.names.next()?;
        self.hasher.update(b"\0");
        self.hasher.update(&name);
        Some(join(&self.path, &name))
    }

    /// Adds the digest of the last name.
    fn add(&mut self, digest: &Digest) {
        self.hasher.update(digest.as_str().as_bytes());
    }

    fn finish(self) -> Digest {
        self.hasher.finish()
    }
}

/// The digest of a name that is not a directory.
fn single<T: Tree>(tree: &T, path: &[u8], entry: &Entry) -> Result<Digest, ContentError<T::Error>> {
    let mut hasher = entry.hasher();
    if entry.kind == Kind::File && entry.size > 0 {
        tree.read(path, &mut hasher).map_err(ContentError::Read)?;
    }
    Ok(hasher.finish())
}

/// The digest of a directory's own metadata.
fn header(entry: Option<&Entry>) -> Digest {
    entry.map_or_else(|| Digest::of(b""), |entry| entry.hasher().finish())
}

fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory {
        b"" => name.to_vec(),
        _ => [directory, b"/", name].concat(),
    }
}

/// A path in messages.
fn show(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}
