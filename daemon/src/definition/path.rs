//! Paths as ops of a Dockerfile have them.

/// `path` without `.`, `..` and double slashes, absolute; what is not begins at `directory`.
pub(super) fn absolute(directory: &str, path: &str) -> String {
    let whole = match path.starts_with('/') {
        true => path.to_owned(),
        false => format!("{directory}/{path}"),
    };
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// The same for a destination: a slash at the end stays, and a dot there is told beside it.
pub(super) fn destination(path: &str) -> (String, bool) {
    let mut clean = absolute("/", path);
    let is_directory = path.ends_with('/') || path.ends_with("/.") || matches!(path, "" | ".");
    if is_directory && clean != "/" {
        clean.push('/');
    }
    (clean, path.ends_with("/."))
}
