//! The files that say what of a context is not there.

use std::path::{Path, PathBuf};

use parser::ignore;

use crate::error::BuildError;
use crate::source::open::{open_regular, read_text};

/// Patterns of `NAME.dockerignore` beside the Dockerfile, else of `.dockerignore` in the context.
pub(crate) fn ignore_patterns(
    context: &Path,
    dockerfile: Option<&Path>,
) -> Result<Vec<String>, BuildError> {
    let beside = dockerfile.map(|path| {
        let mut name = path.as_os_str().to_owned();
        name.push(".dockerignore");
        PathBuf::from(name)
    });
    let inside = context.join(".dockerignore");
    for path in beside.into_iter().chain([inside]) {
        // In a context, no link leads out of it.
        let jail = path.starts_with(context).then_some(context);
        let shown = path.strip_prefix(context).unwrap_or(&path);
        match std::fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.is_symlink() && is_dead(jail, &path) => {
                return Err(dead_link(&path, shown));
            }
            Ok(_) => return patterns_in(shown, &read_text(jail, &path)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(BuildError::input(format!(
                    "failed to read `{}`: {error}",
                    path.display()
                )));
            }
        }
    }
    Ok(Vec::new())
}

/// Patterns of a file that was named.
pub(crate) fn named_patterns(path: &Path) -> Result<Vec<String>, BuildError> {
    patterns_in(path, &read_text(None, path)?)
}

fn patterns_in(path: &Path, text: &[u8]) -> Result<Vec<String>, BuildError> {
    let text = String::from_utf8_lossy(text);
    match ignore::invalid_line(&text) {
        None => Ok(ignore::parse_file(&text)),
        Some((number, error)) => {
            let line = text.lines().nth(number - 1).unwrap_or_default().trim();
            Err(BuildError::input(format!("{}:{number}: {error}: `{line}`", path.display()))
                .with_hint("a bracket is closed, or written `\\[`; `!` has a pattern behind it"))
        }
    }
}

/// Whether the link `path` leads to nothing, resolved as [`read_text`] does.
fn is_dead(jail: Option<&Path>, path: &Path) -> bool {
    let below = jail.and_then(|jail| path.strip_prefix(jail).ok());
    let opened = open_regular(jail, below.unwrap_or(path));
    opened.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

fn dead_link(path: &Path, shown: &Path) -> BuildError {
    let target = std::fs::read_link(path).unwrap_or_default();
    BuildError::input(format!(
        "`{}` is a link to `{}`, which is not in the context",
        shown.display(),
        target.display()
    ))
    .with_hint("copy the file there, or remove the link: nothing would be excluded")
}
