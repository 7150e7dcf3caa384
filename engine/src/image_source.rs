//! Images that a build starts from: found in the store, a registry or an OCI layout.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cache::Store;
use oci::manifest::Document;
use oci::{Descriptor, Digest, ImageConfig, Index, Manifest, Platform, Reference};
use parser::lower::{BaseImage, ImageRequest};
use registry::Client;

use crate::error::{BuildError, chain};
use crate::event::{Event, StepId};
use crate::input::open_regular;
use crate::request::PullPolicy;
use crate::steps::Steps;
use crate::worker::blocking;

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

/// Told of each layer whose download begins: its number, and a reader of what arrives.
pub(crate) type Begun = Arc<dyn Fn(usize, cache::DownloadReader) + Send + Sync>;

/// Finds and fetches images.
pub(crate) struct Images {
    store: Store,
    client: Arc<Client>,
    pull: PullPolicy,
    layouts: BTreeMap<String, PathBuf>,
}

impl Images {
    pub(crate) fn new(
        store: Store,
        client: Arc<Client>,
        pull: PullPolicy,
        layouts: BTreeMap<String, PathBuf>,
    ) -> Self {
        Self { store, client, pull, layouts }
    }

    /// Finds manifest and config of an image. What a tag stands for is asked once a build.
    pub(crate) async fn resolve(
        &self,
        request: &ImageRequest,
        steps: &Arc<Steps>,
    ) -> Result<ResolvedImage, BuildError> {
        if let Some(name) = &request.layout {
            let directory = &self.layouts[name];
            let (at, wanted) = (directory.clone(), request.reference.clone());
            let top = blocking(move || find_in_layout(&at, &wanted)).await?;
            return self.read_down(Origin::Layout(directory.clone()), top, &request.platform).await;
        }
        let reference: Reference = request.reference.parse().map_err(|e| BuildError::Input {
            message: format!("`{}`: {e}", request.reference),
            hint: None,
        })?;
        let reference = reference.docker_ref();
        let known = self.known(&reference, &request.platform);
        if let (Some(known), PullPolicy::Missing | PullPolicy::Never) = (&known, self.pull)
            && let Ok(image) = self
                .read_down(Origin::Registry(reference.clone()), known.clone(), &request.platform)
                .await
            && fits(&image, &request.platform)
        {
            return Ok(image);
        }
        if self.pull == PullPolicy::Never {
            return Err(BuildError::Input {
                message: format!(
                    "`{}` is not in the store, and pulling is off",
                    reference.familiar()
                ),
                hint: Some("build with `--pull=missing`, or `mybuild pull` it first".to_owned()),
            });
        }
        let step = steps.internal(&format!("[internal] load metadata for {reference}"));
        match self.resolve_remote(&reference, &request.platform).await {
            Ok(image) => {
                step.done();
                Ok(image)
            }
            Err(error) => {
                if let (PullPolicy::Newer, Some(known)) = (self.pull, known)
                    && let Ok(image) =
                        self.read_down(Origin::Registry(reference), known, &request.platform).await
                {
                    step.done();
                    return Ok(image);
                }
                step.failed(&error.to_string());
                Err(error)
            }
        }
    }

    /// The name of an image of the store that is near `name`.
    pub(crate) fn near(&self, name: &str) -> Option<String> {
        crate::images::find::near(&self.store, name)
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
        let (top, bytes) = self.client.manifest(reference).await.map_err(|e| registry_error(&e))?;
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
            match parsed.map_err(|e| {
                BuildError::system(format!("invalid manifest {}", descriptor.digest), &e)
            })? {
                Document::Index(index) => descriptor = select(&index, platform, &origin)?,
                Document::Manifest(manifest) => {
                    let bytes = self.blob_bytes(&origin, &manifest.config).await?;
                    let config: ImageConfig = serde_json::from_slice(&bytes).map_err(|e| {
                        BuildError::system(
                            format!("invalid image config {}", manifest.config.digest),
                            &e,
                        )
                    })?;
                    let (layers, blobs) = (config.rootfs.diff_ids.len(), manifest.layers.len());
                    if layers != blobs {
                        let message = format!(
                            "the image's config names {layers} layers, its manifest {blobs}"
                        );
                        return Err(BuildError::System { message, hint: None });
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
        Err(BuildError::System {
            message: format!("image indexes nest more than {INDEX_DEPTH_MAX} deep"),
            hint: None,
        })
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
                self.client.manifest(&pinned).await.map_err(|e| registry_error(&e))?.1.to_vec()
            }
            Origin::Layout(directory) => {
                read_layout_blob(directory, descriptor, oci::manifest::SIZE_MAX as u64)?
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
                .client
                .fetch_bytes(reference, descriptor, CONFIG_MAX)
                .await
                .map_err(|e| registry_error(&e))?
                .to_vec(),
            Origin::Layout(directory) => read_layout_blob(directory, descriptor, CONFIG_MAX)?,
        };
        self.keep(descriptor, &bytes)?;
        Ok(bytes)
    }

    fn keep(&self, descriptor: &Descriptor, bytes: &[u8]) -> Result<(), BuildError> {
        let put = crate::assemble::put(&self.store, &descriptor.media_type, bytes)?;
        if put.digest != descriptor.digest && descriptor.digest.algorithm() == "sha256" {
            return Err(BuildError::System {
                message: format!("{} has the content of {}", descriptor.digest, put.digest),
                hint: None,
            });
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
        let mut fetches = tokio::task::JoinSet::new();
        let mut seen = HashSet::new();
        for (number, descriptor) in image.manifest.layers.iter().enumerate() {
            // One that stands in the manifest twice comes once.
            if !seen.insert(&descriptor.digest) || self.store.has_blob(&descriptor.digest) {
                continue;
            }
            let (store, client, origin) =
                (self.store.clone(), self.client.clone(), image.origin.clone());
            let (steps, descriptor) = (steps.clone(), descriptor.clone());
            let begun = begun.clone();
            fetches.spawn(async move {
                let follow = move |reader| begun(number, reader);
                fetch_layer(store, client, origin, descriptor, steps, step, follow).await
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
    have.os.is_empty()
        || have.architecture.is_empty()
        || (have.os == platform.os && have.architecture == platform.architecture)
}

fn select(index: &Index, platform: &Platform, origin: &Origin) -> Result<Descriptor, BuildError> {
    index.select(platform).cloned().ok_or_else(|| {
        let known: Vec<String> = index.platforms().iter().map(ToString::to_string).collect();
        let name = match origin {
            Origin::Registry(reference) => reference.familiar(),
            Origin::Layout(directory) => directory.display().to_string(),
        };
        BuildError::Input {
            message: format!(
                "no match for platform in manifest: `{name}` has no image for {platform}"
            ),
            hint: (!known.is_empty()).then(|| format!("it has {}", known.join(", "))),
        }
    })
}

async fn fetch_layer(
    store: Store,
    client: Arc<Client>,
    origin: Origin,
    descriptor: Descriptor,
    steps: Arc<Steps>,
    step: StepId,
    follow: impl FnOnce(cache::DownloadReader),
) -> Result<(), BuildError> {
    let item = short(&descriptor.digest);
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
            let fetched = client.fetch_blob(&reference, &descriptor, sink, progress).await;
            fetched.map_err(|e| registry_error(&e))?.finish(&descriptor)?;
        }
        Origin::Layout(directory) => {
            blocking(move || copy_layout_blob(&store, &directory, &descriptor)).await?;
        }
    }
    steps.event(Event::Transfer { step, item, current: size, total, done: true });
    Ok(())
}

/// `sha256:0123456789ab`, enough to tell layers apart.
pub(crate) fn short(digest: &Digest) -> String {
    format!("{}:{}", digest.algorithm(), &digest.hex()[..12])
}

/// A registry's blob on its way into the store.
struct BlobDownload {
    download: cache::BlobDownload,
}

impl BlobDownload {
    fn new(store: &Store, descriptor: &Descriptor) -> Result<Self, BuildError> {
        let download = store
            .blob_download(&descriptor.digest, descriptor.size)
            .map_err(|e| BuildError::system("failed to start a download", &e))?;
        Ok(Self { download })
    }

    fn finish(self, descriptor: &Descriptor) -> Result<(), BuildError> {
        let finished = self.download.commit();
        finished
            .map_err(|e| BuildError::system(format!("failed to keep {}", descriptor.digest), &e))?;
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

fn registry_error(error: &registry::Error) -> BuildError {
    use registry::ErrorKind;
    let hint = match error.kind() {
        ErrorKind::NotFound => Some("check the name and tag"),
        ErrorKind::Unauthorized | ErrorKind::Denied => {
            Some("check the name, and the credentials in Docker's config.json")
        }
        ErrorKind::TooManyRequests => Some("wait, or use a mirror (`mirrors` in mybuild.toml)"),
        ErrorKind::Unavailable => {
            Some("check the network, or use a mirror (`mirrors` in mybuild.toml)")
        }
        _ => None,
    };
    BuildError::System { message: chain(error), hint: hint.map(str::to_owned) }
}

/// Path of a blob in an OCI layout. A digest is always safe as a file name.
fn layout_blob(directory: &Path, digest: &Digest) -> PathBuf {
    directory.join("blobs").join(digest.algorithm()).join(digest.hex())
}

fn read_layout_blob(
    directory: &Path,
    descriptor: &Descriptor,
    cap: u64,
) -> Result<Vec<u8>, BuildError> {
    let path = layout_blob(directory, &descriptor.digest);
    let failed =
        |e: std::io::Error| BuildError::system(format!("failed to read `{}`", path.display()), &e);
    let mut bytes = Vec::new();
    open_regular(None, &path)
        .map_err(failed)?
        .take(cap + 1)
        .read_to_end(&mut bytes)
        .map_err(failed)?;
    if bytes.len() as u64 > cap || !descriptor.digest.verifies(&bytes) {
        return Err(BuildError::System {
            message: format!("`{}` is damaged: its content has another digest", path.display()),
            hint: None,
        });
    }
    Ok(bytes)
}

fn copy_layout_blob(
    store: &Store,
    directory: &Path,
    descriptor: &Descriptor,
) -> Result<(), BuildError> {
    let path = layout_blob(directory, &descriptor.digest);
    let failed = |e: &dyn std::error::Error| {
        BuildError::system(format!("failed to copy `{}`", path.display()), e)
    };
    let file = open_regular(None, &path).map_err(|e| failed(&e))?;
    let mut writer = store.blob_writer().map_err(|e| failed(&e))?;
    // One byte more would show that it is another.
    let mut file = file.take(descriptor.size.saturating_add(1));
    std::io::copy(&mut file, &mut writer).map_err(|e| failed(&e))?;
    writer.commit(Some((&descriptor.digest, descriptor.size))).map_err(|e| failed(&e))?;
    Ok(())
}

/// The descriptor that a tag, a digest or nothing names in a layout.
fn find_in_layout(directory: &Path, wanted: &str) -> Result<Descriptor, BuildError> {
    let path = directory.join("index.json");
    let failed = |e: &dyn std::error::Error| {
        BuildError::system(format!("failed to read `{}`", path.display()), e)
    };
    let mut bytes = Vec::new();
    let file = open_regular(None, &path).map_err(|e| failed(&e))?;
    file.take(oci::manifest::SIZE_MAX as u64).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    let index: Index = serde_json::from_slice(&bytes).map_err(|e| failed(&e))?;
    let name = |d: &Descriptor| {
        d.annotations.get("org.opencontainers.image.ref.name").cloned().unwrap_or_default()
    };
    let tag = wanted.rsplit_once(':').map_or(wanted, |(_, tag)| tag);
    let found = index.manifests.iter().find(|d| {
        d.digest.as_str() == wanted || (!wanted.is_empty() && (name(d) == wanted || name(d) == tag))
    });
    let only = if wanted.is_empty() || tag == "latest" {
        index.manifests.first().filter(|_| index.manifests.len() == 1)
    } else {
        None
    };
    found.or(only).cloned().ok_or_else(|| {
        let names: Vec<String> =
            index.manifests.iter().map(name).filter(|n| !n.is_empty()).collect();
        BuildError::Input {
            message: format!("no image `{wanted}` in the OCI layout `{}`", directory.display()),
            hint: (!names.is_empty()).then(|| format!("it has {}", names.join(", "))),
        }
    })
}
