//! Sources among the vertices: directories of the client, images, commits, and files fetched over HTTP.

use std::sync::Arc;
use std::time::Instant;

use buildkit_cache::Identity;
use cache::LayerId;
use llb::{GitSource, HttpSource, Op, SourceOp, VertexId};
use oci::ChainId;
use solver::{Executed, Source};

use crate::client::Fetched;
use crate::error::BuildError;
use crate::progress::event::Event;
use crate::source::git::unkept_git_dir;
use crate::source::http::{Asked, Told, pinned_key};
use crate::source::image::{ResolvedImage, image_key, image_request};
use crate::source::wanted::paths_wanted;
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
                let is_result = self.shipped.contains(&vertex) || self.read.contains(&vertex);
                let paths = paths_wanted(&self.definition, vertex).filter(|_| !is_result);
                let start = Instant::now();
                self.steps.started(vertex);
                let told = self.fetched(vertex);
                let view = self.contexts.view(&self.store, vertex, local, paths, told).await?;
                self.shared.foreign.identified(vertex, &Identity::Local);
                self.steps.done(vertex, start);
                Ok(Source { key: None, result: Some([Files::Context(view)].into()) })
            }
            SourceOp::Image(_) | SourceOp::OciLayout { .. } => {
                let image = self.image(source).await?;
                self.layers.pulled(&image.config.rootfs.diff_ids, &image.manifest.layers);
                self.tell_foreign(vertex, source, &image);
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
                let revision = self.git.identify(git).await?;
                self.shared.foreign.identified(vertex, &revision.identity(git));
                let key = revision.key(git);
                let result = self.record(&key).map(|record| self.use_record(vertex, record).result);
                Ok(Source { key: Some(key), result })
            }
            SourceOp::Http(source) => self.identify_http(vertex, source).await,
        }
    }

    /// Tells those who ask BuildKit's caches which image a source is.
    fn tell_foreign(&self, vertex: VertexId, source: &SourceOp, image: &ResolvedImage) {
        let platform = match source {
            SourceOp::Image(image) => &image.platform,
            SourceOp::OciLayout { platform, .. } => platform,
            _ => return,
        };
        let diff_ids = image.config.rootfs.diff_ids.iter();
        let chain = diff_ids.fold(None, |below, id| Some(ChainId::extend(below.as_ref(), id)));
        let digest = &image.top.digest;
        let identity = Identity::Image { digest, platform, chain: chain.as_ref() };
        self.shared.foreign.identified(vertex, &identity);
    }

    /// With a checksum only what the store has is looked at. Without one the server has to say what the
    /// file is, and it is fetched if that is new.
    async fn identify_http(
        &self,
        vertex: VertexId,
        source: &HttpSource,
    ) -> Result<Source<Outputs>, BuildError> {
        let outputs = |layer: LayerId| -> Outputs { [Files::Layers([layer].into())].into() };
        if let (Some(key), Some(digest)) = (pinned_key(source), &source.checksum) {
            let filename = &source.filename;
            let pinned = Identity::Http { source, filename, digest, last_modified: None };
            self.shared.foreign.identified(vertex, &pinned);
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
        fetched.identified(source, |identity| self.shared.foreign.identified(vertex, identity));
        Ok(Source { key: Some(fetched.key), result: Some(outputs(fetched.layer)) })
    }

    /// Tells how much of a context has come.
    fn fetched(&self, vertex: VertexId) -> Fetched {
        let (steps, step) = (self.steps.clone(), self.steps.id(vertex));
        Arc::new(move |current, done| {
            let item = "transferring context".to_owned();
            steps.event(Event::Transfer { step, item, current, total: None, done });
        })
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
