//! Keeping the store small and whole.

use std::collections::HashMap;
use std::sync::Arc;

use cache::{
    CacheItem, Depth, DiskUsage, FsckOptions, LayerId, Problem, PruneFilter, Pruned, Store, Without,
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
use crate::stored::{familiar, read_variants};
use crate::workspace::Workspace;

/// Who has which layers, by their ids.
#[derive(Debug, Clone, Default)]
pub struct LayerUsers {
    /// Names of images, in their short form.
    pub images: HashMap<String, String>,
    /// Names of containers that stay.
    pub containers: HashMap<String, String>,
}

impl Workspace {
    /// Which image, and which container, has each layer.
    pub async fn layer_users(&self) -> Result<LayerUsers, BuildError> {
        let store = self.store.clone();
        blocking(move || {
            let mut users = LayerUsers::default();
            for image in store.images() {
                let variants = read_variants(&store, &image.descriptor);
                for diff_id in variants.iter().flat_map(|variant| &variant.config.rootfs.diff_ids) {
                    if let Some(layer) = store.layer_of_diff_id(diff_id) {
                        users.images.insert(layer.to_string(), familiar(&image.name));
                    }
                }
            }
            let containers = store.containers();
            let containers = containers.map_err(|e| {
                BuildError::system("failed to use the store's containers").because(e)
            })?;
            for record in containers.into_iter().map(|container| container.record) {
                let layers = record.layers.iter().map(|id| (id.to_string(), record.name.clone()));
                users.containers.extend(layers);
            }
            Ok(users)
        })
        .await
    }

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

    /// What [`Self::prune`] would remove if what is named `without` were gone already. Nothing is.
    pub async fn would_prune(
        &self,
        filter: PruneFilter,
        without: Without,
    ) -> Result<Pruned, BuildError> {
        let store = self.store.clone();
        blocking(move || {
            store
                .would_prune(&filter, &without)
                .map_err(|e| BuildError::system("failed to read the store").because(e))
        })
        .await
    }

    /// Takes these names of images away, which no container uses, and removes what then leads nowhere.
    pub async fn prune_images(
        &self,
        names: &[String],
    ) -> Result<(Vec<Removed>, Pruned), BuildError> {
        let mut removed = Vec::new();
        for name in names {
            removed.push(self.remove_image(name, false).await?);
        }
        Ok((removed, self.prune(PruneFilter::default()).await?))
    }

    /// Who uses an image, in words; nothing if nobody but the containers `without` does.
    pub async fn image_user(
        &self,
        image: &ListedImage,
        without: &[String],
    ) -> Result<Option<String>, BuildError> {
        let (store, name, without) = (self.store.clone(), image.name.clone(), without.to_vec());
        blocking(move || {
            let Some(target) = store.resolve(&name) else { return Ok(None) };
            Ok(images::user_of(&store, &target, &without)?.map(|user| user.words()))
        })
        .await
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
