//! The actions that copy nothing: make a file, a directory or a link, and remove.

use std::sync::Arc;

use cache::layer::Time;
use llb::{MkdirOp, MkfileOp, RmOp, SymlinkOp};
use rustix::io::Errno;

use super::FileOpError;
use super::plan::{Attributes, Plan, Planned, PlannedFile, Source};
use crate::tree::{Kind, TreeError, path};

type Owner = Option<(u32, u32)>;

const SET_GROUP_ID: u32 = 0o2000;

pub(super) fn mkfile(
    plan: &mut Plan<'_>,
    op: &MkfileOp,
    owner: Owner,
    time: Time,
) -> Result<(), FileOpError> {
    let place = plan.resolve(op.path.as_bytes())?;
    parent_exists(plan, "open", &place)?;
    let old = match plan.kind(&place)? {
        None => None,
        Some(Kind::File) => Some(existing(plan, &place)?),
        Some(Kind::Directory) => return Err(TreeError::file("open", &place, Errno::ISDIR).into()),
        // Writing to a device or FIFO of an image is no way to make a file.
        Some(_) => return Err(TreeError::file("open", &place, Errno::NXIO).into()),
    };
    // A file that exists is written to: it stays whose it was, with the mode it had.
    let (uid, gid) = owner.or(old.as_ref().map(|old| (old.uid, old.gid))).unwrap_or_default();
    let attributes = Attributes {
        mode: old.as_ref().map_or(op.mode & 0o777, |old| old.mode),
        uid,
        gid,
        mtime: op.timestamp.map_or(time, as_time),
        xattrs: old.and_then(|old| old.xattrs),
    };
    let file = PlannedFile {
        attributes,
        size: op.data.len() as u64,
        digest: Some(blake3::hash(&op.data).into()),
        source: Source::Bytes(op.data.clone()),
    };
    plan.put(&place, Planned::File(Arc::new(file)))
}

pub(super) fn mkdir(
    plan: &mut Plan<'_>,
    op: &MkdirOp,
    owner: Owner,
    time: Time,
) -> Result<(), FileOpError> {
    let place = plan.resolve(op.path.as_bytes())?;
    let attributes = new_attributes(op.mode & 0o777, owner, op.timestamp.map_or(time, as_time));
    if op.make_parents {
        return make_directories(plan, &place, &attributes, owner);
    }
    if plan.kind(&place)?.is_some() {
        return Ok(());
    }
    parent_exists(plan, "mkdir", &place)?;
    make_directory(plan, &place, attributes, owner)
}

pub(super) fn symlink(
    plan: &mut Plan<'_>,
    op: &SymlinkOp,
    owner: Owner,
    time: Time,
) -> Result<(), FileOpError> {
    let place = plan.resolve(op.path.as_bytes())?;
    parent_exists(plan, "symlink", &place)?;
    if plan.kind(&place)?.is_some() {
        return Err(TreeError::file("symlink", &place, Errno::EXIST).into());
    }
    let attributes = new_attributes(0o777, owner, op.timestamp.map_or(time, as_time));
    plan.put(&place, Planned::Symlink { attributes, target: op.target.clone().into() })
}

pub(super) fn rm(plan: &mut Plan<'_>, op: &RmOp) -> Result<(), FileOpError> {
    let clean = path::clean(op.path.as_bytes());
    if !op.allow_wildcard || !crate::tree::glob::has_wildcard(&clean) {
        return remove(plan, &clean, op.allow_not_found);
    }
    for found in plan.matching(&clean)? {
        remove(plan, &found, op.allow_not_found)?;
    }
    Ok(())
}

/// A link that is named is removed itself; links on the way to it are followed.
fn remove(plan: &mut Plan<'_>, named: &[u8], allow_not_found: bool) -> Result<(), FileOpError> {
    let (parent, name) = path::split(named).ok_or(FileOpError::RemovesRoot)?;
    let place = path::join(&plan.resolve(parent)?, name);
    if plan.kind(&place)?.is_none() {
        return match allow_not_found {
            true => Ok(()),
            false => Err(TreeError::file("stat", &place, Errno::NOENT).into()),
        };
    }
    plan.remove(&place)
}

/// Makes the directory at `place` and those above it that are missing, all alike but for what a
/// set-group-id directory hands down. `owner` is who was asked for.
pub(super) fn make_directories(
    plan: &mut Plan<'_>,
    place: &[u8],
    attributes: &Attributes,
    owner: Owner,
) -> Result<(), FileOpError> {
    if plan.kind(place)? == Some(Kind::Directory) {
        return Ok(());
    }
    let mut at = Vec::new();
    for name in path::components(place) {
        path::push(&mut at, name);
        match plan.kind(&at)? {
            Some(Kind::Directory) => {}
            None => make_directory(plan, &at, attributes.clone(), owner)?,
            Some(_) => return Err(TreeError::file("mkdir", &at, Errno::NOTDIR).into()),
        }
    }
    Ok(())
}

/// Makes a directory as the kernel would: one below a set-group-id directory has that bit, too, and its
/// group unless an owner was asked for.
fn make_directory(
    plan: &mut Plan<'_>,
    place: &[u8],
    mut attributes: Attributes,
    owner: Owner,
) -> Result<(), FileOpError> {
    let parent = path::split(place).map_or(&b""[..], |(parent, _)| parent);
    let above = match plan.get(parent).is_some() || plan.lower.is_some() {
        true => Some(existing(plan, parent)?),
        false => None,
    };
    if let Some(above) = above.filter(|above| above.mode & SET_GROUP_ID != 0) {
        attributes.mode |= SET_GROUP_ID;
        attributes.gid = owner.map_or(above.gid, |(_, gid)| gid);
    }
    plan.make_directory(place, attributes)
}

fn parent_exists(plan: &Plan<'_>, call: &'static str, place: &[u8]) -> Result<(), FileOpError> {
    let Some((parent, _)) = path::split(place) else {
        return Err(TreeError::file(call, place, Errno::ISDIR).into());
    };
    match plan.kind(parent)? {
        Some(Kind::Directory) => Ok(()),
        Some(_) => Err(TreeError::file(call, place, Errno::NOTDIR).into()),
        None => Err(TreeError::file(call, place, Errno::NOENT).into()),
    }
}

/// Metadata of the file that is at `place`.
fn existing(plan: &Plan<'_>, place: &[u8]) -> Result<Attributes, FileOpError> {
    match plan.get(place).and_then(Planned::attributes) {
        Some(attributes) => Ok(attributes.clone()),
        None => plan.lower_attributes(place),
    }
}

pub(super) fn new_attributes(mode: u32, owner: Owner, mtime: Time) -> Attributes {
    let (uid, gid) = owner.unwrap_or_default();
    Attributes { mode, uid, gid, mtime, xattrs: None }
}

pub(super) fn as_time(timestamp: llb::Timestamp) -> Time {
    Time { seconds: timestamp.seconds, nanoseconds: timestamp.nanoseconds }
}
