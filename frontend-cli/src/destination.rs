//! Where results are to be written: looked at before the work, so that none of it is in vain.

use std::path::{Component, Path, PathBuf};

use engine::request::{Destination, Output};

use crate::error::UsageError;

/// Fails if no file can be written at `path`; `given` is how the user has asked for it.
pub(crate) fn check_file(given: &str, path: &Path) -> Result<(), UsageError> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let parent = parent.unwrap_or(Path::new("."));
    if path.is_dir() {
        return Err(UsageError::new(format!("`{given}`: `{}` is a directory", path.display()))
            .with_hint("name a file"));
    }
    // Whether one that is not seen is there, the kernel says when it is written to.
    if parent.try_exists().is_ok_and(|exists| !exists) {
        let parent = parent.display();
        return Err(UsageError::new(format!("`{given}`: the directory `{parent}` does not exist"))
            .with_hint(format!("`mkdir -p {parent}` makes it")));
    }
    Ok(())
}

/// The same for an output of a build. Directories are made where they are missing, as by buildx.
pub(crate) fn check_output(output: &Output) -> Result<(), UsageError> {
    match output {
        Output::Image { .. } | Output::CacheOnly => Ok(()),
        Output::Oci { dest: Destination::Path(path), tar: false, .. }
        | Output::Docker { dest: Destination::Path(path), tar: false, .. }
        | Output::Local { dest: path, .. } => check_directory(path),
        Output::Oci { dest, .. } | Output::Docker { dest, .. } | Output::Tar { dest, .. } => {
            match dest {
                Destination::Path(path) => {
                    check_file(&format!("--output dest={}", path.display()), path)
                }
                Destination::Stdout | Destination::Engine(_) => Ok(()),
            }
        }
    }
}

/// Fails for a directory from which other files must not be removed: BuildKit's rule. `context` is the main
/// context, where that is a directory.
pub(crate) fn check_delete(dest: &Path, context: Option<&Path>) -> Result<(), UsageError> {
    let invalid = |why: &str| {
        UsageError::new(format!("`--output type=local,dest={},mode=delete`: {why}", dest.display()))
    };
    let here = std::env::current_dir();
    let here = here.map_err(|_| invalid("the working directory does not exist"))?;
    let (here, resolved_dest) = (resolved(&here), resolved(dest));
    if resolved_dest == here || !resolved_dest.starts_with(&here) {
        return Err(invalid("`dest` is not a directory below the working directory")
            .with_hint("`--allow buildx.local.delete` removes files there nevertheless"));
    }
    if context.is_some_and(|context| resolved(context).starts_with(&resolved_dest)) {
        return Err(invalid("the context is in it").with_hint("give another `dest`"));
    }
    Ok(())
}

/// `path` from the root on, with the links in what there is of it followed.
fn resolved(path: &Path) -> PathBuf {
    let path = normal(path);
    let there = path.ancestors().find_map(|part| Some((part, part.canonicalize().ok()?)));
    let Some((part, real)) = there else { return path };
    let missing = path.strip_prefix(part).expect("it is an ancestor");
    if missing.as_os_str().is_empty() { real } else { real.join(missing) }
}

/// `path` from the root on, without `.` and `..`.
pub(crate) fn normal(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut normal = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => drop(normal.pop()),
            component => normal.push(component),
        }
    }
    normal
}

fn check_directory(path: &Path) -> Result<(), UsageError> {
    let path_shown = path.display();
    if path.exists() && !path.is_dir() {
        return Err(UsageError::new(format!("`--output {path_shown}`: it is not a directory"))
            .with_hint(format!("`--output type=tar,dest={path_shown}` writes one file")));
    }
    Ok(())
}
