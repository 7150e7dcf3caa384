//! Images that a build starts from: found in the store, a registry or an OCI layout.

mod error;

use std::collections::{BTreeMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use cache::Store;
use llb::SourceOp;
use llb::encode::Encoder;
use oci::manifest::Document;
use oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference};
use parser::lower::{BaseImage, ImageRequest, RequestedImage};
use registry::{Registries, chain};
use solver::CacheKey;
use tokio_util::sync::CancellationToken;

use crate::blocking::blocking;
use crate::error::BuildError;
use crate::progress::event::{Event, StepId};
use crate::progress::steps::Steps;
use crate::request::PullPolicy;
use crate::source::layout;
use crate::stored::check_layers;

use error::{ImageError, not_asked, not_whole};

/// Largest image config, in bytes.
const CONFIG_MAX: u64 = 8 << 20;
/// How deep indexes may nest.
const INDEX_DEPTH_MAX: usize = 4;

/// Where the bytes of an image are when the store does not have them.
#[derive(Debug, Clone)]
enum Origin {
    Registry(Reference),
    Layout(PathBuf),
}

/// An image whose manifest and config are known.
#[derive(Debug, Clone)]
pub(crate) struct ResolvedImage {
    origin: Origin,
    /// What the reference names: an index or a manifest.
    pub(crate) top: Descriptor,
    /// The manifest of the platform's image.
    pub(crate) manifest_descriptor: Descriptor,
    pub(crate) manifest: Manifest,
    pub(crate) config: ImageConfig,
}

impl ResolvedImage {
    pub(crate) fn base_image(&self) -> BaseImage {
        BaseImage { digest: self.top.digest.clone(), config: self.config.clone() }
    }
}

/// What the store has under an image's name.
enum Stored {
    Fits(Box<ResolvedImage>),
    /// Only images for these platforms.
    For(Vec<Platform>),
}

impl Stored {
    /// The platforms that it has instead.
    fn others(self) -> Option<Vec<Platform>> {
        match self {
            Self::Fits(_) => None,
            Self::For(platforms) => Some(platforms),
        }
    }
}

/// Told of each layer whose download begins: its number, and a reader of what arrives.
pub(crate) type Begun = Arc<dyn Fn(usize, cache::DownloadReader) + Send + Sync>;

/// Finds and fetches images.
pub(crate) struct Images {
    store: Store,
    registries: Arc<Registries>,
    pull: PullPolicy,
    offline: bool,
    layouts: BTreeMap<String, PathBuf>,
}

impl Images {
    pub(crate) fn new(
        store: Store,
        registries: Arc<Registries>,
        pull: PullPolicy,
        offline: bool,
        layouts: BTreeMap<String, PathBuf>,
    ) -> Self {
        Self { store, registries, pull, offline, layouts }
    }

    /// The registries, to get a part of the image `reference` from.
    fn registries(&self, reference: &Reference) -> Result<&Arc<Registries>, BuildError> {
        if self.offline {
            return Err(not_whole(reference));
        }
        Ok(&self.registries)
    }

    /// Finds manifest and config of an image. What a tag stands for is asked once a build.
    pub(crate) async fn resolve(
        &self,
        request: &ImageRequest,
        steps: &Arc<Steps>,
    ) -> Result<ResolvedImage, BuildError> {
        match &request.image {
            RequestedImage::Named(name) => {
                self.resolve_named(&name.docker_ref(), &request.platform, steps).await
            }
            RequestedImage::InLayout { layout, reference } => {
                self.resolve_in_layout(layout, reference, &request.platform).await
            }
        }
    }

    async fn resolve_in_layout(
        &self,
        name: &str,
        reference: &str,
        platform: &Platform,
    ) -> Result<ResolvedImage, BuildError> {
        let directory =
            self.layouts.get(name).ok_or_else(|| ImageError::NoLayout(name.to_owned()))?;
        let (at, wanted) = (directory.clone(), reference.to_owned());
        let top = blocking(move || layout::find_image(&at, &wanted)).await?;
        self.read_down(Origin::Layout(directory.clone()), top, platform).await
    }

    async fn resolve_named(
        &self,
        reference: &Reference,
        platform: &Platform,
        steps: &Arc<Steps>,
    ) -> Result<ResolvedImage, BuildError> {
        let uses_stored = match self.pull {
            PullPolicy::Missing | PullPolicy::Never => true,
            PullPolicy::Newer => self.offline,
            PullPolicy::Always => false,
        };
        let mut stored = None;
        if uses_stored {
            match self.stored(reference, platform).await {
                Some(Stored::Fits(image)) => return Ok(*image),
                found => stored = found,
            }
        }
        if self.pull == PullPolicy::Never {
            let others = stored.and_then(Stored::others);
            return Err(ImageError::not_stored(reference, others, platform).into());
        }
        if self.offline {
            return Err(not_asked(reference, stored.and_then(Stored::others), platform));
        }
        let step = steps.internal(&format!("[internal] load metadata for {reference}"));
        let error = match self.resolve_remote(reference, platform).await {
            Ok(image) => {
                step.done();
                return Ok(image);
            }
            Err(error) => error,
        };
        if self.pull == PullPolicy::Newer {
            stored = self.stored(reference, platform).await;
        }
        let error = match stored {
            Some(Stored::Fits(image)) => {
                step.done();
                return Ok(*image);
            }
            Some(Stored::For(platforms)) => {
                let (name, platform) = (reference.familiar(), platform.to_string());
                let source = Box::new(error);
                ImageError::OnlyForOthers { name, platforms, platform, source }.into()
            }
            None => error,
        };
        step.failed(&chain(&error));
        Err(error)
    }

    /// What the store has under a name.
    async fn stored(&self, reference: &Reference, platform: &Platform) -> Option<Stored> {
        let known = self.known(reference, platform)?;
        let origin = Origin::Registry(reference.clone());
        match self.read_down(origin, known.clone(), platform).await {
            Ok(image) if fits(&image, platform) => Some(Stored::Fits(Box::new(image))),
            Ok(image) => Some(Stored::For(vec![image.config.platform()])),
            Err(_) => {
                let variants = crate::stored::read_variants(&self.store, &known);
                let platforms: Vec<_> = variants.iter().map(|v| v.config.platform()).collect();
                (!platforms.is_empty()).then_some(Stored::For(platforms))
            }
        }
    }

    /// The name of an image of the store that is near `name`.
    pub(crate) fn near(&self, name: &str) -> Option<String> {
        crate::stored::near(&self.store, name)
    }

    /// What the store knows a reference to stand for.
    fn known(&self, reference: &Reference, platform: &Platform) -> Option<Descriptor> {
        if let Some(descriptor) = self.store.resolve(&reference.to_string()) {
            return Some(descriptor);
        }
        let known = self.store.remembered_reference(reference, Some(platform));
        known.map(|known| known.descriptor)
    }

    async fn resolve_remote(
        &self,
        reference: &Reference,
        platform: &Platform,
    ) -> Result<ResolvedImage, BuildError> {
        let registries = self.registries(reference)?;
        let (top, bytes) = registries.manifest(reference).await.map_err(ImageError::from)?;
        self.keep(&top, &bytes)?;
        let image =
            self.read_down(Origin::Registry(reference.clone()), top.clone(), platform).await?;
        self.store.remember_reference(reference, Some(platform), &top);
        Ok(image)
    }

    /// From what a reference names down to the platform's manifest and config.
    async fn read_down(
        &self,
        origin: Origin,
        top: Descriptor,
        platform: &Platform,
    ) -> Result<ResolvedImage, BuildError> {
        let mut descriptor = top.clone();
        for _ in 0..INDEX_DEPTH_MAX {
            let bytes = self.document(&origin, &descriptor).await?;
            let parsed = oci::manifest::parse(&bytes, Some(&descriptor.media_type));
            match parsed.map_err(|e| ImageError::Manifest {
                digest: descriptor.digest.clone(),
                source: e.into(),
            })? {
                Document::Index(index) => descriptor = select(&index, platform, &origin)?,
                Document::Manifest(manifest) => {
                    check_layers(&manifest)?;
                    let bytes = self.blob_bytes(&origin, &manifest.config).await?;
                    let config = ImageConfig::parse(&bytes).map_err(|e| ImageError::Config {
                        digest: manifest.config.digest.clone(),
                        source: e.into(),
                    })?;
                    let (layers, blobs) = (config.rootfs.diff_ids.len(), manifest.layers.len());
                    if layers != blobs {
                        let error = ImageError::Layers { config: layers, manifest: blobs };
                        return Err(error.into());
                    }
                    return Ok(ResolvedImage {
                        origin,
                        top,
                        manifest_descriptor: descriptor,
                        manifest,
                        config,
                    });
                }
            }
        }
        Err(ImageError::TooDeep.into())
    }

    /// A manifest or index, from the store or else the origin; kept in the store.
    async fn document(
        &self,
        origin: &Origin,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, BuildError> {
        if let Ok(bytes) = self.store.read_small(&descriptor.digest, oci::manifest::SIZE_MAX as u64)
        {
            return Ok(bytes);
        }
        let bytes = match origin {
            Origin::Registry(reference) => {
                let pinned = reference.without_tag().with_digest(descriptor.digest.clone());
                let registries = self.registries(reference)?;
                registries.manifest(&pinned).await.map_err(ImageError::from)?.1.to_vec()
            }
            Origin::Layout(directory) => {
                layout::read_blob(directory, descriptor, oci::manifest::SIZE_MAX as u64)?
            }
        };
        self.keep(descriptor, &bytes)?;
        Ok(bytes)
    }

    async fn blob_bytes(
        &self,
        origin: &Origin,
        descriptor: &Descriptor,
    ) -> Result<Vec<u8>, BuildError> {
        if let Ok(bytes) = self.store.read_small(&descriptor.digest, CONFIG_MAX) {
            return Ok(bytes);
        }
        let bytes = match origin {
            Origin::Registry(reference) => self
                .registries(reference)?
                .fetch_bytes(reference, descriptor, CONFIG_MAX)
                .await
                .map_err(ImageError::from)?
                .to_vec(),
            Origin::Layout(directory) => layout::read_blob(directory, descriptor, CONFIG_MAX)?,
        };
        self.keep(descriptor, &bytes)?;
        Ok(bytes)
    }

    fn keep(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), BuildError> {
        let put = crate::document::put(&self.store, &descriptor.media_type, bytes)?;
        if put.digest != descriptor.digest && descriptor.digest.algorithm() == "sha256" {
            let expected = descriptor.digest.clone();
            return Err(ImageError::OtherContent { expected, found: put.digest }.into());
        }
        Ok(())
    }

    /// Brings an image's layer blobs into the store, several at once. `begun` is given a reader that
    /// follows what comes from a registry, and the layer's number.
    pub(crate) async fn fetch_layers(
        &self,
        image: &ResolvedImage,
        steps: &Arc<Steps>,
        step: StepId,
        begun: Begun,
    ) -> Result<(), BuildError> {
        if let Origin::Registry(reference) = &image.origin {
            let layers = image.manifest.layers.iter();
            layers.for_each(|layer| self.store.add_origin(&layer.digest, reference));
        }
        let mut fetches = tokio::task::JoinSet::new();
        let mut seen = HashSet::new();
        for (number, descriptor) in image.manifest.layers.iter().enumerate() {
            // One that stands in the manifest twice comes once.
            if !seen.insert(&descriptor.digest) || self.store.has_blob(&descriptor.digest) {
                continue;
            }
            if let Origin::Registry(reference) = &image.origin {
                self.registries(reference)?;
            }
            let (store, registries, origin) =
                (self.store.clone(), self.registries.clone(), image.origin.clone());
            let (steps, descriptor) = (steps.clone(), descriptor.clone());
            let begun = begun.clone();
            fetches.spawn(async move {
                let follow = move |reader| begun(number, reader);
                fetch_layer(store, registries, origin, descriptor, steps, step, follow).await
            });
        }
        while let Some(fetched) = fetches.join_next().await {
            fetched.expect("a fetch does not panic")?;
        }
        Ok(())
    }
}

fn fits(image: &ResolvedImage, platform: &Platform) -> bool {
    let have = image.config.platform();
    // For amd64 a registry gives no image for 386 where it has another.
    let is_same = have.architecture.is_empty() || have.architecture == platform.architecture;
    is_same && have.fits(platform)
}

fn select(index: &Index, platform: &Platform, origin: &Origin) -> Result<Descriptor, ImageError> {
    index.select(platform).cloned().ok_or_else(|| {
        let name = match origin {
            Origin::Registry(reference) => reference.familiar(),
            Origin::Layout(directory) => directory.display().to_string(),
        };
        let platforms = index.platforms();
        ImageError::NoPlatform { name, platforms, platform: platform.to_string() }
    })
}

async fn fetch_layer(
    store: Store,
    registries: Arc<Registries>,
    origin: Origin,
    descriptor: Descriptor,
    steps: Arc<Steps>,
    step: StepId,
    follow: impl FnOnce(cache::DownloadReader),
) -> Result<(), BuildError> {
    let item = descriptor.digest.short();
    let size = descriptor.size;
    let total = Some(size);
    match origin {
        Origin::Registry(reference) => {
            let sink = BlobDownload::new(&store, &descriptor)?;
            if let Ok(reader) = sink.download.follow() {
                follow(reader);
            }
            let (told, label) = (steps.clone(), item.clone());
            let progress = move |current| {
                told.event(Event::Transfer {
                    step,
                    item: label.clone(),
                    current,
                    total,
                    done: false,
                });
            };
            let fetched = registries.fetch_blob(&reference, &descriptor, sink, progress).await;
            fetched.map_err(ImageError::from)?.finish(&descriptor)?;
        }
        Origin::Layout(directory) => {
            // Nobody waits for it once the build is cancelled.
            let never = CancellationToken::new();
            blocking(move || layout::copy_blob(&store, &directory, &descriptor, &never)).await?;
        }
    }
    steps.event(Event::Transfer { step, item, current: size, total, done: true });
    Ok(())
}

/// A registry's blob on its way into the store.
struct BlobDownload {
    download: cache::BlobDownload,
}

impl BlobDownload {
    fn new(store: &Store, descriptor: &Descriptor) -> Result<Self, BuildError> {
        let download = store
            .blob_download(&descriptor.digest, descriptor.size)
            .map_err(|e| BuildError::system("failed to start a download").because(e))?;
        Ok(Self { download })
    }

    fn finish(self, descriptor: &Descriptor) -> Result<(), BuildError> {
        let finished = self.download.commit();
        finished.map_err(|e| {
            BuildError::system(format!("failed to keep {}", descriptor.digest)).because(e)
        })?;
        Ok(())
    }
}

impl registry::BlobSink for BlobDownload {
    fn received(&self) -> u64 {
        self.download.length()
    }

    fn write(&mut self, chunk: &[u8]) -> std::io::Result<()> {
        self.download.write_at(self.download.length(), chunk)
    }

    fn restart(&mut self) -> std::io::Result<()> {
        self.download.restart()
    }

    fn digest(&mut self) -> std::io::Result<Digest> {
        self.download.digest()
    }
}

/// What lowering asked for when it made this source.
pub(crate) fn image_request(source: &SourceOp) -> ImageRequest {
    match source {
        SourceOp::Image(image) => ImageRequest {
            image: RequestedImage::Named(image.reference.clone()),
            platform: image.platform.clone(),
        },
        SourceOp::OciLayout { name, reference, platform } => {
            let (layout, reference) = (name.clone(), reference.clone());
            let image = RequestedImage::InLayout { layout, reference };
            ImageRequest { image, platform: platform.clone() }
        }
        _ => unreachable!("asked only of images"),
    }
}

/// An image is what its manifest says.
pub(crate) fn image_key(image: &ResolvedImage) -> CacheKey {
    let mut encoder = Encoder::new("image");
    encoder.text(image.manifest_descriptor.digest.as_str());
    CacheKey(encoder.finish())
}
