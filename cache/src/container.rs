//! Containers that stay when their command has ended: what it has written, of what image, and how it ended.
//!
//! Each is a directory `containers-v1/ID` that appears as a whole: `container.json` ([`ContainerRecord`],
//! replaced as a whole), `fs` and `work` (the upper directory of its overlay, and what that needs), and
//! `lock`, which whoever runs it holds. What the container needs of the store is named in its record, and
//! prune leaves it alone, as it does with what sessions hold.

mod document;

use std::collections::HashSet;
use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci::{Descriptor, Digest, ImageConfig};

use crate::bucket::Bucket;
use crate::clock::now;
use crate::disk::{self, sync_directory};
use crate::error::StoreError;
use crate::layer_id::LayerId;
use crate::lease::Holds;
use crate::lock::{FileLock, Mode};
use crate::store::Store;
use crate::warning::Warning;

pub use document::{ContainerRecord, ContainerState};

/// The lock under which names are given.
const NAMES: &str = "containers";
const DOCUMENT: &str = "container.json";
const LOCK: &str = "lock";

/// What a container is made of.
#[derive(Debug, Clone)]
pub struct NewContainer {
    /// Its name, which no other has.
    pub name: String,
    /// The image as the user has named it.
    pub image: String,
    /// The image's manifest.
    pub manifest: Descriptor,
    /// The image's id: the digest of its config.
    pub image_id: Digest,
    /// The image's layers, the bottom one first.
    pub layers: Vec<LayerId>,
    /// The image's config, with what the container has another.
    pub config: ImageConfig,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// It goes when its command ends.
    pub is_removed_at_end: bool,
}

/// Why a container cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateContainerError {
    /// Another one has the name.
    #[error("a container named `{}` {}", .0.record.name, if .0.is_running() { "is running" } else { "exists" })]
    Taken(Box<Container>),
    /// The store fails.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A container as it was when it was looked up.
#[derive(Debug, Clone)]
pub struct Container {
    /// What is known of it.
    pub record: ContainerRecord,
    directory: PathBuf,
}

/// A container that this process runs. Dropped before [`Self::started`] it is removed.
#[derive(Debug)]
pub struct OwnContainer {
    store: Store,
    container: Container,
    _lock: FileLock,
}

impl Store {
    /// Makes a container.
    pub fn create_container(
        &self,
        new: NewContainer,
    ) -> Result<OwnContainer, CreateContainerError> {
        let bucket = self.bucket(Bucket::Containers);
        let locks = self.bucket(Bucket::Locks).join(NAMES);
        let failed = |action, path: &Path| {
            let path = path.to_owned();
            move |error| StoreError::io(action, &path, error)
        };
        let _one_at_a_time =
            FileLock::wait(&locks, Mode::Exclusive).map_err(failed("lock", &locks))?;
        if let Some(known) = self.containers()?.into_iter().find(|it| it.record.name == new.name) {
            let is_left = known.record.is_removed_at_end && !known.is_running();
            if !is_left || self.remove_container(&known)?.is_none() {
                return Err(CreateContainerError::Taken(Box::new(known)));
            }
        }
        let record = ContainerRecord {
            id: document::random_id().map_err(failed("read", Path::new("/dev/urandom")))?,
            holds: self.needs(&new),
            name: new.name,
            image: new.image,
            manifest: new.manifest,
            image_id: new.image_id,
            layers: new.layers,
            config: new.config,
            command: new.command,
            is_removed_at_end: new.is_removed_at_end,
            created: now(),
            state: ContainerState::Created,
        };
        let directory = bucket.join(&record.id);
        let unborn = self.temporary();
        let lock = make(&unborn, &record).map_err(failed("create", &unborn))?;
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        // An older release has made the store.
        builder.create(&bucket).map_err(failed("create", &bucket))?;
        let named = std::fs::rename(&unborn, &directory).and_then(|()| sync_directory(&bucket));
        named.map_err(failed("create", &directory))?;
        let container = Container { record, directory };
        Ok(OwnContainer { store: self.clone(), container, _lock: lock })
    }

    /// All containers, the newest first. What cannot be read is no container, with a warning.
    pub fn containers(&self) -> Result<Vec<Container>, StoreError> {
        let mut containers = Vec::new();
        for directory in self.container_directories()? {
            match Container::read(&directory) {
                Ok(container) => containers.push(container),
                // Just removed.
                Err(_) if !directory.exists() => {}
                Err(source) => {
                    let source = Arc::new(source);
                    self.warn(Warning::DamagedContainer { path: directory, source });
                }
            }
        }
        containers.sort_by(|one, other| {
            (other.record.created, &one.record.name).cmp(&(one.record.created, &other.record.name))
        });
        Ok(containers)
    }

    /// The container of this name, or whose id begins so; of several with such an id none.
    pub fn container(&self, text: &str) -> Result<Option<Container>, StoreError> {
        let mut containers = self.containers()?;
        if let Some(named) = containers.iter().position(|it| it.record.name == text) {
            return Ok(Some(containers.swap_remove(named)));
        }
        containers.retain(|it| !text.is_empty() && it.record.id.starts_with(text));
        Ok(containers.pop().filter(|_| containers.is_empty()))
    }

    /// Removes a container that does not run, and says how many bytes it had; nothing if it runs.
    pub fn remove_container(&self, container: &Container) -> Result<Option<u64>, StoreError> {
        let path = &container.directory;
        let lock = FileLock::try_acquire(&path.join(LOCK), Mode::Exclusive);
        match lock {
            Ok(Some(_lock)) => self.remove_container_directory(path).map(Some),
            Ok(None) => Ok(None),
            // Somebody else was faster.
            Err(_) if !path.exists() => Ok(Some(0)),
            Err(error) => Err(StoreError::io("lock", path, error)),
        }
    }

    /// Removes what is in the place of containers and is none.
    pub fn remove_damaged_containers(&self) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for directory in self.container_directories()? {
            if Container::read(&directory).is_err() {
                bytes += self.remove_container_directory(&directory)?;
            }
        }
        Ok(bytes)
    }

    fn remove_container_directory(&self, path: &Path) -> Result<u64, StoreError> {
        let temporary = self.temporary();
        match std::fs::rename(path, &temporary) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            renamed => renamed.map_err(|error| StoreError::io("remove", path, error))?,
        }
        let bytes = disk::size_of(&temporary);
        self.inner.removals.start(temporary);
        Ok(bytes)
    }

    pub(crate) fn container_directories(&self) -> Result<Vec<PathBuf>, StoreError> {
        let bucket = self.bucket(Bucket::Containers);
        let failed = |error| StoreError::io("list", &bucket, error);
        match std::fs::read_dir(&bucket) {
            Ok(entries) => {
                let paths: io::Result<_> = entries.map(|entry| Ok(entry?.path())).collect();
                paths.map_err(failed)
            }
            // An older release has made the store.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(failed(error)),
        }
    }

    /// What containers need of the store, but for those of these names.
    pub(crate) fn held_by_containers(&self, without: &[String]) -> Result<Holds, StoreError> {
        let mut containers = self.containers()?;
        containers.retain(|container| !without.contains(&container.record.name));
        let names = containers.into_iter().flat_map(|container| container.record.holds);
        Ok(Holds::Only(names.map(Into::into).collect()))
    }

    fn needs(&self, new: &NewContainer) -> Vec<String> {
        let mut needed = HashSet::from([new.image_id.to_string(), new.manifest.digest.to_string()]);
        for layer in new.layers.iter().filter_map(|id| self.layer(id)) {
            needed.insert(layer.id.to_string());
            needed.extend(layer.over.map(|over| over.to_string()));
            needed.extend(layer.diff_id.map(|diff_id| diff_id.0.to_string()));
            needed.extend(layer.blobs.into_iter().map(|blob| blob.digest.to_string()));
        }
        let mut needed: Vec<String> = needed.into_iter().collect();
        needed.sort_unstable();
        needed
    }
}

/// Makes a container's directory, which nobody sees yet.
fn make(unborn: &Path, record: &ContainerRecord) -> io::Result<FileLock> {
    let create = |path: &Path, mode| DirBuilder::new().mode(mode).create(path);
    create(unborn, 0o700)?;
    create(&unborn.join("fs"), 0o755)?;
    create(&unborn.join("work"), 0o700)?;
    let lock = FileLock::try_acquire(&unborn.join(LOCK), Mode::Exclusive)?;
    disk::write_new(&unborn.join(DOCUMENT), &record.to_bytes())?;
    sync_directory(unborn)?;
    Ok(lock.expect("nobody else knows the directory").kept())
}

impl Container {
    pub(crate) fn read(directory: &Path) -> io::Result<Self> {
        let record = ContainerRecord::read(&directory.join(DOCUMENT))?;
        let is_its_own = directory.file_name().is_some_and(|name| name == record.id.as_str());
        let has_files = std::fs::symlink_metadata(directory.join("fs"))?.is_dir();
        if !is_its_own || !has_files {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let mut container = Self { record, directory: directory.to_owned() };
        if let ContainerState::Running { started } = container.record.state
            && !container.is_running()
        {
            container.record.state = ContainerState::Killed { started };
        }
        Ok(container)
    }

    /// Whether somebody runs it now. Who cannot be asked may.
    pub fn is_running(&self) -> bool {
        match File::open(self.directory.join(LOCK)) {
            // Closing it lets go of the lock.
            Ok(file) => file.try_lock_shared().is_err(),
            Err(error) => error.kind() != io::ErrorKind::NotFound,
        }
    }

    /// What it has written, as a layer over those of its image.
    pub fn fs(&self) -> PathBuf {
        self.directory.join("fs")
    }

    /// The work directory of its overlay.
    pub fn work(&self) -> PathBuf {
        self.directory.join("work")
    }

    /// Bytes that it takes on disk.
    pub fn bytes(&self) -> u64 {
        disk::size_of(&self.directory)
    }
}

impl OwnContainer {
    /// The container.
    pub fn container(&self) -> &Container {
        &self.container
    }

    /// Its command runs from now on.
    pub fn started(&mut self) -> Result<(), StoreError> {
        self.put(ContainerState::Running { started: now() })
    }

    /// Its command has ended with `code`: it stays, or goes.
    pub fn ended(mut self, code: i32) -> Result<(), StoreError> {
        if let ContainerState::Running { started } = self.container.record.state
            && !self.container.record.is_removed_at_end
        {
            return self.put(ContainerState::Ended { started, finished: now(), code });
        }
        self.container.record.state = ContainerState::Created;
        Ok(())
    }

    fn put(&mut self, state: ContainerState) -> Result<(), StoreError> {
        let record = ContainerRecord { state, ..self.container.record.clone() };
        let (path, temporary) = (self.container.directory.join(DOCUMENT), self.store.temporary());
        let written = disk::write_new(&temporary, &record.to_bytes())
            .and_then(|()| disk::replace(&path, &temporary));
        written.map_err(|error| StoreError::io("write", &path, error))?;
        self.container.record = record;
        Ok(())
    }
}

impl Drop for OwnContainer {
    fn drop(&mut self) {
        if self.container.record.state == ContainerState::Created {
            // What cannot be removed is listed, and can be removed by its name.
            let _ = self.store.remove_container_directory(&self.container.directory);
        }
    }
}
