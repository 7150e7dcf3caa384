//! Sources among the vertices: directories of the client, images, commits, and files fetched over HTTP.

use std::sync::Arc;
use std::time::Instant;

use cache::LayerId;
use llb::{GitSource, HttpSource, Op, SourceOp, VertexId};
use solver::{Executed, Source};

use crate::error::BuildError;
use crate::source::git::unkept_git_dir;
use crate::source::http::{Asked, Told, pinned_key};
use crate::source::image::{ResolvedImage, image_key, image_request};
use crate::step::files::{Files, Outputs};
use crate::step::worker::BuildWorker;

impl BuildWorker {
    pub(super) async fn identify_source(
        &self,
        vertex: VertexId,
    ) -> Result<Source<Outputs>, BuildError> {
        let Op::Source(source) = &self.definition.vertex(vertex).op else {
            unreachable!("only sources are identified")
        };
        match source {
            SourceOp::Local(local) => {
                let view = self.contexts.view(&self.store, vertex, local).await?;
                self.steps.cached_source(vertex);
                Ok(Source { key: None, result: Some([Files::Context(view)].into()) })
            }
            SourceOp::Image(_) | SourceOp::OciLayout { .. } => {
                let image = self.image(source).await?;
                self.layers.pulled(&image.config.rootfs.diff_ids, &image.manifest.layers);
                let result =
                    self.stored_layers(&image).map(|layers| [Files::Layers(layers)].into());
                if result.is_some() {
                    self.steps.cached(vertex);
                }
                Ok(Source { key: Some(image_key(&image)), result })
            }
            SourceOp::Git(git) => {
                // Not of the result, which builds that ask for no `.git` use, too.
                if let Some(warning) = unkept_git_dir(git) {
                    self.steps.warn(warning);
                }
                let key = self.git.identify(git).await?.key(git);
                let result = self.record(&key).map(|record| self.use_record(vertex, record).result);
                Ok(Source { key: Some(key), result })
            }
            SourceOp::Http(source) => self.identify_http(vertex, source).await,
        }
    }

    /// With a checksum only what the store has is looked at. Without one the server has to say what the
    /// file is, and it is fetched if that is new.
    async fn identify_http(
        &self,
        vertex: VertexId,
        source: &HttpSource,
    ) -> Result<Source<Outputs>, BuildError> {
        let outputs = |layer: LayerId| -> Outputs { [Files::Layers([layer].into())].into() };
        if let Some(key) = pinned_key(source) {
            let found = self.http.pinned(source).and_then(|record| record.outputs.concat().pop());
            if found.is_some() {
                self.steps.cached(vertex);
            }
            return Ok(Source { key: Some(key), result: found.map(outputs) });
        }
        let start = Instant::now();
        self.steps.started(vertex);
        let asked = self.http.get(source, &self.told(vertex)).await?;
        match &asked {
            Asked::Known(_) => self.steps.cached(vertex),
            Asked::New(_) => self.steps.done(vertex, start),
        }
        let fetched = asked.fetched();
        Ok(Source { key: Some(fetched.key), result: Some(outputs(fetched.layer)) })
    }

    fn told(&self, vertex: VertexId) -> Told {
        Told { steps: self.steps.clone(), step: self.steps.id(vertex) }
    }

    /// The image a source names, resolved at most once a build.
    async fn image(&self, source: &SourceOp) -> Result<Arc<ResolvedImage>, BuildError> {
        let request = image_request(source);
        if let Some(image) = self.resolved.lock().expect("no panic while held").get(&request) {
            return Ok(image.clone());
        }
        let image = Arc::new(self.images.resolve(&request, &self.steps).await?);
        self.resolved.lock().expect("no panic while held").insert(request, image.clone());
        Ok(image)
    }

    /// An image's layers, if the store has all of them and their blobs.
    fn stored_layers(&self, image: &ResolvedImage) -> Option<Arc<[LayerId]>> {
        if !image.manifest.layers.iter().all(|d| self.store.has_blob(&d.digest)) {
            return None;
        }
        image.config.rootfs.diff_ids.iter().map(|id| self.store.layer_of_diff_id(id)).collect()
    }

    /// The files of a commit.
    pub(super) async fn fetch_git(
        &self,
        run: &Executed<'_, Outputs>,
        source: &GitSource,
    ) -> Result<Outputs, BuildError> {
        let revision = self.git.identify(source).await?;
        let layer = self.git.check_out(source, &revision, &run.cancel).await?;
        Ok([Files::Layers([layer].into())].into())
    }

    /// The layers of an image, or a file.
    pub(super) async fn fetch(
        &self,
        vertex: VertexId,
        source: &SourceOp,
    ) -> Result<Outputs, BuildError> {
        if let SourceOp::Http(source) = source {
            let fetched = self.http.get_pinned(source, &self.told(vertex)).await?;
            return Ok([Files::Layers([fetched.layer].into())].into());
        }
        let image = self.image(source).await?;
        let step = self.steps.id(vertex);
        let is_unpacked = !self.definition.dependents(vertex).is_empty();
        let begun = self.layers.unpack_early(&image, is_unpacked, step);
        self.images.fetch_layers(&image, &self.steps, step, begun).await?;
        let diff_ids = &image.config.rootfs.diff_ids;
        let layers: Arc<[LayerId]> = diff_ids
            .iter()
            .zip(&image.manifest.layers)
            .map(|(diff_id, descriptor)| self.store.add_blob_layer(diff_id, descriptor))
            .collect();
        if is_unpacked {
            self.layers.unpack_for(step, &layers).await?;
        }
        Ok([Files::Layers(layers)].into())
    }
}
