//! Whether two files hold the same bytes.

use std::io::{self, Read};

use cache::layer::read_up_to;

use crate::tree::{NodeId, Tree, TreeError, View};

/// Bytes compared at once.
const CHUNK: usize = 128 << 10;

/// A regular file of a tree that was scanned.
#[derive(Clone, Copy)]
pub(super) struct Scanned<'a> {
    pub(super) view: &'a View,
    pub(super) tree: &'a Tree,
    pub(super) id: NodeId,
}

/// Whether two files of the same length hold the same. It is an error when one changes meanwhile.
pub(super) fn is_same(one: Scanned<'_>, other: Scanned<'_>) -> Result<bool, TreeError> {
    let mut opened = one.view.open_node(one.tree, one.id)?;
    let mut beside = other.view.open_node(other.tree, other.id)?;
    let same = is_equal(&mut opened.file, &mut beside.file).map_err(|error| {
        let mut path = Vec::new();
        one.tree.path(one.id, &mut path);
        let errno = rustix::io::Errno::from_io_error(&error);
        TreeError::file("read", &path, errno.unwrap_or(rustix::io::Errno::IO))
    })?;
    opened.verify()?;
    beside.verify()?;
    Ok(same)
}

fn is_equal(one: &mut impl Read, other: &mut impl Read) -> io::Result<bool> {
    let (mut left, mut right) = (vec![0; CHUNK], vec![0; CHUNK]);
    loop {
        let length = read_up_to(one, &mut left)?;
        if length != read_up_to(other, &mut right)? || left[..length] != right[..length] {
            return Ok(false);
        }
        if length < CHUNK {
            return Ok(true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_compared_to_the_end() {
        let long = vec![7; CHUNK + 1];
        let mut other = long.clone();
        *other.last_mut().unwrap() = 8;
        for (one, two, expected) in [
            (&b""[..], &b""[..], true),
            (b"a", b"a", true),
            (b"a", b"b", false),
            (b"a", b"ab", false),
            (&long, &long, true),
            (&long, &other, false),
            (&long, &long[..CHUNK], false),
        ] {
            assert_eq!(is_equal(&mut { one }, &mut { two }).unwrap(), expected);
        }
    }
}
