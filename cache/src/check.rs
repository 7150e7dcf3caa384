//! Comparing layers with their stamps, and making the stamps.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::layer_id::LayerId;
use crate::layer_row::LayerRow;
use crate::lease::{self, SessionId};
use crate::stamp::{TreeStamp, stamp, with_neighbours};
use crate::store::Store;
use crate::warning::Warning;

impl Store {
    /// Whether a layer's tree is as it was when it was sealed: names, inodes, types, modes, sizes, times
    /// of modification and change, and those of the tree that it lies over. To be asked before the tree
    /// is used; costs one `stat` a file, the first time in a session. Of a layer that was changed the
    /// tree is forgotten, see [`Store::discard_tree`].
    pub fn check_layer(&self, id: &LayerId) -> bool {
        let Some(row) = self.layer_row(id) else { return false };
        let Some(directory) = self.directory_of(id, &row) else {
            // What it lies over may have been found changed a moment ago.
            return row.over().is_none();
        };
        if row.over().is_some_and(|over| !self.check_layer(over)) {
            self.discard_tree(id);
            return false;
        }
        if self.inner.checked().contains(id) {
            return true;
        }
        match self.compare(&row, &directory) {
            Comparison::Same => drop(self.inner.checked().insert(id.clone())),
            Comparison::Unfinished => {}
            Comparison::Changed => {
                self.warn(Warning::ChangedLayer { layer: id.clone() });
                self.discard_tree(id);
                return false;
            }
            Comparison::Unknown => {
                self.warn(Warning::UncheckedLayer { layer: id.clone() });
                self.discard_tree(id);
                return false;
            }
        }
        true
    }

    /// Compares a tree with its stamp.
    pub(crate) fn compare(&self, row: &LayerRow, directory: &Path) -> Comparison {
        let Some(expected) = &row.stamp else { return self.compare_unstamped(row) };
        match stamp(directory) {
            Ok(found) if found.digest == *expected => Comparison::Same,
            _ => Comparison::Changed,
        }
    }

    /// A tree has no stamp while the session that made it is at it, and none if that was killed.
    fn compare_unstamped(&self, row: &LayerRow) -> Comparison {
        let maker = row.own_directory().and_then(|name| SessionId::of_name(name.as_str()));
        // What cannot be told is over.
        let is_over = |session| lease::is_over(self.root(), &session).unwrap_or(true);
        if maker.is_none_or(is_over) { Comparison::Unknown } else { Comparison::Unfinished }
    }

    /// Takes the stamp of a layer's tree from a caller that has read all of it since it was finished.
    pub fn set_stamp(&self, id: &LayerId, tree: TreeStamp) {
        let Some(place) = self.inner.stamps.unstamped().remove(id) else { return };
        if let Ok(stamp) = with_neighbours(tree, &place) {
            self.inner.stamps.add(id, &place, stamp);
        }
    }

    /// Marks a tree as having the right content as it is now.
    pub(crate) fn stamp_again(&self, id: &LayerId, directory: &Path) {
        if let Ok(stamp) = stamp(directory) {
            self.inner.stamps.add(id, directory, stamp);
        }
    }

    /// How large the trees are whose stamps wait for a commit.
    pub(crate) fn stamped_sizes(&self) -> HashMap<LayerId, u64> {
        self.inner.stamps.sizes()
    }

    /// Marks a tree that was just finished as right, without a stamp for now.
    pub(crate) fn trust(&self, id: &LayerId) {
        self.inner.checked().insert(id.clone());
    }

    /// Stamps a tree that was just finished, while the build goes on.
    pub(crate) fn stamp_in_background(&self, id: &LayerId, directory: PathBuf) {
        // Not the store itself: this must not be what keeps the session from ending.
        let (id, stamps) = (id.clone(), self.inner.stamps.clone());
        let work = stamps.begin();
        rayon::spawn(move || {
            if let Ok(stamp) = stamp(&directory) {
                stamps.add(&id, &directory, stamp);
            }
            drop(work);
        });
    }
}

/// What came of comparing a tree with its stamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Same,
    /// The session that makes it lives.
    Unfinished,
    Changed,
    /// There is no stamp, and nobody left to make one.
    Unknown,
}
