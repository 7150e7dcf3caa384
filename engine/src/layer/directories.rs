//! Where the trees of layers are.

use std::path::PathBuf;

use cache::LayerId;

/// Where the tree of one layer is.
#[derive(Clone)]
pub(super) struct LayerTree {
    pub(super) directories: Directories,
    /// Nothing of the layers below shows.
    pub(super) hides: bool,
}

/// Directories that together are a tree, the bottom one first, and the layers that they belong to.
#[derive(Clone, Default)]
pub(super) struct Directories {
    pub(super) ids: Vec<LayerId>,
    pub(super) paths: Vec<PathBuf>,
}

impl Directories {
    pub(super) fn push(&mut self, id: &LayerId, path: PathBuf) {
        self.ids.push(id.clone());
        self.paths.push(path);
    }

    pub(super) fn extend(&mut self, others: Self) {
        self.ids.extend(others.ids);
        self.paths.extend(others.paths);
    }
}
