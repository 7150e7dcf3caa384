//! Paths as text, with `/`.

/// The last name of a path, `/` for the root (Go's `path.Base`).
pub(crate) fn base(path: &str) -> &str {
    match path.trim_end_matches('/') {
        "" if path.is_empty() => ".",
        "" => "/",
        trimmed => trimmed.rsplit('/').next().expect("a split has a last part"),
    }
}

/// Whether a text has wildcards.
pub(crate) fn has_wildcard(text: &str) -> bool {
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'\\' => drop(bytes.next()),
            b'*' | b'?' | b'[' => return true,
            _ => {}
        }
    }
    false
}

/// `paths` in order, each once, without those below others.
pub(crate) fn topmost(mut paths: Vec<String>) -> Vec<String> {
    if paths.len() <= 1 {
        return paths;
    }
    paths.sort_unstable();
    paths.dedup();
    let is_below = |path: &str, other: &str| {
        let folder = if other.ends_with('/') { other.to_owned() } else { format!("{other}/") };
        path != other && path.starts_with(&folder)
    };
    let kept = paths.iter().filter(|path| !paths.iter().any(|other| is_below(path, other)));
    kept.cloned().collect()
}
