//! How a tree is read as a layer.

use crate::layer::{Flavor, Lower};

/// How a tree is read as a layer.
#[derive(Debug, Clone)]
pub struct DiffOptions {
    /// How the tree has whiteouts. A [`Flavor::Plain`] tree has none: what it lacks is deleted.
    pub flavor: Flavor,
    /// The layers below. Without them everything in the tree is written as it stands, opaque
    /// directories as such.
    pub lower: Option<Lower>,
    /// Write all extended attributes; else `security.capability` alone, as BuildKit does.
    pub all_xattrs: bool,
}
