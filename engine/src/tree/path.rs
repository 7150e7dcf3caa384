//! Paths inside a tree: bytes, relative to the root, without `.`, `..` or doubled slashes. The root
//! itself is the empty path.

/// `text` as a path inside a tree: `..` is resolved by the text alone and stops at the root.
pub fn clean(text: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(text.len());
    for component in text.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => pop(&mut path),
            name => push(&mut path, name),
        }
    }
    path
}

/// Adds a name at the end.
pub fn push(path: &mut Vec<u8>, name: &[u8]) {
    if !path.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
}

/// Takes the last name away.
pub fn pop(path: &mut Vec<u8>) {
    path.truncate(path.iter().rposition(|byte| *byte == b'/').unwrap_or(0));
}

/// `base` with `name` added.
pub fn join(base: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(base.len() + 1 + name.len());
    path.extend_from_slice(base);
    push(&mut path, name);
    path
}

/// The directory that holds `path`, and its name in there. The root has neither.
pub fn split(path: &[u8]) -> Option<(&[u8], &[u8])> {
    if path.is_empty() {
        return None;
    }
    Some(match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    })
}

/// The names of `path`.
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty())
}

/// How `path` is shown to a user: absolute, with what is not UTF-8 replaced.
pub fn show(path: &[u8]) -> String {
    format!("/{}", String::from_utf8_lossy(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_never_leaves_the_root() {
        for (text, want) in [
            ("", ""),
            ("/", ""),
            (".", ""),
            ("/a//b/./c/", "a/b/c"),
            ("../../etc", "etc"),
            ("/a/../../b", "b"),
            ("a/b/../..", ""),
            ("...", "..."),
        ] {
            assert_eq!(clean(text.as_bytes()), want.as_bytes(), "{text}");
        }
    }

    #[test]
    fn split_and_join_undo_each_other() {
        for path in ["a", "a/b", "a/b/c"] {
            let (parent, name) = split(path.as_bytes()).unwrap();
            assert_eq!(join(parent, name), path.as_bytes());
        }
        assert_eq!(split(b""), None);
    }
}
