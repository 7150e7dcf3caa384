//! Tagged images: the entries of `index.json`, which other programs read and write as well.
//!
//! Each entry carries its name twice: whole for containerd (`io.containerd.image.name`), and in
//! the short form that is typed after `oci:ROOT:` (`org.opencontainers.image.ref.name`).

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::layout::{FULL_NAME, INDEX, REF_NAME, without_name};
use oci::{Descriptor, Digest, Reference};
use serde_json::{Value, json};

use crate::bucket::Bucket;
use crate::disk::{self, sync_directory};
use crate::error::StoreError;
use crate::lease;
use crate::lock::{FileLock, Mode};
use crate::store::{Inner, Store};
use crate::warning::Warning;

/// The largest `index.json` that is read.
const INDEX_MAX: u64 = 64 << 20;

/// A tagged image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Its whole name (`docker.io/library/app:1.0`), or what another program called it.
    pub name: String,
    /// Its manifest or index.
    pub descriptor: Descriptor,
}

impl Store {
    /// Names an image, taking the name from whatever had it. Other processes see it after the
    /// next commit, when all of the image is durable. A name without tag gets `:latest`.
    pub fn tag(&self, name: &str, descriptor: &Descriptor) -> Result<(), StoreError> {
        let name = full_name(name)?;
        if self.resolve(&name).as_ref() == Some(descriptor) {
            return Ok(());
        }
        self.change(|pending| pending.tag(&name, Some(descriptor.clone())));
        Ok(())
    }

    /// Takes a name away; says whether it was there. The image's data stays until prune.
    pub fn untag(&self, name: &str) -> Result<bool, StoreError> {
        let name = full_name(name)?;
        let was_there = self.resolve(&name).is_some();
        if was_there {
            self.change(|pending| pending.tag(&name, None));
        }
        Ok(was_there)
    }

    /// What a name stands for.
    pub fn resolve(&self, name: &str) -> Option<Descriptor> {
        let name = full_name(name).unwrap_or_else(|_| name.to_owned());
        self.images().into_iter().find(|image| image.name == name).map(|image| image.descriptor)
    }

    /// The blobs that the index leads to; `None`, with a warning, when nobody can tell.
    pub(crate) fn known_blobs_of_images(&self) -> Option<HashSet<Digest>> {
        self.known_blobs_of_images_without(&[])
    }

    /// The same, as if the names `without` were not there.
    pub(crate) fn known_blobs_of_images_without(
        &self,
        without: &[String],
    ) -> Option<HashSet<Digest>> {
        let warn = |error| self.warn(Warning::DamagedIndex { source: Arc::new(error) });
        let images = roots_without(self.root(), without).map_err(warn).ok()?;
        let mut blobs = HashSet::new();
        for image in &images {
            match crate::image_blobs::reachable(self.root(), image) {
                Ok(found) => blobs.extend(found),
                Err(error) => {
                    let (digest, source) = (image.digest.clone(), Arc::new(error));
                    self.warn(Warning::UnreadableImage { digest, source });
                    return None;
                }
            }
        }
        Some(blobs)
    }

    /// All tagged images, by name.
    pub fn images(&self) -> Vec<Image> {
        let index = read(self.root()).unwrap_or_else(|error| {
            self.warn(Warning::DamagedIndex { source: Arc::new(error) });
            new_index()
        });
        let mut images: BTreeMap<String, Descriptor> = BTreeMap::new();
        for entry in entries(&index) {
            if let (Some(name), Some(descriptor)) = (entry_name(entry), entry_descriptor(entry)) {
                images.insert(name, descriptor);
            }
        }
        self.pending(|pending| {
            for (name, tag) in &pending.tags {
                match &tag.target {
                    Some(descriptor) => drop(images.insert(name.clone(), descriptor.clone())),
                    None => drop(images.remove(name)),
                }
            }
        });
        let image = |(name, descriptor)| Image { name, descriptor };
        images.into_iter().map(image).collect()
    }
}

impl Store {
    /// Says that this session runs the image `id`, for as long as it lives. Whether it could: else others
    /// may take the image's names away.
    #[must_use]
    pub fn use_image(&self, id: &oci::Digest) -> bool {
        let is_held = self.inner.lease.hold(&lease::image_name(id));
        self.inner.lease.announce();
        is_held
    }

    /// Whether another session says that it runs the image `id`. Who cannot be asked may run it.
    pub fn is_image_in_use(&self, id: &oci::Digest) -> bool {
        let own = self.inner.lease.session();
        let Ok(sessions) = lease::sessions(self.root(), Some(own)) else { return true };
        let name = lease::image_name(id);
        let holds = |session| lease::held_by(self.root(), session);
        sessions.alive.iter().map(holds).any(|holds| holds.names(&name))
    }
}

/// A new `index.json` that is written but has not its name yet. Holds the lock on the index.
pub(crate) struct NewIndex {
    _lock: FileLock,
    temporary: PathBuf,
}

/// Writes the index with `tags` changed, if that makes a difference.
pub(crate) fn prepare(
    store: &Inner,
    tags: &[(String, Option<Descriptor>)],
) -> Result<Option<NewIndex>, StoreError> {
    if tags.is_empty() {
        return Ok(None);
    }
    let lock = lock_index(store.root())?;
    let old = match read(store.root()) {
        Ok(index) => index,
        // It may be whole: a new one would remove all other names.
        Err(IndexError::Io(error)) => {
            return Err(StoreError::io("read", &store.root().join(INDEX), error));
        }
        Err(damage) => {
            set_aside(store.root());
            store.warn(Warning::DamagedIndex { source: Arc::new(damage) });
            new_index()
        }
    };
    let new = with_tags(old.clone(), tags);
    if new == old && store.root().join(INDEX).exists() {
        return Ok(None);
    }
    let temporary = store.temporary();
    let bytes = serde_json::to_vec(&new).expect("a JSON value is JSON");
    std::fs::write(&temporary, bytes)
        .map_err(|error| StoreError::io("write", &temporary, error))?;
    Ok(Some(NewIndex { _lock: lock, temporary }))
}

impl NewIndex {
    /// Puts the new index in the old one's place.
    pub(crate) fn publish(self, store: &Inner) -> Result<(), StoreError> {
        disk::replace(&store.root().join(INDEX), &self.temporary)
            .map_err(|error| StoreError::io("rename", &self.temporary, error))?;
        sync_directory(store.root()).map_err(|error| StoreError::io("sync", store.root(), error))
    }
}

impl Drop for NewIndex {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.temporary);
    }
}

/// Keeps everybody of ours from changing the index.
pub(crate) fn lock_index(root: &Path) -> Result<FileLock, StoreError> {
    let path = Bucket::Locks.path(root).join("index");
    let lock = FileLock::wait(&path, Mode::Exclusive);
    // The file stays: prune must not need a new one in a store without a free inode.
    lock.map(FileLock::kept).map_err(|error| StoreError::io("lock", &path, error))
}

/// The index of a store without images.
pub(crate) fn empty_index() -> Vec<u8> {
    serde_json::to_vec(&new_index()).expect("a JSON value is JSON")
}

/// All entries of the index, also those without a name, as far as they can be read; with a
/// damaged index that is an error, since nobody can then say what is in use.
pub(crate) fn roots(root: &Path) -> Result<Vec<Descriptor>, IndexError> {
    roots_without(root, &[])
}

fn roots_without(root: &Path, without: &[String]) -> Result<Vec<Descriptor>, IndexError> {
    let index = read(root)?;
    let stays = |entry: &&Value| !entry_name(entry).is_some_and(|name| without.contains(&name));
    let roots = entries(&index).iter().filter(stays).map(entry_descriptor);
    roots.collect::<Option<_>>().ok_or(IndexError::NoDescriptor)
}

fn new_index() -> Value {
    json!({ "schemaVersion": 2, "mediaType": oci::media_type::INDEX, "manifests": [] })
}

/// Why the index cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    /// The file cannot be read.
    #[error(transparent)]
    Io(io::Error),
    /// It is not a file, or too large.
    #[error(transparent)]
    TooLarge(io::Error),
    #[error(transparent)]
    Malformed(serde_json::Error),
    #[error("it has no list of manifests")]
    NoManifests,
    #[error("an entry is not a descriptor")]
    NoDescriptor,
}

/// The index as it is, fields that we do not know included. A missing one is empty.
fn read(root: &Path) -> Result<Value, IndexError> {
    let bytes = match disk::read_capped(&root.join(INDEX), INDEX_MAX) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(new_index()),
        Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
            return Err(IndexError::TooLarge(error));
        }
        Err(error) => return Err(IndexError::Io(error)),
    };
    let index: Value = serde_json::from_slice(&bytes).map_err(IndexError::Malformed)?;
    match index.get("manifests") {
        Some(Value::Array(_)) => Ok(index),
        _ => Err(IndexError::NoManifests),
    }
}

fn set_aside(root: &Path) {
    let _ = std::fs::rename(root.join(INDEX), root.join(format!("{INDEX}.bad")));
}

fn entries(index: &Value) -> &[Value] {
    index.get("manifests").and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn with_tags(mut index: Value, tags: &[(String, Option<Descriptor>)]) -> Value {
    let entries = index.get_mut("manifests").and_then(Value::as_array_mut);
    let entries = entries.expect("an index that was read has manifests");
    for (name, target) in tags {
        let at = entries.iter().position(|entry| entry_name(entry).as_ref() == Some(name));
        match (at, target.as_ref().map(|descriptor| entry(name, descriptor))) {
            (Some(at), Some(entry)) => entries[at] = entry,
            (Some(at), None) => drop(entries.remove(at)),
            (None, Some(entry)) => entries.push(entry),
            (None, None) => {}
        }
    }
    index
}

fn entry(name: &str, descriptor: &Descriptor) -> Value {
    let mut descriptor = descriptor.clone();
    let short = Reference::parse_normalized(name).map(|name| name.familiar());
    let annotations = &mut descriptor.annotations;
    annotations.insert(REF_NAME.to_owned(), short.unwrap_or_else(|_| name.to_owned()));
    annotations.insert(FULL_NAME.to_owned(), name.to_owned());
    serde_json::to_value(descriptor).expect("a descriptor is JSON")
}

/// The whole name of an entry; those that other programs wrote may have the short one only.
fn entry_name(entry: &Value) -> Option<String> {
    let annotation = |name| entry.get("annotations")?.get(name)?.as_str();
    let name = annotation(FULL_NAME).or_else(|| annotation(REF_NAME))?;
    Some(full_name(name).unwrap_or_else(|_| name.to_owned()))
}

/// What an entry leads to, without the annotations that are its name.
fn entry_descriptor(entry: &Value) -> Option<Descriptor> {
    serde_json::from_value(entry.clone()).ok().map(without_name)
}

fn full_name(name: &str) -> Result<String, StoreError> {
    let parsed = Reference::parse_normalized(name);
    let parsed = parsed.map_err(|source| StoreError::Name { name: name.to_owned(), source })?;
    Ok(parsed.with_default_tag().to_string())
}
