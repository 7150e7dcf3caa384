//! Names in archives: made clean, taken apart, and told from whiteouts.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::LayerError;

/// The longest path the kernel takes, without its closing NUL.
pub(super) const PATH_MAX: usize = 4095;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// `path` for messages and errors.
pub(super) fn to_path(path: &[u8]) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(path))
}

/// The components of a path, without empty ones and `.`.
pub(super) fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/').filter(|name| !name.is_empty() && *name != b".")
}

/// `path` relative to the root: no leading slash, `.` and `..` resolved by their text alone, and
/// `..` of the root is the root. What is no more than the root comes back empty.
pub(super) fn clean(path: &[u8]) -> Result<Vec<u8>, LayerError> {
    if is_clean(path) {
        return Ok(path.to_vec());
    }
    let mut out = Vec::with_capacity(path.len());
    for name in components(path) {
        if name == b".." {
            out.truncate(split(&out).0.len());
        } else {
            if !out.is_empty() {
                out.push(b'/');
            }
            out.extend_from_slice(name);
        }
    }
    if out.len() > PATH_MAX {
        return Err(LayerError::PathTooLong { path: out });
    }
    Ok(out)
}

/// Most names need nothing done to them.
fn is_clean(path: &[u8]) -> bool {
    path.len() <= PATH_MAX
        && path.split(|&byte| byte == b'/').all(|name| !matches!(name, b"" | b"." | b".."))
}

/// The parent and the last component of a clean path.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}

/// `parent/name`, or `name` at the root.
pub(super) fn join(parent: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(parent.len() + 1 + name.len());
    path.extend_from_slice(parent);
    if !parent.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

/// What a name in a layer's tar stands for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// Itself.
    Plain,
    /// The deletion of this path.
    Whiteout(Vec<u8>),
    /// The hiding of all that is below this directory.
    Opaque(Vec<u8>),
}

/// Tells whiteouts from other names, refusing those that stand for no file name.
pub(super) fn meaning(path: &[u8]) -> Result<Meaning, LayerError> {
    let (parent, name) = split(path);
    if name == OPAQUE_MARKER {
        return Ok(Meaning::Opaque(parent.to_vec()));
    }
    match name.strip_prefix(WHITEOUT_PREFIX) {
        None => Ok(Meaning::Plain),
        Some(b"" | b"." | b"..") => Err(LayerError::InvalidWhiteout { path: to_path(path) }),
        Some(target) => Ok(Meaning::Whiteout(join(parent, target))),
    }
}

/// The name in a tar that deletes `path`.
pub(super) fn whiteout(path: &[u8]) -> Vec<u8> {
    let (parent, name) = split(path);
    join(parent, &[WHITEOUT_PREFIX, name].concat())
}

/// The name in a tar that makes the directory `path` opaque.
pub(super) fn opaque(path: &[u8]) -> Vec<u8> {
    join(path, OPAQUE_MARKER)
}

/// Whether the tar has another meaning for this name.
pub(crate) fn is_reserved(path: &[u8]) -> bool {
    meaning(path).ok() != Some(Meaning::Plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_relative_and_stay_below_the_root() {
        for (from, to) in [
            ("a", "a"),
            ("/a/b", "a/b"),
            ("./a//b/./c/", "a/b/c"),
            ("../../etc/passwd", "etc/passwd"),
            ("a/../../b", "b"),
            ("a/b/..", "a"),
            ("/", ""),
            (".", ""),
            ("", ""),
            ("..", ""),
            ("...", "..."),
        ] {
            assert_eq!(clean(from.as_bytes()).unwrap(), to.as_bytes(), "{from}");
        }
        assert!(clean(&b"a/".repeat(3000)).is_err());
    }

    #[test]
    fn whiteouts_are_told_from_names() {
        let plain = Meaning::Plain;
        assert_eq!(meaning(b"a/b").unwrap(), plain);
        assert_eq!(meaning(b"a/.whx").unwrap(), plain);
        assert_eq!(meaning(b"a/.wh.b").unwrap(), Meaning::Whiteout(b"a/b".to_vec()));
        assert_eq!(meaning(b".wh..wh..opq").unwrap(), Meaning::Opaque(b"".to_vec()));
        assert_eq!(meaning(&opaque(b"a/b")).unwrap(), Meaning::Opaque(b"a/b".to_vec()));
        assert_eq!(meaning(&whiteout(b"a/b")).unwrap(), Meaning::Whiteout(b"a/b".to_vec()));
        for bad in [".wh.", "a/.wh..", "a/.wh..."] {
            assert!(meaning(bad.as_bytes()).is_err(), "{bad}");
        }
    }
}
