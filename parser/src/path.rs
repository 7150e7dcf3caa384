//! Paths in images: always with `/`, whatever machine this runs on.

/// The shortest path that means the same, without looking at any file (Go's `path.Clean`).
pub(crate) fn clean(path: &str) -> String {
    let rooted = path.starts_with('/');
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|last| *last != "..") => {
                parts.pop();
            }
            // Nothing is above the root.
            ".." if rooted => {}
            _ => parts.push(part),
        }
    }
    match (rooted, parts.is_empty()) {
        (true, _) => format!("/{}", parts.join("/")),
        (false, true) => ".".to_owned(),
        (false, false) => parts.join("/"),
    }
}

/// `path` as seen from `directory`, absolute and clean.
pub(crate) fn join(directory: &str, path: &str) -> String {
    if path.starts_with('/') { clean(path) } else { clean(&format!("/{directory}/{path}")) }
}

/// The same, with a slash at the end if `path` says that it is a directory.
pub(crate) fn join_destination(directory: &str, path: &str) -> String {
    let mut joined = join(directory, path);
    let is_directory =
        path.is_empty() || path == "." || path.ends_with('/') || path.ends_with("/.");
    if is_directory && !joined.ends_with('/') {
        joined.push('/');
    }
    joined
}

/// The last part of a path, `/` for the root, `.` for the empty path (Go's `path.Base`).
pub(crate) fn base(path: &str) -> &str {
    if path.is_empty() {
        return ".";
    }
    match path.trim_end_matches('/') {
        "" => "/",
        trimmed => trimmed.rsplit('/').next().expect("a split has a last part"),
    }
}
