//! Keeping the store small and whole.

use std::sync::Arc;

use cache::{
    CacheItem, Depth, DiskUsage, FsckOptions, LayerId, Problem, PruneFilter, Pruned, Store,
};
use oci::DiffId;
use registry::chain;
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::images::{self, ListedImage, Removed};
use crate::layer::{Bases, Layers};
use crate::progress::event::Silence;
use crate::progress::steps::Steps;
use crate::source::git::check_mirrors;
use crate::stored::read_variants;
use crate::workspace::Workspace;

impl Workspace {
    /// Removes what `filter` chooses. Tagged images stay, and so does what running builds use.
    pub async fn prune(&self, filter: PruneFilter) -> Result<Pruned, BuildError> {
        let store = self.store.clone();
        blocking(move || {
            store
                .prune(&filter)
                .map_err(|e| BuildError::system("failed to prune the store").because(e))
        })
        .await
    }

    /// What [`Self::prune`] would remove. Nothing is.
    pub async fn would_prune(&self, filter: PruneFilter) -> Result<Pruned, BuildError> {
        let store = self.store.clone();
        blocking(move || {
            store
                .would_prune(&filter)
                .map_err(|e| BuildError::system("failed to read the store").because(e))
        })
        .await
    }

    /// Takes the names of those images away that `takes` chooses and no container uses, and removes what
    /// then leads nowhere.
    pub async fn prune_images(
        &self,
        takes: impl Fn(&ListedImage) -> bool,
    ) -> Result<(Vec<Removed>, Pruned), BuildError> {
        let mut removed = Vec::new();
        for image in self.images().await?.iter().filter(|image| takes(image)) {
            let target = self.store.resolve(&image.name);
            let Some(target) = target else { continue };
            if images::user_of(&self.store, &target)?.is_none() {
                removed.push(self.remove_image(&image.name, false).await?);
            }
        }
        Ok((removed, self.prune(PruneFilter::default()).await?))
    }

    /// All parts of the cache.
    pub async fn cache_items(&self) -> Result<Vec<CacheItem>, BuildError> {
        let store = self.store.clone();
        blocking(move || {
            store
                .cache_items()
                .map_err(|e| BuildError::system("failed to read the store").because(e))
        })
        .await
    }

    /// Counts what the store takes on disk.
    pub async fn disk_usage(&self) -> Result<DiskUsage, BuildError> {
        let store = self.store.clone();
        blocking(move || {
            store
                .disk_usage()
                .map_err(|e| BuildError::system("failed to read the store").because(e))
        })
        .await
    }

    /// Looks for damage in the store; `full` reads every byte of every blob, of every layer's tree
    /// that has a digest, and of what was fetched of git repositories. With `repair` what is damaged is removed, so that it is made again.
    pub async fn fsck(&self, full: bool, repair: bool) -> Result<Vec<Problem>, BuildError> {
        let mirrors = if full { check_mirrors(&self.store, repair).await? } else { Vec::new() };
        let (store, machine) = (self.store.clone(), self.machine.clone());
        let steps = Arc::new(Steps::new(Arc::new(Silence)));
        let layers = Layers::new(
            store.clone(),
            machine,
            steps,
            Vec::new(),
            Arc::default(),
            &CancellationToken::new(),
        );
        blocking(move || {
            let bases = if full { bases(&store) } else { Bases::new() };
            let holds = |id: &LayerId, diff_id: &DiffId| layers.check_tree(id, diff_id, &bases);
            let depth = if full { Depth::Full(&holds) } else { Depth::Quick };
            let found = store.fsck(&FsckOptions { depth, repair });
            let found = found.map(|found| found.into_iter().chain(mirrors).collect());
            found.map_err(|e| BuildError::system("failed to check the store").because(e))
        })
        .await
    }

    /// What went wrong in the store since the last call without making anything fail, a line each.
    pub fn take_warnings(&self) -> Vec<String> {
        self.store.take_warnings().iter().map(|warning| chain(warning)).collect()
    }
}

/// What is below each layer, by the records of steps and by the images.
fn bases(store: &Store) -> Bases {
    let mut bases = Bases::new();
    let images = store.images();
    let images = images.iter().flat_map(|image| read_variants(store, &image.descriptor));
    let images = images.filter_map(|variant| {
        let diff_ids = variant.config.rootfs.diff_ids.iter();
        diff_ids.map(|diff_id| store.layer_of_diff_id(diff_id)).collect()
    });
    let steps = store.records().into_iter().flat_map(|record| record.outputs);
    // Records of older programs may name a layer alone, whatever is below.
    let steps = steps.filter(|stack| stack.len() > 1);
    for stack in steps.chain(images) {
        let stack: Vec<LayerId> = stack;
        for (number, id) in stack.iter().enumerate() {
            bases.entry(id.clone()).or_default().insert(stack[..number].to_vec());
        }
    }
    bases
}
