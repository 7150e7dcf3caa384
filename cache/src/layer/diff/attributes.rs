//! What extended attributes say: of a tree's content, and of its form.

use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

use super::options::DiffOptions;
use super::same::CAPABILITY;
use crate::layer::name::{self, to_path};
use crate::layer::read;
use crate::layer::{Entry, LayerError};

/// What the attributes of a directory say about the form of the tree.
#[derive(Default)]
pub(super) struct Form {
    pub(super) opaque: bool,
}

/// Reads the attributes of an open file or directory into `entry`.
pub(super) fn attributes(
    options: &DiffOptions,
    entry: &mut Entry,
    file: BorrowedFd<'_>,
) -> Result<Form, LayerError> {
    let read =
        read::file_xattrs(file).map_err(LayerError::at("read the attributes of", &entry.path))?;
    sort_attributes(options, entry, read)
}

pub(super) fn node_attributes(
    options: &DiffOptions,
    entry: &mut Entry,
    directory: BorrowedFd<'_>,
) -> Result<(), LayerError> {
    // Only files have capabilities.
    if options.all_xattrs {
        let xattrs = read::read_xattrs(directory, name::split(&entry.path).1)?;
        sort_attributes(options, entry, xattrs)?;
    }
    Ok(())
}

/// Tells attributes that are content from those that are form.
fn sort_attributes(
    options: &DiffOptions,
    entry: &mut Entry,
    mut xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
) -> Result<Form, LayerError> {
    let mut form = Form::default();
    if xattrs.is_empty() {
        return Ok(form);
    }
    if let Some(key) = options.flavor.opaque_attribute() {
        form.opaque = xattrs.get(key.as_bytes()).is_some_and(|value| value == b"y");
        for attribute in [
            "trusted.overlay.redirect",
            "trusted.overlay.metacopy",
            "user.overlay.redirect",
            "user.overlay.metacopy",
        ] {
            if xattrs.contains_key(attribute.as_bytes()) {
                return Err(LayerError::Redirected { path: to_path(&entry.path), attribute });
            }
        }
    }
    if let Some(owner) = xattrs.remove(read::OWNER.as_bytes()) {
        (entry.uid, entry.gid) = read::parse_owner(&owner).unwrap_or((entry.uid, entry.gid));
    }
    xattrs.retain(|key, _| {
        !read::is_own(key) && (options.all_xattrs || key == CAPABILITY.as_bytes())
    });
    entry.xattrs = xattrs;
    Ok(form)
}
