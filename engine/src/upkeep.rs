//! Keeping the store small and whole.

use cache::{CacheItem, DiskUsage, FsckOptions, Problem, PruneFilter, Pruned};

use crate::build::Engine;
use crate::error::BuildError;
use crate::images::{self, ListedImage, Removed};
use crate::worker::blocking;

impl Engine {
    /// Removes what `filter` chooses. Tagged images stay, and so does what running builds use.
    pub async fn prune(&self, filter: PruneFilter) -> Result<Pruned, BuildError> {
        let store = self.store.clone();
        blocking(move || {
            store.prune(&filter).map_err(|e| BuildError::system("failed to prune the store", &e))
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
            if target.is_some_and(|target| !images::is_in_use(&self.store, &target)) {
                removed.push(self.remove_image(&image.name, false).await?);
            }
        }
        Ok((removed, self.prune(PruneFilter::default()).await?))
    }

    /// All parts of the cache.
    pub async fn cache_items(&self) -> Result<Vec<CacheItem>, BuildError> {
        let store = self.store.clone();
        blocking(move || {
            store.cache_items().map_err(|e| BuildError::system("failed to read the store", &e))
        })
        .await
    }

    /// Counts what the store takes on disk.
    pub async fn disk_usage(&self) -> Result<DiskUsage, BuildError> {
        let store = self.store.clone();
        blocking(move || {
            store.disk_usage().map_err(|e| BuildError::system("failed to read the store", &e))
        })
        .await
    }

    /// Looks for damage in the store; `full` reads every byte of every blob. With `repair` what is
    /// damaged is removed, so that it is made anew.
    pub async fn fsck(&self, full: bool, repair: bool) -> Result<Vec<Problem>, BuildError> {
        let store = self.store.clone();
        blocking(move || {
            // A pulled layer's tree does not give back the very tar it came from, so that a tree
            // cannot be held against its digest.
            let options = FsckOptions { full, repair, diff_id_of: None };
            store.fsck(&options).map_err(|e| BuildError::system("failed to check the store", &e))
        })
        .await
    }

    /// What went wrong in the store since the last call without making anything fail, a line each.
    pub fn take_warnings(&self) -> Vec<String> {
        self.store.take_warnings().iter().map(ToString::to_string).collect()
    }
}
