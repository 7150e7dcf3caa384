//! The nearest name to one that does not exist, of a path, a user or a group.

use std::path::{Path, PathBuf};

use executor::UserError;
use parser::suggest::{Case, nearest};

/// Names of a directory that are looked at.
pub(crate) const NAMES_MAX: usize = 10_000;

/// What there is beside `path`, which is not there, with a name so near that it may be meant.
pub fn near_path(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let entries = std::fs::read_dir(directory.unwrap_or(Path::new("."))).ok()?;
    let names = entries.flatten().take(NAMES_MAX);
    let names: Vec<String> = names.filter_map(|e| e.file_name().into_string().ok()).collect();
    near_name(name, &names).map(|near| path.with_file_name(near))
}

/// The one of `names` that differs from `name` in its case alone, else the nearest one.
pub(crate) fn near_name(name: &str, names: &[String]) -> Option<String> {
    let same = names.iter().find(|known| known.to_lowercase() == name.to_lowercase());
    // Any two short names are near each other.
    let is_like = |near: &String| name.chars().count() > 2 || near.starts_with(name);
    let near = || nearest(name, names.iter().map(String::as_str), Case::Sensitive);
    same.cloned().or_else(|| near().filter(is_like))
}

/// How to go on where an image does not have a user or group.
pub(crate) fn owner_hint(error: &UserError) -> Option<String> {
    let (name, command) = match error {
        UserError::NoUser { name, .. } => (name, "useradd"),
        UserError::NoGroup { name, .. } => (name, "groupadd"),
        _ => return None,
    };
    near_owner(error).or_else(|| {
        Some(format!("add it in an earlier step (`RUN {command} {name}`), or give a number"))
    })
}

/// The user or group of the image that may be meant.
pub(crate) fn near_owner(error: &UserError) -> Option<String> {
    let (UserError::NoUser { name, known } | UserError::NoGroup { name, known }) = error else {
        return None;
    };
    let near = nearest(name, known.iter().map(String::as_str), Case::Sensitive)?;
    Some(format!("did you mean `{near}`?"))
}
