//! How a sink writes a tree.

use crate::layer::{Flavor, Lower};

/// How a [`super::DirectorySink`] writes.
#[derive(Debug)]
pub struct DirectoryOptions {
    /// How whiteouts are written.
    pub flavor: Flavor,
    /// For user namespaces that map a single id: owners that cannot be set are kept in the
    /// attribute `user.mybuild.owner` instead, from where [`crate::layer::diff()`] gives them back.
    pub ignore_owner: bool,
    /// The layers below: a directory that the layer leaves out, though it has files in it, gets
    /// owner, mode and attributes from there. Otherwise it becomes root's, with mode 0755.
    pub lower: Lower,
}

impl DirectoryOptions {
    /// Strict owners, nothing below.
    pub fn new(flavor: Flavor) -> Self {
        Self { flavor, ignore_owner: false, lower: Lower::none() }
    }
}
