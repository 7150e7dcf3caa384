//! Reading the trees of layers, to see whether they are still what their digests say.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io;
use std::path::Path;

use cache::layer::{DiffOptions, LayerError};
use cache::{LayerId, TreeState};
use oci::DiffId;

use crate::error::{BuildError, Fault};
use crate::layer::Layers;
use crate::layer::layer_store::{LayerStore, hides_all_below};
use crate::stop::Stoppable;

/// What may be below each layer, as far as anybody knows.
pub(crate) type Bases = HashMap<LayerId, BTreeSet<Vec<LayerId>>>;

impl Layers {
    /// Reads the tree of a layer. It is held against the layer's tar, which is made of it again, or
    /// which is unpacked again where the tar is another program's.
    pub(crate) fn check_tree(&self, id: &LayerId, diff_id: &DiffId, bases: &Bases) -> TreeState {
        let bases: Vec<&[LayerId]> =
            bases.get(id).into_iter().flatten().map(Vec::as_slice).collect();
        let of_tar = bases.iter().map(|base| self.shared.is_tar_of(id, diff_id, base));
        let state = judge(of_tar);
        if state == TreeState::Good {
            return state;
        }
        let bases: Vec<Option<&[LayerId]>> =
            if bases.is_empty() { vec![None] } else { bases.into_iter().map(Some).collect() };
        let of_blob = bases.iter().map(|base| self.shared.is_like_blob(id, diff_id, *base));
        match judge(of_blob) {
            // Without the blob, the tree was made here.
            TreeState::Unknown => state,
            judged => judged,
        }
    }
}

/// One comparison that holds is enough: what is below was not known for sure.
fn judge(comparisons: impl Iterator<Item = Result<Option<bool>, BuildError>>) -> TreeState {
    let mut state = TreeState::Unknown;
    for comparison in comparisons {
        match comparison {
            Ok(Some(true)) => return TreeState::Good,
            Ok(None) => {}
            Ok(Some(false)) | Err(_) => state = TreeState::Bad,
        }
    }
    state
}

impl LayerStore {
    /// Whether the layer's tree gives the tar `diff_id` over `base`; unknown without one of the trees.
    fn is_tar_of(
        &self,
        id: &LayerId,
        diff_id: &DiffId,
        base: &[LayerId],
    ) -> Result<Option<bool>, BuildError> {
        let (Some(base), Some(tree)) = (self.unpacked(Some(base)), self.tree(id)?) else {
            return Ok(None);
        };
        let view = self.rootfs(tree.directories)?.view();
        let view = view.map_err(|e| BuildError::system("failed to open a layer").because(e))?;
        let tree = view.descriptor().expect("a layer has a directory");
        let written = cache::layer::write_tar(tree, &self.diff_options(base)?, &mut io::sink());
        Ok(Some(written.map_err(read_error)?.diff_id == *diff_id))
    }

    /// Whether the layer's tree is what unpacking its blob gives; unknown without a blob, or when the
    /// blob leaves something to a base that nobody knows.
    fn is_like_blob(
        &self,
        id: &LayerId,
        diff_id: &DiffId,
        base: Option<&[LayerId]>,
    ) -> Result<Option<bool>, BuildError> {
        let Some(info) = self.store.layer(id) else { return Ok(None) };
        let blob = info.blobs.iter().find_map(|form| self.store.blob(&form.digest));
        let (Some(directory), Some(blob)) = (info.directory, blob) else { return Ok(None) };
        let file =
            blob.open().map_err(|e| BuildError::system("failed to open a blob").because(e))?;
        let stream = Stoppable::new(file, &self.stop);
        // A damaged blob is a problem of its own, and says nothing of the tree.
        let Ok((layer, finished)) = self.unpack_stream(stream, Some(diff_id.clone()))? else {
            return Ok(None);
        };
        let leaves_something = !finished.implied.is_empty() || !finished.dangling.is_empty();
        match self.unpacked(base) {
            None if leaves_something => return Ok(None),
            base => self.adopt(&layer, &finished, base.unwrap_or_default())?,
        }
        let is_alike = self.content(&layer.fs())? == self.content(&directory)?
            && finished.opaque_root == hides_all_below(&directory).exists();
        Ok(Some(is_alike))
    }

    /// A base, if all of it has trees.
    fn unpacked<'b>(&self, base: Option<&'b [LayerId]>) -> Option<&'b [LayerId]> {
        let has_tree = |id| self.store.layer(id).is_some_and(|info| info.directory.is_some());
        base.filter(|base| base.iter().all(has_tree))
    }

    /// A digest of everything in a tree.
    fn content(&self, fs: &Path) -> Result<DiffId, BuildError> {
        let tree =
            File::open(fs).map_err(|e| BuildError::system("failed to open a layer").because(e))?;
        let flavor = self.machine.flavor();
        let options = DiffOptions { flavor, lower: None, all_xattrs: true };
        let written = cache::layer::write_tar(&tree, &options, &mut io::sink());
        Ok(written.map_err(read_error)?.diff_id)
    }
}

fn read_error(error: LayerError) -> BuildError {
    BuildError::System(Fault::of(error))
}
