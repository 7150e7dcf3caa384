//! Owners by name: looked up in the image's own `passwd` and `group`, never the machine's.

use executor::UserError;
use llb::{FileActionKind, Owner, OwnerId};

use super::{FileOpError, Job};
use crate::near::near_owner;
use crate::tree::View;

/// User and group that `owner` stands for; `None` keeps what the source has. A name that the image
/// does not know is root, as for BuildKit, and a line in `warnings`.
///
/// One whom the caller does not have is an error even where nothing but a tar is written: whatever
/// mounts the layer later would fail.
pub(super) fn resolve(
    owner: Option<&Owner>,
    path: &str,
    job: &Job<'_>,
    warnings: &mut Vec<String>,
) -> Result<Option<(u32, u32)>, FileOpError> {
    let Some(owner) = owner else { return Ok(None) };
    let inputs = job.inputs;
    let (uid, own_group) = match &owner.user {
        None => (0, 0),
        Some(OwnerId::Id(id)) => (*id, *id),
        Some(OwnerId::Name { name, input }) => {
            known(lookup(name, tree(name, *input, inputs)?), warnings)?.unwrap_or((0, 0))
        }
    };
    let gid = match &owner.group {
        None => own_group,
        Some(OwnerId::Id(id)) => *id,
        Some(OwnerId::Name { name, input }) => {
            known(group(name, tree(name, *input, inputs)?), warnings)?.unwrap_or(own_group)
        }
    };
    let unmapped = |source| FileOpError::Unmapped { path: path.to_owned(), source };
    job.host.check_ids(uid, [gid]).map_err(unmapped)?;
    Ok(Some((uid, gid)))
}

/// What a name stands for, `None` for one that nobody has.
fn known<T>(
    found: Result<T, FileOpError>,
    warnings: &mut Vec<String>,
) -> Result<Option<T>, FileOpError> {
    match found {
        Err(FileOpError::Owner(error @ (UserError::NoUser { .. } | UserError::NoGroup { .. }))) => {
            let near = near_owner(&error).map_or(String::new(), |near| format!(" ({near})"));
            warnings.push(format!("{error}: root owns what is written{near}"));
            Ok(None)
        }
        found => found.map(Some),
    }
}

/// What the names of an action's owner that are looked up in `input` stand for.
pub(super) fn names_in(
    kind: &FileActionKind,
    wanted: usize,
    view: &View,
) -> Result<Vec<(String, u32)>, FileOpError> {
    let owner = match kind {
        FileActionKind::Copy(op) => &op.owner,
        FileActionKind::Mkfile(op) => &op.owner,
        FileActionKind::Mkdir(op) => &op.owner,
        FileActionKind::Symlink(op) => &op.owner,
        FileActionKind::Rm(_) => &None,
    };
    let mut found = Vec::new();
    let Some(owner) = owner else { return Ok(found) };
    if let Some(OwnerId::Name { name, input: Some(input) }) = &owner.user
        && *input == wanted
    {
        let (uid, gid) = known(lookup(name, view), &mut Vec::new())?.unwrap_or((0, 0));
        found.extend([(name.clone(), uid), (name.clone(), gid)]);
    }
    if let Some(OwnerId::Name { name, input: Some(input) }) = &owner.group
        && *input == wanted
    {
        let gid = known(group(name, view), &mut Vec::new())?.unwrap_or(0);
        found.push((name.clone(), gid));
    }
    Ok(found)
}

fn tree<'a>(
    name: &str,
    input: Option<usize>,
    inputs: &[Option<&'a View>],
) -> Result<&'a View, FileOpError> {
    input
        .and_then(|input| inputs.get(input).copied().flatten())
        .filter(|view| view.descriptor().is_some())
        .ok_or_else(|| FileOpError::NoOwnerTree { name: name.into() })
}

fn lookup(name: &str, view: &View) -> Result<(u32, u32), FileOpError> {
    let root = view.descriptor();
    let root = root.ok_or_else(|| FileOpError::NoOwnerTree { name: name.into() })?;
    Ok(executor::resolve_owner(root, name)?)
}

fn group(name: &str, view: &View) -> Result<u32, FileOpError> {
    Ok(lookup(&format!("0:{name}"), view)?.1)
}
