//! Layers that come from a cache, or from the image that a build starts from, when they are needed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Cursor, Read as _, Seek as _, Write as _};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use cache::Store;
use cache::layer::compress::decompress;
use futures_util::StreamExt as _;
use futures_util::future::BoxFuture;
use oci::{Descriptor, DiffId, Digest, Hasher, media_type};
use registry::{BlobSink, chain};
use remote_cache::embedded;

use super::Source;
use crate::blocking::blocking;
use crate::error::{BoxedError, BuildError};
use crate::layer::Elsewhere;
use crate::progress::event::{Event, StepId};
use crate::progress::steps::Steps;
use crate::source::image::{Images, ResolvedImage};

/// Blobs that are fetched from a cache at once.
const AT_ONCE: usize = 8;
const BUFFER: usize = 256 << 10;

/// The layers of an image that a build starts from.
pub(crate) struct BaseLayers {
    pub(crate) images: Arc<Images>,
    pub(crate) image: Arc<ResolvedImage>,
    pub(crate) steps: Arc<Steps>,
}

impl Elsewhere for BaseLayers {
    fn fetch(&self, diff_ids: Vec<DiffId>) -> BoxFuture<'_, Result<Vec<Descriptor>, BuildError>> {
        Box::pin(async move {
            let step = self.steps.internal("fetching layers of the base image");
            let begun = Arc::new(|_, _| {});
            let fetched = self.images.fetch_layers(&self.image, &self.steps, step.step, begun);
            step.ended(fetched.await)?;
            let all = &self.image.config.rootfs.diff_ids;
            let blob = |diff_id| {
                let number = all.iter().position(|known| known == diff_id);
                self.image.manifest.layers[number.expect("asked of the image's layers")].clone()
            };
            Ok(diff_ids.iter().map(blob).collect())
        })
    }
}

impl Elsewhere for Source {
    fn fetch(&self, diff_ids: Vec<DiffId>) -> BoxFuture<'_, Result<Vec<Descriptor>, BuildError>> {
        Box::pin(async move {
            let kept = self.keep_embedded(&diff_ids).await.map_err(|why| self.give_up(&why))?;
            let mut others = diff_ids.clone();
            others.retain(|diff_id| !kept.contains_key(diff_id));
            let mut blobs = self.fetch_layers(others).await?;
            blobs.extend(kept);
            Ok(diff_ids.iter().map(|diff_id| blobs[diff_id].clone()).collect())
        })
    }
}

impl Source {
    /// Brings the layers into the store that came with the records.
    async fn keep_embedded(
        &self,
        diff_ids: &[DiffId],
    ) -> Result<HashMap<DiffId, Descriptor>, String> {
        let bytes = |diff_id: &DiffId| Some((diff_id.clone(), embedded(&self.blobs[diff_id])?));
        let embedded: Vec<(DiffId, Vec<u8>)> = diff_ids.iter().filter_map(bytes).collect();
        let store = self.store.clone();
        let kept = blocking(move || {
            let keep = |(diff_id, bytes): (DiffId, Vec<u8>)| {
                let kept = kept(&store, Cursor::new(bytes), &diff_id)?;
                Ok((diff_id, kept))
            };
            Ok(embedded.into_iter().map(keep).collect::<Result<_, String>>())
        });
        kept.await.map_err(|error| chain(&error))?
    }

    async fn fetch_layers(
        &self,
        diff_ids: Vec<DiffId>,
    ) -> Result<HashMap<DiffId, Descriptor>, BuildError> {
        if diff_ids.is_empty() {
            return Ok(HashMap::new());
        }
        let s = if diff_ids.len() == 1 { "" } else { "s" };
        let name = format!("fetching {} layer{s} from {}", diff_ids.len(), self.name);
        let step = self.steps.internal(&name);
        let id = step.step;
        let fetches = diff_ids.into_iter().map(|diff_id| async move {
            let blob = self.fetch_layer(&diff_id, id).await?;
            Ok::<_, String>((diff_id, blob))
        });
        let fetched: Vec<_> =
            futures_util::stream::iter(fetches).buffer_unordered(AT_ONCE).collect().await;
        match fetched.into_iter().collect::<Result<_, String>>() {
            Ok(blobs) => {
                step.done();
                Ok(blobs)
            }
            Err(message) => {
                step.failed(&message);
                Err(self.give_up(&message))
            }
        }
    }

    /// From now on nothing of this cache counts; the build starts again without it.
    fn give_up(&self, message: &str) -> BuildError {
        self.is_broken.store(true, Ordering::Relaxed);
        self.absent.forget(self);
        let name = &self.name;
        self.steps.warn(format!("the cache {name} is not used any more: {message}"));
        BuildError::lost(format!("a layer in the cache {name} is missing or damaged"))
    }

    /// Brings a layer into the store, as the plain tar that it was made as. Whatever stands in the way, be it
    /// that there is no room for what somebody calls a layer, makes it a miss.
    async fn fetch_layer(&self, diff_id: &DiffId, step: StepId) -> Result<Descriptor, String> {
        if let Some(blob) = self.store.blob(&diff_id.0) {
            return Ok(Descriptor::new(media_type::LAYER, diff_id.0.clone(), blob.size()));
        }
        let fetched = self.fetch_blob(&self.blobs[diff_id], step).await;
        let mut file = fetched.map_err(|error| chain(&error))?;
        let (store, diff_id) = (self.store.clone(), diff_id.clone());
        let kept = blocking(move || {
            Ok(file.rewind().map_err(|e| chain(&e)).and_then(|()| kept(&store, file, &diff_id)))
        });
        kept.await.map_err(|error| chain(&error))?
    }

    /// A blob of the cache, in a file without a name.
    pub(super) async fn fetch_blob(
        &self,
        blob: &Descriptor,
        step: StepId,
    ) -> Result<File, remote_cache::Error> {
        let sink = FileSink::new(&self.store, &blob.digest).map_err(remote_cache::Error::Sink)?;
        let (steps, item, size) = (self.steps.clone(), blob.digest.short(), blob.size);
        let progress = move |current| {
            let (item, total, done) = (item.clone(), Some(size), current >= size);
            steps.event(Event::Transfer { step, item, current, total, done });
        };
        Ok(self.place.fetch(blob, sink, progress).await?.file)
    }
}

/// Keeps a layer that came from elsewhere, as its plain tar.
fn kept(store: &Store, blob: impl io::Read + Send, diff_id: &DiffId) -> Result<Descriptor, String> {
    match keep(store, blob, diff_id) {
        Ok(size) => Ok(Descriptor::new(media_type::LAYER, diff_id.0.clone(), size)),
        Err(error) => {
            let layer = diff_id.0.short();
            Err(format!("layer {layer} cannot be read: {}", chain(error.as_ref())))
        }
    }
}

/// Keeps the plain tar of a layer, which must have the digest `diff_id`; gives its size.
fn keep(store: &Store, blob: impl io::Read + Send, diff_id: &DiffId) -> Result<u64, BoxedError> {
    let (_, mut reader) = decompress(blob)?;
    let mut writer = store.unhashed_blob_writer()?;
    let mut hasher = Hasher::like(&diff_id.0);
    let (mut size, mut buffer) = (0, vec![0; BUFFER]);
    loop {
        let length = reader.read(&mut buffer)?;
        if length == 0 {
            break;
        }
        hasher.update(&buffer[..length]);
        size += length as u64;
        writer.write_all(&buffer[..length])?;
    }
    if hasher.finish() != diff_id.0 {
        return Err("it has other content".into());
    }
    writer.commit(Some((&diff_id.0, size)))?;
    Ok(size)
}

/// A blob on its way, in a file without a name.
struct FileSink {
    file: File,
    hasher: Hasher,
    received: u64,
}

impl FileSink {
    /// For a blob of this digest, in the store's temporary directory.
    fn new(store: &Store, digest: &Digest) -> io::Result<Self> {
        let file = tempfile::tempfile_in(store.temporary_directory())?;
        Ok(Self { file, hasher: Hasher::like(digest), received: 0 })
    }
}

impl BlobSink for FileSink {
    fn received(&self) -> u64 {
        self.received
    }

    fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        self.file.write_all(chunk)?;
        self.hasher.update(chunk);
        self.received += chunk.len() as u64;
        Ok(())
    }

    fn restart(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.rewind()?;
        self.hasher = Hasher::like(&self.hasher.clone().finish());
        self.received = 0;
        Ok(())
    }

    fn digest(&mut self) -> io::Result<Digest> {
        Ok(self.hasher.clone().finish())
    }
}
