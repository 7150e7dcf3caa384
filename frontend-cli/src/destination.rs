//! Where results are to be written: looked at before the work, so that none of it is in vain.

use std::path::Path;

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
        Output::Image { .. } => Ok(()),
        Output::Oci { dest: Destination::Path(path), tar: false, .. }
        | Output::Docker { dest: Destination::Path(path), tar: false, .. }
        | Output::Local { dest: path, .. } => check_directory(path),
        Output::Oci { dest, .. } | Output::Docker { dest, .. } | Output::Tar { dest, .. } => {
            match dest {
                Destination::Path(path) => {
                    check_file(&format!("--output dest={}", path.display()), path)
                }
                Destination::Stdout => Ok(()),
            }
        }
    }
}

fn check_directory(path: &Path) -> Result<(), UsageError> {
    let path_shown = path.display();
    if path.exists() && !path.is_dir() {
        return Err(UsageError::new(format!("`--output {path_shown}`: it is not a directory"))
            .with_hint(format!("`--output type=tar,dest={path_shown}` writes one file")));
    }
    Ok(())
}
